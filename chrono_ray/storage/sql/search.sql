-- Projects as searches name them: the index knows their numbers alone.

-- name: projects
SELECT id, name FROM projects WHERE id = ANY ($1::int[]) OR name = ANY ($2::text[])
