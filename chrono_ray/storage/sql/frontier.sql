-- Leases from claim to rescue.

-- name: claim
SELECT * FROM claim($1, $2, $3, $4::interval, $5::interval, $6::text[], $7)

-- name: leased_under
SELECT fetch_id FROM leases WHERE token = $1

-- name: renew
-- what is being settled at this moment is not waited for: it is ours, and a long settlement must not
-- let the other leases run out
WITH renewed AS (
    UPDATE leases SET leased_until = clock_timestamp() + $2::interval
     WHERE fetch_id = ANY (ARRAY (SELECT fetch_id FROM leases WHERE token = ANY ($1::uuid[]) FOR UPDATE SKIP LOCKED))
)
SELECT fetch_id FROM leases WHERE token = ANY ($1::uuid[])

-- name: halted_runs
SELECT id FROM runs WHERE id = ANY ($1::bigint[]) AND state <> 'active'

-- name: release
-- unused leases go back as they were; the floor may have risen meanwhile, so it is lowered again
WITH back AS (
    DELETE FROM leases l USING unnest($1::bigint[], $2::uuid[]) AS w (fetch_id, token)
     WHERE l.fetch_id = w.fetch_id AND l.token = w.token RETURNING l.*
), ready AS (
    UPDATE runs r SET ready = true, floor_key = least(r.floor_key, b.lowest)
      FROM (SELECT run_id, min(order_key) AS lowest FROM back GROUP BY run_id) b
     WHERE r.id = b.run_id AND (NOT r.ready OR r.floor_key > b.lowest)
)
INSERT INTO queue (fetch_id, run_id, order_key, attempts, crashes, alone, lost, capture_id, archive, urlkey, ts, original,
                   mimetype, statuscode, digest, locator)
SELECT b.fetch_id, b.run_id, b.order_key, b.attempts, b.crashes, b.alone, b.lost, c.id, c.archive, c.urlkey, c.ts, c.original,
       c.mimetype, c.statuscode, c.digest, c.locator
  FROM back b JOIN captures c ON c.id = b.capture_id ORDER BY b.order_key

