-- Settling: one transaction per batch, fenced by (fetch, token).

-- name: take_leases
-- what is still ours; the rest was rescued meanwhile and belongs to somebody else. Sorted locks.
WITH mine AS (
    SELECT l.fetch_id FROM leases l JOIN unnest($1::bigint[], $2::uuid[]) AS w (fetch_id, token)
        ON w.fetch_id = l.fetch_id AND w.token = l.token
     ORDER BY l.fetch_id FOR UPDATE OF l
)
DELETE FROM leases l USING mine WHERE l.fetch_id = mine.fetch_id
RETURNING l.fetch_id, l.run_id, l.order_key, l.attempts, l.crashes, l.capture_id

-- name: lock_fetches
-- in the order listers lock them, so that settling and listing cannot deadlock
SELECT id, snoozed_for >= $2::interval AS tired
  FROM fetches WHERE id = ANY ($1::bigint[]) ORDER BY share_key FOR NO KEY UPDATE

-- name: put_payloads
-- one that is there since before the last purge began is made new, so that it stays; the others are not
-- locked: half the web has the same empty page
WITH put AS (
    INSERT INTO payloads (sha256, sha1, size)
    SELECT w.sha256, w.sha1, w.size FROM unnest($1::bytea[], $2::text[], $3::bigint[]) AS w (sha256, sha1, size)
     ORDER BY w.sha256 ON CONFLICT (sha256) DO NOTHING
)
UPDATE payloads SET stored_at = clock_timestamp()
 WHERE id IN (SELECT y.id FROM payloads y
               WHERE y.sha256 = ANY ($1::bytea[]) AND y.stored_at < (SELECT m.at FROM payload_mark m)
               ORDER BY y.sha256 FOR NO KEY UPDATE)

-- name: find_payloads
SELECT id, sha256 FROM payloads WHERE sha256 = ANY ($1::bytea[])

-- name: put_documents
INSERT INTO documents (payload_id, extractor, charset, media_type, title, text, author, published, language, words,
                       description, canonical, links, flags, replaced)
SELECT w.payload_id, w.extractor, w.charset, w.media_type, w.title, w.text, w.author, w.published, w.language, w.words,
       w.description, w.canonical, w.links::jsonb, string_to_array(w.flags, ','), w.replaced
  FROM (SELECT payload_id, extractor, charset, media_type, title, text, author, published, language, words, description,
               canonical, links, coalesce(flags, '') AS flags, replaced
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::date[],
                      $9::text[], $10::int[], $11::text[], $12::text[], $13::text[], $14::text[], $15::int[])
            AS u (payload_id, extractor, charset, media_type, title, text, author, published, language, words,
                  description, canonical, links, flags, replaced)) w
 ORDER BY w.payload_id, w.charset
ON CONFLICT (payload_id, extractor, charset, media_type) DO NOTHING

-- name: find_documents
SELECT d.id, d.payload_id, d.extractor, d.charset, d.media_type
  FROM documents d JOIN unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS w (payload_id, extractor, charset, media_type)
    ON d.payload_id = w.payload_id AND d.extractor = w.extractor AND d.charset = w.charset AND d.media_type = w.media_type

-- name: log_attempts
INSERT INTO attempts (fetch_id, capture_id, run_id, reason, detail, requests, final)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::boolean[])

-- name: other_captures
-- for payloads that one capture could not give: the next capture of the same digest, not tried yet.
-- One in another archive is asked for by the run that listed it there: its budget is another. Where
-- that one is paused the payload waits for it; a plan asks for it should it be started (planning.sql).
SELECT DISTINCT ON (c.fetch_id) c.fetch_id, c.id AS capture_id,
       CASE WHEN c.archive = r.archive THEN r.id ELSE o.id END AS run_id
  FROM unnest($1::bigint[], $2::bigint[]) AS w (fetch_id, run_id)
  JOIN runs r ON r.id = w.run_id
  JOIN captures c ON c.fetch_id = w.fetch_id
  JOIN runs o ON o.id = c.run_id
 WHERE (c.archive = r.archive OR (o.state IN ('active', 'paused') AND o.goal <> 'plan'))
   AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.fetch_id = c.fetch_id AND a.capture_id = c.id AND a.final)
   AND (SELECT count(DISTINCT a.capture_id) FROM attempts a WHERE a.fetch_id = c.fetch_id AND a.final) < $3
 ORDER BY c.fetch_id, (c.archive <> r.archive), (c.archive <> r.archive AND o.state <> 'active'), o.preference, (c.mimetype = 'warc/revisit'), c.instant DESC

