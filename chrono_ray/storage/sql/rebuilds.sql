-- A fresh index: asked for, filled by whoever holds its lease, put in the live one's place.

-- name: request
INSERT INTO index_rebuilds (why) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id

-- name: request_unasked
-- one that failed a moment ago would fail again
INSERT INTO index_rebuilds (why)
SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM index_rebuilds
                             WHERE state = 'failed' AND finished_at > clock_timestamp() - $2::interval)
ON CONFLICT DO NOTHING

-- name: under_way
SELECT id FROM index_rebuilds WHERE state NOT IN ('done', 'failed')

-- name: progress
SELECT id, state, why, total, filled, rejected, error,
       (SELECT count(*) FROM (SELECT FROM rebuild_changes LIMIT 10000) c) AS changes,
       coalesce(extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at), 0)::float8 AS seconds,
       coalesce(leased_until > clock_timestamp(), false) AS worked_on
  FROM index_rebuilds WHERE id = $1

-- name: claim
UPDATE index_rebuilds SET token = gen_random_uuid(), leased_until = clock_timestamp() + $1::interval,
       started_at = coalesce(started_at, clock_timestamp())
 WHERE id = (SELECT id FROM index_rebuilds
              WHERE state NOT IN ('done', 'failed') AND (token IS NULL OR leased_until < clock_timestamp())
              LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, token, state, fresh, last_page

-- name: renew
UPDATE index_rebuilds SET leased_until = clock_timestamp() + $2::interval WHERE token = $1 RETURNING id

-- name: release
UPDATE index_rebuilds SET token = NULL, leased_until = NULL WHERE token = $1

-- name: begin
-- from the first page on. What was acknowledged before this commit, the walk will read.
UPDATE index_rebuilds SET state = 'filling', fresh = $2, last_page = 0, filled = 0, rejected = 0,
       total = (SELECT count(*) FROM pages)
 WHERE token = $1 AND state NOT IN ('done', 'failed')
RETURNING id, token, state, fresh, last_page

-- name: forget_changes
DELETE FROM rebuild_changes

-- name: next_pages
-- the next pages by id, up to $3 bytes of text; always one
SELECT id FROM (
    SELECT p.id, row_number() OVER w AS n, sum(octet_length(t.text)) OVER w AS upto
      FROM (SELECT id, document_id FROM pages WHERE id > $1 ORDER BY id LIMIT $2) p
      JOIN documents t ON t.id = p.document_id
    WINDOW w AS (ORDER BY p.id)) s
 WHERE n = 1 OR upto <= $3::bigint
 ORDER BY id

-- name: advance
UPDATE index_rebuilds SET last_page = $2, filled = filled + $3, rejected = rejected + $4
 WHERE token = $1 AND state = 'filling'
RETURNING id, token, state, fresh, last_page

-- name: last_change
SELECT coalesce(max(seq), 0) FROM rebuild_changes

-- name: changes
SELECT seq, page_id FROM (
    SELECT c.seq, c.page_id, row_number() OVER w AS n, sum(coalesce(octet_length(t.text), 0)) OVER w AS upto
      FROM (SELECT seq, page_id FROM rebuild_changes WHERE seq <= $1 ORDER BY seq LIMIT $2) c
      LEFT JOIN pages p ON p.id = c.page_id LEFT JOIN documents t ON t.id = p.document_id
    WINDOW w AS (ORDER BY c.seq)) s
 WHERE n = 1 OR upto <= $3::bigint
 ORDER BY seq

-- name: drop_changes
DELETE FROM rebuild_changes WHERE seq = ANY ($1::bigint[])

-- name: is_ours
SELECT 1 FROM index_rebuilds WHERE token = $1 FOR KEY SHARE

-- name: close_gate
UPDATE index_rebuilds SET state = 'swapping' WHERE token = $1 AND state IN ('filling', 'swapping')
RETURNING id, token, state, fresh, last_page

-- name: free_expired
-- whoever held these can acknowledge nothing any more
UPDATE outbox SET token = NULL, leased_until = NULL WHERE token IS NOT NULL AND leased_until < clock_timestamp()

-- name: leased
SELECT EXISTS (SELECT 1 FROM outbox WHERE token IS NOT NULL)

-- name: swapped
UPDATE index_rebuilds SET state = 'swapped' WHERE token = $1 AND state = 'swapping'
RETURNING id, token, state, fresh, last_page

-- name: finish
UPDATE index_rebuilds SET state = $2, error = $3, finished_at = clock_timestamp(), token = NULL, leased_until = NULL
 WHERE token = $1 RETURNING id

-- name: living
-- by when they came to answer, not by when they were asked for
SELECT fresh FROM index_rebuilds WHERE state IN ('swapped', 'done') ORDER BY finished_at DESC NULLS FIRST LIMIT 1

-- name: remember
INSERT INTO index_rebuilds (state, why, fresh, started_at, finished_at)
SELECT 'done', 'the first index', $1, clock_timestamp(), clock_timestamp()
 WHERE NOT EXISTS (SELECT 1 FROM index_rebuilds WHERE state IN ('swapped', 'done'))
