-- What is kept for a while only: counted, and removed in chunks that each commit. $1 is the age, $2 a chunk.

-- name: tasks_found
SELECT count(*) AS rows, coalesce(sum(pg_column_size(t)), 0)::bigint AS bytes, min(t.finished_at) AS oldest
  FROM tasks t WHERE t.finished_at < clock_timestamp() - $1::interval AND t.state <> 'pending' AND t.kind <> 'export'

-- name: tasks_drop
WITH gone AS (
    DELETE FROM tasks t WHERE t.id = ANY (ARRAY (
        SELECT o.id FROM tasks o WHERE o.finished_at < clock_timestamp() - $1::interval AND o.state <> 'pending' AND o.kind <> 'export'
         ORDER BY o.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING pg_column_size(t) AS size, t.finished_at AS at
)
SELECT count(*) AS rows, coalesce(sum(size), 0)::bigint AS bytes, min(at) AS oldest FROM gone

-- name: logins_found
-- one that was used or revoked is kept for a day, so that whoever brings it again is noticed
SELECT count(*) AS rows, coalesce(sum(pg_column_size(a)), 0)::bigint AS bytes, min(a.expires_at) AS oldest
  FROM api_tokens a WHERE a.kind <> 'key' AND a.expires_at < clock_timestamp() - least($1::interval, interval '1 day')

-- name: logins_drop
WITH gone AS (
    DELETE FROM api_tokens a WHERE a.id = ANY (ARRAY (
        SELECT o.id FROM api_tokens o WHERE o.kind <> 'key' AND o.expires_at < clock_timestamp() - least($1::interval, interval '1 day')
         ORDER BY o.expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING pg_column_size(a) AS size, a.expires_at AS at
)
SELECT count(*) AS rows, coalesce(sum(size), 0)::bigint AS bytes, min(at) AS oldest FROM gone

-- name: keys_found
SELECT count(*) AS rows, coalesce(sum(pg_column_size(a)), 0)::bigint AS bytes, min(least(a.expires_at, a.revoked_at)) AS oldest
  FROM api_tokens a WHERE a.kind = 'key' AND least(a.expires_at, a.revoked_at) < clock_timestamp() - $1::interval

-- name: keys_drop
WITH gone AS (
    DELETE FROM api_tokens a WHERE a.id = ANY (ARRAY (
        SELECT o.id FROM api_tokens o WHERE o.kind = 'key' AND least(o.expires_at, o.revoked_at) < clock_timestamp() - $1::interval
         ORDER BY o.id LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING pg_column_size(a) AS size, least(a.expires_at, a.revoked_at) AS at
)
SELECT count(*) AS rows, coalesce(sum(size), 0)::bigint AS bytes, min(at) AS oldest FROM gone

-- name: rebuilds_found
-- the last that was done names the index that answers now
SELECT count(*) AS rows, coalesce(sum(pg_column_size(r)), 0)::bigint AS bytes, min(r.finished_at) AS oldest
  FROM index_rebuilds r
 WHERE r.finished_at < clock_timestamp() - $1::interval AND r.state IN ('done', 'failed')
   AND r.id IS DISTINCT FROM (SELECT l.id FROM index_rebuilds l WHERE l.state IN ('swapped', 'done')
                             ORDER BY l.finished_at DESC NULLS FIRST LIMIT 1)

-- name: rebuilds_drop
WITH gone AS (
    DELETE FROM index_rebuilds r WHERE r.id = ANY (ARRAY (
        SELECT o.id FROM index_rebuilds o
         WHERE o.finished_at < clock_timestamp() - $1::interval AND o.state IN ('done', 'failed')
           AND o.id IS DISTINCT FROM (SELECT l.id FROM index_rebuilds l WHERE l.state IN ('swapped', 'done')
                                     ORDER BY l.finished_at DESC NULLS FIRST LIMIT 1)
         ORDER BY o.id LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING pg_column_size(r) AS size, r.finished_at AS at
)
SELECT count(*) AS rows, coalesce(sum(size), 0)::bigint AS bytes, min(at) AS oldest FROM gone

-- name: exports
-- those that ended, by id behind $3, with the size of their files; shared: one that stays is at, in or around their place
WITH every AS MATERIALIZED (
    SELECT t.id, t.project_id, t.arguments ->> 'to' AS place, t.finished_at AS at,
           t.state <> 'pending' AND coalesce(t.finished_at < clock_timestamp() - $1::interval, false) AS goes,
           rtrim(regexp_replace(regexp_replace(t.arguments ->> 'to', '^file://', ''), '/(\.?/)+', '/', 'g'), '/') || '/' AS folder
      FROM tasks t WHERE t.kind = 'export'
)
SELECT e.id, e.project_id, e.place, e.at,
       coalesce((SELECT sum(p.bytes) FROM export_parts p WHERE p.task_id = e.id), 0)::bigint AS bytes,
       EXISTS (SELECT FROM every o WHERE NOT o.goes
                  AND (starts_with(o.folder, e.folder) OR starts_with(e.folder, o.folder))) AS shared
  FROM every e WHERE e.goes AND e.id > $3
 ORDER BY e.id LIMIT $2

-- name: files
SELECT name FROM export_parts WHERE task_id = $1

-- name: drop_export
-- its files are gone by now
DELETE FROM tasks WHERE id = $1 AND kind = 'export' AND state <> 'pending'

-- name: weighed
-- of these payloads
SELECT count(*) AS rows, coalesce(sum(size), 0)::bigint AS bytes, min(stored_at) AS oldest FROM payloads WHERE id = ANY ($1::bigint[])
