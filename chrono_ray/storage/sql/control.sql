-- What a person changes about a run while it lives, or after it ended.

-- name: being_deleted
SELECT t.id FROM tasks t WHERE t.project_id = $1 AND t.kind = 'delete_project' AND t.state = 'pending'

-- name: project_of
SELECT project_id FROM runs WHERE id = $1

-- name: is_cancelled
SELECT state = 'cancelled' FROM runs WHERE id = $1

-- name: retry_counts
-- ended fetches of a run that are asked to be tried again, and whether their own bytes are to blame.
-- What a cancel cut short belongs to what it cancelled.
SELECT f.state, f.reason, (f.payload_id IS NOT NULL OR f.reason = ANY ($4::text[])) AS guilty, count(*) AS n
  FROM fetches f
 WHERE f.id IN (SELECT c.fetch_id FROM captures c WHERE c.run_id = $1
                UNION SELECT c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1)
   AND (f.state = ANY ($2::text[]) OR ('cancelled' = ANY ($2::text[]) AND f.former IS NOT NULL AND f.state <> 'pending'))
   AND ($3::text[] IS NULL OR f.reason = ANY ($3::text[]))
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3

-- name: retry_bounds
-- between which ids a run's fetches lie
SELECT min(u.fetch_id) AS first, max(u.fetch_id) AS last
  FROM (SELECT c.fetch_id FROM captures c WHERE c.run_id = $1
        UNION ALL SELECT c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1) u

-- name: retry_ids
-- the next of them by id, each probed by its captures; asked again with their rows locked
SELECT f.id FROM fetches f
 WHERE f.id BETWEEN $5 AND $6
   AND (f.state = ANY ($2::text[]) OR ('cancelled' = ANY ($2::text[]) AND f.former IS NOT NULL AND f.state <> 'pending'))
   AND ($3::text[] IS NULL OR f.reason = ANY ($3::text[]))
   AND ($7 OR NOT (f.payload_id IS NOT NULL OR f.reason = ANY ($4::text[])))
   AND (SELECT true FROM captures c
         WHERE c.fetch_id = f.id AND (c.run_id = $1 OR EXISTS (SELECT 1 FROM adoptions a WHERE a.run_id = $1 AND a.capture_id = c.id))
         LIMIT 1)
 ORDER BY f.id LIMIT $8

-- name: unasked
-- what ended while a plan stood: cancelled with another run, or not to be had where that one asked,
-- and the plan's archive was not asked for it
SELECT DISTINCT f.id
  FROM runs r
 CROSS JOIN LATERAL (SELECT c.fetch_id FROM captures c WHERE c.run_id = r.id
                     UNION ALL SELECT c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = r.id) u
  JOIN fetches f ON f.id = u.fetch_id
 WHERE r.id = $1 AND r.goal = 'plan' AND r.state IN ('planned', 'active', 'paused')
   AND (f.state = 'cancelled'
        OR ((f.state = 'gone' OR (f.state = 'failed' AND f.payload_id IS NULL AND f.reason <> ALL ($2::text[])))
            AND (SELECT true FROM attempts a JOIN captures k ON k.id = a.capture_id AND k.archive = r.archive
                  WHERE a.fetch_id = f.id AND a.final LIMIT 1) IS NULL))
 ORDER BY f.id

-- name: lock_ended
-- in the order listers and settlers lock them
SELECT f.id FROM fetches f
 WHERE f.id = ANY ($1::bigint[])
   AND (f.state = ANY ($2::text[]) OR ('cancelled' = ANY ($2::text[]) AND f.former IS NOT NULL AND f.state <> 'pending'))
 ORDER BY f.share_key FOR NO KEY UPDATE

