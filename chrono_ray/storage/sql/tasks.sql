-- Tasks: submitted once, leased with a token, saved at safe points, ended once.

-- name: hold_project
SELECT FROM projects WHERE id = $1 FOR UPDATE

-- name: submit
-- an unfinished task of the same key is that task
INSERT INTO tasks (key, kind, class, project_id, run_id, arguments, not_before, asked_by)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, clock_timestamp() + make_interval(secs => $7), $8)
ON CONFLICT (key) WHERE state = 'pending' DO UPDATE SET key = excluded.key
RETURNING id, xmax <> 0 AS joined

-- name: submit_in
-- by somebody ($6, $7: an admin) who may write in project $4
WITH seen AS MATERIALIZED (
    SELECT v.role FROM visible_projects($6, $7) v WHERE v.project_id = $4
), put AS (
    INSERT INTO tasks (key, kind, class, project_id, arguments, asked_by)
    SELECT $1, $2, $3, $4, $5::text::jsonb, $6 FROM seen s WHERE s.role <> 'read'
    ON CONFLICT (key) WHERE state = 'pending' DO UPDATE SET key = excluded.key
    RETURNING id, xmax <> 0 AS joined
)
SELECT s.role, p.id, p.joined FROM seen s LEFT JOIN put p ON true

-- name: run_of
SELECT id, project_id FROM runs WHERE id = $1

-- name: submit_for
-- by somebody ($6, $7: an admin) who may, about a run that is in one of these states ($8). The runs that
-- are meant are all of its collection by the first.
WITH seen AS MATERIALIZED (
    SELECT r.id, r.project_id, coalesce(r.together, r.id) AS first, r.state, v.role,
           (SELECT t.id FROM tasks t WHERE t.project_id = r.project_id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1) AS deleting
      FROM runs r JOIN visible_projects($6, $7) v ON v.project_id = r.project_id WHERE r.id = $5
), put AS (
    INSERT INTO tasks (key, kind, class, project_id, run_id, arguments, asked_by)
    SELECT $1, $2, $3, s.project_id, s.id, $4::text::jsonb, $6
      FROM seen s WHERE s.role <> 'read' AND s.deleting IS NULL AND s.state = ANY ($8::text[])
    ON CONFLICT (key) WHERE state = 'pending' DO UPDATE SET key = excluded.key
    RETURNING id, xmax <> 0 AS joined
)
SELECT s.role, s.project_id AS project, s.first, s.state, s.deleting, p.id AS task, p.joined,
       (SELECT array_agg(r.id ORDER BY r.preference, r.id) FROM runs r WHERE r.id = s.id OR r.together = s.id) AS run_ids
  FROM seen s LEFT JOIN put p ON true

-- name: seen
-- newest first, before task $3 if that is given: of projects that user $1 sees, and those that they asked
-- for themselves whose project is gone; all for an admin ($2). `known`: there is such a project and run for them.
SELECT ($4::int IS NULL OR EXISTS (SELECT FROM visible_projects($1, $2) v WHERE v.project_id = $4))
   AND ($7::bigint IS NULL OR EXISTS (SELECT FROM runs r JOIN visible_projects($1, $2) v ON v.project_id = r.project_id
                                       WHERE r.id = $7)) AS known, t.*
  FROM (SELECT 1) one LEFT JOIN LATERAL (
    SELECT t.*, coalesce(p.name, t.arguments ->> 'project', '') AS project
      FROM tasks t LEFT JOIN projects p ON p.id = t.project_id
     WHERE ($3::bigint IS NULL OR t.id < $3) AND ($4::int IS NULL OR t.project_id = $4)
       AND ($5::text IS NULL OR t.state = $5) AND ($6::text IS NULL OR t.kind = $6) AND ($7::bigint IS NULL OR t.run_id = $7)
       AND ($2 OR t.project_id IN (SELECT v.project_id FROM visible_projects($1, false) v) OR (t.asked_by = $1 AND p.id IS NULL))
     ORDER BY t.id DESC LIMIT $8) t ON true
 ORDER BY t.id DESC

-- name: seen_one
SELECT t.*, coalesce(p.name, t.arguments ->> 'project', '') AS project
  FROM tasks t LEFT JOIN projects p ON p.id = t.project_id
 WHERE t.id = $1
   AND ($3 OR t.project_id IN (SELECT v.project_id FROM visible_projects($2, false) v) OR (t.asked_by = $2 AND p.id IS NULL))

