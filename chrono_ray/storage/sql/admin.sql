-- What an operator looks at: all projects together.

-- name: queues
-- One row a class, empty ones too. Work is counted up to $1 of a kind: it is a depth, not a census.
-- `held`: fetches of paused runs; `seconds`: since the oldest run with queued fetches was created.
WITH leased AS (
    SELECT r.class, count(*) AS n FROM (SELECT e.run_id FROM leases e LIMIT $1) x JOIN runs r ON r.id = x.run_id GROUP BY r.class
), put_off AS (
    SELECT r.class, count(*) AS n, greatest(extract(epoch FROM min(x.until) - clock_timestamp()), 0)::float8 AS until
      FROM (SELECT e.run_id, e.until FROM parked e ORDER BY e.until LIMIT $1) x JOIN runs r ON r.id = x.run_id GROUP BY r.class
), listing AS (
    SELECT x.class, count(*) FILTER (WHERE x.leased_until > clock_timestamp()) AS leased, count(*) AS n
      FROM (SELECT r.class, e.leased_until FROM slices e JOIN runs r ON r.id = e.run_id AND r.state = 'active'
             WHERE e.state = 'pending' LIMIT $1) x GROUP BY x.class
), asked AS (
    SELECT x.class, count(x.token) AS leased, count(*) AS n,
           extract(epoch FROM clock_timestamp() - min(x.created_at))::float8 AS seconds
      FROM (SELECT e.class, e.token, e.created_at FROM tasks e WHERE e.state = 'pending' LIMIT $1) x GROUP BY x.class
)
SELECT k.class, q.runs, q.queued, q.held, coalesce(l.n, 0) AS leased, coalesce(p.n, 0) AS parked, coalesce(p.until, 0) AS parked_seconds,
       coalesce(s.n - s.leased, 0) AS listings, coalesce(s.leased, 0) AS listings_leased, coalesce(q.seconds, 0) AS seconds,
       coalesce(t.n - t.leased, 0) AS tasks, coalesce(t.leased, 0) AS tasks_leased, coalesce(t.seconds, 0) AS tasks_seconds,
       o.pages, o.sending, o.lag
  FROM generate_series(0, 3) k (class)
 CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM runs r WHERE r.state = 'active' AND r.class = k.class) AS runs,
           (SELECT count(*) FROM (SELECT 1 FROM runs r CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.run_id = r.id LIMIT $1) w
                                   WHERE r.state = 'active' AND r.class = k.class LIMIT $1) x) AS queued,
           (SELECT count(*) FROM (SELECT 1 FROM runs r CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.run_id = r.id LIMIT $1) w
                                   WHERE r.state = 'paused' AND r.class = k.class LIMIT $1) x) AS held,
           (SELECT extract(epoch FROM clock_timestamp() - min(r.created_at))::float8 FROM runs r
             WHERE r.state = 'active' AND r.class = k.class AND EXISTS (SELECT 1 FROM queue q WHERE q.run_id = r.id)) AS seconds) q
  LEFT JOIN leased l ON l.class = k.class
  LEFT JOIN put_off p ON p.class = k.class
  LEFT JOIN listing s ON s.class = k.class
  LEFT JOIN asked t ON t.class = k.class
 CROSS JOIN (
    SELECT count(*) AS pages, count(x.token) AS sending,
           coalesce(extract(epoch FROM clock_timestamp() - min(x.queued_at)), 0)::float8 AS lag
      FROM (SELECT e.token, e.queued_at FROM outbox e ORDER BY e.seq LIMIT $1) x) o
 ORDER BY k.class

-- name: budgets
-- Each archive's budget of each egress. `now`: requests that would be given leave this moment, up to $1 ahead;
-- `rate`: a minute, less than the budget for ten minutes after a pause. Both NULL without a limit.
SELECT b.archive, b.kind, b.egress, b.per_minute, b.pause_reason AS reason, b.pauses,
       CASE WHEN b.paused_until > n.at THEN b.paused_until END AS paused_until,
       greatest(extract(epoch FROM greatest(b.paused_until, b.tat - $1::interval) - n.at), 0)::float8 AS wait,
       CASE WHEN b.step > '0' THEN 60 / extract(epoch FROM budget_step(b, n.at))::float8 END AS rate,
       CASE WHEN b.step = '0' THEN NULL WHEN b.paused_until > n.at OR b.tat > n.at + $1::interval THEN 0
            ELSE 1 + floor(extract(epoch FROM n.at + $1::interval - greatest(b.tat, n.at)) / extract(epoch FROM budget_step(b, n.at)))::int
       END AS now
  FROM (SELECT clock_timestamp() AS at) n CROSS JOIN archive_budgets b
 ORDER BY b.archive, b.kind, b.egress

-- name: pools
-- Connections to this database by the name of who holds them, and how many the server admits to it.
SELECT x.name, x.total, x.active, x.idle_in_transaction, x.longest,
       least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
             nullif(d.datconnlimit, -1)) AS most
  FROM pg_database d LEFT JOIN (
    SELECT a.application_name AS name, count(*) AS total, count(*) FILTER (WHERE a.state = 'active') AS active,
           count(*) FILTER (WHERE a.state LIKE 'idle in%') AS idle_in_transaction,
           coalesce(extract(epoch FROM clock_timestamp() - min(a.query_start) FILTER (WHERE a.state = 'active')), 0)::float8 AS longest
      FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
     GROUP BY a.application_name) x ON true
 WHERE d.datname = current_database() ORDER BY x.name
