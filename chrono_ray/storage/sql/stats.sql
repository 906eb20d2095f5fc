-- Progress, read only.

-- name: progress
SELECT r.id, r.state, r.archive, p.name AS project, d.url,
       extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.created_at)::float8 AS seconds,
       r.created_at,
       (SELECT coalesce(json_agg(json_build_array(k.state, k.reason, k.n)), '[]')
          FROM domain_counters k WHERE k.run_id = r.id)::text AS counters,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'hole') AS holes,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'pending') AS listing
  FROM runs r JOIN projects p ON p.id = r.project_id JOIN domains d ON d.id = r.domain_id
 WHERE r.id = $1

-- name: pages
WITH mine AS (
    SELECT DISTINCT p.id, p.index_error
      FROM captures c
      JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored'
      JOIN pages p ON p.project_id = f.project_id AND p.url_id = c.url_id AND p.payload_id = f.payload_id
     WHERE c.run_id = ANY ($1::bigint[]) OR c.id IN (SELECT a.capture_id FROM adoptions a WHERE a.run_id = ANY ($1::bigint[]))
)
SELECT count(*) AS pages,
       count(*) FILTER (WHERE m.index_error = '' AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.page_id = m.id)) AS indexed,
       count(*) FILTER (WHERE m.index_error <> '') AS rejected
  FROM mine m
