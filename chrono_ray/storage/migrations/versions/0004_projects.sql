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
