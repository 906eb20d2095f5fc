-- What the engine knows beyond the first record (docs/architecture.md).

-- A run's goal. `plan`: list and decide, send nothing else, end as `planned`. `fetch`: captures that
-- a person chose, no listing. Runs started by one request for several archives stand `together`
-- (the id of the first); `preference` is the archive's place in their order.
ALTER TABLE runs DROP CONSTRAINT runs_state_check;
ALTER TABLE runs
    ADD COLUMN goal text NOT NULL DEFAULT 'collect' CHECK (goal IN ('plan', 'collect', 'fetch')),
    ADD COLUMN together bigint REFERENCES runs ON DELETE SET NULL,
    ADD COLUMN preference smallint NOT NULL DEFAULT 0,
    ADD COLUMN rank_floor bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT runs_state_check CHECK (state IN ('active', 'planned', 'paused', 'cancelled', 'done')),
    ADD CONSTRAINT runs_planned CHECK (state <> 'planned' OR goal = 'plan');
CREATE INDEX runs_together ON runs (together) WHERE together IS NOT NULL;
COMMENT ON COLUMN queue.order_key IS
    'priority band x 2^48 + rank within its host (model/priority.py); raised priorities are negative';
COMMENT ON COLUMN runs.rank_floor IS 'least rank still queued in the normal band: new hosts begin there';
UPDATE runs SET rank_floor = floor_key;

-- Slices
CREATE SEQUENCE listing_ticket;

-- A slice that is too large for its archive ends as `split`: two slices stand for it, `part_of` it.
ALTER TABLE slices DROP CONSTRAINT slices_state_check;
-- `newest`: of what it listed, less dates to come.
ALTER TABLE slices
    ADD COLUMN part_of bigint,
    ADD COLUMN newest timestamptz,
    ADD CONSTRAINT slices_state_check CHECK (state IN ('pending', 'listed', 'hole', 'cancelled', 'split'));
UPDATE slices s SET newest = c.newest
  FROM (SELECT run_id, max(instant) AS newest FROM captures WHERE instant <= clock_timestamp() GROUP BY run_id) c
 WHERE c.run_id = s.run_id;

-- Rules and decisions

-- `rules` are the domain's own, in order (model/rule_text.py); null: the built-in ones alone.
ALTER TABLE domains ADD COLUMN rules jsonb, ADD COLUMN rules_version int NOT NULL DEFAULT 0;
ALTER TABLE captures ADD COLUMN priority smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN captures.priority IS 'what the rules said (CapturePriority); queue.order_key holds what is so now';

-- A domain's captures decided anew after its rules changed, or, where they thin (`waits`), after its
-- listings ended. Walked by URL and time; counts are of the newest walk.
CREATE TABLE redecisions (
    domain_id    int PRIMARY KEY REFERENCES domains ON DELETE CASCADE,
    waits        boolean NOT NULL,
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done')),
    at_url       bytea NOT NULL DEFAULT '',
    at_ts        text NOT NULL DEFAULT '',
    at_key       bytea NOT NULL DEFAULT '',
    at_archive   text NOT NULL DEFAULT '',
    at_capture   bigint NOT NULL DEFAULT 0,
    looked       bigint NOT NULL DEFAULT 0,
    wanted       bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    renamed      bigint NOT NULL DEFAULT 0,
    ended        bigint NOT NULL DEFAULT 0,
    in_flight    bigint NOT NULL DEFAULT 0,
    token        uuid,
    leased_until timestamptz,
    asked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
) WITH (fillfactor = 50);

-- Run control: schedules

