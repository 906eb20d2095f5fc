-- Collections that are begun again and again.

-- name: start_due
-- exactly once, whoever sweeps: the row is locked and its next time lies ahead afterwards. Periods
-- missed are one run; while the last one (or the same, begun by hand) is not finished, none begins.
-- None does either where what is new would begin behind the end: of such, only the next time moves.
WITH due AS MATERIALIZED (
    SELECT s.*, d.project_id FROM schedules s JOIN domains d ON d.id = s.domain_id
     WHERE s.enabled AND s.next_at <= clock_timestamp()
       AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.project_id = d.project_id AND t.kind = 'delete_project' AND t.state = 'pending')
       AND NOT EXISTS (SELECT 1 FROM runs r
                        WHERE r.state IN ('active', 'paused')
                          AND (r.id = s.last_run OR r.together = s.last_run
                               OR (NOT s.since_last AND r.goal = 'collect' AND r.domain_id = s.domain_id AND r.archive = s.archives[1]
                                   AND r.start_ts = s.start_ts AND r.end_ts = s.end_ts)))
     ORDER BY s.next_at LIMIT 100 FOR UPDATE OF s SKIP LOCKED
), wanted AS MATERIALIZED (
    SELECT d.*, a.archive, a.place, nextval(pg_get_serial_sequence('runs', 'id')) AS run_id, n.since
      FROM due d CROSS JOIN LATERAL unnest(d.archives) WITH ORDINALITY AS a (archive, place)
      CROSS JOIN LATERAL (
           SELECT greatest(d.start_ts, CASE WHEN d.since_last THEN listed_since(d.domain_id, a.archive, d.overlap) ELSE '' END) AS since
      ) n
     WHERE d.end_ts = '' OR n.since <= d.end_ts
), first AS (
    SELECT DISTINCT ON (w.id) w.id, w.run_id, count(*) OVER (PARTITION BY w.id) AS archives
      FROM wanted w ORDER BY w.id, w.place
), started AS (
    INSERT INTO runs (id, project_id, domain_id, archive, start_ts, end_ts, class, together, preference)
    OVERRIDING SYSTEM VALUE
    SELECT w.run_id, w.project_id, w.domain_id, w.archive, w.since, w.end_ts, w.class,
           CASE WHEN f.archives > 1 THEN f.run_id END, w.place - 1
      FROM wanted w JOIN first f ON f.id = w.id ORDER BY w.run_id
), listing AS (
    INSERT INTO slices (run_id, start_ts, end_ts) SELECT w.run_id, w.since, w.end_ts FROM wanted w ORDER BY w.run_id
)
UPDATE schedules s
   SET last_run = coalesce(f.run_id, s.last_run),
       next_at = s.next_at + s.every * (1 + floor(extract(epoch FROM clock_timestamp() - s.next_at) / extract(epoch FROM s.every)))
  FROM due d LEFT JOIN first f ON f.id = d.id WHERE s.id = d.id
RETURNING f.run_id AS begun

-- name: add
-- for user $12 ($13: an admin) who may write in project $1; null is whoever works on this machine
WITH asker AS MATERIALIZED (
    SELECT CASE WHEN $12::int IS NULL THEN 'owner' ELSE (SELECT v.role FROM visible_projects($12, $13) v WHERE v.project_id = $1) END AS role
), place AS MATERIALIZED (
    SELECT a.role, d.project, d.domain, d.task
      FROM asker a CROSS JOIN LATERAL place_domain(CASE WHEN a.role IN ('owner', 'write') THEN $1 ELSE 0 END, $2, $3, $4) d
), made AS (
    INSERT INTO schedules (domain_id, archives, start_ts, end_ts, since_last, overlap, every, class)
    SELECT p.domain, $5, $6, $7, $8, $9, $10, $11 FROM place p WHERE p.domain IS NOT NULL RETURNING id, next_at
)
SELECT p.role, p.project, p.task, m.id, m.next_at FROM place p LEFT JOIN made m ON true

-- name: list
SELECT s.id, p.id AS project_id, p.name AS project, d.url, d.match, s.archives, s.start_ts, s.end_ts, s.since_last, s.overlap,
       s.every, s.class, s.enabled, s.next_at, s.last_run, r.state AS last_state
  FROM schedules s JOIN domains d ON d.id = s.domain_id JOIN projects p ON p.id = d.project_id
  LEFT JOIN runs r ON r.id = s.last_run
 ORDER BY s.id

-- name: seen
-- oldest first, behind schedule $3; `known`: there is such a project for them
SELECT ($4::int IS NULL OR EXISTS (SELECT FROM visible_projects($1, $2) v WHERE v.project_id = $4)) AS known, s.*
  FROM (SELECT 1) one LEFT JOIN LATERAL (
    SELECT s.id, p.id AS project_id, p.name AS project, d.url, d.match, s.archives, s.start_ts, s.end_ts, s.since_last, s.overlap,
           s.every, s.class, s.enabled, s.next_at, s.last_run, r.state AS last_state
      FROM schedules s JOIN domains d ON d.id = s.domain_id JOIN visible_projects($1, $2) v ON v.project_id = d.project_id
      JOIN projects p ON p.id = d.project_id LEFT JOIN runs r ON r.id = s.last_run
     WHERE s.id > $3 AND ($4::int IS NULL OR d.project_id = $4) AND ($6::bigint IS NULL OR s.id = $6)
     ORDER BY s.id LIMIT $5) s ON true
 ORDER BY s.id

-- name: change
-- by somebody who may write there; what stays is null. It is due no later than its new interval from now.
WITH seen AS MATERIALIZED (
    SELECT s.id, v.role FROM schedules s JOIN domains d ON d.id = s.domain_id
      JOIN visible_projects($2, $3) v ON v.project_id = d.project_id WHERE s.id = $1
), changed AS (
    UPDATE schedules s
       SET every = coalesce($4, s.every), enabled = coalesce($5, s.enabled), class = coalesce($6, s.class),
           next_at = CASE WHEN $4::interval IS NULL THEN s.next_at ELSE least(s.next_at, clock_timestamp() + $4) END
      FROM seen n WHERE s.id = n.id AND n.role <> 'read' RETURNING s.*
)
SELECT n.role, c.id, p.id AS project_id, p.name AS project, d.url, d.match, c.archives, c.start_ts, c.end_ts, c.since_last, c.overlap,
       c.every, c.class, c.enabled, c.next_at, c.last_run, r.state AS last_state
  FROM seen n LEFT JOIN (changed c JOIN domains d ON d.id = c.domain_id JOIN projects p ON p.id = d.project_id
                         LEFT JOIN runs r ON r.id = c.last_run) ON true

-- name: drop
WITH seen AS MATERIALIZED (
    SELECT s.id, d.project_id, v.role FROM schedules s JOIN domains d ON d.id = s.domain_id
      JOIN visible_projects($2, $3) v ON v.project_id = d.project_id WHERE s.id = $1
), gone AS (
    DELETE FROM schedules s USING seen n WHERE s.id = n.id AND n.role <> 'read'
)
SELECT role, project_id FROM seen

-- name: enable
-- what one that stood still has missed meanwhile is one run
UPDATE schedules SET enabled = $2 WHERE id = $1 RETURNING id

-- name: remove
DELETE FROM schedules WHERE id = $1 RETURNING id
