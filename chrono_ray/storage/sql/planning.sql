-- What a planned run would do, counted from its rows. $1 are the runs: one, or a collection's.

-- name: payloads
-- what waits to be asked for, by the archive it would be asked of. `elsewhere`: another run that is
-- at work has it queued already and will fetch it anyway.
WITH mine AS (
    SELECT f.id, f.capture_id, f.run_id FROM fetches f
     WHERE f.state = 'pending' AND EXISTS (SELECT FROM captures c WHERE c.fetch_id = f.id AND c.run_id = ANY ($1::bigint[]))
     UNION
    SELECT f.id, f.capture_id, f.run_id
      FROM adoptions a JOIN captures c ON c.id = a.capture_id JOIN fetches f ON f.id = c.fetch_id AND f.state = 'pending'
     WHERE a.run_id = ANY ($1::bigint[])
), wanted AS (
    SELECT m.id, m.capture_id, o.state = 'active' AND o.goal <> 'plan' AND o.id <> ALL ($1::bigint[]) AS elsewhere
      FROM mine m JOIN runs o ON o.id = m.run_id
)
SELECT k.archive, left(k.ts, 4) AS year,
       count(*) FILTER (WHERE NOT w.elsewhere) AS requests, count(*) FILTER (WHERE w.elsewhere) AS elsewhere,
       coalesce(sum(k.length) FILTER (WHERE NOT w.elsewhere), 0)::bigint AS bytes,
       count(*) FILTER (WHERE NOT w.elsewhere AND k.length IS NULL) AS without_length
  FROM wanted w JOIN captures k ON k.id = w.capture_id
 GROUP BY 1, 2 ORDER BY 1, 2

-- name: filters
-- what each rule leaves out, and how many requests more there would be without it (at most: another
-- rule may leave the same out). A payload that is wanted anyway would cost none.
WITH mine AS (
    SELECT c.fetch_id, c.digest, c.reason, c.rule, c.confidence FROM captures c WHERE c.run_id = ANY ($1::bigint[])
     UNION ALL
    SELECT c.fetch_id, c.digest, c.reason, c.rule, c.confidence FROM adoptions a JOIN captures c ON c.id = a.capture_id
     WHERE a.run_id = ANY ($1::bigint[])
), payloads AS (
    SELECT DISTINCT digest FROM mine WHERE fetch_id IS NOT NULL AND digest <> ALL ($2::text[])
)
SELECT m.reason, m.rule, min(m.confidence) AS confidence, count(*) AS captures,
       count(DISTINCT m.digest) FILTER (WHERE m.digest <> ALL ($2::text[]) AND p.digest IS NULL)
         + count(*) FILTER (WHERE m.digest = ANY ($2::text[])) AS requests
  FROM mine m LEFT JOIN payloads p ON p.digest = m.digest
 WHERE m.fetch_id IS NULL
 GROUP BY 1, 2 ORDER BY captures DESC, 1, 2

-- name: years
SELECT left(m.ts, 4) AS year, count(*) AS captures, count(m.fetch_id) AS wanted
  FROM (SELECT c.ts, c.fetch_id FROM captures c WHERE c.run_id = ANY ($1::bigint[])
         UNION ALL
        SELECT c.ts, c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = ANY ($1::bigint[])) m
 GROUP BY 1 ORDER BY 1

-- name: holes
SELECT r.archive, s.start_ts, s.end_ts, s.reason, s.detail FROM slices s JOIN runs r ON r.id = s.run_id
 WHERE s.run_id = ANY ($1::bigint[]) AND s.state = 'hole' ORDER BY s.run_id, s.id

-- name: rates
-- a limit on one egress and none on another is no limit
SELECT archive, CASE WHEN bool_or(per_minute = 0) THEN 0 ELSE sum(per_minute) END AS per_minute
  FROM budgets_in_use WHERE kind = 'replay' GROUP BY archive ORDER BY archive

-- name: start
-- one that is still listing fetches from now on what it has listed; a paused one stays paused
UPDATE runs SET goal = 'collect', state = CASE WHEN state = 'planned' THEN 'active' ELSE state END, finished_at = NULL, ready = true
 WHERE id = ANY ($1::bigint[]) AND goal = 'plan' AND state IN ('planned', 'active', 'paused') RETURNING id

-- name: standing
SELECT id, goal, state FROM runs WHERE id = ANY ($1::bigint[]) ORDER BY preference, id