-- name: rescue
-- expired leases go back: among the others the first time, then as suspects, few together, then each
-- alone (queue.lost; the claim says how few). Only one that was alone is charged a crash: an older
-- program's is so whatever it says. Those charged too often are leased to the rescuer, who settles them.
WITH dead AS (
    DELETE FROM leases WHERE fetch_id IN (
        SELECT fetch_id FROM leases WHERE leased_until < clock_timestamp() ORDER BY fetch_id LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING *
), logged AS (
    INSERT INTO attempts (fetch_id, capture_id, run_id, reason, detail, requests)
    SELECT fetch_id, capture_id, run_id, 'lost', worker, 0 FROM dead
), back AS (
    SELECT d.*, (d.crashes + (d.alone AND d.lost <> 2)::int)::smallint AS charged,
           (CASE WHEN d.alone THEN greatest(d.lost, 2) ELSE d.lost END + 1)::smallint AS losses FROM dead d
), again AS (
    INSERT INTO queue (fetch_id, run_id, order_key, attempts, crashes, alone, lost, capture_id, archive, urlkey, ts, original,
                       mimetype, statuscode, digest, locator)
    SELECT b.fetch_id, b.run_id, b.order_key, b.attempts, b.charged, b.losses > 1, b.losses, c.id, c.archive, c.urlkey, c.ts, c.original,
           c.mimetype, c.statuscode, c.digest, c.locator
      FROM back b JOIN captures c ON c.id = b.capture_id WHERE b.charged < $1::smallint ORDER BY b.order_key
), ready AS (
    UPDATE runs SET ready = true WHERE id IN (SELECT run_id FROM back) AND NOT ready
)
SELECT fetch_id, run_id, capture_id, charged >= $1::smallint AS condemned FROM back

-- name: lease_condemned
-- in the rescue's transaction; the charge stays on them, so that they are condemned again should
-- this rescuer die too
INSERT INTO leases (fetch_id, run_id, order_key, attempts, crashes, alone, capture_id, token, worker, leased_until)
SELECT w.fetch_id, w.run_id, 0, 0, $6::smallint, false, w.capture_id, $4, $5, clock_timestamp() + interval '60 seconds'
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (fetch_id, run_id, capture_id)
RETURNING fetch_id, run_id, capture_id

-- name: unpark
WITH due AS (
    DELETE FROM parked WHERE fetch_id IN (
        SELECT fetch_id FROM parked WHERE until <= clock_timestamp() ORDER BY until LIMIT 10000 FOR UPDATE SKIP LOCKED)
    RETURNING *
), ready AS (
    UPDATE runs SET ready = true WHERE id IN (SELECT run_id FROM due) AND NOT ready
)
INSERT INTO queue (fetch_id, run_id, order_key, attempts, crashes, capture_id, archive, urlkey, ts, original,
                   mimetype, statuscode, digest, locator)
SELECT d.fetch_id, d.run_id, d.order_key, d.attempts, d.crashes, c.id, c.archive, c.urlkey, c.ts, c.original,
       c.mimetype, c.statuscode, c.digest, c.locator
  FROM due d JOIN captures c ON c.id = d.capture_id ORDER BY d.order_key

-- name: lock_stale_hints
-- looked at first and computed by a second statement: what was queued while another had the run's
-- row counts only for a statement that begins with the row locked
SELECT r.id FROM runs r CROSS JOIN LATERAL least_keys(r.id) k
 WHERE r.state = 'active'
   AND (r.ready <> (k.floor IS NOT NULL) OR r.floor_key <> coalesce(k.floor, r.floor_key) OR r.rank_floor <> coalesce(k.rank, r.rank_floor))
   FOR NO KEY UPDATE OF r SKIP LOCKED

-- name: refresh_hints
UPDATE runs r SET ready = k.floor IS NOT NULL, floor_key = coalesce(k.floor, r.floor_key), rank_floor = coalesce(k.rank, r.rank_floor)
  FROM unnest($1::bigint[]) AS w (id) CROSS JOIN LATERAL least_keys(w.id) k
 WHERE r.id = w.id

-- name: be_seen
-- once a minute is enough; who holds a row is not waited for
UPDATE archive_budgets SET seen_at = clock_timestamp()
 WHERE ctid = ANY (ARRAY (SELECT b.ctid FROM archive_budgets b
                           WHERE b.egress = $1 AND b.archive = ANY ($2::text[])
                             AND b.seen_at < clock_timestamp() - interval '1 minute' FOR UPDATE SKIP LOCKED))

-- name: waiting
-- runs that have nothing left of their own, where a run that does not run has something queued, or one
-- whose archive nobody asks any more (a job for local files that was killed, an archive that is no longer
-- set up). Asked first: taking over looks at every capture of theirs, though all they wait for is with a
-- live run. $1: from active runs too.
WITH asked AS MATERIALIZED (
    SELECT archive FROM archive_budgets WHERE kind = 'replay' AND seen_at > clock_timestamp() - interval '5 minutes'
)
SELECT n.id FROM runs n
 WHERE n.state = 'active' AND n.goal <> 'plan'
   AND EXISTS (SELECT 1 FROM runs o CROSS JOIN LATERAL (SELECT FROM queue q WHERE q.run_id = o.id ORDER BY q.order_key LIMIT 1) w
                WHERE o.project_id = n.project_id
                  AND (o.state IN ('paused', 'cancelled', 'planned') OR o.goal = 'plan'
                       OR ($1 AND o.state = 'active' AND o.archive NOT IN (SELECT archive FROM asked) AND n.archive IN (SELECT archive FROM asked))))
   AND NOT EXISTS (SELECT 1 FROM slices s WHERE s.run_id = n.id AND s.state = 'pending')
   AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.run_id = n.id)
   AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.run_id = n.id)
   AND NOT EXISTS (SELECT 1 FROM parked k WHERE k.run_id = n.id)

-- name: take_over
-- they take them over. A run asks its own archive only: where the other's was another, the capture
-- changes too, and not to one that was given up: what only the other may have waits for it. Driven
-- from the waiting run, so that a paused run's queue costs nothing.
WITH asked AS MATERIALIZED (
    SELECT archive FROM archive_budgets WHERE kind = 'replay' AND seen_at > clock_timestamp() - interval '5 minutes'
), waiting AS MATERIALIZED (
    SELECT n.id, n.archive, n.archive IN (SELECT archive FROM asked) AS asked
      FROM runs n WHERE n.id = ANY ($1::bigint[]) AND n.state = 'active'
), wanted AS (
    SELECT DISTINCT ON (f.id) f.id AS fetch_id, q.ctid AS tid, n.id AS run_id,
           CASE WHEN n.archive = q.archive THEN q.capture_id ELSE cc.id END AS capture_id
      FROM waiting n
     CROSS JOIN LATERAL (SELECT c.id, c.fetch_id FROM captures c WHERE c.run_id = n.id AND c.fetch_id IS NOT NULL
                          UNION ALL
                         SELECT c.id, c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = n.id) cc
      JOIN fetches f ON f.id = cc.fetch_id AND f.state = 'pending'
      JOIN runs o ON o.id = f.run_id
       AND (o.state <> 'active' OR o.goal = 'plan' OR ($2 AND n.asked AND o.archive NOT IN (SELECT archive FROM asked)))
      JOIN queue q ON q.fetch_id = f.id AND q.run_id = o.id
     WHERE n.archive = q.archive
        OR (SELECT true FROM attempts a WHERE a.fetch_id = f.id AND a.capture_id = cc.id AND a.final LIMIT 1) IS NULL
     ORDER BY f.id, n.id LIMIT 10000
), moved AS (
    UPDATE queue q SET run_id = w.run_id, capture_id = c.id, archive = c.archive, urlkey = c.urlkey, ts = c.ts,
           original = c.original, mimetype = c.mimetype, statuscode = c.statuscode, digest = c.digest, locator = c.locator
      FROM wanted w JOIN captures c ON c.id = w.capture_id
     WHERE q.ctid = w.tid
    RETURNING q.fetch_id, q.run_id, q.capture_id
), owned AS (UPDATE fetches f SET run_id = m.run_id, capture_id = m.capture_id FROM moved m WHERE f.id = m.fetch_id)
UPDATE runs SET ready = true WHERE id IN (SELECT run_id FROM moved)

