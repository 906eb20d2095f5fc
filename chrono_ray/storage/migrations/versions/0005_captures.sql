-- Runs over HTTP.

CREATE INDEX runs_project ON runs (project_id, id);
CREATE INDEX tasks_project ON tasks (project_id, id);

-- Whoever asked over HTTP sees it even when its project is gone.
ALTER TABLE tasks ADD COLUMN asked_by int REFERENCES users ON DELETE SET NULL;
CREATE INDEX tasks_asked ON tasks (asked_by, id) WHERE asked_by IS NOT NULL;

-- Which runs have captures of a page, and how many pages that makes of a run: counting them among its
-- captures is a walk of seconds. `whole`: the run stands for all of its collection, each page counted once.
CREATE TABLE run_pages (
    page_id bigint NOT NULL,
    run_id  bigint NOT NULL,
    whole   boolean NOT NULL,
    PRIMARY KEY (page_id, run_id, whole)
);
CREATE TABLE run_page_counts (
    run_id bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    whole  boolean NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (run_id, whole)
) WITH (fillfactor = 50);
CREATE INDEX pages_refused ON pages (id) WHERE index_error <> '';

INSERT INTO run_pages (page_id, run_id, whole)
SELECT DISTINCT p.id, k.run_id, k.whole
  FROM (SELECT c.url_id, c.fetch_id, c.run_id FROM captures c
        UNION ALL SELECT c.url_id, c.fetch_id, a.run_id FROM adoptions a JOIN captures c ON c.id = a.capture_id) c
  JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored'
  JOIN pages p ON p.project_id = f.project_id AND p.url_id = c.url_id AND p.payload_id = f.payload_id
  JOIN runs r ON r.id = c.run_id
 CROSS JOIN LATERAL (VALUES (r.id, false), (r.together, true)) k (run_id, whole)
 WHERE k.run_id IS NOT NULL;
INSERT INTO run_page_counts (run_id, whole, n) SELECT run_id, whole, count(*) FROM run_pages GROUP BY run_id, whole;

-- A run's pages, or with `p_whole` those of all its collection: how many, how many of them the index has
-- not confirmed as they are now, and how many it refuses. Costs what waits to be indexed, whoever's it is.
CREATE FUNCTION pages_of_run(p_run bigint, p_whole boolean, OUT pages bigint, OUT waiting bigint, OUT rejected bigint)
LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT n.n FROM run_page_counts n WHERE n.run_id = p_run AND n.whole = p_whole), 0),
           (SELECT count(*) FROM (SELECT DISTINCT o.page_id FROM outbox o) o
              JOIN run_pages u ON u.page_id = o.page_id AND u.run_id = p_run AND u.whole = p_whole
              JOIN pages p ON p.id = o.page_id AND p.index_error = ''),
           (SELECT count(*) FROM pages p JOIN run_pages u ON u.page_id = p.id AND u.run_id = p_run AND u.whole = p_whole
             WHERE p.index_error <> '')
$$;

-- Pages that a person's repair made or took away: their runs count them, or count them no more.
CREATE FUNCTION recount_run_pages(p_pages bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM run_pages u WHERE u.page_id = ANY (p_pages) RETURNING u.run_id, u.whole
    )
    UPDATE run_page_counts n SET n = n.n - g.n
      FROM (SELECT run_id, whole, count(*) AS n FROM gone GROUP BY run_id, whole ORDER BY run_id, whole) g
     WHERE n.run_id = g.run_id AND n.whole = g.whole;
    WITH made AS (
        INSERT INTO run_pages (page_id, run_id, whole)
        SELECT DISTINCT p.id, k.run_id, k.whole
          FROM pages p JOIN domains d ON d.project_id = p.project_id
          JOIN captures c ON c.domain_id = d.id AND c.url_id = p.url_id
          JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored' AND f.payload_id = p.payload_id
         CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
          JOIN runs r ON r.id = u.run_id
         CROSS JOIN LATERAL (VALUES (r.id, false), (r.together, true)) k (run_id, whole)
         WHERE p.id = ANY (p_pages) AND k.run_id IS NOT NULL
        RETURNING run_id, whole
    )
    INSERT INTO run_page_counts AS n (run_id, whole, n)
    SELECT m.run_id, m.whole, count(*) FROM made m GROUP BY m.run_id, m.whole ORDER BY m.run_id, m.whole
    ON CONFLICT (run_id, whole) DO UPDATE SET n = n.n + excluded.n;
END $$;

-- The domain that is meant, with its project (by id, or by name one without an owner): both come into being
-- where they are missing, but for a project named by its id. Their rows stay locked: of two that begin the
-- same at once one joins. `project` is null where there is none; nothing is made while `task` deletes it.
CREATE FUNCTION place_domain(p_project int, p_name text, p_url text, p_match text, OUT project int, OUT domain int, OUT task bigint)
LANGUAGE plpgsql AS $$
BEGIN
    IF p_project IS NULL THEN
        INSERT INTO projects AS p (name) VALUES (p_name)
        ON CONFLICT ON CONSTRAINT projects_owner_name DO UPDATE SET name = excluded.name RETURNING p.id INTO project;
    ELSE
        SELECT p.id INTO project FROM projects p WHERE p.id = p_project FOR NO KEY UPDATE;
        IF NOT FOUND THEN RETURN; END IF;
    END IF;
    SELECT t.id INTO task FROM tasks t
     WHERE t.project_id = project AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1;
    IF FOUND THEN RETURN; END IF;
    INSERT INTO domains AS d (project_id, url, match) VALUES (project, p_url, p_match)
    ON CONFLICT (project_id, url, match) DO UPDATE SET url = excluded.url RETURNING d.id INTO domain;
