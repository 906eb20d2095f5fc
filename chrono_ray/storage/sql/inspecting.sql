-- What may be wrong with the server and with what the record holds. Nothing is changed.

-- name: server
-- `most`: connections that this database and user may hold at once
SELECT current_setting('server_version_num')::int AS version, clock_timestamp() AS at,
       current_setting('fsync')::bool AS fsync, current_setting('full_page_writes')::bool AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, current_setting('autovacuum')::bool AS autovacuum,
       least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
             nullif(d.datconnlimit, -1), nullif(u.rolconnlimit, -1)) AS most
  FROM pg_database d CROSS JOIN pg_roles u
 WHERE d.datname = current_database() AND u.rolname = current_user

-- name: holes
-- runs whose listing has parts that could not be had, the newest $1
SELECT s.run_id AS run, count(*) AS holes FROM slices s JOIN runs r ON r.id = s.run_id
 WHERE s.state = 'hole' AND r.state <> 'cancelled' GROUP BY s.run_id ORDER BY s.run_id DESC LIMIT $1

-- name: expired
-- leases that nobody has renewed or taken back for $1, counted up to $2 of a kind. A part of a listing is taken back
-- by whoever lists next at its archive: while somebody lists there, or the archive is left alone, it only waits.
SELECT count(*) AS leases, greatest(count(DISTINCT nullif(x.worker, '')), least(count(*), 1)) AS workers,
       coalesce(extract(epoch FROM clock_timestamp() - min(x.leased_until)), 0)::float8 AS seconds
  FROM ((SELECT l.worker, l.leased_until FROM leases l WHERE l.leased_until < clock_timestamp() - $1::interval LIMIT $2)
        UNION ALL
        (SELECT t.worker, t.leased_until FROM tasks t
          WHERE t.token IS NOT NULL AND t.leased_until < clock_timestamp() - $1::interval LIMIT $2)
        UNION ALL
        (SELECT '', s.leased_until FROM runs r JOIN slices s ON s.run_id = r.id AND s.state = 'pending'
          WHERE r.state = 'active' AND s.leased_until < clock_timestamp() - $1::interval
            AND NOT EXISTS (SELECT FROM runs o JOIN slices b ON b.run_id = o.id AND b.state = 'pending'
                             WHERE o.state = 'active' AND o.archive = r.archive AND b.leased_until >= clock_timestamp())
            AND NOT EXISTS (SELECT FROM archive_budgets g WHERE g.archive = r.archive AND g.paused_until > clock_timestamp())
          LIMIT $2)) x

-- name: unfinished
-- active runs, and processes that could work on them, by name: `chrono scraper HOST:PID`
SELECT (SELECT count(*) FROM runs r WHERE r.state = 'active') AS runs,
       ARRAY (SELECT DISTINCT a.application_name FROM pg_stat_activity a
               WHERE a.datname = current_database()
                 AND (a.application_name LIKE 'chrono scraper %' OR a.application_name LIKE 'chrono ingest %')) AS workers

-- name: index
-- pages that the index should hold, and what waits for it, counted up to $1; `failed` says why the last rebuild did
-- not end well
SELECT (SELECT count(*) FROM pages) AS pages,
       (SELECT count(*) FROM pages p WHERE p.index_error <> '') AS refused,
       (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) x) AS waiting,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - o.queued_at) FROM outbox o ORDER BY o.seq LIMIT 1), 0)::float8 AS lag,
       coalesce((SELECT CASE WHEN b.state = 'failed' THEN coalesce(nullif(b.error, ''), 'it does not say') END
                   FROM index_rebuilds b ORDER BY b.id DESC LIMIT 1), '') AS failed
