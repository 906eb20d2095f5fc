-- What somebody may see: the right to it and the rows by one statement each.

-- name: run
-- a run, or all of a collection by its first, for user $2 ($3: an admin), in the order of preference
SELECT r.id, r.state, r.archive, p.name AS project, d.url, r.created_at,
       extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.created_at)::float8 AS seconds,
       (SELECT coalesce(json_agg(json_build_array(k.state, k.reason, k.n)), '[]')
          FROM domain_counters k WHERE k.run_id = r.id)::text AS counters,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'hole') AS holes,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'pending') AS listing,
       (SELECT coalesce(json_agg(json_build_array(s.id, s.start_ts, s.end_ts, s.reason, s.detail) ORDER BY s.id), '[]')
          FROM slices s WHERE s.run_id = r.id AND s.state = 'hole')::text AS hole_details
  FROM runs a JOIN visible_projects($2, $3) v ON v.project_id = a.project_id
  JOIN runs r ON r.id = a.id OR r.together = a.id
  JOIN projects p ON p.id = r.project_id JOIN domains d ON d.id = r.domain_id
 WHERE a.id = $1 ORDER BY r.preference, r.id
