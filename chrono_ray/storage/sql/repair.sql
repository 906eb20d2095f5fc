-- The record against the index, and its numbers against its rows.

-- name: pages_after
SELECT p.id, page_version(p, p.project_id::text, d.url) AS version, p.index_error <> '' AS refused,
       EXISTS (SELECT 1 FROM outbox o WHERE o.page_id = p.id) AS waiting
  FROM pages p JOIN domains d ON d.id = p.domain_id
 WHERE p.id > $1 ORDER BY p.id LIMIT $2

-- name: pages_of
SELECT p.id, page_version(p, p.project_id::text, d.url) AS version, p.index_error <> '' AS refused,
       EXISTS (SELECT 1 FROM outbox o WHERE o.page_id = p.id) AS waiting
  FROM pages p JOIN domains d ON d.id = p.domain_id
 WHERE p.id = ANY ($1::bigint[]) ORDER BY p.id

-- name: waiting
SELECT DISTINCT page_id FROM outbox WHERE page_id = ANY ($1::bigint[])

-- name: queue
-- for the index once more: what the record does not have is taken out of it
INSERT INTO outbox (page_id, op)
SELECT i.id, CASE WHEN p.id IS NULL THEN 'delete' ELSE 'upsert' END
  FROM unnest($1::bigint[]) AS i (id) LEFT JOIN pages p ON p.id = i.id
 WHERE NOT EXISTS (SELECT 1 FROM outbox o WHERE o.page_id = i.id AND o.token IS NULL)
 ORDER BY i.id

-- name: runs
SELECT id FROM runs WHERE id > $1 ORDER BY id LIMIT 1000

-- name: one_recount
-- two at once would both add what is missing
SELECT pg_advisory_xact_lock(hashtextextended('recount of ' || $1::text, 0))

-- name: wrong_counters
-- One statement, one snapshot: rows and counters change in the same transactions, so what differs
-- is wrong, and stays wrong by the same number whatever else goes on.
-- Which rows were listed before (known, repeated) only the archive's answers tell (chrono verify):
-- here the number of both is made right, the difference counts as repeated.
WITH states AS (
{states}
), run AS (SELECT domain_id, goal = 'fetch' AS chosen FROM runs WHERE id = $1
), says AS (SELECT state, reason, n FROM domain_counters WHERE run_id = $1 AND state <> 'request'
), listed AS (
    SELECT coalesce(sum(p.rows), 0) AS rows, coalesce(sum(jsonb_array_length(p.bad_rows)), 0) AS bad
      FROM slices s JOIN listing_pages p ON p.slice_id = s.id WHERE s.run_id = $1
), counted AS (
    SELECT state, reason, n FROM states WHERE state NOT IN ('pending', 'lost')
    UNION ALL SELECT 'discovered', '', l.rows FROM listed l, run WHERE NOT run.chosen
    UNION ALL SELECT 'skipped', 'bad_row', l.bad FROM listed l, run WHERE NOT run.chosen
    UNION ALL SELECT 'repeated', '', l.rows - l.bad - (SELECT coalesce(sum(n), 0) FROM states)
                                   - (SELECT coalesce(sum(n), 0) FROM says WHERE state = 'known')
                FROM listed l, run WHERE NOT run.chosen
    UNION ALL SELECT s.state, s.reason, s.n FROM says s, run
               WHERE s.state = 'known' OR (run.chosen AND (s.state IN ('discovered', 'repeated') OR s.reason = 'bad_row'))
), wrong AS (
    SELECT state, reason, coalesce(s.n, 0)::bigint AS says, coalesce(c.n, 0)::bigint AS counted
      FROM counted c FULL JOIN says s USING (state, reason)
     WHERE coalesce(s.n, 0) <> coalesce(c.n, 0)
)

-- name: tell_counters
SELECT state, reason, says, counted FROM wrong ORDER BY state, reason

-- name: mend_counters
, mended AS (
    INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
    SELECT run.domain_id, $1, w.state, w.reason, w.counted - w.says FROM wrong w, run ORDER BY w.state, w.reason
    ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n
)
SELECT state, reason, says, counted FROM wrong ORDER BY state, reason

-- name: lock_pages
-- in the order in which settling locks them; then nobody adds to them until we are done
SELECT p.id FROM pages p
  JOIN unnest($1::int[], $2::bytea[], $3::bigint[]) AS w (project_id, url_id, payload_id)
    ON p.project_id = w.project_id AND p.url_id = w.url_id AND p.payload_id = w.payload_id
 ORDER BY p.project_id, p.url_id, p.payload_id FOR UPDATE OF p

