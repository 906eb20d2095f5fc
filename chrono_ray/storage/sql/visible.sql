-- What somebody may see: the right to it and the rows by one statement each.

-- name: run
-- a run, or all of a collection by its first, for user $2 ($3: an admin), in the order of preference
SELECT r.id, r.state, r.archive, p.name AS project, d.url, r.created_at, r.project_id, r.domain_id, d.match, r.start_ts,
       r.end_ts, r.class, r.goal, r.finished_at, coalesce(a.together, a.id) AS first, v.role,
       extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.created_at)::float8 AS seconds,
       (SELECT coalesce(json_agg(json_build_array(k.state, k.reason, k.n)), '[]')
          FROM domain_counters k WHERE k.run_id = r.id)::text AS counters,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'hole') AS holes,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'pending') AS listing,
       (SELECT coalesce(json_agg(json_build_array(s.id, s.start_ts, s.end_ts, s.reason, s.detail) ORDER BY s.id), '[]')
          FROM (SELECT * FROM slices s WHERE s.run_id = r.id AND s.state = 'hole' ORDER BY s.id LIMIT $4) s)::text AS hole_details,
       CASE r.id WHEN a.id THEN (SELECT json_build_array(g.pages, g.pages - g.waiting - g.rejected, g.rejected)
                                   FROM pages_of_run(a.id, a.together IS NOT DISTINCT FROM a.id) g)::text END AS pages
  FROM runs a JOIN visible_projects($2, $3) v ON v.project_id = a.project_id
  JOIN runs r ON r.id = a.id OR r.together = a.id
  JOIN projects p ON p.id = r.project_id JOIN domains d ON d.id = r.domain_id
 WHERE a.id = $1 ORDER BY r.preference, r.id

-- name: runs
-- newest first, before run $3 if that is given; `known`: there is such a project and domain for them
WITH page AS MATERIALIZED (
    SELECT r.* FROM runs r JOIN visible_projects($1, $2) v ON v.project_id = r.project_id
     WHERE ($3::bigint IS NULL OR r.id < $3) AND ($4::int IS NULL OR r.project_id = $4) AND ($5::int IS NULL OR r.domain_id = $5)
       AND ($6::text IS NULL OR r.state = $6) AND ($7::text IS NULL OR r.archive = $7)
     ORDER BY r.id DESC LIMIT $8
)
SELECT ($4::int IS NULL OR EXISTS (SELECT FROM visible_projects($1, $2) v WHERE v.project_id = $4))
         AND ($5::int IS NULL OR EXISTS (SELECT FROM domains d JOIN visible_projects($1, $2) v ON v.project_id = d.project_id WHERE d.id = $5)) AS known,
       r.*
  FROM (SELECT 1) one LEFT JOIN LATERAL (
    SELECT r.id, r.state, r.archive, p.name AS project, d.url, r.created_at, r.project_id, r.domain_id, d.match, r.start_ts,
           r.end_ts, r.class, r.goal, r.finished_at, coalesce(r.together, r.id) AS first,
           extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.created_at)::float8 AS seconds,
           (SELECT coalesce(json_agg(json_build_array(k.state, k.reason, k.n)), '[]')
              FROM domain_counters k WHERE k.run_id = r.id)::text AS counters,
           (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'hole') AS holes,
           (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'pending') AS listing,
           coalesce((SELECT n.n FROM run_page_counts n WHERE n.run_id = r.id AND NOT n.whole), 0) AS pages
      FROM page r JOIN projects p ON p.id = r.project_id JOIN domains d ON d.id = r.domain_id) r ON true
 ORDER BY r.id DESC

-- name: holes
-- of a run, or of a collection by its first, behind slice $4
SELECT r.archive, s.id, s.start_ts, s.end_ts, s.reason, s.detail
  FROM runs a JOIN visible_projects($2, $3) v ON v.project_id = a.project_id
  LEFT JOIN (runs r JOIN slices s ON s.run_id = r.id AND s.state = 'hole' AND s.id > $4) ON r.id = a.id OR r.together = a.id
 WHERE a.id = $1 ORDER BY s.id LIMIT $5

-- name: certificate
SELECT c.made_at, c.body::text AS body
  FROM runs r JOIN visible_projects($2, $3) v ON v.project_id = r.project_id
  LEFT JOIN certificates c ON c.run_id = r.id
 WHERE r.id = $1

-- name: retry_counts
-- what trying again would do to a run, or to all of its collection by the first: a cancelled one gets back
-- what its cancelling ended, asked for or not. $4 states of fetches, $5 reasons or null, $6 guilty ones,
-- $7 states of slices.
WITH seen AS MATERIALIZED (
    SELECT a.id, v.role FROM runs a JOIN visible_projects($2, $3) v ON v.project_id = a.project_id WHERE a.id = $1
), mine AS MATERIALIZED (
    SELECT r.id, $4::text[] || CASE r.state WHEN 'cancelled' THEN ARRAY['cancelled'] END AS fetches,
           $7::text[] || CASE r.state WHEN 'cancelled' THEN ARRAY['cancelled'] END AS slices
      FROM seen a JOIN runs r ON r.id = a.id OR r.together = a.id
), counted AS (
    SELECT f.state, f.reason, (f.payload_id IS NOT NULL OR f.reason = ANY ($6::text[])) AS guilty, count(*) AS n
      FROM mine m CROSS JOIN LATERAL (
           SELECT c.fetch_id FROM captures c WHERE c.run_id = m.id
           UNION SELECT c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = m.id) u
      JOIN fetches f ON f.id = u.fetch_id
     WHERE (f.state = ANY (m.fetches) OR ('cancelled' = ANY (m.fetches) AND f.former IS NOT NULL AND f.state <> 'pending'))
       AND ($5::text[] IS NULL OR f.reason = ANY ($5::text[]))
     GROUP BY 1, 2, 3
)
SELECT s.role, (SELECT coalesce(json_agg(json_build_array(k.state, k.reason, k.guilty, k.n)), '[]') FROM counted k)::text AS fetches,
       (SELECT count(*) FROM mine m JOIN slices s ON s.run_id = m.id AND s.state = ANY (m.slices)) AS slices
  FROM seen s

-- name: count_matching
-- waiting payloads of a run, or of all of its collection by the first, that would get another priority
WITH seen AS MATERIALIZED (
    SELECT a.id, v.role FROM runs a JOIN visible_projects($2, $3) v ON v.project_id = a.project_id WHERE a.id = $1
), mine AS MATERIALIZED (
    SELECT r.id FROM seen a JOIN runs r ON r.id = a.id OR r.together = a.id
)
SELECT s.role, (SELECT count(*) FROM (
    SELECT q.fetch_id, q.order_key, q.urlkey, q.ts FROM mine m JOIN queue q ON q.run_id = m.id
    UNION ALL
    SELECT p.fetch_id, p.order_key, c.urlkey, c.ts FROM mine m JOIN parked p ON p.run_id = m.id JOIN captures c ON c.id = p.capture_id) q
 WHERE q.order_key < (16::bigint << 48) AND (q.order_key >> 48) <> $4::int
   AND (((q.urlkey || ' ') ^@ ANY ($5::text[]) AND q.ts BETWEEN $6 AND $7)
        OR EXISTS (SELECT 1 FROM captures c WHERE c.fetch_id = q.fetch_id AND (c.urlkey || ' ') ^@ ANY ($5::text[]) AND c.ts BETWEEN $6 AND $7))) AS n
  FROM seen s
