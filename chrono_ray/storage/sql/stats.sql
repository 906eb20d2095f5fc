-- Progress, read only.

-- name: progress
-- of the runs $1, in their order; `put_off`: seconds until any of the listing is asked for again, when none is now
SELECT r.id, r.state, r.archive, p.name AS project, d.url,
       extract(epoch FROM coalesce(r.finished_at, clock_timestamp()) - r.created_at)::float8 AS seconds,
       r.created_at,
       (SELECT coalesce(json_agg(json_build_array(k.state, k.reason, k.n)), '[]')
          FROM domain_counters k WHERE k.run_id = r.id)::text AS counters,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'hole') AS holes,
       (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'pending') AS listing,
       w.put_off, w.put_off_for
  FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, place) JOIN runs r ON r.id = wanted.id
  JOIN projects p ON p.id = r.project_id JOIN domains d ON d.id = r.domain_id
 CROSS JOIN LATERAL (SELECT CASE WHEN min(s.not_before) > clock_timestamp()
                                 THEN extract(epoch FROM min(s.not_before) - clock_timestamp()) END::float8 AS put_off,
                            (array_agg(s.reason ORDER BY s.not_before))[1] AS put_off_for
                       FROM slices s WHERE s.run_id = r.id AND s.state = 'pending') w
 ORDER BY wanted.place

-- name: pages
-- of one run, or of a collection by its runs, in the order of preference
SELECT g.pages, g.pages - g.waiting - g.rejected AS indexed, g.rejected
  FROM runs r CROSS JOIN LATERAL pages_of_run(CASE WHEN $2 THEN r.together ELSE r.id END, $2) g
 WHERE r.id = $1