-- name: cancel_seen
-- by somebody who may write in its project (who owns it, for its deletion), as cancel does
WITH seen AS MATERIALIZED (
    SELECT t.id, v.role, coalesce(p.name, t.arguments ->> 'project', '') AS project
      FROM tasks t LEFT JOIN projects p ON p.id = t.project_id
      LEFT JOIN visible_projects($2, $3) v ON v.project_id = t.project_id
     WHERE t.id = $1 AND ($3 OR v.role IS NOT NULL OR (t.asked_by = $2 AND p.id IS NULL))
), ended AS (
    UPDATE tasks t SET state = 'cancelled', reason = 'asked', token = NULL, leased_until = NULL, finished_at = clock_timestamp()
      FROM seen s
     WHERE t.id = s.id AND s.role IS DISTINCT FROM 'read' AND t.state = 'pending'
       AND (t.kind <> 'delete_project' OR s.role IS DISTINCT FROM 'write')
       AND NOT (t.kind = 'delete_project' AND t.started_at IS NOT NULL)
    RETURNING t.*
), found AS (
    SELECT e.*, true AS ended FROM ended e
    UNION ALL SELECT t.*, false FROM tasks t JOIN seen s ON s.id = t.id WHERE NOT EXISTS (SELECT FROM ended)
)
SELECT f.*, s.role, s.project FROM found f JOIN seen s ON s.id = f.id

-- name: claim
SELECT * FROM claim_task($1, $2::interval, $3, $4)

-- name: claim_one
UPDATE tasks SET token = $4, worker = $2, leased_until = clock_timestamp() + $3::interval,
       started_at = coalesce(started_at, clock_timestamp())
 WHERE id = (SELECT id FROM tasks WHERE id = $1 AND state = 'pending' AND token IS NULL FOR UPDATE SKIP LOCKED)
RETURNING *

-- name: give_back
UPDATE tasks SET token = NULL, leased_until = NULL WHERE token = $1 AND state = 'pending'

-- name: renew
UPDATE tasks SET leased_until = clock_timestamp() + $2::interval
 WHERE token = ANY ($1::uuid[]) AND state = 'pending' RETURNING token

-- name: save
UPDATE tasks SET done = $3, total = $4, position = $5, leased_until = clock_timestamp() + $6::interval, crashes = 0
 WHERE id = $1 AND token = $2 AND state = 'pending' RETURNING id

-- name: keep_part
INSERT INTO export_parts (task_id, name, rows, bytes, sha256) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (task_id, name) DO UPDATE SET rows = excluded.rows, bytes = excluded.bytes, sha256 = excluded.sha256

-- name: parts
SELECT name, rows, bytes, sha256 FROM export_parts WHERE task_id = $1 AND name > $2 ORDER BY name LIMIT $3

-- name: finish
UPDATE tasks SET state = 'done', result = $3::text::jsonb, reason = '', detail = '', token = NULL, leased_until = NULL,
       finished_at = clock_timestamp()
 WHERE id = $1 AND token = $2 AND state = 'pending' RETURNING id

-- name: fail
UPDATE tasks SET state = 'failed', reason = $3, detail = $4, token = NULL, leased_until = NULL, finished_at = clock_timestamp()
 WHERE id = $1 AND token = $2 AND state = 'pending' RETURNING id

-- name: release
UPDATE tasks SET token = NULL, leased_until = NULL, not_before = clock_timestamp() + make_interval(secs => $3)
 WHERE id = $1 AND token = $2 RETURNING id

-- name: charge
-- another try after a while, until it was one too many
UPDATE tasks SET attempts = attempts + 1, reason = $3, detail = $4, token = NULL, leased_until = NULL,
       state = CASE WHEN attempts + 1 >= $6 THEN 'failed' ELSE 'pending' END,
       finished_at = CASE WHEN attempts + 1 >= $6 THEN clock_timestamp() END,
       not_before = clock_timestamp() + make_interval(secs => $5)
 WHERE id = $1 AND token = $2 AND state = 'pending' RETURNING state

-- name: cancel
-- its worker, if it has one, finds its token gone at the next safe point. A delete that has begun
-- goes to its end: half a project is none.
UPDATE tasks SET state = 'cancelled', reason = 'asked', token = NULL, leased_until = NULL, finished_at = clock_timestamp()
 WHERE id = $1 AND state = 'pending' AND NOT (kind = 'delete_project' AND started_at IS NOT NULL)
RETURNING id

-- name: rescue
-- a worker died: the task goes on elsewhere, unless it has killed its worker too often at this place
UPDATE tasks SET token = NULL, leased_until = NULL, crashes = crashes + 1,
       reason = CASE WHEN crashes + 1 >= $1 THEN 'crashed' ELSE reason END,
       detail = CASE WHEN crashes + 1 >= $1 THEN 'its worker died ' || (crashes + 1) || ' times, last ' || worker ELSE detail END,
       state = CASE WHEN crashes + 1 >= $1 THEN 'failed' ELSE state END,
       finished_at = CASE WHEN crashes + 1 >= $1 THEN clock_timestamp() END
 WHERE id = ANY (ARRAY (SELECT id FROM tasks WHERE token IS NOT NULL AND leased_until < clock_timestamp()
                         ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED))
RETURNING id, state

-- name: show
SELECT t.*, coalesce(p.name, t.arguments ->> 'project', '') AS project
  FROM tasks t LEFT JOIN projects p ON p.id = t.project_id
 WHERE ($1::bigint IS NULL OR t.id = $1) AND ($2::text = '' OR t.state = $2)
 ORDER BY t.id DESC LIMIT $3