-- name: mend_pages
-- a statement of its own: it must see what was committed while lock_pages waited
WITH counted AS (
    SELECT w.project_id, min(c.domain_id) AS domain_id, w.url_id, min(c.urlkey) AS urlkey, min(c.original) AS url,
           w.payload_id, min(f.document_id) AS document_id, min(c.instant) AS first_seen, max(c.instant) AS last_seen,
           count(*) AS n
      FROM unnest($1::int[], $2::bytea[], $3::bigint[]) AS w (project_id, url_id, payload_id)
      JOIN domains d ON d.project_id = w.project_id
      JOIN captures c ON c.domain_id = d.id AND c.url_id = w.url_id
      JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored' AND f.payload_id = w.payload_id
     GROUP BY w.project_id, w.url_id, w.payload_id
), mended AS (
    UPDATE pages p SET captures = c.n, first_seen = c.first_seen, last_seen = c.last_seen
      FROM counted c
     WHERE p.project_id = c.project_id AND p.url_id = c.url_id AND p.payload_id = c.payload_id
       AND (p.captures <> c.n OR p.first_seen <> c.first_seen OR p.last_seen <> c.last_seen)
    RETURNING p.id
), made AS (
    INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id, first_seen, last_seen, captures)
    SELECT project_id, domain_id, url_id, urlkey, url, payload_id, document_id, first_seen, last_seen, n
      FROM counted ORDER BY project_id, url_id, payload_id
    ON CONFLICT (project_id, url_id, payload_id) DO NOTHING
    RETURNING id
), gone AS (
    DELETE FROM pages p USING unnest($1::int[], $2::bytea[], $3::bigint[]) AS w (project_id, url_id, payload_id)
     WHERE p.project_id = w.project_id AND p.url_id = w.url_id AND p.payload_id = w.payload_id
       AND NOT EXISTS (SELECT 1 FROM counted c WHERE c.project_id = p.project_id AND c.url_id = p.url_id
                          AND c.payload_id = p.payload_id)
    RETURNING p.id
)
INSERT INTO outbox (page_id, op)
SELECT id, 'upsert' FROM mended UNION ALL SELECT id, 'upsert' FROM made UNION ALL SELECT id, 'delete' FROM gone
RETURNING page_id

-- name: note_mended
SELECT recount_run_pages($1)

-- name: wrong_totals
SELECT (SELECT count(*) FROM wrong_numbers)
     + (SELECT count(*) FROM run_pages u WHERE NOT EXISTS (SELECT FROM pages p WHERE p.id = u.page_id))

-- name: mend_totals
SELECT mend_totals() + mend_run_pages()

-- name: orphans_after
-- of the next pages by id, those that no stored capture stands behind
SELECT n.last_id, o.* FROM (
    SELECT max(id) AS last_id FROM (SELECT id FROM pages WHERE id > $1 ORDER BY id LIMIT $2) s) n
  LEFT JOIN LATERAL (
    SELECT p.id, p.project_id, p.url_id, p.payload_id, p.captures FROM pages p
     WHERE p.id > $1 AND p.id <= n.last_id
       AND NOT EXISTS (SELECT 1 FROM domains d JOIN captures c ON c.domain_id = d.id AND c.url_id = p.url_id
                         JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored' AND f.payload_id = p.payload_id
                        WHERE d.project_id = p.project_id)) o ON true
 WHERE n.last_id IS NOT NULL

-- name: one_rescue
SELECT pg_advisory_xact_lock(hashtextextended('stranded fetches', 0))

-- name: stranded
-- fetches of an id range that wait and stand nowhere: queued again, behind the last of their run.
-- One snapshot sees every other in exactly one place. One whose run is over is nobody's to fetch.
WITH lost AS (
    SELECT f.id, f.run_id, f.capture_id FROM fetches f JOIN runs r ON r.id = f.run_id AND r.state <> 'done'
     WHERE f.state = 'pending' AND f.id > $1 AND f.id <= $2
       AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.fetch_id = f.id)
       AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.fetch_id = f.id)
       AND NOT EXISTS (SELECT 1 FROM parked k WHERE k.fetch_id = f.id)
), behind AS (
    SELECT r.id, greatest(r.floor_key, (SELECT max(q.order_key) FROM queue q WHERE q.run_id = r.id)) AS last
      FROM runs r WHERE r.id IN (SELECT run_id FROM lost)
), ready AS (
    UPDATE runs SET ready = true WHERE id IN (SELECT id FROM behind) AND state = 'active' AND NOT ready
)
INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype, statuscode, digest, locator)
SELECT l.id, l.run_id, b.last + row_number() OVER (PARTITION BY l.run_id ORDER BY l.id), c.id, c.archive, c.urlkey, c.ts,
       c.original, c.mimetype, c.statuscode, c.digest, c.locator
  FROM lost l JOIN behind b ON b.id = l.run_id JOIN captures c ON c.id = l.capture_id
RETURNING fetch_id
