-- Captures as a person sees them. A list is put together from these pieces (storage/captures.py).

-- name: in_order
SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off

-- name: place
-- the project, by itself or by what is given of it; no row where the user does not see it
SELECT v.project_id, v.role,
       (SELECT t.id FROM tasks t WHERE t.project_id = v.project_id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1) AS deleting
  FROM visible_projects({user}, {admin}) v
 WHERE {holds}

-- name: fetch
-- by its key, whatever the planner thinks of reading them all
LEFT JOIN LATERAL (SELECT f.id, f.state, f.reason, f.capture_id FROM fetches f WHERE f.id = c.fetch_id LIMIT 1) f ON true

-- name: found
-- those few that some filter holds, sorted; or where every filter holds many, a walk in
-- order over so many rows at most. A filter that holds many needs no index to be met soon.
found AS MATERIALIZED (
    (SELECT c.id, c.instant FROM ({sparse}) s
      CROSS JOIN LATERAL (SELECT * FROM captures c WHERE c.id = s.id AND c.project_id = (SELECT project_id FROM place) LIMIT 1) c
      {fetch}
      WHERE {within} AND {conditions} ORDER BY {order} LIMIT {limit})
    UNION ALL
    (SELECT c.id, c.instant FROM (
        SELECT c.* FROM captures c WHERE {walk} ORDER BY {walk_order} LIMIT {budget}) c
      {fetch}
      WHERE {dense} AND {conditions} ORDER BY {walk_order} LIMIT {limit})
), edge AS MATERIALIZED (
    SELECT c.id, c.instant FROM captures c
     WHERE {dense} AND (SELECT count(*) FROM found) < {limit} AND {walk}
     ORDER BY {walk_order} OFFSET {budget} - 1 LIMIT 1
)

-- name: rows
-- `edge`: how far the walk came without filling the page
SELECT p.project_id, e.id AS edge_id, e.instant AS edge_instant, r.*
  FROM place p LEFT JOIN edge e ON true
  LEFT JOIN LATERAL (
    SELECT {row} FROM found n CROSS JOIN LATERAL (SELECT * FROM captures c WHERE c.id = n.id LIMIT 1) c
    {details}) r ON true
 ORDER BY {row_order}

-- name: row
c.id, c.domain_id, c.run_id, c.instant, c.original, c.ts, c.archive, c.mimetype, c.statuscode, c.digest, c.length, c.locator,
c.impossible, c.rule, c.confidence, coalesce(f.detail, '') AS detail, coalesce(f.requests, 0) AS requests,
coalesce(f.served_ts, '') AS served_ts, k.until AS parked_until,
CASE WHEN c.fetch_id IS NULL THEN 'skipped'
     WHEN f.state = 'stored' AND f.capture_id <> c.id THEN 'unchanged'
     WHEN f.state <> 'pending' THEN f.state
     WHEN k.fetch_id IS NOT NULL THEN 'parked'
     WHEN l.fetch_id IS NOT NULL THEN 'leased'
     ELSE 'pending' END AS state,
coalesce(nullif(c.reason, ''), nullif(f.reason, ''), k.reason, '') AS reason,
(SELECT count(*) FROM attempts a WHERE a.fetch_id = f.id) AS attempts,
(SELECT g.id FROM pages g WHERE g.project_id = c.project_id AND g.url_id = c.url_id AND g.payload_id = f.payload_id AND f.state = 'stored') AS page_id

-- name: details
LEFT JOIN LATERAL (SELECT * FROM fetches f WHERE f.id = c.fetch_id LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT k.fetch_id, k.reason, k.until FROM parked k WHERE k.fetch_id = f.id LIMIT 1) k ON true
LEFT JOIN LATERAL (SELECT l.fetch_id, l.worker, l.leased_until FROM leases l WHERE l.fetch_id = f.id LIMIT 1) l ON true

