-- Projects over HTTP. A name is unique for its owner (and among projects without one), or it would tell
-- a stranger that somebody else has a project of that name. `version` grows with every change of a person.
ALTER TABLE projects DROP CONSTRAINT projects_name_key;
ALTER TABLE projects
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN version int NOT NULL DEFAULT 1,
    ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD CONSTRAINT projects_owner_name UNIQUE NULLS NOT DISTINCT (owner_id, name);

-- What every process of one instance knows and nobody else: 'cursors' signs where a list goes on.
CREATE TABLE instance_secrets (
    name  text PRIMARY KEY,
    value bytea NOT NULL CHECK (octet_length(value) = 32)
);
INSERT INTO instance_secrets (name, value)
VALUES ('cursors', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

-- What a name means that is typed on this machine: `#7` an id, else the project without an owner, else
-- those of that name, whoever owns them. More than one row: it has to be said which.
CREATE FUNCTION projects_named(p_name text) RETURNS SETOF int LANGUAGE sql STABLE AS $$
    SELECT p.id FROM projects p
     WHERE CASE WHEN p_name ~ '^#[0-9]{1,9}$' THEN p.id = substr(p_name, 2)::int
                ELSE p.name = p_name
                     AND (p.owner_id IS NULL OR NOT EXISTS (SELECT FROM projects o WHERE o.name = p_name AND o.owner_id IS NULL)) END
     ORDER BY p.id
$$;

-- By which it is known that a project is being deleted.
CREATE INDEX tasks_deleting ON tasks (project_id) WHERE kind = 'delete_project' AND state = 'pending';

-- Rules

-- Have a domain's stored captures decided anew, after its listings have ended where `p_waits`.
CREATE FUNCTION ask_redecision(p_domain int, p_waits boolean) RETURNS void LANGUAGE sql AS $$
    INSERT INTO redecisions (domain_id, waits) VALUES (p_domain, p_waits)
    ON CONFLICT (domain_id) DO UPDATE
       SET waits = excluded.waits, state = 'pending', at_url = '', at_ts = '', at_key = '', at_archive = '',
           at_capture = 0, looked = 0, wanted = 0, skipped = 0, renamed = 0, ended = 0, in_flight = 0, token = NULL,
           asked_at = clock_timestamp(), finished_at = NULL
     WHERE redecisions.state = 'done' OR redecisions.at_url <> '' OR redecisions.token IS NOT NULL
        OR redecisions.waits <> excluded.waits OR redecisions.asked_at > clock_timestamp()
$$;

-- A domain's rules from now on, and its stored captures decided by them; their new version. It waits
-- for the listing pages that were decided by the old ones; later ones see these.
CREATE FUNCTION change_rules(p_domain int, p_rules text, p_waits boolean) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_version int;
BEGIN
    UPDATE domains SET rules = p_rules::jsonb, rules_version = rules_version + 1 WHERE id = p_domain
    RETURNING rules_version INTO v_version;
    PERFORM ask_redecision(p_domain, p_waits);
    RETURN v_version;
END $$;

-- A domain that nothing is listed of, with its schedules and the runs that found nothing. Answers `gone`, or
-- why not: `project`, `role`, `domain` (none of that project), `begun` (a run goes on), `listed`. Whoever
-- begins a run or keeps a listing's page holds its row.
CREATE FUNCTION drop_domain(p_user int, p_admin boolean, p_project int, p_domain int) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_role text;
BEGIN
    SELECT v.role INTO v_role FROM visible_projects(p_user, p_admin) v WHERE v.project_id = p_project;
    IF NOT FOUND THEN RETURN 'project'; END IF;
    IF v_role = 'read' THEN RETURN 'role'; END IF;
    PERFORM FROM domains d WHERE d.id = p_domain AND d.project_id = p_project FOR UPDATE;
    IF NOT FOUND THEN RETURN 'domain'; END IF;
    IF EXISTS (SELECT FROM captures c WHERE c.domain_id = p_domain) THEN RETURN 'listed'; END IF;
    IF EXISTS (SELECT FROM runs r WHERE r.domain_id = p_domain AND r.state IN ('active', 'paused')) THEN RETURN 'begun'; END IF;
    DELETE FROM domains WHERE id = p_domain;
    RETURN 'gone';
END $$;

-- Members

-- Somebody becomes a member of a project in a role, another role, or its owner: the owner before stays
-- as one who may write. By id ($5), who is a member already unless an admin asks; or a new one by
-- e-mail ($6). Answers `set`, or why not: `project`, `role`, `user`, `member` (already), `owner` (has
-- no role but that), `name` (the new owner has a project of that name). `former` was the owner before.
CREATE FUNCTION set_member(p_user int, p_admin boolean, p_project int, p_role text, p_member int, p_email text,
                           OUT outcome text, OUT member int, OUT former int, OUT since timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    v_role text;
    v_known boolean;
BEGIN
    SELECT p.owner_id, p.created_at INTO former, since FROM projects p WHERE p.id = p_project FOR NO KEY UPDATE;
    SELECT v.role INTO v_role FROM visible_projects(p_user, p_admin) v WHERE v.project_id = p_project;
    IF NOT FOUND THEN outcome := 'project'; RETURN; END IF;
    IF v_role <> 'owner' THEN outcome := 'role'; RETURN; END IF;
    SELECT u.id, u.id = former OR EXISTS (SELECT FROM project_members m WHERE m.project_id = p_project AND m.user_id = u.id)
      INTO member, v_known
      FROM users u WHERE u.state = 'active' AND (u.id = p_member OR u.email = p_email);
    IF member IS NULL OR (p_email IS NULL AND NOT p_admin AND v_known IS NOT TRUE) THEN outcome := 'user'; RETURN; END IF;
    IF p_email IS NOT NULL AND v_known THEN outcome := 'member'; RETURN; END IF;
    outcome := 'set';
    IF member = former THEN
        IF p_role <> 'owner' THEN outcome := 'owner'; END IF;
        RETURN;
    END IF;
    IF p_role <> 'owner' THEN
        INSERT INTO project_members (project_id, user_id, role) VALUES (p_project, member, p_role)
        ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role RETURNING created_at INTO since;
        RETURN;
    END IF;
    UPDATE projects p SET owner_id = member, version = p.version + 1, changed_at = clock_timestamp() WHERE p.id = p_project;
    DELETE FROM project_members m WHERE m.project_id = p_project AND m.user_id = member;
    IF former IS NOT NULL THEN
        INSERT INTO project_members (project_id, user_id, role) VALUES (p_project, former, 'write')
        ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role;
    END IF;
EXCEPTION WHEN unique_violation THEN
    outcome := 'name';
END $$;

-- A member no more: by the owner, or by themselves. Answers `gone`, `project`, `role`, `user` or `owner`.
CREATE FUNCTION drop_member(p_user int, p_admin boolean, p_project int, p_member int) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_role text;
BEGIN
    SELECT v.role INTO v_role FROM visible_projects(p_user, p_admin) v WHERE v.project_id = p_project;
    IF NOT FOUND THEN RETURN 'project'; END IF;
    IF v_role <> 'owner' AND p_member <> p_user THEN RETURN 'role'; END IF;
    DELETE FROM project_members m WHERE m.project_id = p_project AND m.user_id = p_member;
    IF FOUND THEN RETURN 'gone'; END IF;
    RETURN CASE WHEN EXISTS (SELECT FROM projects p WHERE p.id = p_project AND p.owner_id = p_member) THEN 'owner' ELSE 'user' END;
END $$;

-- Totals

-- What a project and its domains hold, so that nobody counts rows to show it. `state` is one of
-- domain_counters, or pages, domains, runs (`reason`: their state), holes; `captures` of a project and
-- `years` of a domain (`reason`: the year) count captures themselves, each once.
CREATE TABLE project_totals (
    project_id int NOT NULL REFERENCES projects ON DELETE CASCADE,
    state      text NOT NULL,
    reason     text NOT NULL,
    n          bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, state, reason)
) WITH (fillfactor = 70);
CREATE TABLE domain_totals (
    project_id int NOT NULL REFERENCES projects ON DELETE CASCADE,
    domain_id  int NOT NULL,
    archive    text NOT NULL,
    state      text NOT NULL,
    reason     text NOT NULL,
    n          bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, domain_id, archive, state, reason)
) WITH (fillfactor = 70);

