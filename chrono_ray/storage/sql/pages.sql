-- Pages as somebody reads them: the right to see one, $2 the user and $3 whether an admin, by the same statement.

-- name: page
SELECT p.id, p.project_id, r.name AS project, d.url AS domain, p.url, p.first_seen, p.last_seen, p.captures,
       t.title, t.text, t.author, t.published, t.language, t.words, t.description, t.canonical, t.links::text AS links,
       t.flags, t.charset, t.media_type, t.extractor, t.replaced, encode(y.sha256, 'hex') AS sha256, y.sha1, y.size,
       coalesce(a.review, 'unreviewed') AS review, a.reviewed_at, u.id AS reviewer_id, u.name AS reviewer,
       ARRAY (SELECT g.tag FROM page_tags g WHERE g.page_id = p.id ORDER BY g.tag) AS tags,
       (SELECT count(*) FROM page_notes n WHERE n.page_id = p.id) AS notes,
       EXISTS (SELECT FROM starred_items s WHERE s.page_id = p.id AND s.user_id = $2) AS starred,
       -- the first capture, the last, and the one whose bytes these are: it may be another URL's
       ARRAY[o.id, z.id, k.id] AS cited_id, ARRAY[o.archive, z.archive, k.archive] AS cited_archive,
       ARRAY[o.ts, z.ts, k.ts] AS cited_ts, ARRAY[o.original, z.original, k.original] AS cited_original,
       ARRAY[o.locator, z.locator, k.locator] AS cited_locator, ARRAY[o.settled_at, z.settled_at, o.settled_at] AS cited_at,
       k.url_id = p.url_id AS is_own, o.run_id, o.settled_at, o.served_ts, o.digest_check, o.requests
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
  JOIN projects r ON r.id = p.project_id JOIN domains d ON d.id = p.domain_id
  JOIN documents t ON t.id = p.document_id JOIN payloads y ON y.id = p.payload_id
  LEFT JOIN annotated_pages a ON a.page_id = p.id LEFT JOIN users u ON u.id = a.reviewer_id
  LEFT JOIN LATERAL (
    SELECT c.* FROM domains e CROSS JOIN LATERAL (
        SELECT c.id, c.archive, c.ts, c.original, c.locator, f.capture_id, f.run_id, f.settled_at, f.served_ts, f.digest_check,
               f.requests
          FROM captures c JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored' AND f.payload_id = p.payload_id
         WHERE c.domain_id = e.id AND c.url_id = p.url_id ORDER BY c.ts, c.id LIMIT 1) c
     WHERE e.project_id = p.project_id ORDER BY c.ts, c.id LIMIT 1) o ON true
  LEFT JOIN LATERAL (
    SELECT c.* FROM domains e CROSS JOIN LATERAL (
        SELECT c.id, c.archive, c.ts, c.original, c.locator, f.settled_at
          FROM captures c JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored' AND f.payload_id = p.payload_id
         WHERE c.domain_id = e.id AND c.url_id = p.url_id ORDER BY c.ts DESC, c.id DESC LIMIT 1) c
     WHERE e.project_id = p.project_id ORDER BY c.ts DESC, c.id DESC LIMIT 1) z ON true
  LEFT JOIN captures k ON k.id = o.capture_id
 WHERE p.id = $1

-- name: captures
-- a page's captures behind ($4, $5) in time; one row without any where there are none
SELECT p.project_id, t.title, c.*
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id JOIN documents t ON t.id = p.document_id
  LEFT JOIN LATERAL (
    SELECT c.* FROM domains e CROSS JOIN LATERAL (
        SELECT c.id, c.ts, c.impossible, c.archive, c.original, c.mimetype, c.statuscode, c.digest, c.locator, c.run_id,
               f.capture_id = c.id AS fetched, f.settled_at
          FROM captures c JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored' AND f.payload_id = p.payload_id
         WHERE c.domain_id = e.id AND c.url_id = p.url_id AND (c.ts, c.id) > ($4, $5)
         ORDER BY c.ts, c.id LIMIT $6) c
     WHERE e.project_id = p.project_id ORDER BY c.ts, c.id LIMIT $6) c ON true
 WHERE p.id = $1 ORDER BY c.ts, c.id