-- What is collected again and again. `next_at` in the past: due, or its last run is not finished.
-- `since_last`: only what the archive added since the newest capture known, less `overlap`.
CREATE TABLE schedules (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id  int NOT NULL REFERENCES domains ON DELETE CASCADE,
    archives   text[] NOT NULL CHECK (cardinality(archives) > 0),
    start_ts   text NOT NULL DEFAULT '',
    end_ts     text NOT NULL DEFAULT '',
    since_last boolean NOT NULL DEFAULT true,
    overlap    interval NOT NULL CHECK (overlap BETWEEN interval '0' AND interval '3660 days'),
    every      interval NOT NULL CHECK (every >= interval '1 minute'),
    next_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    class      smallint NOT NULL,
    enabled    boolean NOT NULL DEFAULT true,
    last_run   bigint REFERENCES runs ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX schedules_due ON schedules (next_at) WHERE enabled;
CREATE INDEX schedules_domain ON schedules (domain_id);
CREATE INDEX schedules_last_run ON schedules (last_run);

-- Until when a run has looked through what waits for a silent archive of its collection.
ALTER TABLE runs ADD COLUMN aside_until timestamptz NOT NULL DEFAULT '-infinity';

-- What a fetch had ended as before it was asked for again: a cancel gives it back. Beside an ended
-- state it says that this was cut short. `forgiven` attempts were final until then.
ALTER TABLE fetches
    ADD COLUMN former jsonb,
    ADD CONSTRAINT fetches_former CHECK (former IS NULL OR state IN ('pending', former ->> 'state'));
ALTER TABLE attempts ADD COLUMN forgiven boolean NOT NULL DEFAULT false;

-- By which a person's one capture is found, and the one place where a fetch waits.
CREATE INDEX captures_url ON captures (domain_id, url_id, ts);
CREATE INDEX queue_fetch ON queue (fetch_id);

-- What one run has parked: a cancelled one gives it up.
CREATE INDEX parked_run ON parked (run_id, order_key);

-- Up to when finished runs have listed a domain in an archive, less the overlap: 14 digits, or empty
-- where nothing was. A run that only looked at chosen captures, or only planned, listed nothing for good.
CREATE FUNCTION listed_since(p_domain int, p_archive text, p_overlap interval) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT coalesce(to_char((max(s.newest) - p_overlap) AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS'), '')
      FROM runs r JOIN slices s ON s.run_id = r.id
     WHERE r.domain_id = p_domain AND r.archive = p_archive AND r.state = 'done' AND r.goal = 'collect'
$$;

-- Tasks

-- What a person asked for besides runs: deletes, purges, exports. A task outlives its project, so it
-- has no foreign key; `project_id` 0 is none. `position` is where its work goes on: its own to read.
CREATE TABLE tasks (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key          text NOT NULL,
    kind         text NOT NULL,
    class        smallint NOT NULL,
    project_id   int NOT NULL DEFAULT 0,
    run_id       bigint,
    arguments    jsonb NOT NULL,
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed', 'cancelled')),
    attempts     smallint NOT NULL DEFAULT 0,
    crashes      smallint NOT NULL DEFAULT 0,
    done         bigint NOT NULL DEFAULT 0,
    total        bigint NOT NULL DEFAULT 0,
    position     text NOT NULL DEFAULT '',
    result       jsonb NOT NULL DEFAULT '{}',
    reason       text NOT NULL DEFAULT '',
    detail       text NOT NULL DEFAULT '',
    not_before   timestamptz NOT NULL DEFAULT '-infinity',
    token        uuid,
    worker       text NOT NULL DEFAULT '',
    leased_until timestamptz,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at   timestamptz,
    finished_at  timestamptz
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX tasks_key ON tasks (key) WHERE state = 'pending';
CREATE INDEX tasks_due ON tasks (class, project_id, id) WHERE state = 'pending' AND token IS NULL;
CREATE INDEX tasks_leased ON tasks (leased_until) WHERE token IS NOT NULL;
CREATE SEQUENCE task_ticket;

-- Files that an export has written and closed: they are not written again.
CREATE TABLE export_parts (
    task_id bigint NOT NULL REFERENCES tasks ON DELETE CASCADE,
    name    text NOT NULL,
    rows    bigint NOT NULL,
    bytes   bigint NOT NULL,
    sha256  bytea NOT NULL,
    PRIMARY KEY (task_id, name)
);

-- When a purge last began to look for payloads that nobody refers to: whoever refers to an older one
-- from then on makes it new.
CREATE TABLE payload_mark (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at  timestamptz NOT NULL
);

-- What deleting a project and exporting it read by: without them each row deleted costs a scan.
CREATE INDEX slices_run ON slices (run_id);
CREATE INDEX listing_pages_raw ON listing_pages (raw);
CREATE INDEX pages_domain ON pages (domain_id, id);

-- Index rebuilds: a fresh index is filled beside the live one and takes its place. One at a time.
-- While one is swapping, nothing is leased from the outbox. The `fresh` of the last that is swapped
-- or done names the index that answers now.
CREATE TABLE index_rebuilds (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state        text NOT NULL DEFAULT 'wanted'
                 CHECK (state IN ('wanted', 'filling', 'swapping', 'swapped', 'done', 'failed')),
    why          text NOT NULL DEFAULT '',
    fresh        text NOT NULL DEFAULT '',
    last_page    bigint NOT NULL DEFAULT 0,
    total        bigint NOT NULL DEFAULT 0,
    filled       bigint NOT NULL DEFAULT 0,
    rejected     bigint NOT NULL DEFAULT 0,
    error        text NOT NULL DEFAULT '',
    token        uuid,
    leased_until timestamptz,
    wanted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at   timestamptz,
    finished_at  timestamptz
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX index_rebuilds_one ON index_rebuilds ((1)) WHERE state NOT IN ('done', 'failed');

-- Pages that the live index confirmed while a fresh one is filled: the fresh one gets them too.
CREATE TABLE rebuild_changes (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    page_id bigint NOT NULL
);
