-- A domain's stored captures decided anew, in bounded transactions, without a request.

-- name: set_rules
SELECT change_rules($1, $2, $3)

-- name: ask
SELECT ask_redecision($1, $2)

-- name: claim
-- thinning needs every neighbour: not before the listings under way have ended. What was put aside
-- counts as asked for at a time to come; who names it gets it at once.
UPDATE redecisions x SET token = gen_random_uuid(), leased_until = clock_timestamp() + interval '60 seconds'
  FROM domains d
 WHERE x.domain_id = (SELECT y.domain_id FROM redecisions y
                       WHERE y.state = 'pending' AND (y.token IS NULL OR y.leased_until < clock_timestamp())
                         AND (y.domain_id = $1 OR ($1::int IS NULL AND y.asked_at <= clock_timestamp()))
                         AND NOT (y.waits AND EXISTS (
                             SELECT 1 FROM runs r JOIN slices s ON s.run_id = r.id AND s.state = 'pending'
                              WHERE r.domain_id = y.domain_id AND r.state = 'active'))
                       ORDER BY y.asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
   AND d.id = x.domain_id
RETURNING x.domain_id, x.token, x.at_url, x.at_ts, x.at_key, x.at_archive, x.at_capture, d.project_id, d.rules::text AS rules

-- name: release
UPDATE redecisions SET token = NULL WHERE domain_id = $1 AND token = $2

-- name: put_aside
UPDATE redecisions SET token = NULL, asked_at = clock_timestamp() + interval '5 minutes' WHERE domain_id = $1 AND token = $2

-- name: still_ours
UPDATE redecisions SET leased_until = clock_timestamp() + interval '60 seconds'
 WHERE domain_id = $1 AND token = $2 RETURNING domain_id

-- name: advance
UPDATE redecisions
   SET at_url = $3, at_ts = $4, at_key = $5, at_archive = $6, at_capture = $7, looked = looked + $8, wanted = wanted + $9,
       skipped = skipped + $10, renamed = renamed + $11, ended = ended + $12, in_flight = in_flight + $13,
       state = CASE WHEN $14 THEN 'done' ELSE state END, token = CASE WHEN $14 THEN NULL ELSE token END,
       finished_at = CASE WHEN $14 THEN clock_timestamp() END, leased_until = clock_timestamp() + interval '60 seconds'
 WHERE domain_id = $1 AND token = $2 RETURNING domain_id

-- name: redecision
SELECT state, token IS NOT NULL AND leased_until > clock_timestamp() AS held, looked, wanted, skipped, renamed, ended, in_flight
  FROM redecisions WHERE domain_id = $1

-- name: find_domains
-- by project name, or by URL without its scheme; $2 narrows to a project
SELECT d.id, p.id AS project_id, p.name AS project, d.url, d.match, p.id IN (SELECT projects_named($1)) AND $2 = '' AS by_project
  FROM domains d JOIN projects p ON p.id = d.project_id
 WHERE (p.id IN (SELECT projects_named($1)) AND $2 = '')
    OR (split_part(d.url, '://', 2) = $3 AND ($2 = '' OR p.id IN (SELECT projects_named($2))))
 ORDER BY p.name, p.id, d.url, d.match

-- name: read
-- by URL and time, so that of each period the first is met first
SELECT c.id, c.run_id, c.archive, c.url_id, c.key, c.urlkey, c.ts, c.original, c.mimetype, c.statuscode, c.digest,
       c.length, c.reason, c.rule, c.confidence, c.priority, f.state
  FROM captures c LEFT JOIN fetches f ON f.id = c.fetch_id
 WHERE c.domain_id = $1 AND (c.url_id, c.ts, c.key, c.archive, c.id) > ($2::bytea, $3::text, $4::bytea, $5::text, $6::bigint)
 ORDER BY c.url_id, c.ts, c.key, c.archive, c.id LIMIT $7

-- name: verdict
CREATE TEMP TABLE IF NOT EXISTS verdict (
    id         bigint NOT NULL,
    host       text NOT NULL,
    share_key  bytea,
    reason     text NOT NULL,
    rule       text NOT NULL,
    confidence real NOT NULL,
    band       smallint NOT NULL
) ON COMMIT DELETE ROWS

-- name: archives_alone
-- a lister that knows one of these rows waits, and so do we for it
SELECT pg_advisory_xact_lock(hashtextextended('captures of ' || $1::text || ' ' || a.archive, 0))
  FROM (SELECT DISTINCT c.archive FROM verdict v JOIN captures c ON c.id = v.id ORDER BY c.archive) a

-- name: lock_captures
SELECT c.id FROM captures c WHERE c.id = ANY (ARRAY (SELECT id FROM verdict)) ORDER BY c.id FOR NO KEY UPDATE

-- name: leave_chosen
-- a person decided it, or has a run for it that has not ended
DELETE FROM verdict v USING captures c
 WHERE c.id = v.id
   AND (c.rule = $1 OR c.rule LIKE 'person:%' OR EXISTS (SELECT 1 FROM adoptions a JOIN runs n ON n.id = a.run_id AND n.goal = 'fetch' AND n.state IN ('active', 'paused')
                                WHERE a.capture_id = c.id))
RETURNING v.id

-- name: skip
-- wanted ones that nobody is fetching, and skipped ones by another word
SELECT skip_captures(coalesce(array_agg(v.id), '{}'), coalesce(array_agg(v.reason), '{}'), coalesce(array_agg(v.rule), '{}'),
                     coalesce(array_agg(v.confidence), '{}'))
  FROM verdict v WHERE v.reason <> ''

-- name: requeue
-- a rule's other priority moves what waits, unless a person or the late pass has moved it
WITH changed AS (
    SELECT c.fetch_id, c.id, v.band FROM verdict v JOIN captures c ON c.id = v.id
     WHERE v.reason = '' AND c.fetch_id IS NOT NULL AND c.priority <> v.band
), queued AS (
    UPDATE queue q SET order_key = (q.order_key & ((1::bigint << 48) - 1)) + (x.band::bigint << 48)
      FROM changed x WHERE q.fetch_id = x.fetch_id AND q.capture_id = x.id AND q.order_key >> 48 BETWEEN -1 AND 1
    RETURNING q.run_id, q.order_key
), waiting AS (
    UPDATE parked p SET order_key = (p.order_key & ((1::bigint << 48) - 1)) + (x.band::bigint << 48)
      FROM changed x WHERE p.fetch_id = x.fetch_id AND p.capture_id = x.id AND p.order_key >> 48 BETWEEN -1 AND 1
)
UPDATE runs r SET floor_key = b.lowest
  FROM (SELECT run_id, min(order_key) AS lowest FROM queued GROUP BY run_id) b WHERE r.id = b.run_id AND r.floor_key > b.lowest

-- name: rename_wanted
UPDATE captures c SET rule = v.rule, priority = v.band
  FROM verdict v WHERE v.id = c.id AND v.reason = '' AND c.fetch_id IS NOT NULL

-- Skipped becomes wanted: as if listed now (sql/listings.sql), one run at a time -----------------------

-- name: runs_to_want
-- the run that listed them, or where that is cancelled one that adopted them and is not
SELECT c.id, coalesce(CASE WHEN r.state <> 'cancelled' THEN r.id END,
                      (SELECT n.id FROM adoptions a JOIN runs n ON n.id = a.run_id AND n.state <> 'cancelled' AND n.archive = c.archive
                        WHERE a.capture_id = c.id ORDER BY n.state <> 'active', n.id LIMIT 1), r.id) AS run_id
  FROM captures c JOIN runs r ON r.id = c.run_id WHERE c.id = ANY ($1::bigint[])

-- name: stage_wanted
INSERT INTO stage (n, id, key, url_id, share_key, host, urlkey, ts, instant, impossible, original, mimetype, statuscode,
                   digest, length, locator, revisit, reason, rule, confidence, band, fate)
SELECT row_number() OVER (ORDER BY c.id), c.id, c.key, c.url_id, v.share_key, v.host, c.urlkey, c.ts, c.instant, c.impossible,
       c.original, c.mimetype, c.statuscode, c.digest, c.length, c.locator, c.mimetype = 'warc/revisit', '', v.rule,
       v.confidence, v.band, 'new'
  FROM verdict v JOIN captures c ON c.id = v.id
 WHERE v.reason = '' AND c.fetch_id IS NULL

-- name: count_wanted
-- they leave the skipped ones of the run that listed them and each that adopted them
INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
SELECT c.domain_id, u.run_id, 'skipped', c.reason, -count(*)
  FROM stage s JOIN captures c ON c.id = s.id
 CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
 GROUP BY c.domain_id, u.run_id, c.reason ORDER BY c.domain_id, u.run_id, c.reason
ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n

-- name: want_captures
UPDATE captures c SET fetch_id = s.fetch_id, reason = '', rule = s.rule, confidence = s.confidence, priority = s.band
  FROM stage s WHERE s.id = c.id

-- name: stillborn
-- the run that listed them is cancelled: they wait, as cancelled, for a run that wants them
UPDATE fetches SET state = 'cancelled', reason = 'run', settled_at = clock_timestamp() WHERE id = ANY ($1::bigint[])

-- name: go_on
-- a finished run with something to fetch is no longer finished
UPDATE runs r SET state = 'active', finished_at = NULL, ready = true
 WHERE r.state = 'done'
   AND r.id IN (SELECT c.run_id FROM stage s JOIN captures c ON c.id = s.id
                 UNION ALL SELECT a.run_id FROM stage s JOIN adoptions a ON a.capture_id = s.id)

-- name: clear_stage
TRUNCATE stage