-- name: fold_totals
SELECT fold_totals($1)

-- name: silenced
-- whether a collection waits for an archive that will be silent for long
SELECT 1 FROM runs s WHERE s.state = 'active' AND s.together IS NOT NULL
   AND s.archive IN (SELECT b.archive FROM archive_budgets b WHERE b.kind = 'replay' AND b.paused_until > clock_timestamp() + interval '60 seconds')
 LIMIT 1

-- name: turn_aside
-- what waits for an archive that will be silent for long, and another of the same collection lists
-- too: a run there that has nothing to do takes it. Each run looks through it once a silence; what
-- is listed later is placed by its lister.
WITH quiet AS MATERIALIZED (
    SELECT archive, max(paused_until) AS until FROM archive_budgets
     WHERE kind = 'replay' AND paused_until > clock_timestamp() + interval '60 seconds' GROUP BY archive
), idle AS MATERIALIZED (
    SELECT o.id, o.together, o.preference, max(x.until) AS until
      FROM runs o JOIN runs s ON s.together = o.together AND s.id <> o.id JOIN quiet x ON x.archive = s.archive
     WHERE o.state = 'active' AND o.goal <> 'plan' AND o.archive NOT IN (SELECT archive FROM quiet) AND o.aside_until < x.until
       AND NOT EXISTS (SELECT 1 FROM slices c WHERE c.run_id = o.id AND c.state = 'pending')
       AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.run_id = o.id)
     GROUP BY o.id
), wanted AS MATERIALIZED (
    SELECT DISTINCT ON (f.id) f.id AS fetch_id, c.id AS capture_id, i.id AS run_id
      FROM idle i JOIN captures c ON c.run_id = i.id JOIN fetches f ON f.id = c.fetch_id AND f.state = 'pending'
      JOIN runs s ON s.id = f.run_id AND s.together = i.together AND s.archive IN (SELECT archive FROM quiet)
     WHERE (EXISTS (SELECT 1 FROM queue q WHERE q.fetch_id = f.id AND NOT q.alone) OR EXISTS (SELECT 1 FROM parked p WHERE p.fetch_id = f.id))
       AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.fetch_id = f.id AND a.capture_id = c.id AND a.final)
     ORDER BY f.id, i.preference, (c.mimetype = 'warc/revisit') LIMIT 10000
), freed AS (
    DELETE FROM queue q USING wanted w WHERE q.fetch_id = w.fetch_id AND NOT q.alone RETURNING q.fetch_id, q.order_key, q.crashes
), woken AS (
    DELETE FROM parked p USING wanted w WHERE p.fetch_id = w.fetch_id RETURNING p.fetch_id, p.order_key, p.crashes
), moved AS MATERIALIZED (
    SELECT m.fetch_id, m.order_key, m.crashes, w.run_id, w.capture_id
      FROM (SELECT * FROM freed UNION ALL SELECT * FROM woken) m JOIN wanted w ON w.fetch_id = m.fetch_id
), put AS (
    INSERT INTO queue (fetch_id, run_id, order_key, crashes, capture_id, archive, urlkey, ts, original, mimetype, statuscode, digest, locator)
    SELECT m.fetch_id, m.run_id, m.order_key, m.crashes, c.id, c.archive, c.urlkey, c.ts, c.original, c.mimetype, c.statuscode, c.digest, c.locator
      FROM moved m JOIN captures c ON c.id = m.capture_id ORDER BY m.order_key
), owned AS (
    UPDATE fetches f SET run_id = m.run_id, capture_id = m.capture_id FROM moved m WHERE f.id = m.fetch_id
)
UPDATE runs r SET ready = r.ready OR m.n IS NOT NULL, floor_key = least(r.floor_key, m.lowest),
       aside_until = CASE WHEN (SELECT count(*) FROM wanted) < 10000 THEN i.until ELSE r.aside_until END
  FROM idle i LEFT JOIN (SELECT run_id, count(*) AS n, min(order_key) AS lowest FROM moved GROUP BY run_id) m ON m.run_id = i.id
 WHERE r.id = i.id

