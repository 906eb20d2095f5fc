-- Projects and domains with what they hold, for whoever sees them ($1, $2: who asks). Every number comes
-- from the totals, and from what is not folded into them yet.

-- name: by_name
-- $3 looks for a word, $4 shows those that are being deleted too, $5 and $6 are the last one's name and id
WITH seen AS MATERIALIZED (
    SELECT p.id, p.name, p.description, p.weight, p.version, p.owner_id, p.created_at, p.changed_at, v.role,
           (SELECT t.id FROM tasks t WHERE t.project_id = p.id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1) AS deleting
      FROM projects p JOIN visible_projects($1, $2) v ON v.project_id = p.id
     WHERE ($3 = '' OR strpos(lower(p.name), lower($3)) > 0 OR strpos(lower(p.description), lower($3)) > 0)
       AND ($4 OR NOT EXISTS (SELECT FROM tasks t WHERE t.project_id = p.id AND t.kind = 'delete_project' AND t.state = 'pending'))
       AND ($5::text IS NULL OR (p.name, p.id) > ($5, $6::int))
     ORDER BY p.name, p.id LIMIT $7
)
SELECT s.*, t.states, t.reasons, t.counts, greatest(s.changed_at, t.changed_at) AS active_at
  FROM seen s CROSS JOIN LATERAL (
       SELECT array_agg(n.state) AS states, array_agg(n.reason) AS reasons, array_agg(n.n) AS counts, max(n.changed_at) AS changed_at
         FROM project_numbers n WHERE n.project_id = s.id) t
 ORDER BY s.name, s.id

-- name: by_number
-- the most, or the latest, first: $8 says of what; $5 and $6 are the last one's number and id
WITH seen AS MATERIALIZED (
    SELECT p.id, p.name, p.description, p.weight, p.version, p.owner_id, p.created_at, p.changed_at, v.role,
           (SELECT t.id FROM tasks t WHERE t.project_id = p.id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1) AS deleting
      FROM projects p JOIN visible_projects($1, $2) v ON v.project_id = p.id
     WHERE ($3 = '' OR strpos(lower(p.name), lower($3)) > 0 OR strpos(lower(p.description), lower($3)) > 0)
       AND ($4 OR NOT EXISTS (SELECT FROM tasks t WHERE t.project_id = p.id AND t.kind = 'delete_project' AND t.state = 'pending'))
), told AS MATERIALIZED (
    SELECT s.*, t.states, t.reasons, t.counts, greatest(s.changed_at, t.changed_at) AS active_at,
           (CASE $8 WHEN 'created' THEN extract(epoch FROM s.created_at) * 1000000
                    WHEN 'activity' THEN extract(epoch FROM greatest(s.changed_at, t.changed_at)) * 1000000
                    ELSE t.counted END)::bigint AS rank
      FROM seen s CROSS JOIN LATERAL (
           SELECT array_agg(n.state) AS states, array_agg(n.reason) AS reasons, array_agg(n.n) AS counts, max(n.changed_at) AS changed_at,
                  coalesce(sum(n.n) FILTER (WHERE n.state = $8), 0) AS counted
             FROM project_numbers n WHERE n.project_id = s.id) t
)
SELECT * FROM told WHERE $5::bigint IS NULL OR (rank, id) < ($5, $6::int) ORDER BY rank DESC, id DESC LIMIT $7

-- name: project
SELECT p.id, p.name, p.description, p.weight, p.version, p.owner_id, p.created_at, p.changed_at, v.role,
       (SELECT t.id FROM tasks t WHERE t.project_id = p.id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1) AS deleting
  FROM projects p JOIN visible_projects($1, $2) v ON v.project_id = p.id WHERE p.id = $3

