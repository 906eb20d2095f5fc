-- Recounting from the rows alone; counters are only ever compared with it.

-- name: slices
SELECT id, start_ts, end_ts, state, reason, detail, next_key, part_of,
       coalesce((SELECT p.next_key = '' FROM listing_pages p WHERE p.slice_id = s.id ORDER BY p.seq DESC LIMIT 1), false)
           AS reached_its_end
  FROM slices s WHERE run_id = $1 ORDER BY id

-- name: chosen
SELECT count(*) FROM adoptions a JOIN runs r ON r.id = a.run_id WHERE r.id = $1 AND r.goal = 'fetch'

-- name: listing_pages
SELECT p.id, p.slice_id, p.seq, p.key, p.next_key, p.rows, p.raw
  FROM listing_pages p JOIN slices s ON s.id = p.slice_id
 WHERE s.run_id = $1 ORDER BY p.slice_id, p.seq

-- name: captures_by_key
-- `ours`: first listed by this run, or adopted by it; the others it knew from an earlier one
SELECT key, run_id = $2 OR EXISTS (SELECT 1 FROM adoptions a WHERE a.run_id = $2 AND a.capture_id = c.id) AS ours
  FROM captures c WHERE domain_id = (SELECT domain_id FROM runs WHERE id = $2) AND archive = $3 AND key = ANY ($1::bytea[])

-- name: capture_keys
SELECT c.key FROM captures c WHERE c.run_id = $1
UNION ALL SELECT c.key FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1

-- name: states
WITH mine AS (
    SELECT c.* FROM captures c WHERE c.run_id = $1
    UNION ALL SELECT c.* FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1
)
SELECT CASE WHEN m.fetch_id IS NULL THEN 'skipped'
            WHEN f.state = 'stored' AND f.capture_id <> m.id THEN 'unchanged'
            WHEN f.state IS NULL THEN 'lost' ELSE f.state END AS state,
       CASE WHEN m.fetch_id IS NULL THEN m.reason WHEN f.state IN ('stored', 'pending') THEN '' ELSE coalesce(f.reason, '') END AS reason,
       count(*) AS n
  FROM mine m LEFT JOIN fetches f ON f.id = m.fetch_id
 GROUP BY 1, 2 ORDER BY 1, 2

-- name: counters
SELECT state, reason, n FROM domain_counters WHERE run_id = $1 AND n <> 0 ORDER BY state, reason

-- name: wrong_pages
-- pages of the run whose numbers differ from their captures, and stored captures without a page
WITH mine AS (
    SELECT c.url_id, c.fetch_id FROM captures c WHERE c.run_id = $1
    UNION ALL SELECT c.url_id, c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1
), touched AS (
    SELECT DISTINCT f.project_id, c.url_id, f.payload_id
      FROM mine c JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored'
), counted AS (
    SELECT t.project_id, t.url_id, t.payload_id, count(*) AS n, min(c.instant) AS first_seen, max(c.instant) AS last_seen
      FROM touched t JOIN fetches f ON f.project_id = t.project_id AND f.payload_id = t.payload_id AND f.state = 'stored'
      JOIN captures c ON c.fetch_id = f.id AND c.url_id = t.url_id
     GROUP BY 1, 2, 3
)
SELECT c.*, p.id AS page_id, p.captures FROM counted c
  LEFT JOIN pages p ON p.project_id = c.project_id AND p.url_id = c.url_id AND p.payload_id = c.payload_id
 WHERE p.id IS NULL OR p.captures <> c.n OR p.first_seen <> c.first_seen OR p.last_seen <> c.last_seen
 LIMIT $2

-- name: wrong_fetches
-- a fetch has exactly one place: ended, queued, leased or parked
SELECT f.id, f.state, (q.fetch_id IS NOT NULL)::int + (l.fetch_id IS NOT NULL)::int + (k.fetch_id IS NOT NULL)::int AS places
  FROM fetches f
  LEFT JOIN queue q ON q.fetch_id = f.id LEFT JOIN leases l ON l.fetch_id = f.id LEFT JOIN parked k ON k.fetch_id = f.id
 WHERE f.id IN (SELECT c.fetch_id FROM captures c WHERE c.run_id = $1
                UNION ALL SELECT c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1)
   AND (f.state = 'pending') <> ((q.fetch_id IS NOT NULL)::int + (l.fetch_id IS NOT NULL)::int + (k.fetch_id IS NOT NULL)::int = 1)
 LIMIT 100

-- name: payloads
SELECT DISTINCT y.id, y.sha256 FROM fetches f JOIN payloads y ON y.id = f.payload_id
 WHERE f.id IN (SELECT c.fetch_id FROM captures c WHERE c.run_id = $1
                UNION ALL SELECT c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1)

-- name: unexplained_requests
-- one successful response a digest: whatever more was sent has a stored attempt
SELECT f.id, f.requests, coalesce(sum(a.requests), 0) AS explained
  FROM fetches f LEFT JOIN attempts a ON a.fetch_id = f.id
 WHERE f.id IN (SELECT c.fetch_id FROM captures c WHERE c.run_id = $1
                UNION ALL SELECT c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1)
 GROUP BY f.id, f.requests, f.state
HAVING f.requests - coalesce(sum(a.requests), 0) > 1
 LIMIT 100

-- name: pages
WITH mine AS (
    SELECT c.url_id, c.fetch_id FROM captures c WHERE c.run_id = $1
    UNION ALL SELECT c.url_id, c.fetch_id FROM adoptions a JOIN captures c ON c.id = a.capture_id WHERE a.run_id = $1
)
SELECT DISTINCT p.id, p.index_error, EXISTS (SELECT 1 FROM outbox o WHERE o.page_id = p.id) AS waiting
  FROM mine c JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored'
  JOIN pages p ON p.project_id = f.project_id AND p.url_id = c.url_id AND p.payload_id = f.payload_id

-- name: known_pages
SELECT id FROM pages WHERE id = ANY ($1::bigint[])

-- name: keep
INSERT INTO certificates (run_id, body) VALUES ($1, $2::text::jsonb)
ON CONFLICT (run_id) DO UPDATE SET body = excluded.body, made_at = clock_timestamp()
