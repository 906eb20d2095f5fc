-- Deleting: a project row by row, in chunks that each commit; and what nobody refers to any more.

-- name: forget_intentions
-- what would begin by itself meanwhile; whoever is at it has the row locked, and is waited for
WITH begun AS (DELETE FROM schedules WHERE domain_id IN (SELECT id FROM domains WHERE project_id = $1))
DELETE FROM redecisions WHERE domain_id IN (SELECT id FROM domains WHERE project_id = $1)

-- name: unfinished_runs
SELECT id FROM runs WHERE project_id = $1 AND state IN ('active', 'paused', 'planned') ORDER BY id

-- name: listed
-- by the counters: it is only shown
SELECT coalesce(sum(CASE WHEN k.state = 'discovered' THEN k.n ELSE -k.n END), 0)::bigint
  FROM domain_counters k JOIN domains d ON d.id = k.domain_id
 WHERE d.project_id = $1 AND (k.state IN ('discovered', 'known', 'repeated') OR (k.state = 'skipped' AND k.reason = 'bad_row'))

-- name: holds_captures
SELECT EXISTS (SELECT FROM domains d WHERE d.project_id = $1 AND EXISTS (SELECT FROM captures c WHERE c.domain_id = d.id))

-- name: drop_work
-- each with its fetch, so that none is left without a place. What a settle holds now is met next time.
-- Driven from the runs, in the order of their indexes: what others have queued costs nothing.
WITH mine AS MATERIALIZED (
    SELECT id FROM runs WHERE project_id = $1
), queued AS (
    DELETE FROM queue WHERE ctid = ANY (ARRAY (
        SELECT w.tid FROM mine r CROSS JOIN LATERAL (
            SELECT q.ctid AS tid FROM queue q WHERE q.run_id = r.id ORDER BY q.order_key LIMIT $2 FOR UPDATE SKIP LOCKED) w LIMIT $2))
    RETURNING fetch_id
), leased AS (
    DELETE FROM leases WHERE ctid = ANY (ARRAY (
        SELECT l.ctid FROM leases l WHERE l.run_id IN (SELECT id FROM mine) LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING fetch_id
), waiting AS (
    DELETE FROM parked WHERE ctid = ANY (ARRAY (
        SELECT w.tid FROM mine r CROSS JOIN LATERAL (
            SELECT p.ctid AS tid FROM parked p WHERE p.run_id = r.id ORDER BY p.order_key LIMIT $2 FOR UPDATE SKIP LOCKED) w LIMIT $2))
    RETURNING fetch_id
), gone AS (SELECT fetch_id FROM queued UNION ALL SELECT fetch_id FROM leased UNION ALL SELECT fetch_id FROM waiting),
   tried AS (DELETE FROM attempts WHERE fetch_id IN (SELECT fetch_id FROM gone))
DELETE FROM fetches WHERE id IN (SELECT fetch_id FROM gone) RETURNING id

-- name: work_left
-- one snapshot: what moves between the three while we look is seen in one of them
SELECT EXISTS (SELECT FROM runs r CROSS JOIN LATERAL (SELECT FROM queue q WHERE q.run_id = r.id ORDER BY q.order_key LIMIT 1) w
                WHERE r.project_id = $1)
    OR EXISTS (SELECT FROM leases l JOIN runs r ON r.id = l.run_id WHERE r.project_id = $1)
    OR EXISTS (SELECT FROM runs r CROSS JOIN LATERAL (SELECT FROM parked p WHERE p.run_id = r.id ORDER BY p.order_key LIMIT 1) w
                WHERE r.project_id = $1)

-- name: drop_pages
-- the index forgets them through the outbox, as it learns everything
WITH gone AS (
    DELETE FROM pages WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM pages WHERE domain_id = $1 AND id > $2 ORDER BY id LIMIT $3))
    RETURNING id
), noted AS (DELETE FROM run_pages WHERE page_id IN (SELECT id FROM gone)
), told AS (INSERT INTO outbox (page_id, op) SELECT id, 'delete' FROM gone ORDER BY id)
SELECT count(*) AS n, max(id) AS last FROM gone