-- What is not in them yet: written in the transaction that changes what is counted, as rows of its
-- own, so that no two who work on one project wait for each other. The sweep folds them in; whoever
-- reads adds both, which one snapshot shows exactly.
CREATE TABLE total_changes (
    project_id int NOT NULL,
    domain_id  int NOT NULL,
    archive    text NOT NULL,
    state      text NOT NULL,
    reason     text NOT NULL,
    n          bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX total_changes_project ON total_changes (project_id);
ALTER TABLE total_changes SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- Both together, to be added up by whoever reads.
CREATE VIEW project_numbers AS
SELECT project_id, state, reason, n, changed_at FROM project_totals
UNION ALL
SELECT project_id, CASE state WHEN 'years' THEN 'captures' ELSE state END, CASE state WHEN 'years' THEN '' ELSE reason END,
       sum(n)::bigint, max(changed_at)
  FROM total_changes GROUP BY 1, 2, 3;
CREATE VIEW domain_numbers AS
SELECT project_id, domain_id, archive, state, reason, n, changed_at FROM domain_totals
UNION ALL
SELECT project_id, domain_id, archive, state, reason, sum(n)::bigint, max(changed_at) FROM total_changes GROUP BY 1, 2, 3, 4, 5;

-- One folds at a time; the others go on. What is of a project that is gone goes with it. Answers how many rows.
CREATE FUNCTION fold_totals(p_most int) RETURNS bigint LANGUAGE sql AS $$
    WITH turn AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(hashtextextended('totals', 0)) AS ours
    ), taken AS MATERIALIZED (
        DELETE FROM total_changes WHERE ctid = ANY (ARRAY (
            SELECT c.ctid FROM total_changes c, turn WHERE turn.ours LIMIT p_most FOR UPDATE OF c SKIP LOCKED))
        RETURNING *
    ), there AS MATERIALIZED (
        SELECT p.id FROM projects p WHERE p.id IN (SELECT t.project_id FROM taken t) ORDER BY p.id FOR KEY SHARE
    ), domains AS (
        INSERT INTO domain_totals AS d (project_id, domain_id, archive, state, reason, n, changed_at)
        SELECT t.project_id, t.domain_id, t.archive, t.state, t.reason, sum(t.n), max(t.changed_at)
          FROM taken t JOIN there p ON p.id = t.project_id GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (project_id, domain_id, archive, state, reason) DO UPDATE
           SET n = d.n + excluded.n, changed_at = greatest(d.changed_at, excluded.changed_at)
    ), projects AS (
        INSERT INTO project_totals AS o (project_id, state, reason, n, changed_at)
        SELECT t.project_id, CASE t.state WHEN 'years' THEN 'captures' ELSE t.state END,
               CASE t.state WHEN 'years' THEN '' ELSE t.reason END, sum(t.n), max(t.changed_at)
          FROM taken t JOIN there p ON p.id = t.project_id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (project_id, state, reason) DO UPDATE
           SET n = o.n + excluded.n, changed_at = greatest(o.changed_at, excluded.changed_at)
    )
    SELECT count(*) FROM taken
