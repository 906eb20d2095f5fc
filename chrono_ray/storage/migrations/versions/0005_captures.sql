-- Runs over HTTP.

CREATE INDEX runs_project ON runs (project_id, id);
CREATE INDEX tasks_project ON tasks (project_id, id);

-- Whoever asked over HTTP sees it even when its project is gone.
ALTER TABLE tasks ADD COLUMN asked_by int REFERENCES users ON DELETE SET NULL;
CREATE INDEX tasks_asked ON tasks (asked_by, id) WHERE asked_by IS NOT NULL;

-- A person's action on many captures that somebody has begun is not joined any more: what was listed since,
-- or changed behind its position, it does not do. Its key is free for the next one of the same.
CREATE FUNCTION bulk_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.key := OLD.key || ' ' || OLD.id;
    RETURN NEW;
END $$;
CREATE TRIGGER tasks_bulk_begins BEFORE UPDATE OF started_at ON tasks FOR EACH ROW
    WHEN (NEW.kind = 'bulk' AND OLD.started_at IS NULL AND NEW.started_at IS NOT NULL)
    EXECUTE FUNCTION bulk_begins();

-- How many exports that were asked for over HTTP a project has: of several at once each counts those before.
CREATE FUNCTION exports_kept(p_project int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM projects p WHERE p.id = p_project FOR NO KEY UPDATE;
    RETURN (SELECT count(*) FROM tasks t WHERE t.project_id = p_project AND t.kind = 'export' AND t.asked_by IS NOT NULL);
END $$;

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
    SELECT coalesce((SELECT n.n FROM run_page_counts n WHERE n.run_id = p_run AND n.whole = p_whole), 0), w.n - r.both, r.n
      FROM (SELECT count(*) AS n FROM (SELECT o.page_id FROM outbox o GROUP BY 1) o
              JOIN run_pages u ON u.page_id = o.page_id AND u.run_id = p_run AND u.whole = p_whole) w,
           (SELECT count(*) AS n, count(*) FILTER (WHERE EXISTS (SELECT FROM outbox o WHERE o.page_id = p.id)) AS both
              FROM pages p JOIN run_pages u ON u.page_id = p.id AND u.run_id = p_run AND u.whole = p_whole
             WHERE p.index_error <> '') r
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

-- What runs still count of pages that are gone, as nothing of ours leaves them: how much that was.
CREATE FUNCTION mend_run_pages() RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM run_pages u WHERE NOT EXISTS (SELECT FROM pages p WHERE p.id = u.page_id) RETURNING u.run_id, u.whole
    ), fewer AS (
        UPDATE run_page_counts n SET n = n.n - g.n
          FROM (SELECT run_id, whole, count(*) AS n FROM gone GROUP BY run_id, whole ORDER BY run_id, whole) g
         WHERE n.run_id = g.run_id AND n.whole = g.whole
    )
    SELECT count(*) FROM gone
$$;

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
-- The project stands in each capture, so that a project's captures are one walk in their order. Whoever
-- inserts one need not name it.
ALTER TABLE captures ADD COLUMN project_id int;
UPDATE captures c SET project_id = d.project_id FROM domains d WHERE d.id = c.domain_id;
ALTER TABLE captures ALTER COLUMN project_id SET NOT NULL;
CREATE FUNCTION project_of_capture() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.project_id := (SELECT d.project_id FROM domains d WHERE d.id = NEW.domain_id);
    RETURN NEW;
END $$;
CREATE TRIGGER captures_project BEFORE INSERT ON captures FOR EACH ROW WHEN (NEW.project_id IS NULL)
    EXECUTE FUNCTION project_of_capture();