-- name: elsewhere
-- of payloads that one archive could not give in time: a capture not asked for yet in another
-- archive of the same request that is at work, the most preferred first
SELECT DISTINCT ON (c.fetch_id) c.fetch_id, c.id AS capture_id, o.id AS run_id
  FROM unnest($1::bigint[], $2::bigint[]) AS w (fetch_id, run_id)
  JOIN runs r ON r.id = w.run_id
  JOIN captures c ON c.fetch_id = w.fetch_id AND c.archive <> r.archive
  JOIN runs o ON o.id = c.run_id AND o.together = r.together AND o.state = 'active' AND o.goal <> 'plan'
 WHERE NOT EXISTS (SELECT 1 FROM attempts a WHERE a.fetch_id = c.fetch_id AND a.capture_id = c.id)
 ORDER BY c.fetch_id, o.preference, (c.mimetype = 'warc/revisit'), c.instant DESC

-- name: wanted_still
-- of payloads whose run was cancelled: those that a run which is not waits for too, a plan last. Not
-- by a capture that was given up before another run had the payload asked for again.
SELECT DISTINCT ON (c.fetch_id) c.fetch_id, c.id AS capture_id, n.id AS run_id
  FROM captures c
 CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
  JOIN runs n ON n.id = u.run_id AND n.state IN ('active', 'paused', 'planned')
 WHERE c.fetch_id = ANY ($1::bigint[])
   AND NOT EXISTS (SELECT 1 FROM fetches f JOIN attempts a ON a.fetch_id = f.id AND a.capture_id = c.id AND a.final
                    WHERE f.id = c.fetch_id AND f.id = ANY ($1::bigint[]) AND f.former IS NOT NULL)
 ORDER BY c.fetch_id, (n.goal = 'plan'), n.state,
       EXISTS (SELECT 1 FROM attempts a WHERE a.fetch_id = c.fetch_id AND a.capture_id = c.id AND a.final),
       (c.mimetype = 'warc/revisit'), c.instant DESC

-- name: reopen
-- what it had ended as is kept for a cancel, its bytes too: a purge must see them
UPDATE fetches f SET state = 'pending', reason = '', detail = '', settled_at = NULL, snoozed_for = '0', run_id = $3, capture_id = w.capture_id,
       former = CASE WHEN f.state <> 'cancelled' THEN jsonb_build_object(
           'state', f.state, 'reason', f.reason, 'detail', f.detail, 'settled_at', f.settled_at, 'capture_id', f.capture_id) END
  FROM unnest($1::bigint[], $2::bigint[]) AS w (id, capture_id) WHERE f.id = w.id

-- name: restore
-- asked for again and cancelled: what the archive had said stands. `former` stays: whoever lists a
-- capture that was not asked for yet opens it again.
WITH back AS (
    UPDATE fetches f SET state = f.former ->> 'state', reason = f.former ->> 'reason', detail = f.former ->> 'detail',
           settled_at = (f.former ->> 'settled_at')::timestamptz,
           capture_id = coalesce((SELECT c.id FROM captures c WHERE c.id = (f.former ->> 'capture_id')::bigint AND c.fetch_id = f.id), f.capture_id)
     WHERE f.id = ANY ($1::bigint[]) AND f.state = 'pending' AND f.former IS NOT NULL
    RETURNING f.id
), given_up AS (
    UPDATE attempts a SET final = true, forgiven = false FROM back b WHERE a.fetch_id = b.id AND a.forgiven
)
SELECT b.id, (SELECT count(*) FROM captures c WHERE c.fetch_id = b.id) AS captures FROM back b

-- name: end_fetches
-- answers how many captures wait for each: of one digest there may be millions
UPDATE fetches f SET state = w.state, reason = w.reason, detail = w.detail, requests = f.requests + w.requests,
       payload_id = w.payload_id, document_id = w.document_id, served_ts = w.served_ts, digest_check = w.digest_check,
       capture_id = w.capture_id, settled_at = clock_timestamp(), former = NULL
  FROM (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[], $7::bigint[],
                             $8::text[], $9::text[], $10::bigint[])
          AS u (id, state, reason, detail, requests, payload_id, document_id, served_ts, digest_check, capture_id)
         ORDER BY u.id) w
 WHERE f.id = w.id AND f.state = 'pending'
RETURNING (SELECT count(*) FROM captures c WHERE c.fetch_id = f.id) AS captures

-- name: spend_requests
UPDATE fetches f SET requests = f.requests + w.requests, run_id = w.run_id, capture_id = w.capture_id,
       snoozed_for = f.snoozed_for + make_interval(secs => w.snoozed)
  FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::float8[]) AS w (id, requests, run_id, capture_id, snoozed) WHERE f.id = w.id

