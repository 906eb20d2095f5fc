-- What a backup reads of the record.

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

-- name: is_connected
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1)