-- name: statistics
-- a project's numbers by archive (years among them), and those of the $4 domains with the most captures
WITH seen AS MATERIALIZED (
    SELECT p.id, p.changed_at FROM projects p JOIN visible_projects($1, $2) v ON v.project_id = p.id WHERE p.id = $3
), told AS MATERIALIZED (
    SELECT n.domain_id, n.archive, n.state, n.reason, n.n, n.changed_at FROM domain_numbers n
     WHERE n.project_id = $3 AND EXISTS (SELECT FROM seen)
), most AS MATERIALIZED (
    SELECT d.id, d.url, d.match, coalesce(c.n, 0) AS captures
      FROM seen s JOIN domains d ON d.project_id = s.id
      LEFT JOIN (SELECT domain_id, sum(n)::bigint AS n FROM told WHERE state = 'years' GROUP BY domain_id) c ON c.domain_id = d.id
     ORDER BY captures DESC, d.id LIMIT $4
)
SELECT s.id, greatest(s.changed_at, (SELECT max(changed_at) FROM told)) AS active_at,
       (SELECT json_agg(json_build_array(t.archive, t.state, t.reason, t.n))
          FROM (SELECT archive, state, reason, sum(n) AS n FROM told GROUP BY archive, state, reason) t)::text AS numbers,
       (SELECT json_agg(json_build_array(m.id, m.url, m.match, t.numbers) ORDER BY m.captures DESC, m.id)
          FROM most m
          LEFT JOIN (SELECT domain_id, json_agg(json_build_array(archive, state, reason, n)) AS numbers FROM told
                      WHERE domain_id IN (SELECT id FROM most) GROUP BY domain_id) t ON t.domain_id = m.id)::text AS domains
  FROM seen s

-- name: domains
-- of project $3; $4 looks for a word in the URL, $5 and $6 are the last one's place and id. One row without
-- a domain where there is none, no row where there is no project.
WITH place AS MATERIALIZED (
    SELECT v.project_id AS id FROM visible_projects($1, $2) v WHERE v.project_id = $3
), seen AS MATERIALIZED (
    SELECT d.id, d.project_id, d.url, d.match, d.created_at, d.rules_version, coalesce(jsonb_array_length(d.rules), 0) AS rules,
           left(d.url, 300) AS place
      FROM domains d JOIN place p ON p.id = d.project_id
     WHERE ($4 = '' OR strpos(lower(d.url), lower($4)) > 0)
       AND ($5::text IS NULL OR (left(d.url, 300), d.id) > ($5, $6::int))
     ORDER BY left(d.url, 300), d.id LIMIT $7
)
SELECT s.*, t.archives, t.states, t.reasons, t.counts, greatest(s.created_at, t.changed_at) AS active_at
  FROM place p LEFT JOIN seen s ON true
  LEFT JOIN LATERAL (
       SELECT array_agg(n.archive) AS archives, array_agg(n.state) AS states,
              array_agg(n.reason) AS reasons, array_agg(n.n) AS counts, max(n.changed_at) AS changed_at
         FROM domain_numbers n WHERE n.project_id = s.project_id AND n.domain_id = s.id) t ON true
 ORDER BY s.place, s.id

-- name: domain
-- one ($4) of project $3, and how far its newest redecision is
SELECT d.id, d.project_id, d.url, d.match, d.created_at, d.rules_version, coalesce(jsonb_array_length(d.rules), 0) AS rules,
       d.rules::text AS stored_rules, v.role, greatest(d.created_at, t.changed_at) AS active_at,
       t.archives, t.states, t.reasons, t.counts,
       x.state AS walk, x.waits, x.token IS NOT NULL AND x.leased_until > clock_timestamp() AS held, x.looked, x.wanted, x.skipped,
       x.renamed, x.ended, x.in_flight
  FROM domains d JOIN visible_projects($1, $2) v ON v.project_id = d.project_id
  LEFT JOIN redecisions x ON x.domain_id = d.id
 CROSS JOIN LATERAL (
       SELECT array_agg(n.archive) AS archives, array_agg(n.state) AS states,
              array_agg(n.reason) AS reasons, array_agg(n.n) AS counts, max(n.changed_at) AS changed_at
         FROM domain_numbers n WHERE n.project_id = d.project_id AND n.domain_id = d.id) t
 WHERE d.id = $4 AND d.project_id = $3
