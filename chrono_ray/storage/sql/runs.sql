-- Runs and their projects and domains, as they are begun, changed and listed.

-- name: place
SELECT project, domain, task FROM place_domain($1, $2, $3, $4)

-- name: start
-- a run of its own, whatever else is under way
WITH place AS MATERIALIZED (
    SELECT project, domain, task FROM place_domain($1, $2, $3, $4)
), run AS (
    INSERT INTO runs (project_id, domain_id, archive, start_ts, end_ts, class, goal)
    SELECT p.project, p.domain, $7, $5, $6, $8, $9 FROM place p WHERE p.domain IS NOT NULL RETURNING id
), listing AS (
    INSERT INTO slices (run_id, start_ts, end_ts) SELECT id, $5, $6 FROM run
)
SELECT p.project, p.task, (SELECT id FROM run) AS run FROM place p

-- name: begin
-- for user $11 ($12: an admin) who may write in project $1; null is whoever works on this machine
WITH asker AS MATERIALIZED (
    SELECT CASE WHEN $11::int IS NULL THEN 'owner' ELSE (SELECT v.role FROM visible_projects($11, $12) v WHERE v.project_id = $1) END AS role
)
SELECT a.role, b.run_ids, b.joined, b.project, b.task
  FROM asker a CROSS JOIN LATERAL begin_runs(CASE WHEN a.role IN ('owner', 'write') THEN $1 ELSE 0 END, $2, $3, $4, $5, $6, $7, $8, $9, $10) b

-- name: change
SELECT role, project, first, run_ids, changed, state FROM change_runs($1, $2, $3, $4, $5)

-- name: set_class
-- of a run, or of all of its collection by the first
WITH seen AS MATERIALIZED (
    SELECT r.id, r.project_id, coalesce(r.together, r.id) AS first, r.state, v.role
      FROM runs r JOIN visible_projects($3, $4) v ON v.project_id = r.project_id WHERE r.id = $1
), changed AS (
    UPDATE runs r SET class = $2 FROM seen s
     WHERE s.role <> 'read' AND (r.id = s.id OR r.together = s.id) RETURNING r.id, r.preference
)
SELECT s.role, s.project_id AS project, s.first, s.state,
       coalesce((SELECT array_agg(c.id ORDER BY c.preference, c.id) FROM changed c), '{}') AS run_ids
  FROM seen s