-- name: versions
-- of a page's URL, behind ($4, $5) in time, each beside the one before it; one row without any at their end
SELECT p.project_id, w.id, w.url, w.first_seen, w.last_seen, w.captures, w.came_back, t.title, t.words,
       encode(y.sha256, 'hex') AS sha256, y.size, w.before IS NOT NULL AS has_before,
       t.text IS DISTINCT FROM b.text AS text_changed, t.title IS DISTINCT FROM b.title AS title_changed,
       t.words - b.words AS words_more, y.size - x.size AS bytes_more
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
  LEFT JOIN LATERAL (
    SELECT w.* FROM (
        SELECT w.id, w.url, w.first_seen, w.last_seen, w.captures, w.document_id, w.payload_id,
               lag(w.document_id) OVER o AS before, lag(w.payload_id) OVER o AS payload_before,
               coalesce(lead(w.first_seen) OVER o <= w.last_seen, false) AS came_back
          FROM pages w WHERE w.project_id = p.project_id AND w.url_id = p.url_id
        WINDOW o AS (ORDER BY w.first_seen, w.id)) w
     WHERE $4::timestamptz IS NULL OR (w.first_seen, w.id) > ($4, $5)
     ORDER BY w.first_seen, w.id LIMIT $6) w ON true
  LEFT JOIN documents t ON t.id = w.document_id LEFT JOIN payloads y ON y.id = w.payload_id
  LEFT JOIN documents b ON b.id = w.before LEFT JOIN payloads x ON x.id = w.payload_before
 WHERE p.id = $1 ORDER BY w.first_seen, w.id

-- name: neighbours
-- the versions before and after, and pages of other URLs of the same host that were first seen nearest to it,
-- $4 on each side among so many of the project ($5) nearest in time
SELECT p.project_id, n.kind, n.id, n.url, n.first_seen, n.last_seen, n.captures, t.title, t.language, t.media_type, t.words
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
  LEFT JOIN LATERAL (
    (SELECT 'before' AS kind, w.* FROM pages w
      WHERE w.project_id = p.project_id AND w.url_id = p.url_id AND (w.first_seen, w.id) < (p.first_seen, p.id)
      ORDER BY w.first_seen DESC, w.id DESC LIMIT 1)
    UNION ALL
    (SELECT 'after', w.* FROM pages w
      WHERE w.project_id = p.project_id AND w.url_id = p.url_id AND (w.first_seen, w.id) > (p.first_seen, p.id)
      ORDER BY w.first_seen, w.id LIMIT 1)
    UNION ALL
    (SELECT 'earlier', w.* FROM (
        SELECT * FROM pages w WHERE w.project_id = p.project_id AND (w.first_seen, w.id) < (p.first_seen, p.id)
         ORDER BY w.first_seen DESC, w.id DESC LIMIT $5) w
      WHERE w.url_id <> p.url_id AND starts_with(w.urlkey, split_part(p.urlkey, ')', 1) || ')')
      ORDER BY w.first_seen DESC, w.id DESC LIMIT $4)
    UNION ALL
    (SELECT 'later', w.* FROM (
        SELECT * FROM pages w WHERE w.project_id = p.project_id AND (w.first_seen, w.id) > (p.first_seen, p.id)
         ORDER BY w.first_seen, w.id LIMIT $5) w
      WHERE w.url_id <> p.url_id AND starts_with(w.urlkey, split_part(p.urlkey, ')', 1) || ')')
      ORDER BY w.first_seen, w.id LIMIT $4)) n ON true
  LEFT JOIN documents t ON t.id = n.document_id
 WHERE p.id = $1 ORDER BY n.first_seen, n.id

-- name: texts
-- two pages to be compared; texts of more than $4 bytes stay where they are
SELECT p.id, p.project_id, p.url, p.first_seen, t.title, t.words, octet_length(t.text) AS bytes,
       CASE WHEN octet_length(t.text) <= $4 THEN t.text END AS text
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id JOIN documents t ON t.id = p.document_id
 WHERE p.id = ANY ($1::bigint[])

