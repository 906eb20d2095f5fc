-- Exporting: rows of a project in an order that stands still, behind a mark.

-- name: pages_barrier
LOCK TABLE pages IN SHARE MODE

-- name: pages_mark
SELECT coalesce(max(id), 0) FROM pages

-- name: captures_barrier
LOCK TABLE captures IN SHARE MODE

-- name: captures_mark
SELECT coalesce(max(id), 0) FROM captures

-- name: domains
SELECT d.id, d.url FROM domains d
 WHERE d.project_id = $1 AND ($2::text = '' OR d.url = $2)
   AND ($3::bigint = 0 OR d.id = (SELECT r.domain_id FROM runs r WHERE r.id = $3))
 ORDER BY d.id

-- name: pages_years
SELECT DISTINCT extract(year FROM p.first_seen AT TIME ZONE 'UTC')::int AS year FROM pages p
 WHERE p.domain_id = $1 AND p.id <= $2 ORDER BY 1

-- name: captures_years
SELECT DISTINCT left(ts, 4)::int AS year FROM captures WHERE domain_id = $1 AND id <= $2 ORDER BY 1

-- name: pages
-- of the next $7 those whose texts ($8: are they wanted?) fit into $9 bytes, at least one; `here` of `n` are read.
-- octet_length of a stored text reads its header, not the text.
WITH next AS MATERIALIZED (
    SELECT p.id, row_number() OVER w AS n, count(*) OVER () AS here,
           sum(CASE WHEN $8::bool THEN octet_length(t.text) ELSE 0 END) OVER w AS upto
      FROM (SELECT p.id, p.document_id FROM pages p
             WHERE p.domain_id = $1 AND p.id > $2 AND p.id <= $3
               AND ($4::int = 0 OR extract(year FROM p.first_seen AT TIME ZONE 'UTC') = $4)
               AND ($5::timestamptz IS NULL OR p.last_seen >= $5) AND ($6::timestamptz IS NULL OR p.first_seen <= $6)
               AND ($10::bigint = 0 OR EXISTS (SELECT FROM run_pages u
                                                WHERE u.page_id = p.id AND u.run_id = $10 AND NOT u.whole))
             ORDER BY p.id LIMIT $7) p
      JOIN documents t ON t.id = p.document_id
    WINDOW w AS (ORDER BY p.id)
)
SELECT p.id, p.url, p.urlkey, p.first_seen, p.last_seen, p.captures, t.title,
       CASE WHEN $8::bool THEN t.text ELSE '' END AS text, t.author, t.published,
       t.language, t.words, t.description, t.canonical, t.media_type AS mimetype, t.charset, t.flags, t.extractor,
       encode(y.sha256, 'hex') AS sha256, y.sha1, y.size, x.n, x.here
  FROM next x JOIN pages p ON p.id = x.id JOIN documents t ON t.id = p.document_id
  JOIN payloads y ON y.id = p.payload_id
 WHERE x.n = 1 OR x.upto <= $9::bigint
 ORDER BY p.id

-- name: found
-- these pages, as far as somebody sees them: as many as fit into $5 bytes of text, at least one
WITH asked AS MATERIALIZED (
    SELECT p.id, row_number() OVER w AS n, count(*) OVER () AS here,
           sum(CASE WHEN $4::bool THEN octet_length(t.text) ELSE 0 END) OVER w AS upto
      FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
      JOIN documents t ON t.id = p.document_id
     WHERE p.id = ANY ($1::bigint[])
    WINDOW w AS (ORDER BY p.id)
)
SELECT p.id, p.project_id, r.name AS project, d.url AS domain, p.url, p.urlkey, p.first_seen, p.last_seen, p.captures,
       t.title, CASE WHEN $4::bool THEN t.text ELSE '' END AS text, t.author, t.published,
       t.language, t.words, t.description, t.canonical, t.media_type AS mimetype, t.charset, t.flags, t.extractor,
       encode(y.sha256, 'hex') AS sha256, y.sha1, y.size, x.n, x.here
  FROM asked x JOIN pages p ON p.id = x.id JOIN projects r ON r.id = p.project_id JOIN domains d ON d.id = p.domain_id
  JOIN documents t ON t.id = p.document_id JOIN payloads y ON y.id = p.payload_id
 WHERE x.n = 1 OR x.upto <= $5::bigint
 ORDER BY p.id