-- 20 bytes under which captures of a project share one fetch (storage/listings.py, share_key): the digest's
-- own, or bytes of this one capture where it names no payload.
CREATE FUNCTION share_key(p_digest text, p_domain int, p_archive text, p_key bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_digest IN ('', '-', '3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ') THEN
            substr(sha256(convert_to('capture', 'UTF8') || '\x00'::bytea || convert_to(p_domain::text, 'UTF8') || '\x00'::bytea
                          || convert_to(p_archive, 'UTF8') || '\x00'::bytea || p_key), 1, 20)
        WHEN p_digest ~ '^[A-Z2-7]{32}$' THEN (
            SELECT decode(string_agg(lpad(to_hex(
                       ((strpos(a.abc, substr(p_digest, i, 1)) - 1) << 15) | ((strpos(a.abc, substr(p_digest, i + 1, 1)) - 1) << 10)
                       | ((strpos(a.abc, substr(p_digest, i + 2, 1)) - 1) << 5) | (strpos(a.abc, substr(p_digest, i + 3, 1)) - 1)),
                       5, '0'), '' ORDER BY i), 'hex')
              FROM generate_series(1, 29, 4) i, (VALUES ('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')) a (abc))
        ELSE substr(sha256(convert_to('digest', 'UTF8') || '\x00'::bytea || convert_to(p_digest, 'UTF8')), 1, 20)
    END
$$;
UPDATE fetches f SET share_key = share_key(c.digest, c.domain_id, c.archive, c.key) FROM captures c
 WHERE c.id = f.capture_id AND (c.digest !~ '^[A-Z2-7]{32}$' OR c.digest = '3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ');

-- What the lists are read by (sql/captures.sql): a walk in order, and for each filter those few that it holds.
-- Archives write types and keys of any length, more than an index row can hold.
DROP INDEX captures_run;
CREATE INDEX captures_run ON captures (run_id, id);
CREATE INDEX captures_time ON captures (project_id, instant, id);
CREATE INDEX captures_listed ON captures (project_id, id);
CREATE INDEX captures_kind ON captures (project_id, left(statuscode, 8), left(mimetype, 64), id);
CREATE INDEX captures_place ON captures (project_id, (left(urlkey, 64) COLLATE "C"));
CREATE INDEX captures_skipped ON captures (project_id, reason, id) WHERE reason <> '';
CREATE INDEX fetches_ended ON fetches (project_id, state, reason, id) WHERE state <> 'pending';

-- Decisions of people ------------------------------------------------------------------------------------
-- Each in one transaction that leaves counters, queue and pages exact. Locks in one order: the listers' of
-- (domain, archive), captures by id, fetches by share key.

-- Whose turn it is on a host is counted by it (model/urls.py, host_of); a broken URL's may be another.
CREATE FUNCTION url_host(p_url text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT left(lower(coalesce(substring(p_url FROM '^[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]*)'), '')), 255)
$$;

-- The four that follow are settle.sql's own statements, for use in functions.

CREATE FUNCTION count_captures(p_fetches bigint[], p_sign int, p_captures bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
    SELECT c.domain_id, c.run_id, c.state, c.reason, count(*) * p_sign
      FROM (SELECT c.domain_id, u.run_id, f.state AS ended, f.reason,
                   CASE WHEN f.state = 'stored' AND f.capture_id <> c.id THEN 'unchanged' ELSE f.state END AS state
              FROM captures c JOIN fetches f ON f.id = c.fetch_id
             CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
             WHERE c.fetch_id = ANY (p_fetches) AND f.state <> 'pending' AND (p_captures IS NULL OR c.id = ANY (p_captures))) c
     GROUP BY c.domain_id, c.run_id, c.state, c.reason
     ORDER BY c.domain_id, c.run_id, c.state, c.reason
    ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n;
END $$;

CREATE FUNCTION put_pages(p_fetches bigint[], p_captures bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH seen AS (
        SELECT d.project_id, min(c.domain_id) AS domain_id, c.url_id, min(c.urlkey) AS urlkey, min(c.original) AS url,
               f.payload_id, min(f.document_id) AS document_id, min(c.instant) AS first_seen, max(c.instant) AS last_seen, count(*) AS n
          FROM captures c JOIN fetches f ON f.id = c.fetch_id JOIN domains d ON d.id = c.domain_id
         WHERE c.fetch_id = ANY (p_fetches) AND f.state = 'stored' AND (p_captures IS NULL OR c.id = ANY (p_captures))
         GROUP BY d.project_id, c.url_id, f.payload_id
         ORDER BY d.project_id, c.url_id, f.payload_id
    ), put AS (
        INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id, first_seen, last_seen, captures)
        SELECT s.project_id, s.domain_id, s.url_id, s.urlkey, s.url, s.payload_id, s.document_id, s.first_seen, s.last_seen, s.n FROM seen s
        ON CONFLICT (project_id, url_id, payload_id) DO UPDATE
           SET first_seen = least(pages.first_seen, excluded.first_seen),
               last_seen = greatest(pages.last_seen, excluded.last_seen),
               captures = pages.captures + excluded.captures
        RETURNING id
    )
    INSERT INTO outbox (page_id, op) SELECT id, 'upsert' FROM put;
    WITH noted AS (
        INSERT INTO run_pages (page_id, run_id, whole)
        SELECT DISTINCT p.id, k.run_id, k.whole
          FROM captures c JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored'
          JOIN pages p ON p.project_id = f.project_id AND p.url_id = c.url_id AND p.payload_id = f.payload_id
         CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
          JOIN runs r ON r.id = u.run_id
         CROSS JOIN LATERAL (VALUES (r.id, false), (r.together, true)) k (run_id, whole)
         WHERE c.fetch_id = ANY (p_fetches) AND (p_captures IS NULL OR c.id = ANY (p_captures)) AND k.run_id IS NOT NULL
         ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING RETURNING run_id, whole
    )
    INSERT INTO run_page_counts AS n (run_id, whole, n)
    SELECT m.run_id, m.whole, count(*) FROM noted m GROUP BY m.run_id, m.whole ORDER BY m.run_id, m.whole
    ON CONFLICT (run_id, whole) DO UPDATE SET n = n.n + excluded.n;
END $$;

CREATE FUNCTION reopen_fetches(p_fetches bigint[], p_captures bigint[], p_run bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fetches f SET state = 'pending', reason = '', detail = '', settled_at = NULL, snoozed_for = '0', run_id = p_run, capture_id = w.capture_id,
           former = CASE WHEN f.state <> 'cancelled' THEN jsonb_build_object(
               'state', f.state, 'reason', f.reason, 'detail', f.detail, 'settled_at', f.settled_at, 'capture_id', f.capture_id) END
      FROM unnest(p_fetches, p_captures) AS w (id, capture_id) WHERE f.id = w.id;
END $$;

-- Answers how many captures wait for each.
CREATE FUNCTION restore_fetches(p_fetches bigint[]) RETURNS TABLE (fetch_id bigint, waiting bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
RETURN QUERY WITH back AS (
        UPDATE fetches f SET state = f.former ->> 'state', reason = f.former ->> 'reason', detail = f.former ->> 'detail',
               settled_at = (f.former ->> 'settled_at')::timestamptz,
               capture_id = coalesce((SELECT c.id FROM captures c WHERE c.id = (f.former ->> 'capture_id')::bigint AND c.fetch_id = f.id), f.capture_id)
         WHERE f.id = ANY (p_fetches) AND f.state = 'pending' AND f.former IS NOT NULL
        RETURNING f.id
    ), given_up AS (
        UPDATE attempts a SET final = true, forgiven = false FROM back b WHERE a.fetch_id = b.id AND a.forgiven
    )
    SELECT b.id, (SELECT count(*) FROM captures c WHERE c.fetch_id = b.id) AS captures FROM back b;
END $$;

CREATE FUNCTION hold_captures(p_captures bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('captures of ' || k.domain_id || ' ' || k.archive, 0))
       FROM (SELECT DISTINCT c.domain_id, c.archive FROM captures c WHERE c.id = ANY (p_captures) ORDER BY 1, 2) k;
    PERFORM FROM captures c WHERE c.id = ANY (p_captures) ORDER BY c.id FOR NO KEY UPDATE;
END $$;

-- `p_sign` 1 or -1 for skipped captures, by the reason that they have now: of the run that listed each and of
-- each that adopted it.
CREATE FUNCTION count_skipped(p_captures bigint[], p_sign int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
    SELECT c.domain_id, u.run_id, 'skipped', c.reason, count(*) * p_sign
      FROM captures c
     CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
     WHERE c.id = ANY (p_captures) AND c.fetch_id IS NULL
     GROUP BY c.domain_id, u.run_id, c.reason ORDER BY c.domain_id, u.run_id, c.reason
    ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n;
END $$;

-- Fetches (held) that some of their captures have left: those that nobody waits for end, and the place of the
-- others is handed to another of their captures.
CREATE FUNCTION let_go(p_fetches bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_nobodys bigint[];
    v_leaving bigint[];
BEGIN
    v_nobodys := ARRAY (
        SELECT w.id FROM unnest(p_fetches) AS w (id) WHERE NOT EXISTS (SELECT 1 FROM captures c WHERE c.fetch_id = w.id));
    v_leaving := v_nobodys || ARRAY (
    SELECT f.id FROM fetches f
     WHERE f.id = ANY (p_fetches) AND f.state = 'pending' AND f.former IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM captures c
                        CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
                         JOIN runs n ON n.id = u.run_id AND n.state NOT IN ('done', 'cancelled')
                        WHERE c.fetch_id = f.id));
    DELETE FROM queue WHERE fetch_id = ANY (v_leaving);
    DELETE FROM parked WHERE fetch_id = ANY (v_leaving);
    PERFORM count_captures(ARRAY (SELECT r.fetch_id FROM restore_fetches(v_leaving) r WHERE r.waiting > 0), 1, NULL);
    UPDATE fetches SET state = 'cancelled', reason = 'rule', settled_at = clock_timestamp()
     WHERE id = ANY (v_nobodys) AND state = 'pending';
    WITH next AS (
        SELECT DISTINCT ON (c.fetch_id) c.fetch_id, n.id AS run_id, c.id, c.archive, c.urlkey, c.ts, c.original, c.mimetype,
               c.statuscode, c.digest, c.locator
          FROM fetches f JOIN captures c ON c.fetch_id = f.id
         CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
          JOIN runs n ON n.id = u.run_id
         WHERE f.id = ANY (ARRAY (SELECT unnest(p_fetches) EXCEPT SELECT unnest(v_leaving))) AND NOT EXISTS (SELECT 1 FROM captures k WHERE k.id = f.capture_id AND k.fetch_id = f.id)
         ORDER BY c.fetch_id, (n.state <> 'active'), (n.state = 'cancelled'), (n.id <> f.run_id),
                  EXISTS (SELECT 1 FROM attempts a WHERE a.fetch_id = c.fetch_id AND a.capture_id = c.id AND a.final),
                  (c.mimetype = 'warc/revisit'), c.instant DESC
    ), queued AS (
        UPDATE queue q SET run_id = x.run_id, capture_id = x.id, archive = x.archive, urlkey = x.urlkey, ts = x.ts, original = x.original,
               mimetype = x.mimetype, statuscode = x.statuscode, digest = x.digest, locator = x.locator
          FROM next x WHERE q.fetch_id = x.fetch_id RETURNING q.fetch_id, q.order_key
    ), waiting AS (
        UPDATE parked p SET run_id = x.run_id, capture_id = x.id FROM next x WHERE p.fetch_id = x.fetch_id
    ), owned AS (
        UPDATE fetches f SET run_id = x.run_id, capture_id = x.id FROM next x WHERE f.id = x.fetch_id
    )
    UPDATE runs r SET ready = r.ready OR b.lowest IS NOT NULL, floor_key = least(r.floor_key, b.lowest),
           state = CASE r.state WHEN 'done' THEN 'active' ELSE r.state END,
           finished_at = CASE r.state WHEN 'done' THEN NULL ELSE r.finished_at END
      FROM (SELECT x.run_id, min(q.order_key) AS lowest FROM next x LEFT JOIN queued q ON q.fetch_id = x.fetch_id GROUP BY x.run_id) b
     WHERE r.id = b.run_id;
END $$;

-- Captures (held) that are skipped from now on, each with its reason, its rule and how sure that is: what is
-- skipped gets these words, what waits leaves the queue, what has ended or is in flight stays. Answers which did.
CREATE FUNCTION skip_captures(p_captures bigint[], p_reasons text[], p_rules text[], p_confidences real[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_pending bigint[];
    v_cancelled bigint[];
    v_rest bigint[];
    v_queued bigint[];
    v_parked bigint[];
    v_held bigint[] := '{}';
    v_skipped bigint[];
    v_leaving bigint[];
BEGIN
    SELECT coalesce(array_agg(l.id) FILTER (WHERE l.state = 'pending'), '{}'),
           coalesce(array_agg(l.id) FILTER (WHERE l.state = 'cancelled'), '{}')
      INTO v_pending, v_cancelled
      FROM (SELECT f.id, f.state FROM fetches f
             WHERE f.id = ANY (ARRAY (SELECT c.fetch_id FROM captures c WHERE c.id = ANY (p_captures) AND c.fetch_id IS NOT NULL))
               AND f.state IN ('pending', 'cancelled')
             ORDER BY f.share_key FOR NO KEY UPDATE) l;
    -- a row that moves from one place to the other between two looks is found by the next; the rest is leased
    FOR i IN 1..3 LOOP
        v_rest := ARRAY (SELECT unnest(v_pending) EXCEPT SELECT unnest(v_held));
        EXIT WHEN v_rest = '{}';
        SELECT coalesce(array_agg(q.fetch_id), '{}') INTO v_queued
          FROM (SELECT fetch_id FROM queue WHERE fetch_id = ANY (v_rest) FOR UPDATE) q;
        SELECT coalesce(array_agg(k.fetch_id), '{}') INTO v_parked
          FROM (SELECT fetch_id FROM parked WHERE fetch_id = ANY (v_rest) FOR UPDATE) k;
        v_held := v_held || v_queued || v_parked;
    END LOOP;
    v_skipped := ARRAY (SELECT c.id FROM captures c WHERE c.id = ANY (p_captures) AND c.fetch_id IS NULL);
    v_leaving := ARRAY (SELECT c.id FROM captures c WHERE c.id = ANY (p_captures) AND c.fetch_id = ANY (v_held || v_cancelled));
    PERFORM count_skipped(v_skipped, -1);
    PERFORM count_captures(v_cancelled, -1, v_leaving);
    UPDATE captures c SET fetch_id = NULL, reason = w.reason, rule = w.rule, confidence = w.confidence, priority = 0
      FROM unnest(p_captures, p_reasons, p_rules, p_confidences) AS w (id, reason, rule, confidence)
     WHERE c.id = w.id AND c.id = ANY (v_skipped || v_leaving);
    PERFORM count_skipped(v_skipped || v_leaving, 1);
    PERFORM let_go(v_held);
    RETURN v_skipped || v_leaving;
END $$;

-- Under which run a capture is asked for, should it be: the one that listed it, or where that is cancelled one
-- that adopted it. Null where all of them are.
CREATE FUNCTION run_of_capture(p_capture bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(CASE WHEN r.state <> 'cancelled' THEN r.id END,
                    (SELECT n.id FROM adoptions a JOIN runs n ON n.id = a.run_id AND n.state <> 'cancelled' AND n.archive = c.archive
                      WHERE a.capture_id = c.id ORDER BY n.state <> 'active', n.id LIMIT 1))
      FROM captures c JOIN runs r ON r.id = c.run_id WHERE c.id = p_capture
$$;

-- A run for captures that a person chose, all of one domain and archive: no listing. It has them when
-- `adopt_chosen` says so: what is counted before that is not counted for it.
CREATE FUNCTION chosen_run(p_captures bigint[], p_class smallint, p_floor bigint) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO runs (project_id, domain_id, archive, start_ts, end_ts, class, goal, ready, floor_key)
    SELECT c.project_id, c.domain_id, c.archive, min(c.ts), max(c.ts), p_class, 'fetch', true, p_floor
      FROM captures c WHERE c.id = ANY (p_captures) GROUP BY c.project_id, c.domain_id, c.archive
    RETURNING id
$$;
CREATE FUNCTION adopt_chosen(p_run bigint, p_captures bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO adoptions (run_id, capture_id) SELECT p_run, w.id FROM unnest(p_captures) AS w (id) ORDER BY w.id;
    INSERT INTO domain_counters (domain_id, run_id, state, n)
    SELECT r.domain_id, r.id, 'discovered', cardinality(p_captures) FROM runs r WHERE r.id = p_run;
END $$;

CREATE FUNCTION enqueue_fetches(p_run bigint, p_fetches bigint[], p_captures bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_hosts text[];
BEGIN
    v_hosts := ARRAY (SELECT url_host(c.original) FROM unnest(p_captures) WITH ORDINALITY AS w (id, n) JOIN captures c ON c.id = w.id ORDER BY w.n);
    WITH due AS (
        SELECT w.*, row_number() OVER (PARTITION BY w.host ORDER BY w.fetch_id) AS rank
          FROM unnest(p_fetches, p_captures, v_hosts) AS w (fetch_id, capture_id, host)
    ), sized AS (SELECT host, count(*) AS n FROM due GROUP BY host),
       floor AS (SELECT rank_floor FROM runs WHERE id = p_run),
       taken AS (
        INSERT INTO hosts (run_id, host, next_key)
        SELECT p_run, z.host, floor.rank_floor + z.n FROM sized z, floor ORDER BY z.host
        ON CONFLICT (run_id, host) DO UPDATE
           SET next_key = greatest(hosts.next_key, (SELECT rank_floor FROM floor)) + (SELECT z.n FROM sized z WHERE z.host = hosts.host)
        RETURNING host, next_key
    ), put AS (
        INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype, statuscode, digest, locator)
        SELECT d.fetch_id, p_run, t.next_key - z.n + d.rank + (c.priority::bigint << 48), c.id, c.archive, c.urlkey, c.ts, c.original, c.mimetype,
               c.statuscode, c.digest, c.locator
          FROM due d JOIN taken t ON t.host = d.host JOIN sized z ON z.host = d.host JOIN captures c ON c.id = d.capture_id
         ORDER BY 3
        RETURNING order_key
    )
    -- with it those of its collection that were done: they may be asked what this one cannot give
    UPDATE runs r SET state = CASE WHEN r.state IN ('paused', 'planned') THEN r.state ELSE 'active' END, finished_at = NULL,
           ready = r.ready OR r.id = p_run,
           floor_key = CASE r.id WHEN p_run THEN least(r.floor_key, (SELECT min(order_key) FROM put)) ELSE r.floor_key END
     WHERE r.id = p_run OR (r.together = (SELECT m.together FROM runs m WHERE m.id = p_run) AND r.state = 'done');
END $$;

-- Ended fetches (locked) are asked for again, each by its capture, under a run.
CREATE FUNCTION ask_again(p_run bigint, p_fetches bigint[], p_captures bigint[], p_chosen boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE attempts SET final = false, forgiven = true WHERE fetch_id = ANY (p_fetches) AND final;
    PERFORM count_captures(p_fetches, -1, NULL);
    IF p_chosen THEN PERFORM adopt_chosen(p_run, p_captures); END IF;
    PERFORM reopen_fetches(p_fetches, p_captures, p_run);
    PERFORM enqueue_fetches(p_run, p_fetches, p_captures);
END $$;

-- Skipped captures (held, all of one domain and archive) are wanted under a run, by a person's word.
CREATE FUNCTION want_captures(p_run bigint, p_captures bigint[], p_rule text, p_chosen boolean, p_guilty text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_project int;
    v_keys bytea[];
    v_fetches bigint[];
    v_due bigint[];
    v_asked bigint[];
    v_again bigint[];
    v_by bigint[];
    v_late bigint[];
    v_ended bigint[];
BEGIN
    SELECT r.project_id INTO v_project FROM runs r WHERE r.id = p_run;
    v_keys := ARRAY (SELECT share_key(c.digest, c.domain_id, c.archive, c.key)
                       FROM unnest(p_captures) WITH ORDINALITY AS w (id, n) JOIN captures c ON c.id = w.id ORDER BY w.n);
    WITH made AS (
        INSERT INTO fetches (project_id, share_key, run_id, capture_id)
        SELECT v_project, w.key, p_run, w.id
          FROM (SELECT DISTINCT ON (k.key) k.key, c.id FROM unnest(p_captures, v_keys) AS k (id, key) JOIN captures c ON c.id = k.id
                 ORDER BY k.key, (c.mimetype = 'warc/revisit'), c.id) w
         ORDER BY w.key
        ON CONFLICT (project_id, share_key) DO NOTHING RETURNING id, capture_id
    )
    SELECT coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.capture_id), '{}') INTO v_due, v_asked FROM made m;
    -- a statement of its own: it must see what others committed while the one above waited for them
    PERFORM FROM fetches f WHERE f.project_id = v_project AND f.share_key = ANY (v_keys) ORDER BY f.share_key FOR NO KEY UPDATE;
    v_fetches := ARRAY (SELECT f.id FROM unnest(v_keys) WITH ORDINALITY AS k (key, n)
                          JOIN fetches f ON f.project_id = v_project AND f.share_key = k.key ORDER BY k.n);
    SELECT coalesce(array_agg(x.id), '{}'), coalesce(array_agg(x.capture), '{}') INTO v_again, v_by
      FROM (SELECT f.id, min(w.capture) AS capture FROM unnest(p_captures, v_fetches) AS w (capture, fetch_id) JOIN fetches f ON f.id = w.fetch_id
             WHERE f.state IN ('gone', 'cancelled')
                OR (f.state = 'failed' AND f.payload_id IS NULL AND f.reason <> ALL (p_guilty))
             GROUP BY f.id ORDER BY f.id) x;
    PERFORM count_captures(v_again, -1, NULL);
    PERFORM reopen_fetches(v_again, v_by, p_run);
    PERFORM count_skipped(p_captures, -1);
    UPDATE captures c SET fetch_id = w.fetch_id, reason = '', rule = p_rule, confidence = 1, priority = 0
      FROM unnest(p_captures, v_fetches) AS w (id, fetch_id) WHERE c.id = w.id;
    IF p_chosen THEN PERFORM adopt_chosen(p_run, p_captures); END IF;
    -- they share the fate, and the page, of a payload that ended before
    SELECT coalesce(array_agg(w.capture), '{}'), coalesce(array_agg(DISTINCT f.id), '{}') INTO v_late, v_ended
      FROM unnest(p_captures, v_fetches) AS w (capture, fetch_id) JOIN fetches f ON f.id = w.fetch_id AND f.state <> 'pending';
    PERFORM count_captures(v_ended, 1, v_late);
    PERFORM put_pages(v_ended, v_late);
    IF cardinality(v_due || v_again) > 0 THEN PERFORM enqueue_fetches(p_run, v_due || v_again, v_asked || v_by); END IF;
    -- a finished run with something to fetch is no longer finished
    UPDATE runs r SET state = 'active', finished_at = NULL, ready = true
     WHERE r.state = 'done'
       AND r.id IN (SELECT c.run_id FROM captures c WHERE c.id = ANY (p_captures)
                    UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = ANY (p_captures));
END $$;

CREATE FUNCTION approve_captures(p_captures bigint[], p_rule text, p_guilty text[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT u.run_id, c.domain_id, c.archive, array_agg(c.id ORDER BY c.id) AS captures
          FROM captures c CROSS JOIN LATERAL run_of_capture(c.id) u (run_id)
         WHERE c.id = ANY (p_captures) AND c.fetch_id IS NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    LOOP
        PERFORM want_captures(coalesce(r.run_id, chosen_run(r.captures, 1::smallint, 0)), r.captures, p_rule, r.run_id IS NULL, p_guilty);
    END LOOP;
    RETURN p_captures;
END $$;

CREATE FUNCTION retry_captures(p_captures bigint[], p_guilty text[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    r record;
    v_fetches bigint[];
BEGIN
    v_fetches := ARRAY (
        SELECT l.id FROM (
            SELECT f.id FROM fetches f
             WHERE f.id = ANY (ARRAY (SELECT c.fetch_id FROM captures c WHERE c.id = ANY (p_captures)))
               AND f.state IN ('gone', 'refused', 'failed', 'cancelled') AND f.payload_id IS NULL AND f.reason <> ALL (p_guilty)
             ORDER BY f.share_key FOR NO KEY UPDATE) l);
    FOR r IN
        -- of several the one that was tried last, else a response before a revisit
        SELECT b.run_id, b.domain_id, b.archive, array_agg(b.fetch_id ORDER BY b.fetch_id) AS fetches,
               array_agg(b.id ORDER BY b.fetch_id) AS captures
          FROM (SELECT DISTINCT ON (c.fetch_id) c.fetch_id, c.id, u.run_id, c.domain_id, c.archive
                  FROM captures c JOIN fetches f ON f.id = c.fetch_id CROSS JOIN LATERAL run_of_capture(c.id) u (run_id)
                 WHERE c.id = ANY (p_captures) AND c.fetch_id = ANY (v_fetches)
                 ORDER BY c.fetch_id, u.run_id IS NULL, c.id <> f.capture_id, (c.mimetype = 'warc/revisit'), c.instant DESC, c.id) b
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    LOOP
        PERFORM ask_again(coalesce(r.run_id, chosen_run(r.captures, 1::smallint, 0)), r.fetches, r.captures, r.run_id IS NULL);
    END LOOP;
    RETURN ARRAY (SELECT c.id FROM captures c WHERE c.id = ANY (p_captures) AND c.fetch_id = ANY (v_fetches));
END $$;

-- The rank stays, its band is another; what a claim holds is out already. A second pass stays one.
CREATE FUNCTION prioritise_captures(p_captures bigint[], p_band int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_fetches bigint[];
    v_moved bigint[];
BEGIN
    v_fetches := ARRAY (SELECT c.fetch_id FROM captures c WHERE c.id = ANY (p_captures) AND c.fetch_id IS NOT NULL);
    WITH found AS (
        SELECT q.ctid AS tid FROM queue q
         WHERE q.fetch_id = ANY (v_fetches) AND q.order_key < (16::bigint << 48) AND (q.order_key >> 48) <> p_band FOR UPDATE SKIP LOCKED
    ), queued AS (
        UPDATE queue q SET order_key = (p_band::bigint << 48) + (q.order_key & ((1::bigint << 48) - 1))
         WHERE q.ctid = ANY (ARRAY (SELECT tid FROM found)) RETURNING q.fetch_id, q.run_id, q.order_key
    ), waiting AS (
        UPDATE parked k SET order_key = (p_band::bigint << 48) + (k.order_key & ((1::bigint << 48) - 1))
         WHERE k.fetch_id = ANY (v_fetches) AND k.order_key < (16::bigint << 48) AND (k.order_key >> 48) <> p_band RETURNING k.fetch_id
    ), floor AS (
        UPDATE runs r SET ready = true, floor_key = m.lowest
          FROM (SELECT run_id, min(order_key) AS lowest FROM queued GROUP BY run_id) m WHERE r.id = m.run_id AND m.lowest < r.floor_key
    )
    SELECT array_agg(m.fetch_id) INTO v_moved FROM (SELECT fetch_id FROM queued UNION ALL SELECT fetch_id FROM waiting) m;
    RETURN ARRAY (SELECT c.id FROM captures c WHERE c.id = ANY (p_captures) AND c.fetch_id = ANY (v_moved));
END $$;

-- Where captures stand, and whether an action would change them. `p_guilty`: reasons that the bytes themselves
-- gave, which they would give again.
CREATE FUNCTION would_change(p_action text, p_captures bigint[], p_band int, p_guilty text[])
RETURNS TABLE (id bigint, state text, reason text, applies boolean) LANGUAGE sql STABLE AS $$
    SELECT c.id, s.state, s.reason,
           CASE p_action
               WHEN 'skip' THEN s.state IN ('pending', 'parked', 'cancelled') OR (s.state = 'skipped' AND c.rule NOT LIKE 'person:%')
               WHEN 'approve' THEN s.state = 'skipped'
               WHEN 'retry' THEN s.state IN ('gone', 'refused', 'failed', 'cancelled') AND f.payload_id IS NULL AND f.reason <> ALL (p_guilty)
               WHEN 'priority' THEN coalesce(q.order_key, k.order_key) < (16::bigint << 48) AND coalesce(q.order_key, k.order_key) >> 48 <> p_band
           END IS TRUE
      FROM captures c
      LEFT JOIN LATERAL (SELECT * FROM fetches f WHERE f.id = c.fetch_id LIMIT 1) f ON true
      LEFT JOIN LATERAL (SELECT q.order_key FROM queue q WHERE q.fetch_id = f.id AND f.state = 'pending' LIMIT 1) q ON true
      LEFT JOIN LATERAL (SELECT k.order_key, k.reason FROM parked k WHERE k.fetch_id = f.id AND f.state = 'pending' LIMIT 1) k ON true
     CROSS JOIN LATERAL (
        SELECT CASE WHEN c.fetch_id IS NULL THEN 'skipped'
                    WHEN f.state = 'stored' AND f.capture_id <> c.id THEN 'unchanged'
                    WHEN f.state <> 'pending' THEN f.state
                    WHEN k.order_key IS NOT NULL THEN 'parked'
                    WHEN EXISTS (SELECT 1 FROM leases l WHERE l.fetch_id = f.id) THEN 'leased'
                    ELSE 'pending' END AS state,
               coalesce(nullif(c.reason, ''), nullif(f.reason, ''), k.reason, '') AS reason) s
     WHERE c.id = ANY (p_captures)
$$;

-- One action on captures of one project, in this transaction: how many changed, and how many did not, by what
-- they were before. Nothing for null. Whoever looks for them asks the planner not to sort: it may again here.
CREATE FUNCTION change_captures(p_action text, p_captures bigint[], p_rule text, p_band int, p_guilty text[])
RETURNS TABLE (changed boolean, state text, reason text, n bigint) LANGUAGE plpgsql
SET enable_sort = on SET enable_incremental_sort = on SET enable_seqscan = on SET enable_bitmapscan = on AS $$
#variable_conflict use_column
DECLARE
    v_all bigint[];
    v_states text[];
    v_reasons text[];
    v_some bigint[];
    v_changed bigint[];
BEGIN
    IF p_captures IS NULL THEN RETURN; END IF;
    PERFORM hold_captures(p_captures);
    SELECT array_agg(w.id), array_agg(w.state), array_agg(w.reason), coalesce(array_agg(w.id) FILTER (WHERE w.applies), '{}')
      INTO v_all, v_states, v_reasons, v_some FROM would_change(p_action, p_captures, p_band, p_guilty) w;
    v_changed := CASE p_action
        WHEN 'skip' THEN skip_captures(v_some, array_fill('skipped'::text, ARRAY[cardinality(v_some)]),
                                       array_fill(p_rule, ARRAY[cardinality(v_some)]), array_fill(1::real, ARRAY[cardinality(v_some)]))
        WHEN 'approve' THEN approve_captures(v_some, p_rule, p_guilty)
        WHEN 'retry' THEN retry_captures(v_some, p_guilty)
        WHEN 'priority' THEN prioritise_captures(v_some, p_band)
    END;
    RETURN QUERY
        SELECT d.id IS NOT NULL, b.state, b.reason, count(*)
          FROM unnest(v_all, v_states, v_reasons) AS b (id, state, reason) LEFT JOIN unnest(v_changed) AS d (id) ON d.id = b.id
         GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3;
END $$;

-- One capture before all else, by a run of its own of the most urgent class: what a rule skipped is approved,
-- what had ended is tried again, what waits is taken over. `outcome` is 'fetching', 'stored' where its payload
-- is here, or 'deleting' with the task. No row where there is none. `p_first`: the first key of all.
CREATE FUNCTION fetch_now(p_capture bigint, p_rule text, p_first bigint) RETURNS TABLE (outcome text, run bigint, approved boolean, task bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v captures%ROWTYPE;
    v_fetch bigint;
    v_made bigint;
    v_state text;
BEGIN
    -- of two that ask for it at once the second sees what became of it
    SELECT c.* INTO v FROM captures c WHERE c.id = p_capture FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT t.id INTO task FROM tasks t WHERE t.project_id = v.project_id AND t.kind = 'delete_project' AND t.state = 'pending' LIMIT 1;
    outcome := CASE WHEN task IS NULL THEN 'fetching' ELSE 'deleting' END;
    approved := v.fetch_id IS NULL AND task IS NULL;
    IF task IS NOT NULL THEN RETURN NEXT; RETURN; END IF;
    IF v.fetch_id IS NOT NULL THEN
        -- before its fetch, as settlers do
        PERFORM FROM leases l WHERE l.fetch_id = v.fetch_id FOR UPDATE;
        v_fetch := v.fetch_id;
        SELECT f.state INTO v_state FROM fetches f WHERE f.id = v_fetch FOR NO KEY UPDATE;
    ELSE
        INSERT INTO fetches AS f (project_id, share_key, run_id, capture_id)
        VALUES (v.project_id, share_key(v.digest, v.domain_id, v.archive, v.key), v.run_id, v.id)
        ON CONFLICT (project_id, share_key) DO NOTHING RETURNING f.id INTO v_made;
        SELECT f.id, f.state INTO v_fetch, v_state FROM fetches f
         WHERE f.project_id = v.project_id AND f.share_key = share_key(v.digest, v.domain_id, v.archive, v.key) FOR NO KEY UPDATE;
        PERFORM count_skipped(ARRAY[v.id], -1);
        UPDATE captures SET fetch_id = v_fetch, reason = '', rule = p_rule, confidence = 1 WHERE id = v.id;
        IF v_state <> 'pending' THEN
            PERFORM count_captures(ARRAY[v_fetch], 1, ARRAY[v.id]);
            PERFORM put_pages(ARRAY[v_fetch], ARRAY[v.id]);
        END IF;
    END IF;
    IF v_state = 'stored' THEN
        outcome := 'stored';
    ELSE
        run := fetch_by_itself(v.id, v_fetch, v_state, p_first, v_made IS NOT NULL);
    END IF;
    RETURN NEXT;
END $$;

-- The run that fetches a capture before all else; its fetch is locked, and `p_made` just now.
CREATE FUNCTION fetch_by_itself(p_capture bigint, p_fetch bigint, p_state text, p_first bigint, p_made boolean) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_run bigint;
BEGIN
    IF p_state = 'pending' THEN
        -- a run for this capture that has not ended: it is gone on with
        UPDATE runs r SET state = 'active'
         WHERE r.id = (SELECT max(a.run_id) FROM adoptions a JOIN runs o ON o.id = a.run_id AND o.goal = 'fetch' AND o.state IN ('active', 'paused')
                        WHERE a.capture_id = p_capture)
        RETURNING r.id INTO v_run;
        IF FOUND THEN RETURN v_run; END IF;
    ELSE
        PERFORM count_captures(ARRAY[p_fetch], -1, NULL);
    END IF;
    v_run := chosen_run(ARRAY[p_capture], 0::smallint, p_first);
    PERFORM adopt_chosen(v_run, ARRAY[p_capture]);
    IF p_state <> 'pending' THEN
        UPDATE attempts SET final = false, forgiven = true WHERE fetch_id = p_fetch AND final;
        PERFORM reopen_fetches(ARRAY[p_fetch], ARRAY[p_capture], v_run);
    END IF;
    IF p_state <> 'pending' OR p_made THEN
        INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype, statuscode, digest, locator)
        SELECT p_fetch, v_run, p_first, c.id, c.archive, c.urlkey, c.ts, c.original, c.mimetype, c.statuscode, c.digest, c.locator
          FROM captures c WHERE c.id = p_capture;
        UPDATE fetches SET run_id = v_run, capture_id = p_capture WHERE id = p_fetch;
    ELSE
        PERFORM take_over(p_capture, p_fetch, v_run, p_first);
    END IF;
    RETURN v_run;
END $$;

-- A fetch is a run's own from wherever it waits; what is in work stays there, and comes back to it if at all.
CREATE FUNCTION take_over(p_capture bigint, p_fetch bigint, p_run bigint, p_first bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..3 LOOP  -- it may move between its places meanwhile
        -- without SKIP LOCKED: a claim that holds the row has deleted it when we get it, and then it is leased
        UPDATE queue q SET run_id = p_run, order_key = p_first, attempts = 0, capture_id = c.id, archive = c.archive, urlkey = c.urlkey,
               ts = c.ts, original = c.original, mimetype = c.mimetype, statuscode = c.statuscode, digest = c.digest, locator = c.locator
          FROM captures c WHERE q.fetch_id = p_fetch AND c.id = p_capture;
        IF NOT FOUND THEN
            WITH due AS (DELETE FROM parked WHERE fetch_id = p_fetch RETURNING fetch_id, crashes)
            INSERT INTO queue (fetch_id, run_id, order_key, crashes, capture_id, archive, urlkey, ts, original, mimetype, statuscode, digest, locator)
            SELECT d.fetch_id, p_run, p_first, d.crashes, c.id, c.archive, c.urlkey, c.ts, c.original, c.mimetype, c.statuscode, c.digest, c.locator
              FROM due d JOIN captures c ON c.id = p_capture;
        END IF;
        IF FOUND THEN
            UPDATE fetches SET run_id = p_run, capture_id = p_capture WHERE id = p_fetch;
            RETURN;
        END IF;
        UPDATE leases l SET run_id = p_run, order_key = p_first FROM captures c
         WHERE l.fetch_id = p_fetch AND c.id = l.capture_id AND c.archive = (SELECT r.archive FROM runs r WHERE r.id = p_run);
        IF FOUND THEN
            UPDATE fetches SET run_id = p_run WHERE id = p_fetch;
            RETURN;
        END IF;
    END LOOP;
END $$;