-- name: one
SELECT v.project_id, p.name AS project, d.url AS domain, f.settled_at, f.digest_check, f.capture_id AS asked_by, f.run_id AS asked_in,
       l.leased_until, c.urlkey, c.priority, {row},
       (SELECT coalesce(json_agg(json_build_object('at', a.at, 'reason', a.reason, 'detail', a.detail, 'requests', a.requests,
                                                   'capture', a.capture_id, 'run', a.run_id, 'given_up', a.final) ORDER BY a.id), '[]')
          FROM (SELECT * FROM attempts a WHERE a.fetch_id = f.id ORDER BY a.id DESC LIMIT 1000) a)::text AS tries
  FROM captures c JOIN visible_projects($2, $3) v ON v.project_id = c.project_id
  JOIN projects p ON p.id = c.project_id JOIN domains d ON d.id = c.domain_id
  {details}
 WHERE c.id = $1

-- name: reason_occurs
SELECT EXISTS (SELECT 1 FROM domains d JOIN domain_counters k ON k.domain_id = d.id WHERE d.project_id = $1 AND k.reason = ANY ($2::text[]))

-- name: project_of
v.project_id = (SELECT x.project_id FROM {table} x WHERE x.id = {id})

-- name: few
few_{n} (id) AS MATERIALIZED (SELECT x.* FROM ({text}) x WHERE {many} LIMIT {most})

-- name: few_if_few
SELECT id FROM few_{n} WHERE {many} AND (SELECT count(*) FROM few_{n}) <= {few}

-- name: if_many
{many} AND (SELECT count(*) FROM few_{n}) > {few}

-- name: nothing
SELECT NULL::bigint AS id WHERE false

-- name: because
-- `because` and the two that follow: what must hold of a capture
(c.reason = ANY ({reasons}) OR f.reason = ANY ({reasons})
 OR (f.state = 'pending' AND EXISTS (SELECT 1 FROM parked k WHERE k.fetch_id = c.fetch_id AND k.reason = ANY ({reasons}))))

-- name: of_run
(c.run_id = {run} OR EXISTS (SELECT 1 FROM adoptions a WHERE a.run_id = {run} AND a.capture_id = c.id))

-- name: known_to_run
-- in what the run was to list, and listed by another that began before this one ended
EXISTS (SELECT 1 FROM runs r JOIN runs o ON o.id = c.run_id
         WHERE r.id = {run} AND r.goal <> 'fetch' AND r.domain_id = c.domain_id AND r.archive = c.archive AND c.run_id <> r.id
           AND c.ts >= r.start_ts AND (r.end_ts = '' OR c.ts <= r.end_ts) AND o.created_at < coalesce(r.finished_at, 'infinity')
           AND NOT EXISTS (SELECT 1 FROM adoptions a WHERE a.run_id = r.id AND a.capture_id = c.id))

-- name: few_skipped
-- `few_...`: which captures a filter holds, in the order of an index, so that to find out that they are many
-- costs no more than that many. Bounds of the whole of it, and not `=`, keep the planner from another index
-- that has the same order and is met late.
SELECT c.id FROM captures c WHERE c.project_id = (SELECT project_id FROM place) AND c.reason <> '' ORDER BY c.reason, c.id LIMIT {most}

-- name: few_skipped_because
SELECT c.id FROM unnest({reasons}::text[]) AS w (reason) CROSS JOIN LATERAL (
    SELECT c.id FROM captures c
     WHERE c.project_id = (SELECT project_id FROM place) AND c.reason <> ''
       AND (c.reason, c.id) >= (w.reason, 0::bigint) AND (c.reason, c.id) <= (w.reason, 9223372036854775807)
     ORDER BY c.reason, c.id LIMIT {most}) c

-- name: few_ended
{of_fetches} (
    SELECT f.id FROM fetches f
     WHERE f.project_id = (SELECT project_id FROM place) AND f.state = '{state}' AND f.state <> 'pending' ORDER BY f.reason, f.id LIMIT {most}) f
{their_captures}

-- name: few_ended_because
{of_fetches} (
    SELECT f.id FROM unnest({reasons}::text[]) AS w (reason) CROSS JOIN LATERAL (
        SELECT f.id FROM fetches f
         WHERE f.project_id = (SELECT project_id FROM place) AND f.state = '{state}' AND f.state <> 'pending'
           AND (f.reason, f.id) >= (w.reason, 0::bigint) AND (f.reason, f.id) <= (w.reason, 9223372036854775807)
         ORDER BY f.reason, f.id LIMIT {most}) f LIMIT {most}) f
{their_captures}

