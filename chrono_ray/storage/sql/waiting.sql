-- What waits, as people are told: of the projects that user $1 sees ($2: all of them, for an admin).

-- name: queues
-- One row a class and archive with active runs, at least one. Captures by the counters, which no claim
-- touches; pages for the index and what a run has parked are counted up to $3, of what one sees alone.
WITH seen AS MATERIALIZED (SELECT v.project_id FROM visible_projects($1, $2) v),
active AS MATERIALIZED (
    SELECT r.id, r.class, r.archive, r.created_at FROM runs r
     WHERE r.state = 'active' AND r.project_id IN (SELECT s.project_id FROM seen s)
)
SELECT q.class, q.archive, q.runs, q.captures, q.in_flight, q.parked, q.listings, q.seconds, o.tasks, o.tasks_running, o.pages, o.lag
  FROM (SELECT count(*) FILTER (WHERE t.token IS NULL) AS tasks, count(*) FILTER (WHERE t.token IS NOT NULL) AS tasks_running,
               (SELECT count(*) FROM (SELECT FROM outbox x JOIN pages p ON p.id = x.page_id
                                       WHERE $2 OR p.project_id IN (SELECT s.project_id FROM seen s) LIMIT $3) w) AS pages,
               coalesce((SELECT extract(epoch FROM clock_timestamp() - x.queued_at) FROM outbox x ORDER BY x.seq LIMIT 1),
                        0)::float8 AS lag
          FROM tasks t WHERE t.state = 'pending' AND ($2 OR t.project_id IN (SELECT s.project_id FROM seen s))) o
  LEFT JOIN (
    SELECT a.class, a.archive, count(*) AS runs,
           coalesce(sum(c.n), 0)::bigint AS captures, coalesce(sum(l.n), 0)::bigint AS in_flight,
           coalesce(sum(k.n), 0)::bigint AS parked, coalesce(sum(s.n), 0)::bigint AS listings,
           extract(epoch FROM clock_timestamp() - min(a.created_at))::float8 AS seconds
      FROM active a
     CROSS JOIN LATERAL (SELECT greatest(sum(CASE d.state WHEN 'discovered' THEN d.n ELSE -d.n END), 0) AS n
                           FROM domain_counters d WHERE d.run_id = a.id AND d.state IN (
                                'discovered', 'stored', 'unchanged', 'known', 'repeated', 'gone', 'cancelled', 'skipped',
                                'refused', 'failed')) c
      LEFT JOIN (SELECT e.run_id, count(*) AS n FROM leases e GROUP BY e.run_id) l ON l.run_id = a.id
     CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM parked e WHERE e.run_id = a.id LIMIT $3) e) k
     CROSS JOIN LATERAL (SELECT count(*) AS n FROM slices e WHERE e.run_id = a.id AND e.state = 'pending') s
     GROUP BY a.class, a.archive) q ON true
 ORDER BY q.class, q.archive

-- name: archives
-- One row an archive and kind of request, all its egresses together. Seconds until one may send again.
SELECT b.archive, b.kind, CASE WHEN bool_or(b.step = '0') THEN NULL ELSE sum(b.per_minute) END AS per_minute,
       greatest(extract(epoch FROM min(b.paused_until) - clock_timestamp()), 0)::float8 AS paused,
       greatest(extract(epoch FROM min(greatest(b.paused_until, b.tat - $1::interval)) - clock_timestamp()), 0)::float8 AS wait,
       (array_agg(b.pause_reason ORDER BY b.paused_until DESC))[1] AS reason
  FROM archive_budgets b GROUP BY b.archive, b.kind ORDER BY b.archive, b.kind
