-- What an operator watches: read every second, so each statement is bounded.

-- name: runs
-- active and paused ones, then the newest, $1 in all
SELECT r.id FROM runs r ORDER BY (r.state = 'active') DESC, (r.state = 'paused') DESC, r.id DESC LIMIT $1

-- name: slow
-- our own statements that have been at work for longer than $1, the oldest first
SELECT a.pid, a.application_name AS name, extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS seconds,
       coalesce(a.wait_event_type || ' ' || a.wait_event, '') AS waits_for,
       left(btrim(regexp_replace(a.query, '\s+', ' ', 'g')), 200) AS query
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.state = 'active' AND a.pid <> pg_backend_pid()
   AND a.application_name LIKE 'chrono%' AND a.query_start < clock_timestamp() - $1::interval
 ORDER BY a.query_start LIMIT 10

-- name: server
SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS bytes, clock_timestamp() AS at,
       EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_stat_statements')
       AND current_setting('pg_stat_statements.max', true) IS NOT NULL AS statements

-- name: costly
-- what took most of the server's time since its statistics were reset; milliseconds
SELECT left(btrim(regexp_replace(left(t.query, 1000), '\s+', ' ', 'g')), 200) AS query, t.calls, t.mean, t.total
  FROM (SELECT s.query, s.calls, s.mean_exec_time AS mean, s.total_exec_time AS total FROM pg_stat_statements s
         WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
         ORDER BY s.total_exec_time DESC LIMIT 5) t
 ORDER BY t.total DESC
