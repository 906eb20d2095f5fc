-- What becomes of a record while a backup is brought into it.

-- name: unfinished
-- one row while the mark of a restore stands
SELECT coalesce(obj_description(to_regclass('public.chrono_restore'), 'pg_class'), '') AS said
 WHERE to_regclass('public.chrono_restore') IS NOT NULL OR to_regnamespace('chrono_before') IS NOT NULL

-- name: said
-- a comment takes no parameters
SELECT quote_literal($1 || to_char(clock_timestamp() AT TIME ZONE 'UTC', '", begun at" YYYY-MM-DD HH24:MI:SS "UTC"'))

-- name: holds
-- whether there is a table, or what drop_ours would take for ours; an extension's are none
SELECT EXISTS (
    SELECT FROM pg_class c
     WHERE c.relnamespace = to_regnamespace('public')
       AND (c.relkind IN ('r', 'p') OR c.relkind IN ('S', 'v', 'm', 'f')
            AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user))
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
) OR EXISTS (
    SELECT FROM pg_proc p
     WHERE p.pronamespace = to_regnamespace('public')
       AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
)

-- name: at_work
-- parts of chrono_ray that are connected, and who else holds a lock on what is no catalog: every role may see
-- these of all others. Autovacuum, which is no user's, gives way.
SELECT DISTINCT CASE WHEN a.application_name LIKE 'chrono %' THEN a.application_name
            ELSE format('%s (pid %s)', coalesce(nullif(a.application_name, ''), a.usename), a.pid) END AS who
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL
   AND a.application_name <> $1
   AND (a.application_name LIKE 'chrono %'
        OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.relation >= 16384))
 ORDER BY 1

-- name: end_program
-- and wait until it is gone
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = $1

-- name: drop_ours
-- all that stands in public by this role, the mark too; all are named before the first one goes
DO $$ BEGIN
    EXECUTE (SELECT string_agg(dropped, '; ') FROM (
        SELECT format('DROP %s IF EXISTS %s CASCADE', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)
          FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'e', 'i'))
        UNION ALL
        SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure) FROM pg_proc p
         WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')) AS ours (dropped));
END $$

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