END $$;

-- The runs of one request, an archive each in its order; or those of exactly this that are not finished: they
-- go on. `run_ids` is null where there is no such project or `task` deletes it. With `p_since` each begins at
-- the newest that finished runs listed in its archive, less so much overlap.
CREATE FUNCTION begin_runs(p_project int, p_name text, p_url text, p_match text, p_start text, p_end text,
                           p_archives text[], p_since interval, p_class smallint, p_goal text,
                           OUT run_ids bigint[], OUT joined boolean, OUT project int, OUT task bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_domain int;
    v_starts text[];
    v_run bigint;
BEGIN
    SELECT d.project, d.domain, d.task INTO project, v_domain, task FROM place_domain(p_project, p_name, p_url, p_match) d;
    IF v_domain IS NULL THEN RETURN; END IF;
    SELECT array_agg(CASE WHEN p_end <> '' THEN least(s.start, p_end) ELSE s.start END ORDER BY a.place) INTO v_starts
      FROM unnest(p_archives) WITH ORDINALITY AS a (archive, place)
     CROSS JOIN LATERAL (SELECT CASE WHEN p_since IS NULL THEN p_start
                                     ELSE greatest(listed_since(v_domain, a.archive, p_since), p_start) END AS start) s;
    SELECT array_agg(m.id ORDER BY m.preference, m.id) INTO run_ids
      FROM runs r JOIN runs m ON m.id = r.id OR m.together = r.id
     WHERE r.domain_id = v_domain AND r.archive = p_archives[1] AND r.start_ts = v_starts[1] AND r.end_ts = p_end
       AND r.goal = p_goal AND r.state IN ('active', 'paused') AND (r.together IS NULL OR r.together = r.id)
     GROUP BY r.id HAVING array_agg(m.archive ORDER BY m.preference, m.id) = p_archives
     ORDER BY r.id DESC LIMIT 1;
    joined := run_ids IS NOT NULL;
    IF joined THEN
        UPDATE runs r SET state = 'active' WHERE r.id = ANY (run_ids) AND r.state = 'paused';
        RETURN;
    END IF;
    run_ids := '{}';
    FOR i IN 1..cardinality(p_archives) LOOP
        INSERT INTO runs AS r (project_id, domain_id, archive, start_ts, end_ts, class, goal)
        VALUES (project, v_domain, p_archives[i], v_starts[i], p_end, p_class, p_goal) RETURNING r.id INTO v_run;
        INSERT INTO slices (run_id, start_ts, end_ts) VALUES (v_run, v_starts[i], p_end);
        run_ids := run_ids || v_run;
    END LOOP;
    IF cardinality(run_ids) > 1 THEN
        UPDATE runs r SET together = run_ids[1], preference = array_position(run_ids, r.id) - 1 WHERE r.id = ANY (run_ids);
    END IF;
END $$;

-- Pause, resume or cancel a run, or all of its collection by the first, by somebody who may: those whose state
-- is one of `p_from`. No row where they see no such run; nothing `changed` for one who only reads (`role`) or
-- where no state allows it: `state` is the run's as it is then.
CREATE FUNCTION change_runs(p_run bigint, p_state text, p_from text[], p_user int, p_admin boolean)
RETURNS TABLE (role text, project int, first bigint, run_ids bigint[], changed bigint[], state text)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT v.role, r.project_id, coalesce(r.together, r.id) INTO role, project, first
      FROM runs r JOIN visible_projects(p_user, p_admin) v ON v.project_id = r.project_id WHERE r.id = p_run;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT array_agg(r.id ORDER BY r.preference, r.id) INTO run_ids FROM runs r WHERE r.id = p_run OR r.together = p_run;
    IF role <> 'read' THEN
        -- in the order a lister locks them: its slice, then its run
        PERFORM FROM slices s WHERE s.run_id = ANY (run_ids) ORDER BY s.id FOR UPDATE;
        WITH now_so AS (
            UPDATE runs r SET state = p_state, finished_at = CASE p_state WHEN 'cancelled' THEN clock_timestamp() END
             WHERE r.id = ANY (run_ids) AND r.state = ANY (p_from) RETURNING r.id
        )
        SELECT array_agg(n.id) INTO changed FROM now_so n;
        IF p_state = 'cancelled' THEN
            UPDATE slices s SET state = 'cancelled', reason = 'run' WHERE s.run_id = ANY (changed) AND s.state = 'pending';
        END IF;
    END IF;
    SELECT r.state INTO state FROM runs r WHERE r.id = p_run;
    changed := coalesce(changed, '{}');
    RETURN NEXT;
END $$;

-- What `chrono verify` last said of a run, as JSON.
CREATE TABLE certificates (
    run_id  bigint PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    body    jsonb NOT NULL
);

-- Captures over HTTP.