$$;

-- Who changes what is counted. A statement's rows are added up first; an upsert fires for both kinds.
CREATE FUNCTION counters_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT r.project_id, k.domain_id, r.archive, k.state, k.reason, sum(k.n)
          FROM added k JOIN runs r ON r.id = k.run_id GROUP BY 1, 2, 3, 4, 5 HAVING sum(k.n) <> 0;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT r.project_id, k.domain_id, r.archive, k.state, k.reason, -sum(k.n)
          FROM removed k JOIN runs r ON r.id = k.run_id GROUP BY 1, 2, 3, 4, 5 HAVING sum(k.n) <> 0;
    ELSE
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT r.project_id, k.domain_id, r.archive, k.state, k.reason, sum(k.n)
          FROM (SELECT domain_id, run_id, state, reason, n FROM added
                UNION ALL SELECT domain_id, run_id, state, reason, -n FROM removed) k
          JOIN runs r ON r.id = k.run_id GROUP BY 1, 2, 3, 4, 5 HAVING sum(k.n) <> 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER counters_added AFTER INSERT ON domain_counters
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION counters_changed();
CREATE TRIGGER counters_updated AFTER UPDATE ON domain_counters
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION counters_changed();
CREATE TRIGGER counters_removed AFTER DELETE ON domain_counters
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION counters_changed();

CREATE FUNCTION pages_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT p.project_id, p.domain_id, '', 'pages', '', count(*) FROM added p GROUP BY 1, 2;
    ELSE
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT p.project_id, p.domain_id, '', 'pages', '', -count(*) FROM removed p GROUP BY 1, 2;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER pages_added AFTER INSERT ON pages
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION pages_changed();
CREATE TRIGGER pages_removed AFTER DELETE ON pages
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION pages_changed();

CREATE FUNCTION captures_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT d.project_id, d.id, c.archive, 'years', c.year, c.n
          FROM (SELECT domain_id, archive, left(ts, 4) AS year, count(*) AS n FROM added GROUP BY 1, 2, 3) c
          JOIN domains d ON d.id = c.domain_id;
    ELSE
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT d.project_id, d.id, c.archive, 'years', c.year, -c.n
          FROM (SELECT domain_id, archive, left(ts, 4) AS year, count(*) AS n FROM removed GROUP BY 1, 2, 3) c
          JOIN domains d ON d.id = c.domain_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER captures_added AFTER INSERT ON captures
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION captures_changed();
CREATE TRIGGER captures_removed AFTER DELETE ON captures
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION captures_changed();