-- name: park
INSERT INTO parked (fetch_id, run_id, order_key, attempts, crashes, capture_id, reason, until)
SELECT w.fetch_id, w.run_id, w.order_key, w.attempts, w.crashes, w.capture_id, w.reason, clock_timestamp() + make_interval(secs => w.delay)
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::bigint[], $7::text[], $8::float8[])
    AS w (fetch_id, run_id, order_key, attempts, crashes, capture_id, reason, delay)

-- name: count_captures
-- every capture of these fetches, for the run that listed it and each that adopted it; $2 is 1 or -1.
-- $3 narrows to captures just listed (their fetch ended before), NULL takes all.
INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
SELECT c.domain_id, c.run_id, c.state, c.reason, count(*) * $2::int
  FROM (SELECT c.domain_id, u.run_id, f.state AS ended, f.reason,
               CASE WHEN f.state = 'stored' AND f.capture_id <> c.id THEN 'unchanged' ELSE f.state END AS state
          FROM captures c JOIN fetches f ON f.id = c.fetch_id
         CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
         WHERE c.fetch_id = ANY ($1::bigint[]) AND f.state <> 'pending' AND ($3::bigint[] IS NULL OR c.id = ANY ($3::bigint[]))) c
 GROUP BY c.domain_id, c.run_id, c.state, c.reason
 ORDER BY c.domain_id, c.run_id, c.state, c.reason
ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n

-- name: put_pages
WITH seen AS (
    SELECT d.project_id, min(c.domain_id) AS domain_id, c.url_id, min(c.urlkey) AS urlkey, min(c.original) AS url,
           f.payload_id, min(f.document_id) AS document_id, min(c.instant) AS first_seen, max(c.instant) AS last_seen, count(*) AS n
      FROM captures c JOIN fetches f ON f.id = c.fetch_id JOIN domains d ON d.id = c.domain_id
     WHERE c.fetch_id = ANY ($1::bigint[]) AND f.state = 'stored' AND ($2::bigint[] IS NULL OR c.id = ANY ($2::bigint[]))
     GROUP BY d.project_id, c.url_id, f.payload_id
     ORDER BY d.project_id, c.url_id, f.payload_id
), put AS (
    INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id, first_seen, last_seen, captures)
    SELECT s.project_id, s.domain_id, s.url_id, s.urlkey, s.url, s.payload_id, s.document_id, s.first_seen, s.last_seen, s.n FROM seen s
    ON CONFLICT (project_id, url_id, payload_id) DO UPDATE
       SET first_seen = least(pages.first_seen, excluded.first_seen),
           last_seen = greatest(pages.last_seen, excluded.last_seen),
           captures = pages.captures + excluded.captures
    RETURNING id
)
INSERT INTO outbox (page_id, op) SELECT id, 'upsert' FROM put

-- name: note_pages
-- the runs that have captures of these pages, each the first time: by that a run's pages are counted. A
-- statement of its own: it must see the pages that put_pages made. $2 narrows as there.
WITH noted AS (
    INSERT INTO run_pages (page_id, run_id, whole)
    SELECT DISTINCT p.id, k.run_id, k.whole
      FROM captures c JOIN fetches f ON f.id = c.fetch_id AND f.state = 'stored'
      JOIN pages p ON p.project_id = f.project_id AND p.url_id = c.url_id AND p.payload_id = f.payload_id
     CROSS JOIN LATERAL (SELECT c.run_id UNION ALL SELECT a.run_id FROM adoptions a WHERE a.capture_id = c.id) u
      JOIN runs r ON r.id = u.run_id
     CROSS JOIN LATERAL (VALUES (r.id, false), (r.together, true)) k (run_id, whole)
     WHERE c.fetch_id = ANY ($1::bigint[]) AND ($2::bigint[] IS NULL OR c.id = ANY ($2::bigint[])) AND k.run_id IS NOT NULL
     ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING RETURNING run_id, whole
)
INSERT INTO run_page_counts AS n (run_id, whole, n)
SELECT m.run_id, m.whole, count(*) FROM noted m GROUP BY m.run_id, m.whole ORDER BY m.run_id, m.whole
ON CONFLICT (run_id, whole) DO UPDATE SET n = n.n + excluded.n

-- name: count_requests
INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
SELECT r.domain_id, r.id, 'request', w.kind, sum(w.n)
  FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS w (run_id, kind, n) JOIN runs r ON r.id = w.run_id
 WHERE w.n <> 0
 GROUP BY r.domain_id, r.id, w.kind ORDER BY r.domain_id, r.id, w.kind
ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n