-- name: few_stored
SELECT f.capture_id FROM fetches f
 WHERE f.project_id = (SELECT project_id FROM place) AND f.state = 'stored' AND f.state <> 'pending' ORDER BY f.reason, f.id LIMIT {most}

-- name: few_pending
{of_fetches} (
    SELECT q.fetch_id FROM runs r
     CROSS JOIN LATERAL (SELECT q.fetch_id FROM queue q WHERE q.run_id = r.id ORDER BY q.order_key LIMIT {most}) q
     WHERE r.project_id = (SELECT project_id FROM place) AND r.state <> 'done' LIMIT {most}) f (id)
{their_captures}

-- name: few_parked
{of_fetches} (
    SELECT k.fetch_id FROM runs r
     CROSS JOIN LATERAL (SELECT k.fetch_id FROM parked k WHERE k.run_id = r.id ORDER BY k.order_key LIMIT {most}) k
     WHERE r.project_id = (SELECT project_id FROM place) AND r.state <> 'done' LIMIT {most}) f (id)
{their_captures}

-- name: few_leased
{of_fetches} (
    SELECT l.fetch_id FROM runs r JOIN leases l ON l.run_id = r.id
     WHERE r.project_id = (SELECT project_id FROM place) AND r.state <> 'done' LIMIT {most}) f (id)
{their_captures}

-- name: of_fetches
SELECT c.id FROM (SELECT f.id, count(*) OVER () AS n FROM

-- name: their_captures
-- where the fetches are many their captures are too, and not looked for
) f LEFT JOIN LATERAL (SELECT c.id FROM captures c WHERE f.n < {most} AND c.fetch_id = f.id LIMIT {most}) c ON true

-- name: few_of_run
SELECT * FROM (
    SELECT c.id FROM captures c WHERE (c.run_id, c.id) >= ({run}, 0::bigint) AND (c.run_id, c.id) <= ({run}, 9223372036854775807)
     ORDER BY c.run_id, c.id LIMIT {most}) c
 UNION ALL
SELECT * FROM (
    SELECT a.capture_id FROM adoptions a WHERE (a.run_id, a.capture_id) >= ({run}, 0::bigint) AND (a.run_id, a.capture_id) <= ({run}, 9223372036854775807)
     ORDER BY a.run_id, a.capture_id LIMIT {most}) a

-- name: few_of_runs
SELECT c.id FROM runs r CROSS JOIN LATERAL (
    SELECT c.id FROM captures c WHERE (c.run_id, c.id) >= (r.id, 0::bigint) AND (c.run_id, c.id) <= (r.id, 9223372036854775807)
     ORDER BY c.run_id, c.id LIMIT {most}) c
 WHERE r.project_id = (SELECT project_id FROM place) AND {which}

-- name: few_at
SELECT c.id FROM captures c
 WHERE c.project_id = (SELECT project_id FROM place)
   AND left(c.urlkey, 64) COLLATE "C" >= {low} AND left(c.urlkey, 64) COLLATE "C" < {high}
 ORDER BY left(c.urlkey, 64) COLLATE "C" LIMIT {most}

-- name: few_of_status
SELECT c.id FROM unnest({any_of}::text[]) AS w (statuscode) CROSS JOIN LATERAL (
    SELECT c.id FROM captures c WHERE c.project_id = (SELECT project_id FROM place) AND left(c.statuscode, 8) = left(w.statuscode, 8)
     ORDER BY left(c.mimetype, 64), c.id LIMIT {most}) c

