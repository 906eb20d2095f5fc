-- What a backup reads of the record, and what becomes of a record that was restored from one.

-- name: snapshot
-- for as long as this transaction lasts, others may read exactly what it sees
SELECT pg_export_snapshot() AS name, clock_timestamp() AS at, current_setting('server_version') AS server,
       (SELECT version_num FROM public.alembic_version) AS revision

-- name: digests
-- every blob that this snapshot names
SELECT sha256 FROM payloads UNION SELECT raw FROM listing_pages ORDER BY 1

-- name: counted
SELECT (SELECT count(*) FROM projects) AS projects, (SELECT count(*) FROM runs) AS runs,
       (SELECT count(*) FROM captures) AS captures, (SELECT count(*) FROM fetches) AS fetches,
       (SELECT count(*) FROM payloads) AS payloads, (SELECT count(*) FROM documents) AS documents,
       (SELECT count(*) FROM pages) AS pages, (SELECT count(*) FROM users) AS users

-- name: tables
-- of ours, not of an extension
SELECT count(*) FROM pg_class c
 WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')

-- name: at_work
-- who else of chrono_ray is connected
SELECT DISTINCT application_name FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'chrono %' AND application_name <> $1 ORDER BY 1

-- name: is_connected
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1)

-- name: extensions
SELECT e.extname FROM pg_extension e WHERE e.extnamespace = to_regnamespace($1)

-- name: compress
-- as the first migration does it, which a dump is behind already
DO $$ BEGIN
    IF 'lz4' = ANY (SELECT unnest(enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
        ALTER TABLE documents ALTER COLUMN text SET COMPRESSION lz4, ALTER COLUMN links SET COMPRESSION lz4;
    END IF;
END $$;

-- name: void_leases
-- whoever held them works on another record
UPDATE leases SET leased_until = '-infinity'

-- name: void_slices
UPDATE slices SET token = NULL, leased_until = NULL WHERE token IS NOT NULL

-- name: void_redecisions
UPDATE redecisions SET token = NULL, leased_until = NULL WHERE token IS NOT NULL

-- name: void_tasks
UPDATE tasks SET token = NULL, leased_until = NULL WHERE token IS NOT NULL

-- name: void_outbox
UPDATE outbox SET token = NULL, leased_until = NULL, ticket = '' WHERE token IS NOT NULL OR ticket <> ''

-- name: void_rebuilds
UPDATE index_rebuilds SET state = 'failed', error = 'the record was restored from a backup', token = NULL, leased_until = NULL,
       finished_at = clock_timestamp()
 WHERE state NOT IN ('done', 'failed')

-- name: void_changes
DELETE FROM rebuild_changes

-- name: void_requests
-- being answered by nobody any more
DELETE FROM idempotency_keys WHERE status IS NULL

-- name: pause_runs
UPDATE runs SET state = 'paused' WHERE state = 'active'

-- name: pause_schedules
UPDATE schedules SET enabled = false WHERE enabled

-- name: end_logins
-- API keys stay: programs hold them. With the tokens their tickets go.
DELETE FROM api_tokens WHERE kind <> 'key'
