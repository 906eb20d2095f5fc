-- Exports to files as somebody asks for them and sees them: tasks of their projects.

-- name: submit
-- project $1 as user $2 ($3: an admin) sees it; its name goes into the arguments. $7: a run, or 0;
-- $9: a domain's URL, or nothing; $8: so many that were asked for over HTTP are kept of a project
WITH seen AS MATERIALIZED (
    SELECT p.id, p.name, $7::bigint = 0 OR EXISTS (SELECT FROM runs r WHERE r.id = $7 AND r.project_id = p.id) AS has_run,
           $9::text = '' OR EXISTS (SELECT FROM domains d WHERE d.project_id = p.id AND d.url = $9) AS has_domain,
           EXISTS (SELECT FROM tasks t WHERE t.project_id = p.id AND t.kind = 'delete_project' AND t.state = 'pending') AS deleting,
           exports_kept(p.id) >= $8 AS is_full
      FROM projects p JOIN visible_projects($2, $3) v ON v.project_id = p.id WHERE p.id = $1
), made AS (
    INSERT INTO tasks (key, kind, class, project_id, run_id, arguments, asked_by)
    SELECT $4, 'export', $5::smallint, s.id, nullif($7, 0), $6::text::jsonb || jsonb_build_object('project', s.name), $2
      FROM seen s WHERE s.has_run AND s.has_domain AND NOT s.deleting AND NOT s.is_full
    RETURNING id, created_at
)
SELECT s.name, s.has_run, s.has_domain, s.deleting, s.is_full, m.id, m.created_at FROM seen s LEFT JOIN made m ON true

-- name: show
-- exports of one project (newest first, behind $5), or the one of the number $4
SELECT t.id, t.project_id, p.name AS project, v.role, t.arguments, t.state, t.done, t.result, t.reason, t.detail,
       t.created_at, t.started_at, t.finished_at, f.parts, f.bytes
  FROM tasks t JOIN visible_projects($1, $2) v ON v.project_id = t.project_id JOIN projects p ON p.id = t.project_id
  CROSS JOIN LATERAL (SELECT count(*) AS parts, coalesce(sum(e.bytes), 0)::bigint AS bytes
                        FROM export_parts e WHERE e.task_id = t.id) f
 WHERE t.kind = 'export' AND ($3::int IS NULL OR t.project_id = $3) AND ($4::bigint IS NULL OR t.id = $4)
   AND ($5::bigint IS NULL OR t.id < $5)
 ORDER BY t.id DESC LIMIT $6

-- name: sees
SELECT EXISTS (SELECT FROM visible_projects($2, $3) v WHERE v.project_id = $1)

-- name: files
-- of an export that somebody sees, by name behind $4; without any a row of nulls
SELECT t.arguments ->> 'to' AS place, t.state, e.name, e.rows, e.bytes, e.sha256
  FROM tasks t JOIN visible_projects($2, $3) v ON v.project_id = t.project_id
  LEFT JOIN export_parts e ON e.task_id = t.id AND e.name > $4 AND ($6::text IS NULL OR e.name = $6)
 WHERE t.id = $1 AND t.kind = 'export'
 ORDER BY e.name LIMIT $5

-- name: forget
DELETE FROM tasks WHERE id = $1 AND kind = 'export' AND state <> 'pending' RETURNING id
