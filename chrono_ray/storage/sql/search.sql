-- Projects as searches name them: the index knows their numbers alone.

-- name: projects
SELECT id, name FROM projects WHERE id = ANY ($1::int[]) OR name = ANY ($2::text[])

-- name: named
-- the projects of the numbers $1 and names $2; and which of the domains $3 none of them collects, nor any of the
-- projects $4, nor, where $5, anybody: those have no project
WITH found AS MATERIALIZED (SELECT id, name FROM projects WHERE id = ANY ($1::int[]) OR name = ANY ($2::text[]))
SELECT f.id, f.name FROM found f
UNION ALL
SELECT NULL, w.url FROM unnest($3::text[]) AS w (url)
 WHERE NOT EXISTS (SELECT FROM domains d WHERE d.url = w.url
                      AND ($5::bool OR d.project_id = ANY ($4::int[]) OR d.project_id IN (SELECT id FROM found)))
