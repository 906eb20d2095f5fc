-- Projects with what they hold, for whoever works at the machine: by their totals.

-- name: projects
-- all of them, or those of the ids $1
SELECT p.id, p.name, coalesce(u.email, '') AS owner, p.weight, p.created_at, n.domains, n.runs, n.active, n.captures, n.pages,
       coalesce((SELECT t.id FROM tasks t WHERE t.kind = 'delete_project' AND t.state = 'pending' AND t.project_id = p.id LIMIT 1), 0)
           AS deleting
  FROM projects p LEFT JOIN users u ON u.id = p.owner_id
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(o.n) FILTER (WHERE o.state = 'domains'), 0)::bigint AS domains,
              coalesce(sum(o.n) FILTER (WHERE o.state = 'runs'), 0)::bigint AS runs,
              coalesce(sum(o.n) FILTER (WHERE o.state = 'runs' AND o.reason = 'active'), 0)::bigint AS active,
              coalesce(sum(o.n) FILTER (WHERE o.state = 'discovered'), 0)::bigint AS captures,
              coalesce(sum(o.n) FILTER (WHERE o.state = 'pages'), 0)::bigint AS pages
         FROM project_numbers o WHERE o.project_id = p.id) n
 WHERE $1::int[] IS NULL OR p.id = ANY ($1) ORDER BY p.name, p.id

-- name: domains
SELECT d.url, d.match, n.runs, n.captures, n.pages
  FROM domains d
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(o.n) FILTER (WHERE o.state = 'runs'), 0)::bigint AS runs,
              coalesce(sum(o.n) FILTER (WHERE o.state = 'discovered'), 0)::bigint AS captures,
              coalesce(sum(o.n) FILTER (WHERE o.state = 'pages'), 0)::bigint AS pages
         FROM domain_numbers o WHERE o.project_id = $1 AND o.domain_id = d.id) n
 WHERE d.project_id = $1 ORDER BY d.url, d.match
