-- What the record knows of the whole instance, for whoever watches it: one statement, which counts nothing
-- further than $1 and adds up what is kept.

-- name: glance
-- $1: work of a kind is counted up to this; $2: how far ahead leave is given; $3: tables of which sizes are told.
WITH RECURSIVE waiting (id) AS (
    -- by the index from one run to the next: how many runs there ever were is nothing to it
    SELECT min(q.run_id) FROM queue q
    UNION ALL
    SELECT (SELECT min(q.run_id) FROM queue q WHERE q.run_id > w.id) FROM waiting w WHERE w.id IS NOT NULL
), silent AS MATERIALIZED (
    SELECT DISTINCT b.archive FROM archive_budgets b WHERE b.paused_until > clock_timestamp()
), queued AS MATERIALIZED (
    SELECT r.id, r.class, r.created_at,
           CASE WHEN r.state = 'active' AND EXISTS (SELECT FROM silent i WHERE i.archive = r.archive) THEN 'silent' ELSE r.state END AS state
      FROM (SELECT w.id FROM waiting w LIMIT $1) w JOIN runs r ON r.id = w.id
), active AS MATERIALIZED (
    SELECT r.id, r.class, EXISTS (SELECT FROM silent i WHERE i.archive = r.archive) AS silent
      FROM runs r WHERE r.state = 'active'
), depth (class, work, state, n) AS (
    SELECT k.class, 'fetch', s.state,
           (SELECT count(*) FROM (SELECT 1 FROM queued g CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.run_id = g.id LIMIT $1) w
                                   WHERE g.class = k.class AND g.state = s.run LIMIT $1) x)
      FROM generate_series(0, 3) k (class) CROSS JOIN (VALUES ('waiting', 'active'), ('silent', 'silent'), ('held', 'paused')) s (state, run)
    UNION ALL
    SELECT r.class, 'fetch', 'leased', count(*) FROM (SELECT e.run_id FROM leases e LIMIT $1) x JOIN runs r ON r.id = x.run_id GROUP BY r.class
    UNION ALL
    SELECT r.class, 'fetch', 'parked', count(*) FROM (SELECT e.run_id FROM parked e LIMIT $1) x JOIN runs r ON r.id = x.run_id GROUP BY r.class
    UNION ALL
    SELECT x.class, 'listing', x.state, count(*)
      FROM (SELECT a.class, CASE WHEN s.leased_until > clock_timestamp() THEN 'leased'
                                 WHEN s.not_before > clock_timestamp() THEN 'parked'
                                 WHEN a.silent THEN 'silent' ELSE 'waiting' END AS state
              FROM active a JOIN slices s ON s.run_id = a.id AND s.state = 'pending' LIMIT $1) x GROUP BY x.class, x.state
    UNION ALL
    SELECT x.class, 'task', x.state, count(*)
      FROM (SELECT t.class, CASE WHEN t.token IS NOT NULL THEN 'leased'
                                 WHEN t.not_before > clock_timestamp() THEN 'parked' ELSE 'waiting' END AS state
              FROM tasks t WHERE t.state = 'pending' LIMIT $1) x GROUP BY x.class, x.state
), oldest (class, work, seconds) AS (
    SELECT q.class, 'fetch', extract(epoch FROM clock_timestamp() - min(q.created_at)) FROM queued q WHERE q.state IN ('active', 'silent') GROUP BY q.class
    UNION ALL
    SELECT x.class, 'task', extract(epoch FROM clock_timestamp() - min(x.created_at))
      FROM (SELECT t.class, t.created_at FROM tasks t
             WHERE t.state = 'pending' AND t.token IS NULL AND t.not_before <= clock_timestamp() LIMIT $1) x GROUP BY x.class
), expired (work, n) AS (
    SELECT 'fetch', count(*) FROM (SELECT 1 FROM leases e WHERE e.leased_until < clock_timestamp() LIMIT $1) x
    UNION ALL
    SELECT 'listing', count(*) FROM (SELECT 1 FROM active a JOIN slices s ON s.run_id = a.id AND s.state = 'pending'
                                      WHERE s.leased_until < clock_timestamp() LIMIT $1) x
    UNION ALL
    SELECT 'task', count(*) FROM (SELECT 1 FROM tasks t WHERE t.token IS NOT NULL AND t.leased_until < clock_timestamp() LIMIT $1) x
), budgets AS (
    -- local files have no wire, and their names are paths
    SELECT b.archive, b.kind, b.egress, b.per_minute, n.at < b.paused_until AS paused, b.pause_reason AS reason,
           greatest(extract(epoch FROM b.paused_until - n.at), 0) AS pause,
           greatest(extract(epoch FROM greatest(b.paused_until, b.tat - $2::interval) - n.at), 0) AS wait,
           CASE WHEN b.step > '0' THEN 60 / extract(epoch FROM budget_step(b, n.at)) END AS rate,
           CASE WHEN b.step = '0' THEN NULL WHEN b.paused_until > n.at OR b.tat > n.at + $2::interval THEN 0
                ELSE 1 + floor(extract(epoch FROM n.at + $2::interval - greatest(b.tat, n.at)) / extract(epoch FROM budget_step(b, n.at)))
           END AS left
      FROM (SELECT clock_timestamp() AS at) n CROSS JOIN archive_budgets b
     WHERE b.archive NOT LIKE 'warc%' ORDER BY b.archive, b.kind, b.egress LIMIT 200
), captures (state, n) AS (
    SELECT n.state, sum(n.n) FROM project_numbers n
     WHERE n.state IN ('discovered', 'stored', 'unchanged', 'known', 'repeated', 'skipped', 'gone', 'refused', 'failed', 'cancelled')
     GROUP BY n.state
), sessions AS MATERIALIZED (
    SELECT CASE WHEN a.application_name LIKE 'chrono %' THEN split_part(a.application_name, ' ', 2) ELSE 'other' END AS part,
           CASE WHEN a.state = 'active' THEN 'active' WHEN a.state LIKE 'idle in%' THEN 'idle_in_transaction' ELSE 'idle' END AS state,
           a.query_start, a.xact_start
      FROM pg_stat_activity a
     WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
)
SELECT (SELECT json_agg(x) FROM depth x)::text AS depth,
       (SELECT json_agg(x) FROM oldest x)::text AS oldest,
       (SELECT json_agg(x) FROM (SELECT a.class, a.silent, count(*) AS n FROM active a GROUP BY a.class, a.silent) x)::text AS runs,
       (SELECT json_agg(x) FROM expired x)::text AS expired,
       (SELECT json_agg(x) FROM budgets x)::text AS budgets,
       (SELECT json_agg(x) FROM captures x)::text AS captures,
       (SELECT json_agg(x) FROM (SELECT s.part, s.state, count(*) AS n FROM sessions s GROUP BY s.part, s.state) x)::text AS connections,
       (SELECT json_agg(x) FROM (SELECT t.relname AS table, greatest(c.reltuples, 0)::bigint AS rows, t.n_dead_tup AS dead
                                   FROM pg_stat_user_tables t JOIN pg_class c ON c.oid = t.relid
                                  WHERE t.relid = ANY ($3::text[]::regclass[])) x)::text AS tables,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(s.query_start)) FROM sessions s WHERE s.state = 'active'), 0)::float8 AS statement,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(s.xact_start)) FROM sessions s), 0)::float8 AS transaction,
       (SELECT count(*) FROM (SELECT 1 FROM slices s JOIN runs r ON r.id = s.run_id
                              WHERE s.state = 'hole' AND r.state <> 'cancelled' LIMIT $1) x) AS holes,
       o.pages, o.sending, o.lag, d.*, (SELECT a.version_num FROM alembic_version a) AS revision
  FROM (SELECT count(*) AS pages, count(x.token) AS sending,
               coalesce(extract(epoch FROM clock_timestamp() - min(x.queued_at)), 0)::float8 AS lag
          FROM (SELECT e.token, e.queued_at FROM outbox e ORDER BY e.seq LIMIT $1) x) o
 CROSS JOIN (
    SELECT pg_database_size(b.oid) AS bytes, s.xact_commit AS committed, s.xact_rollback AS rolled_back, s.blks_hit AS hit,
           s.blks_read AS read, s.deadlocks,
           -- what other databases of the server hold is not to be had; never 0, which nothing could be divided by
           greatest(least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                          - coalesce(current_setting('reserved_connections', true)::int, 0)
                          - (SELECT count(*)::int FROM pg_stat_activity a
                              WHERE a.backend_type = 'client backend' AND a.datname <> current_database()),
                          nullif(b.datconnlimit, -1)), 1) AS connections_most
      FROM pg_database b JOIN pg_stat_database s ON s.datid = b.oid WHERE b.datname = current_database()) d
