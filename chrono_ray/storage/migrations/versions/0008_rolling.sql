-- Programs of two versions work on one record while they are replaced one after the other.

-- The oldest revision whose program works with the schema as it is now.
CREATE TABLE schema_promise (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    works_with text NOT NULL
);

-- What a revision leaves to be done beside the work (storage/online.py), as far as it is done.
CREATE TABLE schema_steps (
    revision text NOT NULL,
    step     text NOT NULL,
    done_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (revision, step)
);
