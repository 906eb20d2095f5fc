-- The outbox: leased, delivered, acknowledged.

-- name: one_at_a_time
-- before the claim and in its transaction: two that choose at once could each take a row of one
-- page, and a rebuild that closes the gate must see every lease
SELECT pg_advisory_xact_lock(hashtextextended('outbox', 0))

-- name: claim
-- the oldest rows first, up to $4 bytes of text; several rows of one page go together, as one entry.
-- A page that is being delivered waits: its older text could else arrive after the newer.
WITH oldest AS MATERIALIZED (
    SELECT seq, page_id FROM outbox o WHERE (token IS NULL OR leased_until < clock_timestamp())
       AND NOT EXISTS (SELECT 1 FROM outbox u WHERE u.page_id = o.page_id AND u.token IS NOT NULL
                          AND u.leased_until >= clock_timestamp())
       AND NOT EXISTS (SELECT 1 FROM index_rebuilds WHERE state = 'swapping')
     ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT o.seq, row_number() OVER w AS n, sum(coalesce(octet_length(t.text), 0)) OVER w AS upto
      FROM oldest o LEFT JOIN pages p ON p.id = o.page_id LEFT JOIN documents t ON t.id = p.document_id
    WINDOW w AS (ORDER BY o.seq)
)
UPDATE outbox SET token = $1, leased_until = clock_timestamp() + $3::interval
 WHERE seq = ANY (ARRAY (SELECT seq FROM sized WHERE n = 1 OR upto <= $4::bigint))
RETURNING page_id, op

-- name: entries
-- by the project's number: its name may change, and the index stays as it is
SELECT p.id, p.project_id, d.url AS domain, p.url, t.title, t.text, t.author, t.language, t.media_type,
       p.first_seen, p.last_seen, p.captures, page_version(p, p.project_id::text, d.url) AS version
  FROM pages p JOIN documents t ON t.id = p.document_id JOIN domains d ON d.id = p.domain_id
 WHERE p.id = ANY ($1::bigint[])

-- name: acknowledge
DELETE FROM outbox WHERE token = $1 RETURNING page_id

-- name: change
-- what the live index has now, a fresh one that is being filled must have, too
INSERT INTO rebuild_changes (page_id)
SELECT unnest($1::bigint[]) WHERE EXISTS (SELECT 1 FROM index_rebuilds WHERE state IN ('filling', 'swapping'))

-- name: mark
UPDATE pages p SET index_error = coalesce(w.error, '')
  FROM unnest($1::bigint[]) AS i (id) LEFT JOIN unnest($2::bigint[], $3::text[]) AS w (id, error) ON w.id = i.id
 WHERE p.id = i.id AND p.index_error <> coalesce(w.error, '')

-- name: backlog
-- octet_length of a stored text reads its header, not the text
SELECT count(*) AS rows, coalesce(extract(epoch FROM clock_timestamp() - min(o.queued_at)), 0)::float8 AS oldest,
       coalesce(sum(octet_length(t.text)), 0)::bigint AS bytes
  FROM (SELECT page_id, queued_at FROM outbox
         WHERE token IS NULL OR leased_until < clock_timestamp() ORDER BY seq LIMIT $1) o
  LEFT JOIN pages p ON p.id = o.page_id LEFT JOIN documents t ON t.id = p.document_id
