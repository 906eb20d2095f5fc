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

-- Rules and decisions

-- Run control: schedules

-- Tasks

-- Index rebuilds