-- name: begin_pages
-- a project that user $2 ($3: an admin) sees, how far its rows reach, where row $4 stands in its order, and its
-- domains from there on, as below
SELECT p.name, (SELECT coalesce(max(id), 0) FROM pages) AS mark, g.domain_id, '' AS archive, ''::bytea AS key, d.*,
       $5::text = '' OR EXISTS (SELECT FROM domains x WHERE x.project_id = p.id AND x.url = $5) AS has_domain,
       $6::bigint = 0 OR EXISTS (SELECT FROM runs x WHERE x.project_id = p.id AND x.id = $6) AS has_run
  FROM projects p JOIN visible_projects($2, $3) v ON v.project_id = p.id
  LEFT JOIN pages g ON g.id = $4 AND g.project_id = p.id
  CROSS JOIN LATERAL (SELECT array_agg(d.id ORDER BY d.id) AS ids, array_agg(d.url ORDER BY d.id) AS urls FROM domains d
       WHERE d.project_id = p.id AND d.id >= coalesce(g.domain_id, 0) AND ($5::text = '' OR d.url = $5)
         AND ($6::bigint = 0 OR d.id = (SELECT r.domain_id FROM runs r WHERE r.id = $6))) d
 WHERE p.id = $1

-- name: begin_captures
SELECT p.name, (SELECT coalesce(max(id), 0) FROM captures) AS mark, c.domain_id, c.archive, c.key, d.*,
       $5::text = '' OR EXISTS (SELECT FROM domains x WHERE x.project_id = p.id AND x.url = $5) AS has_domain,
       $6::bigint = 0 OR EXISTS (SELECT FROM runs x WHERE x.project_id = p.id AND x.id = $6) AS has_run
  FROM projects p JOIN visible_projects($2, $3) v ON v.project_id = p.id
  LEFT JOIN (captures c JOIN domains o ON o.id = c.domain_id) ON c.id = $4 AND o.project_id = p.id
  CROSS JOIN LATERAL (SELECT array_agg(d.id ORDER BY d.id) AS ids, array_agg(d.url ORDER BY d.id) AS urls FROM domains d
       WHERE d.project_id = p.id AND d.id >= coalesce(c.domain_id, 0) AND ($5::text = '' OR d.url = $5)
         AND ($6::bigint = 0 OR d.id = (SELECT r.domain_id FROM runs r WHERE r.id = $6))) d
 WHERE p.id = $1

-- name: still_sees
-- user $1 ($2: as an admin) and all of the projects $4, as long as the login $5 lasts, or the key $3
SELECT EXISTS (SELECT FROM users u WHERE u.id = $1 AND u.state = 'active' AND (u.role = 'admin' OR NOT $2::bool))
   AND EXISTS (SELECT FROM api_tokens t
                WHERE t.user_id = $1 AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()
                  AND (t.id = $3 OR t.family = $5::uuid))
   AND ($2 OR NOT EXISTS (SELECT unnest($4::int[]) EXCEPT SELECT v.project_id FROM visible_projects($1, false) v))

-- name: captures
SELECT c.id, c.run_id AS run, c.archive, c.ts AS timestamp, c.impossible, c.original AS url, c.urlkey, c.mimetype,
       c.statuscode, c.digest, c.length, c.locator, c.key,
       CASE WHEN c.fetch_id IS NULL THEN 'skipped' WHEN f.state = 'stored' AND f.capture_id <> c.id THEN 'unchanged'
            ELSE coalesce(f.state, 'lost') END AS state,
       CASE WHEN c.fetch_id IS NULL THEN c.reason ELSE coalesce(f.reason, '') END AS reason, c.rule, c.confidence,
       coalesce(encode(y.sha256, 'hex'), '') AS sha256
  FROM captures c LEFT JOIN fetches f ON f.id = c.fetch_id LEFT JOIN payloads y ON y.id = f.payload_id
 WHERE c.domain_id = $1 AND (c.archive, c.key) > ($2, $3) AND c.id <= $4
   AND ($5::int = 0 OR left(c.ts, 4)::int = $5) AND ($6::text = '' OR c.ts >= $6) AND ($7::text = '' OR c.ts <= $7)
   AND ($8::bigint = 0 OR c.run_id = $8 OR EXISTS (SELECT FROM adoptions a WHERE a.run_id = $8 AND a.capture_id = c.id))
 ORDER BY c.archive, c.key LIMIT $9

-- name: bad_records
SELECT b ->> 'text' AS place, b ->> 'reason' AS reason
  FROM runs r JOIN slices s ON s.run_id = r.id
  JOIN listing_pages l ON l.slice_id = s.id CROSS JOIN LATERAL jsonb_array_elements(l.bad_rows) b
 WHERE r.project_id = $1 AND r.archive = $2 ORDER BY r.id, l.id, (b ->> 'line')::int
