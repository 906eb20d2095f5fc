-- Live progress and throughput over time.

-- When a run came into the state it is in: by that whoever follows runs finds what changed.
ALTER TABLE runs ADD COLUMN changed_at timestamptz NOT NULL DEFAULT '-infinity';
UPDATE runs SET changed_at = coalesce(finished_at, created_at);
ALTER TABLE runs ALTER COLUMN changed_at SET DEFAULT clock_timestamp();
CREATE INDEX runs_changed ON runs (changed_at);
CREATE FUNCTION run_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER runs_changed BEFORE UPDATE OF state ON runs FOR EACH ROW
WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION run_changed();
CREATE INDEX slices_holes ON slices (run_id) WHERE state = 'hole';
CREATE INDEX redecisions_finished ON redecisions (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;

-- Leave to open one connection, so that no token stands in a URL.
CREATE TABLE live_tickets (
    hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    token_id   bigint NOT NULL REFERENCES api_tokens ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX live_tickets_expired ON live_tickets (expires_at);

-- What runs and tasks are now: with `p_since` the active ones, and those whose state changed after that
-- version, less two minutes for what was not committed yet, and a day back at most; with ids these too. Of a
-- collection all runs. Who asked for a task is told only where there is no project (any more) to say who sees it.
-- `version` is the microseconds of this server's clock, but grows whatever the clock does.
-- One at a time: of two looks the one with the greater version saw the later record, whoever took them.
CREATE SEQUENCE live_version;
CREATE FUNCTION live_pulse(p_since bigint, p_runs bigint[], p_tasks bigint[])
RETURNS TABLE (version bigint, at timestamptz, runs text, tasks text) LANGUAGE plpgsql AS $$
DECLARE
    v_lock CONSTANT bigint := 7120483652019;
    v_since timestamptz;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- of the session and not of the transaction, which lasts until the asker has read the answer
    PERFORM pg_advisory_lock(v_lock);
    BEGIN
        at := clock_timestamp();
        version := (extract(epoch FROM at) * 1000000)::bigint;
        v_since := greatest(to_timestamp(least(p_since, version) / 1000000.0) - interval '2 minutes', at - interval '1 day');
        version := setval('live_version', greatest(nextval('live_version'), version));
        WITH touched AS (
            SELECT r.id, r.together FROM runs r WHERE p_since IS NOT NULL AND r.state = 'active'
            UNION
            (SELECT r.id, r.together FROM runs r WHERE r.changed_at > v_since ORDER BY r.changed_at DESC LIMIT 5000)
            UNION
            SELECT r.id, r.together FROM runs r WHERE r.id = ANY (p_runs)
        ), meant AS (
            SELECT t.id FROM touched t WHERE t.together IS NULL
            UNION
            SELECT m.id FROM runs m WHERE m.together IN (SELECT t.together FROM touched t)
        )
        SELECT coalesce(json_agg(json_build_object(
                   'id', r.id, 'project_id', r.project_id, 'together', r.together, 'state', r.state,
                   'archive', r.archive, 'project', p.name, 'url', d.url, 'created_at', extract(epoch FROM r.created_at),
                   'seconds', extract(epoch FROM coalesce(r.finished_at, at) - r.created_at),
                   'counters', (SELECT coalesce(json_agg(json_build_array(k.state, k.reason, k.n)), '[]')
                                  FROM domain_counters k WHERE k.run_id = r.id),
                   'holes', (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'hole'),
                   'listing', (SELECT count(*) FROM slices s WHERE s.run_id = r.id AND s.state = 'pending'))
                   ORDER BY r.preference, r.id), '[]')::text
          INTO runs
          FROM meant m JOIN runs r ON r.id = m.id
          JOIN projects p ON p.id = r.project_id JOIN domains d ON d.id = r.domain_id;
        SELECT coalesce(json_agg(json_build_object(
                   'id', t.id, 'kind', t.kind, 'project_id', t.project_id, 'run_id', t.run_id,
                   'asked_by', CASE WHEN NOT EXISTS (SELECT FROM projects p WHERE p.id = t.project_id) THEN t.asked_by END,
                   'state', t.state, 'working', t.token IS NOT NULL, 'done', t.done, 'total', t.total, 'reason', t.reason)), '[]')::text
          INTO tasks
          FROM tasks t
         WHERE t.id IN ((SELECT n.id FROM tasks n WHERE p_since IS NOT NULL AND n.state = 'pending' ORDER BY n.id DESC LIMIT 1000)
                        UNION
                        (SELECT e.id FROM tasks e WHERE e.finished_at > v_since ORDER BY e.finished_at DESC LIMIT 1000)
                        UNION
                        SELECT unnest(p_tasks));
    EXCEPTION WHEN query_canceled OR OTHERS THEN
        PERFORM pg_advisory_unlock(v_lock);
        RAISE;
    END;
    PERFORM pg_advisory_unlock(v_lock);
    RETURN NEXT;
END $$;

-- A project's counters added up, once a minute while it is at work: what one row has more than the one
-- before is what was done in between. `hourly`: the last of its hour, which stays when the others go.
CREATE TABLE samples (
    project_id       int NOT NULL REFERENCES projects ON DELETE CASCADE,
    minute           timestamptz NOT NULL,
    listed           bigint NOT NULL DEFAULT 0,
    stored           bigint NOT NULL DEFAULT 0,
    unchanged        bigint NOT NULL DEFAULT 0,
    known            bigint NOT NULL DEFAULT 0,
    skipped          bigint NOT NULL DEFAULT 0,
    gone             bigint NOT NULL DEFAULT 0,
    refused          bigint NOT NULL DEFAULT 0,
    failed           bigint NOT NULL DEFAULT 0,
    listing_requests bigint NOT NULL DEFAULT 0,
    replay_requests  bigint NOT NULL DEFAULT 0,
    throttled        bigint NOT NULL DEFAULT 0,
    hourly           boolean NOT NULL DEFAULT false,
    PRIMARY KEY (project_id, minute)
);
CREATE INDEX samples_minute ON samples (minute);
CREATE INDEX samples_fine ON samples (minute) WHERE NOT hourly;

CREATE FUNCTION sample_projects(p_minute timestamptz, p_since timestamptz) RETURNS bigint LANGUAGE sql AS $$
    WITH working AS (
        SELECT DISTINCT r.project_id FROM runs r WHERE r.state = 'active' OR r.changed_at > p_since
    ), made AS (
        INSERT INTO samples (project_id, minute, listed, stored, unchanged, known, skipped, gone, refused, failed,
                             listing_requests, replay_requests, throttled)
        SELECT w.project_id, p_minute,
               coalesce(sum(k.n) FILTER (WHERE k.state = 'discovered'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'stored'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'unchanged'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'known'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'skipped'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'gone'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'refused'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'failed'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'request' AND k.reason = 'cdx'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'request' AND k.reason = 'replay'), 0),
               coalesce(sum(k.n) FILTER (WHERE k.state = 'request' AND k.reason = 'throttled'), 0)
          FROM working w JOIN domains d ON d.project_id = w.project_id JOIN domain_counters k ON k.domain_id = d.id
         GROUP BY w.project_id
        ON CONFLICT DO NOTHING RETURNING project_id
    ), begun AS (
        -- a project's first work was done since nothing was
        INSERT INTO samples (project_id, minute)
        SELECT m.project_id, p_minute - interval '1 minute' FROM made m
         WHERE NOT EXISTS (SELECT FROM samples s WHERE s.project_id = m.project_id)
    )
    SELECT count(*) FROM made
$$;

-- This minute's samples, by whoever comes first: how many were taken. Minutes are kept for two days,
-- hours for two years.
CREATE FUNCTION take_samples() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_minute timestamptz := date_trunc('minute', clock_timestamp());
    v_last timestamptz;
    v_from timestamptz;
    v_to timestamptz;
    v_taken bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7120483652020) THEN RETURN 0; END IF;
    SELECT max(s.minute) INTO v_last FROM samples s;
    IF v_last >= v_minute THEN RETURN 0; END IF;
    v_taken := sample_projects(v_minute, coalesce(v_last, '-infinity') - interval '2 minutes');
    SELECT date_trunc('hour', min(s.minute)) INTO v_from FROM samples s WHERE NOT s.hourly;
    v_to := least(date_trunc('hour', v_minute - interval '2 days'), v_from + interval '6 hours');
    UPDATE samples s SET hourly = true
      FROM (SELECT f.project_id, max(f.minute) AS minute FROM samples f
             WHERE f.minute >= v_from AND f.minute < v_to AND NOT f.hourly
             GROUP BY f.project_id, date_trunc('hour', f.minute)) l
     WHERE s.project_id = l.project_id AND s.minute = l.minute;
    DELETE FROM samples s WHERE s.minute >= v_from AND s.minute < v_to AND NOT s.hourly;
    DELETE FROM samples s WHERE s.minute < v_minute - interval '2 years';
    RETURN v_taken;
END $$;

-- What there was before is no work of the first minute.
SELECT sample_projects(date_trunc('minute', clock_timestamp()), '-infinity');
DELETE FROM samples WHERE listed = 0 AND minute < (SELECT max(minute) FROM samples);
