-- What waits to be done: read every few seconds, so it counts no further than what matters.

-- name: backlog
-- One row an archive, at least one. $1: fetches and slices an archive, and tasks, are counted up to this;
-- $2: pages for the index; $3: the archives that scrapers can ask. What waits at another (local files, one that
-- is no longer set up) is no work for any number of them. Rates are requests a second over the egresses that may
-- send now, NULL: no limit. A lease is work like what waits: who is busy is not idle.
SELECT a.archive, a.replays, a.listings, coalesce(l.n, 0) + f.n AS fetches, s.n AS slices, o.tasks, o.pages, o.lag
  FROM (SELECT (SELECT count(*) FROM (SELECT 1 FROM tasks WHERE state = 'pending' AND not_before <= clock_timestamp() LIMIT $1) x)
                  AS tasks,
               (SELECT count(*) FROM (SELECT 1 FROM outbox ORDER BY seq LIMIT $2) x) AS pages,
               coalesce((SELECT extract(epoch FROM clock_timestamp() - queued_at) FROM outbox ORDER BY seq LIMIT 1),
                        0)::float8 AS lag) o
  LEFT JOIN (SELECT b.archive,
                    CASE WHEN NOT bool_or(b.kind = 'replay' AND b.step = '0' AND b.paused_until <= clock_timestamp())
                         THEN coalesce(sum(b.per_minute) FILTER (WHERE b.kind = 'replay' AND b.paused_until <= clock_timestamp()),
                                       0) / 60.0 END::float8 AS replays,
                    CASE WHEN NOT bool_or(b.kind = 'listing' AND b.step = '0' AND b.paused_until <= clock_timestamp())
                         THEN coalesce(sum(b.per_minute) FILTER (WHERE b.kind = 'listing' AND b.paused_until <= clock_timestamp()),
                                       0) / 60.0 END::float8 AS listings
               FROM budgets_in_use b WHERE b.archive = ANY ($3::text[]) GROUP BY b.archive) a ON true
  LEFT JOIN (SELECT r.archive, count(*) AS n FROM (SELECT run_id FROM leases LIMIT $1) h JOIN runs r ON r.id = h.run_id
              GROUP BY r.archive) l ON l.archive = a.archive
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM (
            SELECT 1 FROM runs r
             CROSS JOIN LATERAL (SELECT 1 FROM queue q WHERE q.run_id = r.id AND q.order_key >= r.floor_key LIMIT $1) w
             WHERE r.state = 'active' AND r.ready AND r.goal <> 'plan' AND r.archive = a.archive LIMIT $1) x) f
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM (
            SELECT 1 FROM runs r JOIN slices s ON s.run_id = r.id AND s.state = 'pending'
             WHERE r.state = 'active' AND r.archive = a.archive AND s.not_before <= clock_timestamp() LIMIT $1) x) s
 ORDER BY a.archive