-- name: domains
SELECT id FROM domains WHERE project_id = $1 ORDER BY id

-- name: drop_captures
-- in the order of their index: what is dead already is not walked through again
WITH gone AS (
    DELETE FROM captures WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM captures WHERE domain_id = $1 AND (archive, key) > ($2, $3) ORDER BY archive, key LIMIT $4))
    RETURNING archive, key
)
SELECT archive, key, count(*) OVER () AS n FROM gone ORDER BY archive DESC, key DESC LIMIT 1

-- name: drop_fetches
WITH gone AS (
    DELETE FROM fetches WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM fetches WHERE project_id = $1 AND share_key > $2 ORDER BY share_key LIMIT $3))
    RETURNING id, share_key, payload_id
), tried AS (DELETE FROM attempts WHERE fetch_id IN (SELECT id FROM gone))
SELECT share_key, payload_id FROM gone ORDER BY share_key

-- name: drop_listings
DELETE FROM listing_pages WHERE id = ANY (ARRAY (
    SELECT p.id FROM listing_pages p JOIN slices s ON s.id = p.slice_id JOIN runs r ON r.id = s.run_id
     WHERE r.project_id = $1 LIMIT $2))
RETURNING raw

-- name: drop_hosts
DELETE FROM hosts WHERE ctid = ANY (ARRAY (
    SELECT h.ctid FROM hosts h JOIN runs r ON r.id = h.run_id WHERE r.project_id = $1 LIMIT $2))
RETURNING run_id

-- name: drop_slices
DELETE FROM slices WHERE id = ANY (ARRAY (
    SELECT s.id FROM slices s JOIN runs r ON r.id = s.run_id WHERE r.project_id = $1 LIMIT $2))
RETURNING id

-- name: drop_runs
DELETE FROM runs WHERE id = ANY (ARRAY (SELECT id FROM runs WHERE project_id = $1 LIMIT $2)) RETURNING id

-- name: drop_domains
DELETE FROM domains WHERE id = ANY (ARRAY (SELECT id FROM domains WHERE project_id = $1 LIMIT $2)) RETURNING id

-- name: drop_project
DELETE FROM projects WHERE id = $1

-- name: barrier
-- whoever was putting payloads has committed; whoever does from now on knows the mark
LOCK TABLE payloads IN SHARE MODE

-- name: mark
INSERT INTO payload_mark (at) VALUES (clock_timestamp())
ON CONFLICT (one) DO UPDATE SET at = greatest(payload_mark.at, clock_timestamp()) RETURNING at

-- name: referenced
-- the payloads of the fetches behind $1, and how far this look went
SELECT coalesce(max(id), 0) AS last, array_agg(payload_id) FILTER (WHERE payload_id IS NOT NULL) AS payloads
  FROM (SELECT id, payload_id FROM fetches WHERE id > $1 ORDER BY id LIMIT $2) f

-- name: payloads_older
SELECT id FROM payloads WHERE id > $1 AND stored_at < $2 ORDER BY id LIMIT $3

-- name: lock_payloads
-- those that a settle put meanwhile are newer now, and stay
SELECT id FROM payloads WHERE id = ANY ($1::bigint[]) AND stored_at < $2 ORDER BY sha256 FOR UPDATE

-- name: drop_documents
DELETE FROM documents WHERE payload_id = ANY ($1::bigint[])

-- name: drop_payloads
DELETE FROM payloads WHERE id = ANY ($1::bigint[]) RETURNING sha256

-- name: named
-- which of these bytes a row names
SELECT sha256 FROM payloads WHERE sha256 = ANY ($1::bytea[])
 UNION SELECT raw FROM listing_pages WHERE raw = ANY ($1::bytea[])

-- name: may_forget_bytes
-- several may forget at once; a backup holds it alone
SELECT pg_try_advisory_xact_lock_shared($1)

-- name: now
SELECT clock_timestamp()