CREATE FUNCTION runs_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        VALUES (OLD.project_id, OLD.domain_id, OLD.archive, 'runs', OLD.state, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        VALUES (NEW.project_id, NEW.domain_id, NEW.archive, 'runs', NEW.state, 1);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER runs_counted AFTER INSERT OR DELETE ON runs FOR EACH ROW EXECUTE FUNCTION runs_changed();
CREATE TRIGGER runs_turned AFTER UPDATE OF state ON runs
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION runs_changed();

CREATE FUNCTION holes_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_run bigint := CASE TG_OP WHEN 'DELETE' THEN OLD.run_id ELSE NEW.run_id END;
    v_n int := CASE WHEN TG_OP = 'DELETE' THEN -1 WHEN NEW.state = 'hole' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
    SELECT r.project_id, r.domain_id, r.archive, 'holes', '', v_n FROM runs r WHERE r.id = v_run;
    RETURN NULL;
END $$;
CREATE TRIGGER holes_added AFTER INSERT ON slices FOR EACH ROW WHEN (NEW.state = 'hole') EXECUTE FUNCTION holes_changed();
CREATE TRIGGER holes_turned AFTER UPDATE OF state ON slices
    FOR EACH ROW WHEN ((OLD.state = 'hole') <> (NEW.state = 'hole')) EXECUTE FUNCTION holes_changed();
CREATE TRIGGER holes_removed AFTER DELETE ON slices FOR EACH ROW WHEN (OLD.state = 'hole') EXECUTE FUNCTION holes_changed();

CREATE FUNCTION domains_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n) VALUES (NEW.project_id, NEW.id, '', 'domains', '', 1);
    ELSE
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n) VALUES (OLD.project_id, OLD.id, '', 'domains', '', -1);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER domains_counted AFTER INSERT OR DELETE ON domains FOR EACH ROW EXECUTE FUNCTION domains_changed();

-- What goes with a row goes before it: a cascade comes when nobody can tell any more whose it was.
CREATE FUNCTION run_goes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM domain_counters WHERE run_id = OLD.id;
    DELETE FROM slices WHERE run_id = OLD.id;
    RETURN OLD;
END $$;
CREATE TRIGGER run_goes BEFORE DELETE ON runs FOR EACH ROW EXECUTE FUNCTION run_goes();
CREATE FUNCTION domain_goes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM captures WHERE domain_id = OLD.id;
    DELETE FROM pages WHERE domain_id = OLD.id;
    DELETE FROM runs WHERE domain_id = OLD.id;
    RETURN OLD;
END $$;
CREATE TRIGGER domain_goes BEFORE DELETE ON domains FOR EACH ROW EXECUTE FUNCTION domain_goes();

-- The same counted from the rows, where that differs: never, or the triggers were switched off.
CREATE VIEW wrong_numbers AS
WITH counted AS (
    SELECT r.project_id, k.domain_id, r.archive, k.state, k.reason, sum(k.n)::bigint AS n
      FROM domain_counters k JOIN runs r ON r.id = k.run_id GROUP BY 1, 2, 3, 4, 5
    UNION ALL SELECT project_id, domain_id, '', 'pages', '', count(*) FROM pages GROUP BY 1, 2
    UNION ALL SELECT d.project_id, d.id, c.archive, 'years', left(c.ts, 4), count(*)
                FROM captures c JOIN domains d ON d.id = c.domain_id GROUP BY d.id, c.archive, left(c.ts, 4)
    UNION ALL SELECT project_id, domain_id, archive, 'runs', state, count(*) FROM runs GROUP BY 1, 2, 3, 5
    UNION ALL SELECT r.project_id, r.domain_id, r.archive, 'holes', '', count(*)
                FROM slices s JOIN runs r ON r.id = s.run_id WHERE s.state = 'hole' GROUP BY 1, 2, 3
    UNION ALL SELECT project_id, id, '', 'domains', '', 1 FROM domains
), told AS (
    SELECT t.project_id, t.domain_id, t.archive, t.state, t.reason, sum(t.n)::bigint AS n
      FROM domain_numbers t JOIN projects p ON p.id = t.project_id GROUP BY 1, 2, 3, 4, 5
)
SELECT project_id, domain_id, archive, state, reason, coalesce(told.n, 0) AS told, coalesce(counted.n, 0) AS counted
  FROM counted FULL JOIN told USING (project_id, domain_id, archive, state, reason)
 WHERE coalesce(told.n, 0) <> coalesce(counted.n, 0);

-- Make them right, whatever else goes on: rows and changes are of one snapshot. Answers how many were wrong.
-- Two at once would both add what is missing.
CREATE FUNCTION mend_totals() RETURNS bigint LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('mend totals', 0));
    WITH mended AS (
        INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
        SELECT project_id, domain_id, archive, state, reason, counted - told FROM wrong_numbers RETURNING 1
    )
    SELECT count(*) FROM mended
$$;

-- What there is already.
SELECT mend_totals();
SELECT fold_totals(2147483647);

-- How many projects a user owns: of several at once each counts those before.
CREATE FUNCTION projects_kept(p_user int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
    RETURN (SELECT count(*) FROM projects o WHERE o.owner_id = p_user);
END $$;