-- name: few_of_type
-- one look a status that there is, and a type
SELECT c.id FROM (
    WITH RECURSIVE statuses (code) AS (
        (SELECT left(c.statuscode, 8) FROM captures c WHERE c.project_id = (SELECT project_id FROM place) ORDER BY left(c.statuscode, 8) LIMIT 1)
        UNION ALL
        SELECT (SELECT left(c.statuscode, 8) FROM captures c WHERE c.project_id = (SELECT project_id FROM place) AND left(c.statuscode, 8) > s.code
                 ORDER BY left(c.statuscode, 8) LIMIT 1)
          FROM statuses s WHERE s.code IS NOT NULL
    ) SELECT code FROM statuses WHERE code IS NOT NULL) s
 CROSS JOIN unnest({any_of}::text[]) AS w (mimetype) CROSS JOIN LATERAL (
    SELECT c.id FROM captures c
     WHERE c.project_id = (SELECT project_id FROM place) AND left(c.statuscode, 8) = s.code
       AND (left(c.mimetype, 64), c.id) >= (left(w.mimetype, 64), 0::bigint) AND (left(c.mimetype, 64), c.id) <= (left(w.mimetype, 64), 9223372036854775807)
     ORDER BY left(c.mimetype, 64), c.id LIMIT {most}) c

-- name: few_in_time
SELECT c.id FROM captures c WHERE c.project_id = (SELECT project_id FROM place) AND {span} ORDER BY c.instant, c.id LIMIT {most}

-- name: these
found AS MATERIALIZED (
    SELECT c.id, c.instant FROM captures c WHERE c.id = ANY ({these}) AND c.project_id = (SELECT project_id FROM place) ORDER BY c.id
), edge AS MATERIALIZED (
    SELECT c.id, c.instant FROM captures c WHERE false
)

-- name: change
-- few of them at once, in this one transaction; many by a task, and one of the same that nobody has begun
-- is that task, for all that is listed by now. Nothing where one of the ids is not there.
, chosen AS MATERIALIZED (
    SELECT count(*) AS found, array_agg(id) AS ids, count(*) > {most} OR EXISTS (SELECT 1 FROM edge) AS more FROM found
), allowed AS MATERIALIZED (
    SELECT p.*, c.*, p.role <> 'read' AND p.deleting IS NULL AND c.found >= {ids} AS may FROM place p CROSS JOIN chosen c
), task AS (
    INSERT INTO tasks (key, kind, class, project_id, arguments, asked_by)
    SELECT {key}, 'bulk', {class}, a.project_id,
           {arguments}::jsonb || jsonb_build_object('upto', (SELECT max(id) FROM captures)), {asked_by}
      FROM allowed a WHERE a.may AND a.more
    ON CONFLICT (key) WHERE state = 'pending' DO UPDATE SET arguments = excluded.arguments
    RETURNING id
)
SELECT a.role, a.deleting, a.found, a.more, t.id AS task, d.*
  FROM allowed a LEFT JOIN task t ON true
  LEFT JOIN LATERAL change_captures({action}, CASE WHEN a.may AND NOT a.more THEN a.ids END, {rule}, {band}, {guilty}) d ON true

-- name: count
, allowed AS MATERIALIZED (
    SELECT p.role, p.deleting, count(f.id) AS found, array_agg(f.id) AS ids, count(f.id) > {most} OR EXISTS (SELECT 1 FROM edge) AS more
      FROM place p LEFT JOIN found f ON true GROUP BY 1, 2
)
SELECT a.role, a.deleting, a.found, a.more, NULL::bigint AS task, w.*
  FROM allowed a LEFT JOIN LATERAL (
    SELECT w.applies AS changed, w.state, w.reason, count(*) AS n
      FROM would_change({action}, a.ids, {band}, {guilty}) w GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3) w ON true

-- name: step
-- of a task: the next of them by id, while whoever asked for it may still write there
SELECT p.role, p.deleting, coalesce((SELECT max(id) FROM found), 0) AS last, (SELECT id FROM edge) AS edge,
       (SELECT count(*) FROM found) AS found, d.*
  FROM place p LEFT JOIN LATERAL change_captures({action}, CASE WHEN p.role <> 'read' AND p.deleting IS NULL THEN (SELECT array_agg(id) FROM found) END,
                                                 {rule}, {band}, {guilty}) d ON true

-- name: is_admin
EXISTS (SELECT FROM users u WHERE u.id = {user} AND u.role = 'admin' AND u.state = 'active')

-- name: fetch_now
SELECT v.project_id, v.role, f.* FROM captures c JOIN visible_projects($2, $3) v ON v.project_id = c.project_id
  LEFT JOIN LATERAL fetch_now(CASE WHEN v.role <> 'read' THEN c.id END, $4, $5) f ON true
 WHERE c.id = $1