-- name: payload
SELECT p.project_id, encode(y.sha256, 'hex') AS sha256, y.size, t.media_type
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
  JOIN documents t ON t.id = p.document_id JOIN payloads y ON y.id = p.payload_id
 WHERE p.id = $1

-- name: list
-- Of project $1, behind ($4, $5, $6); where few pages have what is asked for, only those are its source. Looks
-- at $17 pages at most: where fewer than $16 of them were wanted, the last one looked at says where to go on.
-- Filters are subqueries of one value, so that no plan gives up the order or reads all documents.
WITH found AS MATERIALIZED (
    SELECT * FROM (SELECT p.*, left(p.urlkey, 400) COLLATE "C" AS place FROM {source}
                    WHERE p.project_id = $1 AND {behind} ORDER BY {order} LIMIT $17) p
     WHERE left(p.urlkey, 400) COLLATE "C" >= $7::text AND left(p.urlkey, 400) COLLATE "C" < $8::text
       AND ($9::timestamptz IS NULL OR p.last_seen >= $9) AND ($10::timestamptz IS NULL OR p.first_seen <= $10)
       AND ($11::text = '' OR (SELECT t.language FROM documents t WHERE t.id = p.document_id) = $11)
       AND ($12::text = '' OR (SELECT t.media_type FROM documents t WHERE t.id = p.document_id) = $12)
       AND ($13::text = '' OR (SELECT g.tag FROM page_tags g WHERE g.page_id = p.id AND g.tag = $13) = $13)
       AND ($14::text = '' OR $14 = coalesce((SELECT a.review FROM annotated_pages a WHERE a.page_id = p.id), 'unreviewed'))
       AND ($15::boolean IS NULL
            OR $15 = coalesce((SELECT true FROM starred_items s WHERE s.page_id = p.id AND s.user_id = $2), false))
     ORDER BY {order} LIMIT $16
), looked AS (
    SELECT left(p.urlkey, 400) COLLATE "C" AS place, p.first_seen, p.id FROM {source}
     WHERE (SELECT count(*) FROM found) < $16 AND p.project_id = $1 AND {behind}
     ORDER BY {order} LIMIT 1 OFFSET $17 - 1
)
SELECT f.id, f.url, f.first_seen, f.last_seen, f.captures, f.place, d.url AS domain, t.title, t.language, t.media_type,
       t.words, t.flags, coalesce(a.review, 'unreviewed') AS review,
       ARRAY (SELECT g.tag FROM page_tags g WHERE g.page_id = f.id ORDER BY g.tag) AS tags,
       EXISTS (SELECT FROM starred_items s WHERE s.page_id = f.id AND s.user_id = $2) AS starred,
       l.place AS looked_place, l.first_seen AS looked_at, l.id AS looked_id
  FROM visible_projects($2, $3) v LEFT JOIN found f ON true LEFT JOIN looked l ON true
  LEFT JOIN documents t ON t.id = f.document_id LEFT JOIN domains d ON d.id = f.domain_id
  LEFT JOIN annotated_pages a ON a.page_id = f.id
 WHERE v.project_id = $1 ORDER BY {order}

-- name: behind_url
(left(p.urlkey, 400) COLLATE "C", p.first_seen, p.id) > ($4, coalesce($5::timestamptz, '-infinity'), $6::bigint)
AND left(p.urlkey, 400) COLLATE "C" >= $7::text AND left(p.urlkey, 400) COLLATE "C" < $8::text

-- name: behind_oldest
(p.first_seen, p.id) > (coalesce($5::timestamptz, '-infinity'), $6::bigint) AND $4::text IS NOT NULL
AND p.first_seen <= coalesce($10::timestamptz, 'infinity')

-- name: behind_newest
(p.first_seen, p.id) < (coalesce($5::timestamptz, 'infinity'), $6::bigint) AND $4::text IS NOT NULL
AND p.first_seen <= coalesce($10::timestamptz, 'infinity')
