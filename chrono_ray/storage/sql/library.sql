-- What people add to pages. What is written is one call of migration 0006's functions, or one statement here.

-- name: star
SELECT project_id, role FROM star_page($1, $2, $3)

-- name: unstar
WITH gone AS (
    DELETE FROM starred_items s USING pages p, visible_projects($2, $3) v
     WHERE s.page_id = $1 AND s.user_id = $2 AND p.id = s.page_id AND v.project_id = p.project_id
)
SELECT p.project_id, v.role FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id WHERE p.id = $1

-- name: stars
-- newest first, behind ($3, $4)
SELECT s.starred_at, p.id, p.project_id, r.name AS project, d.url AS domain, p.url, p.first_seen, p.last_seen, p.captures,
       t.title, t.language, t.media_type, t.words, t.flags, a.review, true AS starred,
       ARRAY (SELECT g.tag FROM page_tags g WHERE g.page_id = p.id ORDER BY g.tag) AS tags
  FROM starred_items s JOIN annotated_pages a ON a.page_id = s.page_id JOIN pages p ON p.id = s.page_id
  JOIN visible_projects($1, $2) v ON v.project_id = p.project_id
  JOIN projects r ON r.id = p.project_id JOIN domains d ON d.id = p.domain_id JOIN documents t ON t.id = p.document_id
 WHERE s.user_id = $1 AND (s.starred_at, s.page_id) < (coalesce($3::timestamptz, 'infinity'), $4::bigint)
 ORDER BY s.starred_at DESC, s.page_id DESC LIMIT $5

-- name: tag
SELECT project_id, role, tags FROM tag_page($1, $2, $3, $4, $5)

-- name: untag
WITH seen AS MATERIALIZED (
    SELECT p.id, p.project_id, v.role FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id WHERE p.id = $1
), gone AS (
    DELETE FROM page_tags g USING seen s WHERE g.page_id = s.id AND s.role <> 'read' AND g.tag = $4
)
SELECT project_id, role FROM seen

-- name: tags
-- of project $1 with how many pages have each, behind $4; one row without any where there are none
SELECT t.tag, t.pages
  FROM visible_projects($2, $3) v
  LEFT JOIN LATERAL (SELECT g.tag, count(*) AS pages FROM page_tags g WHERE g.project_id = v.project_id AND g.tag > $4
                      GROUP BY g.tag ORDER BY g.tag LIMIT $5) t ON true
 WHERE v.project_id = $1 ORDER BY t.tag

-- name: note
SELECT project_id, role, id, written_at FROM note_page($1, $2, $3, $4)

-- name: notes
-- of page $1, behind $4; one row without any where there are none
SELECT p.project_id, n.*
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
  LEFT JOIN LATERAL (
    SELECT n.id, n.page_id, n.author_id, u.name AS author, n.text, n.written_at, n.changed_at
      FROM page_notes n JOIN users u ON u.id = n.author_id
     WHERE n.page_id = p.id AND n.id > $4 ORDER BY n.id LIMIT $5) n ON true
 WHERE p.id = $1 ORDER BY n.id

-- name: change_note
WITH seen AS MATERIALIZED (
    SELECT n.id, p.project_id, v.role, n.author_id, u.name AS author
      FROM page_notes n JOIN pages p ON p.id = n.page_id JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
      JOIN users u ON u.id = n.author_id WHERE n.id = $1
), done AS (
    UPDATE page_notes n SET text = $4, changed_at = clock_timestamp() FROM seen s
     WHERE n.id = s.id AND (s.role = 'owner' OR (s.role = 'write' AND s.author_id = $2))
    RETURNING n.id, n.page_id, n.text, n.written_at, n.changed_at
)
SELECT s.project_id, s.role, s.author_id, s.author, d.id, d.page_id, d.text, d.written_at, d.changed_at
  FROM seen s LEFT JOIN done d ON true

-- name: end_note
WITH seen AS MATERIALIZED (
    SELECT n.id, p.project_id, v.role, n.author_id
      FROM page_notes n JOIN pages p ON p.id = n.page_id JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
     WHERE n.id = $1
), done AS (
    DELETE FROM page_notes n USING seen s
     WHERE n.id = s.id AND (s.role = 'owner' OR (s.role = 'write' AND s.author_id = $2))
    RETURNING n.id
)
SELECT s.project_id, s.role, s.author_id, d.id FROM seen s LEFT JOIN done d ON true

-- name: review
SELECT w.project_id, w.role, w.reviewed_at, w.reviewer_id, u.name AS reviewer
  FROM review_page($1, $2, $3, $4) w LEFT JOIN users u ON u.id = w.reviewer_id

-- name: reviews
-- newest first, behind $4; one row without any where there are none
SELECT p.project_id, n.*
  FROM pages p JOIN visible_projects($2, $3) v ON v.project_id = p.project_id
  LEFT JOIN LATERAL (
    SELECT n.id, n.review, n.user_id AS reviewer_id, u.name AS reviewer, n.at AS reviewed_at
      FROM page_reviews n LEFT JOIN users u ON u.id = n.user_id
     WHERE n.page_id = p.id AND n.id < $4 ORDER BY n.id DESC LIMIT $5) n ON true
 WHERE p.id = $1 ORDER BY n.id DESC

-- name: save_search
-- `is_full`: the user has $4 of them
WITH room AS MATERIALIZED (
    SELECT searches_kept($1) >= $4 AS is_full
), made AS (
    INSERT INTO saved_searches (user_id, name, request) SELECT $1, $2, $3::jsonb FROM room WHERE NOT is_full
    ON CONFLICT (user_id, name) DO NOTHING RETURNING id, name, request::text, saved_at, changed_at
)
SELECT r.is_full, m.id, m.name, m.request, m.saved_at, m.changed_at FROM room r LEFT JOIN made m ON true

-- name: saved_searches
SELECT id, name, request::text, saved_at, changed_at FROM saved_searches
 WHERE user_id = $1 AND name > $2 ORDER BY name LIMIT $3

-- name: saved_search
SELECT id, name, request::text, saved_at, changed_at FROM saved_searches WHERE user_id = $1 AND id = $2

-- name: change_search
UPDATE saved_searches SET name = coalesce($3, name), request = coalesce($4::jsonb, request), changed_at = clock_timestamp()
 WHERE user_id = $1 AND id = $2
RETURNING id, name, request::text, saved_at, changed_at

-- name: end_search
DELETE FROM saved_searches WHERE user_id = $1 AND id = $2 RETURNING id