-- name: chosen_captures
-- the capture to begin with: the one tried last where the run has it, else a response before a revisit
SELECT DISTINCT ON (f.id) f.id AS fetch_id, c.id AS capture_id, c.original
  FROM fetches f JOIN captures c ON c.fetch_id = f.id JOIN runs r ON r.id = $2 AND c.archive = r.archive
 WHERE f.id = ANY ($1::bigint[])
   AND (c.run_id = $2 OR EXISTS (SELECT 1 FROM adoptions a WHERE a.run_id = $2 AND a.capture_id = c.id))
 ORDER BY f.id, c.id <> f.capture_id, (c.mimetype = 'warc/revisit'), c.instant DESC

-- name: forgive
-- captures that were given up may be tried again; what was said about them stays
UPDATE attempts SET final = false, forgiven = true WHERE fetch_id = ANY ($1::bigint[]) AND final

-- name: enqueue
-- behind what waits on each host already, never below the floor: hosts interleave. In the band that
-- the rules gave the capture.
WITH due AS (
    SELECT w.*, row_number() OVER (PARTITION BY w.host ORDER BY w.fetch_id) AS rank
      FROM unnest($2::bigint[], $3::bigint[], $4::text[]) AS w (fetch_id, capture_id, host)
), sized AS (SELECT host, count(*) AS n FROM due GROUP BY host),
   floor AS (SELECT rank_floor FROM runs WHERE id = $1),
   taken AS (
    INSERT INTO hosts (run_id, host, next_key)
    SELECT $1, z.host, floor.rank_floor + z.n FROM sized z, floor ORDER BY z.host
    ON CONFLICT (run_id, host) DO UPDATE
       SET next_key = greatest(hosts.next_key, (SELECT rank_floor FROM floor)) + (SELECT z.n FROM sized z WHERE z.host = hosts.host)
    RETURNING host, next_key
), put AS (
    INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype, statuscode, digest, locator)
    SELECT d.fetch_id, $1, t.next_key - z.n + d.rank + (c.priority::bigint << 48), c.id, c.archive, c.urlkey, c.ts, c.original, c.mimetype,
           c.statuscode, c.digest, c.locator
      FROM due d JOIN taken t ON t.host = d.host JOIN sized z ON z.host = d.host JOIN captures c ON c.id = d.capture_id
     ORDER BY 3
    RETURNING order_key
)
-- with it those of its collection that were done: they may be asked what this one cannot give
UPDATE runs r SET state = CASE WHEN r.state IN ('paused', 'planned') THEN r.state ELSE 'active' END, finished_at = NULL,
       ready = r.ready OR r.id = $1,
       floor_key = CASE r.id WHEN $1 THEN least(r.floor_key, (SELECT min(order_key) FROM put)) ELSE r.floor_key END
 WHERE r.id = $1 OR (r.together = (SELECT m.together FROM runs m WHERE m.id = $1) AND r.state = 'done')

-- name: reopen_slices
-- a hole goes on from its last key; a run cancelled while it listed lists on; what failed and is put off
-- for hours is due at once, with all its tries again: one more failure must not cost more than the wait
WITH again AS (
    UPDATE slices SET state = 'pending', attempts = 0, reason = '', detail = '', not_before = '-infinity', snoozed_for = '0',
           token = NULL, leased_until = NULL
     WHERE run_id = $1
       AND (state = ANY ($2::text[])
            OR ('hole' = ANY ($2) AND state = 'pending' AND attempts > 0 AND token IS NULL AND not_before > clock_timestamp()))
    RETURNING id
), active AS (
    UPDATE runs SET state = CASE state WHEN 'paused' THEN state ELSE 'active' END, finished_at = NULL
     WHERE id = $1 AND EXISTS (SELECT 1 FROM again)
)
SELECT count(*) FROM again

-- name: go_on
-- cancelled a moment ago, it still holds what no sweep has ended yet
UPDATE runs r SET state = 'active', finished_at = NULL, ready = true
 WHERE r.id = $1 AND r.state = 'cancelled'
   AND ((SELECT true FROM queue q WHERE q.run_id = r.id ORDER BY q.order_key LIMIT 1) OR (SELECT true FROM leases l WHERE l.run_id = r.id LIMIT 1)
        OR (SELECT true FROM parked p WHERE p.run_id = r.id ORDER BY p.order_key LIMIT 1))

