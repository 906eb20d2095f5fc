-- Projects with what they hold, for people.

-- name: projects
SELECT p.id, p.name, p.weight, p.created_at,
       (SELECT count(*) FROM domains d WHERE d.project_id = p.id) AS domains,
       (SELECT count(*) FROM runs r WHERE r.project_id = p.id) AS runs,
       (SELECT count(*) FROM runs r WHERE r.project_id = p.id AND r.state = 'active') AS active,
       (SELECT coalesce(sum(k.n), 0)::bigint FROM domain_counters k JOIN domains d ON d.id = k.domain_id
         WHERE d.project_id = p.id AND k.state = 'discovered') AS captures,
       (SELECT count(*) FROM pages g WHERE g.project_id = p.id) AS pages,
       coalesce((SELECT t.id FROM tasks t WHERE t.kind = 'delete_project' AND t.state = 'pending' AND t.project_id = p.id LIMIT 1), 0)
           AS deleting
  FROM projects p WHERE $1::text = '' OR p.name = $1 ORDER BY p.name

-- name: domains
SELECT d.url, d.match, (SELECT count(*) FROM runs r WHERE r.domain_id = d.id) AS runs,
       (SELECT coalesce(sum(k.n), 0)::bigint FROM domain_counters k WHERE k.domain_id = d.id AND k.state = 'discovered') AS captures,
       (SELECT count(*) FROM pages g WHERE g.domain_id = d.id) AS pages
  FROM domains d WHERE d.project_id = $1 ORDER BY d.url, d.match