-- name: lease_cancelled
-- what a cancelled run still had queued or parked, as leases of ours, to be settled as cancelled.
-- Driven from the runs, in the order of their indexes: what others have queued costs nothing.
WITH ended AS MATERIALIZED (
    SELECT id FROM runs WHERE state = 'cancelled'
), queued AS (
    DELETE FROM queue WHERE ctid = ANY (ARRAY (
        SELECT w.tid FROM ended r CROSS JOIN LATERAL (
            SELECT q.ctid AS tid FROM queue q WHERE q.run_id = r.id ORDER BY q.order_key LIMIT $3 FOR UPDATE SKIP LOCKED) w LIMIT $3))
    RETURNING fetch_id, run_id, order_key, attempts, crashes, capture_id
), waiting AS (
    DELETE FROM parked WHERE ctid = ANY (ARRAY (
        SELECT w.tid FROM ended r CROSS JOIN LATERAL (
            SELECT p.ctid AS tid FROM parked p WHERE p.run_id = r.id ORDER BY p.order_key LIMIT $3 FOR UPDATE SKIP LOCKED) w LIMIT $3))
    RETURNING fetch_id, run_id, order_key, attempts, crashes, capture_id
)
INSERT INTO leases (fetch_id, run_id, order_key, attempts, crashes, alone, capture_id, token, worker, leased_until)
SELECT fetch_id, run_id, order_key, attempts, crashes, false, capture_id, $1, $2, clock_timestamp() + interval '60 seconds'
  FROM (SELECT * FROM queued UNION ALL SELECT * FROM waiting) w
RETURNING fetch_id, run_id, capture_id

-- name: lock_finishable
-- looked at first and judged by a second statement: one that a person reopens between the two
-- counts as open again only to a statement that begins with its row locked
SELECT r.id FROM runs r
 WHERE r.state = 'active' AND r.goal <> 'plan'
   AND NOT EXISTS (SELECT 1 FROM slices s WHERE s.run_id = r.id AND s.state = 'pending')
   AND (SELECT coalesce(sum(CASE WHEN k.state = 'discovered' THEN k.n WHEN k.state = 'request' THEN 0 ELSE -k.n END), 0)
          FROM domain_counters k WHERE k.run_id = r.id) = 0
   FOR NO KEY UPDATE SKIP LOCKED

-- name: finish_runs
-- a run is done when every slice ended, every row it listed has ended (the counters balance), and it
-- holds no payload that only others wait for by now: nobody else would fetch that
UPDATE runs r SET state = 'done', finished_at = clock_timestamp(), ready = false
 WHERE r.id = ANY ($1::bigint[]) AND r.state = 'active'
   AND NOT EXISTS (SELECT 1 FROM slices s WHERE s.run_id = r.id AND s.state = 'pending')
   AND (SELECT coalesce(sum(CASE WHEN k.state = 'discovered' THEN k.n WHEN k.state = 'request' THEN 0 ELSE -k.n END), 0)
          FROM domain_counters k WHERE k.run_id = r.id) = 0
   AND (SELECT true FROM queue q WHERE q.run_id = r.id ORDER BY q.order_key LIMIT 1) IS NULL
   AND (SELECT true FROM leases l WHERE l.run_id = r.id LIMIT 1) IS NULL
   AND (SELECT true FROM parked p WHERE p.run_id = r.id ORDER BY p.order_key LIMIT 1) IS NULL
   AND NOT EXISTS (SELECT 1 FROM redecisions x WHERE x.domain_id = r.domain_id AND x.state = 'pending')
RETURNING r.id

-- name: finish_plans
-- a plan ends when its listing has; what it queued waits for its start
UPDATE runs r SET state = 'planned', finished_at = clock_timestamp()
 WHERE r.state = 'active' AND r.goal = 'plan'
   AND NOT EXISTS (SELECT 1 FROM slices s WHERE s.run_id = r.id AND s.state = 'pending')
   AND NOT EXISTS (SELECT 1 FROM redecisions x WHERE x.domain_id = r.domain_id AND x.state = 'pending')
RETURNING r.id
