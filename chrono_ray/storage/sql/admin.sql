-- What an operator looks at: all projects together.

-- name: queues
-- One row a class, empty ones too. Work is counted up to $1 a class and kind: it is a depth, not a census.
-- `held`: of paused runs, or put off until their time; `seconds`: since the oldest run with work was created.
SELECT k.class, q.runs, q.queued, q.held, l.n AS leased, p.n AS parked, p.until AS parked_seconds, s.pending AS listings,
       s.leased AS listings_leased, q.seconds, t.pending AS tasks, t.leased AS tasks_leased, t.seconds AS tasks_seconds,
       o.pages, o.sending, o.lag
  FROM generate_series(0, 3) k (class)
 CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM runs r WHERE r.state = 'active' AND r.class = k.class) AS runs,
           (SELECT count(*) FROM (SELECT 1 FROM runs r CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.run_id = r.id LIMIT $1) w
                                   WHERE r.state = 'active' AND r.class = k.class LIMIT $1) x) AS queued,
           (SELECT count(*) FROM (SELECT 1 FROM runs r CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.run_id = r.id LIMIT $1) w
                                   WHERE r.state = 'paused' AND r.class = k.class LIMIT $1) x) AS held,
           (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(r.created_at)), 0)::float8 FROM runs r
             WHERE r.state = 'active' AND r.class = k.class
               AND EXISTS (SELECT 1 FROM queue q WHERE q.run_id = r.id)) AS seconds) q
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT 1 FROM leases e JOIN runs r ON r.id = e.run_id AND r.class = k.class LIMIT $1) x) l
 CROSS JOIN LATERAL (
    SELECT count(*) AS n, coalesce(greatest(extract(epoch FROM min(x.until) - clock_timestamp()), 0), 0)::float8 AS until
      FROM (SELECT e.until FROM parked e JOIN runs r ON r.id = e.run_id AND r.class = k.class LIMIT $1) x) p
 CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE x.leased_until IS NULL OR x.leased_until <= clock_timestamp()) AS pending,
           count(*) FILTER (WHERE x.leased_until > clock_timestamp()) AS leased
      FROM (SELECT e.leased_until FROM slices e JOIN runs r ON r.id = e.run_id AND r.state = 'active' AND r.class = k.class
             WHERE e.state = 'pending' LIMIT $1) x) s
 CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE x.token IS NULL) AS pending, count(*) FILTER (WHERE x.token IS NOT NULL) AS leased,
           coalesce(extract(epoch FROM clock_timestamp() - min(x.created_at)), 0)::float8 AS seconds
      FROM (SELECT e.token, e.created_at FROM tasks e WHERE e.state = 'pending' AND e.class = k.class LIMIT $1) x) t
 CROSS JOIN (
    SELECT count(*) AS pages, count(*) FILTER (WHERE x.token IS NOT NULL) AS sending,
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
