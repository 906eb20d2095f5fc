-- What people change about projects, members and domains. Who may is asked by the same statement.

-- name: add
-- $5: so many may one user own
WITH room AS MATERIALIZED (
    SELECT projects_kept($1) >= $5 AS is_full
), made AS (
    INSERT INTO projects (owner_id, name, description, weight) SELECT $1, $2, $3, $4 FROM room WHERE NOT is_full
    ON CONFLICT ON CONSTRAINT projects_owner_name DO NOTHING
    RETURNING id, name, description, weight, version, owner_id, created_at, changed_at
)
SELECT r.is_full, m.*, 'owner' AS role, NULL::bigint AS deleting FROM room r LEFT JOIN made m ON true

-- name: hold
-- the project's row stays locked
SELECT p.id, p.name, p.description, p.weight, p.version, p.owner_id, p.created_at, p.changed_at, v.role,
       (SELECT t.id FROM tasks t WHERE t.project_id = p.id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1) AS deleting
  FROM projects p JOIN visible_projects($1, $2) v ON v.project_id = p.id WHERE p.id = $3 FOR NO KEY UPDATE OF p

-- name: change
-- null: as it is. `members` are those who know it by its name.
UPDATE projects p
   SET name = coalesce($2, p.name), description = coalesce($3, p.description), weight = coalesce($4, p.weight),
       version = p.version + 1, changed_at = clock_timestamp()
 WHERE p.id = $1
RETURNING p.id, p.name, p.description, p.weight, p.version, p.owner_id, p.created_at, p.changed_at, NULL::bigint AS deleting,
          (SELECT array_agg(m.user_id) FROM project_members m WHERE m.project_id = p.id) AS members

-- name: delete
-- as Tasks.submit asks for it, under the same key: an unfinished one is joined. Whoever begins a run
-- holds the project's row too: one of us sees the other. Who asked sees the task when the project is gone.
WITH seen AS MATERIALIZED (
    SELECT p.id, p.name, v.role FROM projects p JOIN visible_projects($1, $2) v ON v.project_id = p.id WHERE p.id = $3 FOR UPDATE OF p
), asked AS (
    INSERT INTO tasks (key, kind, class, project_id, arguments, asked_by)
    SELECT 'delete_project ' || a.arguments, 'delete_project', $4, s.id, a.arguments::jsonb, $1
      FROM seen s CROSS JOIN LATERAL (SELECT format('{"project":%s,"project_id":%s}', to_json(s.name), s.id) AS arguments) a
     WHERE s.role = 'owner'
    ON CONFLICT (key) WHERE state = 'pending' DO UPDATE SET key = excluded.key
    RETURNING id, xmax <> 0 AS joined
)
SELECT s.role, a.id AS task, a.joined, (SELECT array_agg(m.user_id) FROM project_members m WHERE m.project_id = s.id) AS members
  FROM seen s LEFT JOIN asked a ON true

-- name: members
-- of project $3, the owner among them, by user, those behind $4. No row: no such project.
SELECT v.role AS own_role, m.user_id, u.email, u.name, m.role, m.created_at
  FROM visible_projects($1, $2) v
  LEFT JOIN LATERAL (SELECT p.owner_id AS user_id, 'owner' AS role, p.created_at FROM projects p WHERE p.id = v.project_id
                      UNION ALL SELECT n.user_id, n.role, n.created_at FROM project_members n WHERE n.project_id = v.project_id) m ON m.user_id > $4
  LEFT JOIN users u ON u.id = m.user_id
 WHERE v.project_id = $3 AND ($6::int IS NULL OR m.user_id = $6) ORDER BY m.user_id LIMIT $5

-- name: set_member
SELECT s.outcome, s.former, s.since, u.id AS user_id, u.email, u.name
  FROM set_member($1, $2, $3, $4, $5, $6) s LEFT JOIN users u ON u.id = s.member

-- name: drop_member
SELECT drop_member($1, $2, $3, $4)

-- name: add_domain
WITH place AS MATERIALIZED (
    SELECT v.project_id AS id, v.role,
           (SELECT t.id FROM tasks t WHERE t.project_id = v.project_id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1) AS deleting
      FROM visible_projects($1, $2) v WHERE v.project_id = $3
), made AS (
    INSERT INTO domains (project_id, url, match, rules)
    SELECT p.id, $4, $5, $6::text::jsonb FROM place p WHERE p.role <> 'read' AND p.deleting IS NULL
    ON CONFLICT (project_id, url, match) DO NOTHING
    RETURNING id, url, match, created_at, rules_version
)
SELECT p.role, p.deleting, m.id, m.url, m.match, m.created_at, m.rules_version FROM place p LEFT JOIN made m ON true

-- name: drop_domain
SELECT drop_domain($1, $2, $3, $4)

-- name: set_rules
-- where those before are of one of the versions $7, if that is given; no `version` where they are not
WITH held AS MATERIALIZED (
    SELECT d.id, d.rules_version, v.role FROM domains d JOIN visible_projects($1, $2) v ON v.project_id = d.project_id
     WHERE d.id = $4 AND d.project_id = $3 FOR NO KEY UPDATE OF d
)
SELECT h.role, h.rules_version AS before,
       CASE WHEN h.role <> 'read' AND ($7::int[] IS NULL OR h.rules_version = ANY ($7)) THEN change_rules(h.id, $5, $6) END AS version
  FROM held h