-- name: count_slices
SELECT count(*) FROM slices
 WHERE run_id = $1
   AND (state = ANY ($2::text[])
        OR ('hole' = ANY ($2) AND state = 'pending' AND attempts > 0 AND token IS NULL AND not_before > clock_timestamp()))

-- name: next_window
-- where a stretch of about $3 queued keys from $2 on ends (the first key beyond it)
SELECT order_key FROM queue WHERE run_id = $1 AND order_key >= $2 ORDER BY order_key OFFSET $3 LIMIT 1

-- name: count_matching
SELECT count(*) FROM (
    SELECT q.fetch_id, q.order_key, q.urlkey, q.ts FROM queue q WHERE q.run_id = $1
    UNION ALL
    SELECT p.fetch_id, p.order_key, c.urlkey, c.ts FROM parked p JOIN captures c ON c.id = p.capture_id WHERE p.run_id = $1) q
 WHERE q.order_key < (16::bigint << 48) AND (q.order_key >> 48) <> $2::int
   AND (((q.urlkey || ' ') ^@ ANY ($3::text[]) AND q.ts BETWEEN $4 AND $5)
        OR EXISTS (SELECT 1 FROM captures c WHERE c.fetch_id = q.fetch_id AND (c.urlkey || ' ') ^@ ANY ($3::text[]) AND c.ts BETWEEN $4 AND $5))

-- name: set_band
-- the rank stays, its band is another; what a claim holds is out already. A second pass stays one.
WITH found AS (
    SELECT q.ctid AS tid FROM queue q
     WHERE q.run_id = $1 AND q.order_key >= $6 AND q.order_key < $7
       AND q.order_key < (16::bigint << 48) AND (q.order_key >> 48) <> $2::int
       AND (((q.urlkey || ' ') ^@ ANY ($3::text[]) AND q.ts BETWEEN $4 AND $5)
            OR EXISTS (SELECT 1 FROM captures c WHERE c.fetch_id = q.fetch_id AND (c.urlkey || ' ') ^@ ANY ($3::text[]) AND c.ts BETWEEN $4 AND $5))
       FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE queue q SET order_key = ($2::bigint << 48) + (q.order_key & ((1::bigint << 48) - 1))
     WHERE q.ctid = ANY (ARRAY (SELECT tid FROM found))
    RETURNING order_key
), floor AS (
    UPDATE runs r SET ready = true, floor_key = m.lowest
      FROM (SELECT min(order_key) AS lowest FROM moved) m WHERE r.id = $1 AND m.lowest < r.floor_key
)
SELECT count(*) FROM moved

-- name: set_band_parked
WITH moved AS (
    UPDATE parked p SET order_key = ($2::bigint << 48) + (p.order_key & ((1::bigint << 48) - 1))
     WHERE p.run_id = $1 AND p.order_key < (16::bigint << 48) AND (p.order_key >> 48) <> $2::int
       AND EXISTS (SELECT 1 FROM captures c WHERE c.fetch_id = p.fetch_id AND (c.urlkey || ' ') ^@ ANY ($3::text[]) AND c.ts BETWEEN $4 AND $5)
    RETURNING 1
)
SELECT count(*) FROM moved

-- name: find_capture
-- the one that a URL and a moment name: spelled as asked before another spelling, a page before an event
SELECT c.id FROM captures c JOIN domains d ON d.id = c.domain_id
 WHERE d.project_id = $1 AND c.url_id = $2 AND c.ts BETWEEN $4 AND $5 AND ($6 = '' OR c.archive = $6)
 ORDER BY c.original <> $3, c.fetch_id IS NULL, c.statuscode <> '200', c.ts, c.id LIMIT 1

-- name: fetch_now
SELECT f.*, c.id, c.archive, c.ts, c.original FROM fetch_now($1, $2, $3) f JOIN captures c ON c.id = $1
