-- A listing page becomes rows, in one transaction, in this order. The stage holds the page.

-- name: stage
CREATE TEMP TABLE IF NOT EXISTS stage (
    n          int NOT NULL,
    id         bigint,
    key        bytea NOT NULL,
    url_id     bytea NOT NULL,
    share_key  bytea,
    host       text NOT NULL,
    urlkey     text NOT NULL,
    ts         text NOT NULL,
    instant    timestamptz NOT NULL,
    impossible boolean NOT NULL,
    original   text NOT NULL,
    mimetype   text NOT NULL,
    statuscode text NOT NULL,
    digest     text NOT NULL,
    length     bigint,
    locator    text NOT NULL,
    revisit    boolean NOT NULL,
    reason     text NOT NULL,
    rule       text NOT NULL,
    confidence real NOT NULL,
    band       smallint NOT NULL,
    fate       text,
    fetch_id   bigint
) ON COMMIT DELETE ROWS

-- name: one_at_a_time
-- two runs of one domain would both call a row new: the second waits here, and then knows it
SELECT pg_advisory_xact_lock(hashtextextended('captures of ' || $1::text, 0))

-- name: rules_hold
-- whoever changes the domain's rules waits for this page, or this page is decided again
SELECT 1 FROM domains WHERE id = $1 AND rules_version = $2 FOR SHARE

-- name: advance_slice
-- fenced by token and by the key we listed from: no row means that somebody else has the slice
-- now, or that this page is kept already (a commit whose answer was lost)
UPDATE slices SET next_key = $3, pages = pages + 1, attempts = 0, reason = '', detail = '', snoozed_for = '0',
       state = CASE WHEN $3 = '' THEN 'listed' ELSE state END,
       token = CASE WHEN $3 = '' THEN NULL ELSE token END
 WHERE id = $1 AND token = $2 AND state = 'pending' AND next_key = $4
RETURNING pages

-- name: keep_page
INSERT INTO listing_pages (slice_id, seq, key, next_key, rows, bad_rows, raw)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7)

-- name: fate_of_known_rows
-- repeated: the same row again in this run; known: ended in an earlier one; adopted: not ended yet,
-- or cut short when it was asked for again (ended_meanwhile looks closer)
UPDATE stage s SET id = c.id, fetch_id = c.fetch_id,
       fate = CASE WHEN c.run_id = $3 OR a.capture_id IS NOT NULL THEN 'repeated'
                   WHEN f.state IN ('pending', 'cancelled') OR f.former IS NOT NULL THEN 'adopted' ELSE 'known' END
  FROM captures c
  LEFT JOIN fetches f ON f.id = c.fetch_id
  LEFT JOIN adoptions a ON a.run_id = $3 AND a.capture_id = c.id
 WHERE c.domain_id = $1 AND c.archive = $2 AND c.key = s.key

-- name: fate_of_new_rows
UPDATE stage s SET fate = CASE WHEN s.n > d.n THEN 'repeated' ELSE coalesce(s.fate, 'new') END
  FROM (SELECT key, min(n) AS n FROM stage GROUP BY key) d
 WHERE d.key = s.key AND (s.fate IS NULL OR s.n > d.n)

-- name: number_new_rows
-- as who inserts holds the table: an export's mark must not pass over numbers that are not rows yet
LOCK TABLE captures IN ROW EXCLUSIVE MODE;
UPDATE stage SET id = nextval(pg_get_serial_sequence('captures', 'id')) WHERE fate = 'new'

-- name: note_newest
-- by it a later run knows what is new: looked up among the captures it would be a read of them all
UPDATE slices SET newest = greatest(newest, (SELECT max(instant) FROM stage WHERE instant <= clock_timestamp())) WHERE id = $1

-- name: want_payloads
-- sorted, so that two listers cannot deadlock; a response is asked for before a revisit of it
INSERT INTO fetches (project_id, share_key, run_id, capture_id)
SELECT $1, w.share_key, $2, w.id
  FROM (SELECT DISTINCT ON (share_key) share_key, id FROM stage
         WHERE fate = 'new' AND share_key IS NOT NULL
         ORDER BY share_key, revisit, n) w
 ORDER BY w.share_key
ON CONFLICT (project_id, share_key) DO NOTHING
RETURNING id

-- name: lock_fetches
-- a statement of its own: it must see what others committed while want_payloads waited for them
UPDATE stage s SET fetch_id = f.id
  FROM (SELECT id, share_key FROM fetches
         WHERE project_id = $1 AND share_key = ANY (ARRAY (
               SELECT DISTINCT share_key FROM stage WHERE fate = 'new' AND share_key IS NOT NULL))
         ORDER BY share_key FOR NO KEY UPDATE) f
 WHERE s.share_key = f.share_key AND s.fate = 'new'

-- name: lock_adopted
SELECT id FROM fetches WHERE id = ANY (ARRAY (SELECT fetch_id FROM stage WHERE fate = 'adopted'))
 ORDER BY share_key FOR NO KEY UPDATE

-- name: ended_meanwhile
-- those that ended between our look and our lock: their settle has counted without us. One that was
-- cut short ($1: not for its bytes) is open to us by a capture that nobody asked for yet.
UPDATE stage s SET fate = 'known' FROM fetches f
 WHERE s.fate = 'adopted' AND f.id = s.fetch_id AND f.state NOT IN ('pending', 'cancelled')
   AND NOT (f.former IS NOT NULL AND s.reason = ''
            AND (f.state = 'gone' OR (f.state = 'failed' AND f.payload_id IS NULL AND f.reason <> ALL ($1::text[])))
            AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.fetch_id = f.id AND a.capture_id = s.id AND a.final))

-- name: insert_captures
INSERT INTO captures (id, project_id, domain_id, run_id, fetch_id, archive, key, url_id, urlkey, ts, instant,
                      original, mimetype, statuscode, digest, length, locator, impossible, reason, rule,
                      confidence, priority)
SELECT id, (SELECT d.project_id FROM domains d WHERE d.id = $1), $1, $2, fetch_id, $3, key, url_id, urlkey, ts, instant,
       original, mimetype, statuscode, digest, length, locator, impossible, reason, rule, confidence, band
  FROM stage WHERE fate = 'new'

-- name: adopt
INSERT INTO adoptions (run_id, capture_id)
SELECT DISTINCT $1::bigint, id FROM stage WHERE fate = 'adopted' ON CONFLICT DO NOTHING

-- name: fetches_to_reopen
-- ended without the bytes, and now another capture promises the same ones; or wanted again after a
-- cancel (what else has ended is known by now). Not where the bytes themselves are to blame ($1).
SELECT f.id, min(s.id) AS capture_id
  FROM stage s JOIN fetches f ON f.id = s.fetch_id
 WHERE (s.fate = 'new' AND (f.state IN ('gone', 'cancelled') OR (f.state = 'failed' AND f.payload_id IS NULL AND f.reason <> ALL ($1::text[]))))
    OR (s.fate = 'adopted' AND f.state <> 'pending')
 GROUP BY f.id ORDER BY f.id

-- name: has_companions
SELECT EXISTS (SELECT 1 FROM runs me JOIN runs o ON o.together = me.together AND o.id <> me.id WHERE me.id = $1)

-- name: prefer
-- payloads that wait under another run of the same collection, and are better asked for by this one:
-- its archive is preferred, or the other's is silent. Not what an archive was asked for already.
WITH quiet AS MATERIALIZED (
    SELECT DISTINCT archive FROM archive_budgets WHERE kind = 'replay' AND paused_until > clock_timestamp() + interval '60 seconds'
), better AS MATERIALIZED (
    SELECT DISTINCT ON (f.id) f.id, s.id AS capture_id
      FROM runs me
      JOIN runs o ON o.together = me.together AND o.id <> me.id
       AND (o.preference > me.preference OR o.archive IN (SELECT archive FROM quiet))
      JOIN stage s ON s.fate IN ('new', 'adopted')
      JOIN fetches f ON f.id = s.fetch_id AND f.run_id = o.id AND f.state = 'pending'
     WHERE me.id = $1 AND me.archive NOT IN (SELECT archive FROM quiet)
     ORDER BY f.id, s.revisit, s.n
), taken AS (
    DELETE FROM queue q USING better b
     WHERE q.fetch_id = b.id AND q.attempts = 0 AND NOT q.alone AND q.order_key < (16::bigint << 48)
    RETURNING q.fetch_id
)
UPDATE fetches f SET run_id = $1, capture_id = b.capture_id
  FROM better b JOIN taken t ON t.fetch_id = b.id WHERE f.id = b.id
RETURNING f.id

-- name: rank_hosts
-- each host's next fetches get the next ranks, never below the floor: hosts interleave. Inside its
-- band; a band below what the claim looks for lowers the hint with it.
WITH due AS (
    SELECT s.id, s.host, row_number() OVER (PARTITION BY s.host ORDER BY s.n) AS rank
      FROM stage s JOIN fetches f ON f.id = s.fetch_id
     WHERE f.id = ANY ($2::bigint[]) AND f.capture_id = s.id AND s.fate IN ('new', 'adopted')
), sized AS (SELECT host, count(*) AS n FROM due GROUP BY host),
   floor AS (SELECT rank_floor FROM runs WHERE id = $1),
   taken AS (
    INSERT INTO hosts (run_id, host, next_key)
    SELECT $1, z.host, floor.rank_floor + z.n FROM sized z, floor ORDER BY z.host
    ON CONFLICT (run_id, host) DO UPDATE
       SET next_key = greatest(hosts.next_key, (SELECT rank_floor FROM floor)) + (SELECT z.n FROM sized z WHERE z.host = hosts.host)
    RETURNING host, next_key
), ranked AS (
    SELECT s.*, t.next_key - z.n + d.rank + (s.band::bigint << 48) AS order_key
      FROM due d JOIN stage s ON s.id = d.id AND s.fate IN ('new', 'adopted')
      JOIN taken t ON t.host = d.host JOIN sized z ON z.host = d.host
), lowered AS (
    UPDATE runs r SET floor_key = x.lowest FROM (SELECT min(order_key) AS lowest FROM ranked) x
     WHERE r.id = $1 AND r.floor_key > x.lowest
)
INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype, statuscode, digest, locator)
SELECT s.fetch_id, $1, s.order_key, s.id, $3, s.urlkey, s.ts, s.original, s.mimetype, s.statuscode, s.digest, s.locator
  FROM ranked s ORDER BY 3

-- name: count_page
INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
SELECT $1, $2, c.state, c.reason, sum(c.n)
  FROM (SELECT 'discovered' AS state, '' AS reason, count(*) + $3::int AS n FROM stage
        UNION ALL SELECT 'skipped', 'bad_row', $3::int
        UNION ALL SELECT fate, '', count(*) FROM stage WHERE fate IN ('repeated', 'known') GROUP BY fate
        UNION ALL SELECT 'skipped', reason, count(*) FROM stage WHERE fate = 'new' AND reason <> '' GROUP BY reason) c
 WHERE c.n <> 0
 GROUP BY c.state, c.reason ORDER BY c.state, c.reason
ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n

-- name: ended_captures
-- new rows whose payload has already ended (stored: unchanged; or what became of it)
SELECT s.id, s.fetch_id FROM stage s JOIN fetches f ON f.id = s.fetch_id WHERE s.fate = 'new' AND f.state <> 'pending'

-- name: mark_ready
-- one without anything queued (its payloads wait elsewhere) would only cost a claim its turn
UPDATE runs SET ready = true WHERE id = $1 AND EXISTS (SELECT 1 FROM queue q WHERE q.run_id = $1)

-- name: claim_slice
-- whose listing it is goes by ticket, as with fetches: class by pattern, project by weight; inside a
-- project the slice that has waited longest (a new one has waited for ever)
WITH open AS MATERIALIZED (
    SELECT s.id, s.not_before, r.class, r.project_id FROM slices s JOIN runs r ON r.id = s.run_id
     WHERE s.state = 'pending' AND r.state = 'active' AND r.archive = ANY ($2::text[])
       AND s.not_before <= clock_timestamp() AND (s.token IS NULL OR s.leased_until < clock_timestamp())
), ticket AS MATERIALIZED (
    SELECT nextval('listing_ticket') AS n WHERE EXISTS (SELECT 1 FROM open)
), turn AS MATERIALIZED (
    SELECT k.pattern[1 + t.n % cardinality(k.pattern)] AS class,
           t.n * 0.6180339887498949::float8 - floor(t.n * 0.6180339887498949::float8) AS place
      FROM ticket t, class_pattern k WHERE k.mask = (SELECT bit_or(1 << o.class) FROM open o)
), project AS MATERIALIZED (
    SELECT w.id FROM turn t, (SELECT p.id, sum(p.weight) OVER (ORDER BY p.id) AS upto, sum(p.weight) OVER () AS total
                                FROM projects p
                               WHERE p.id IN (SELECT o.project_id FROM open o, turn t WHERE o.class = t.class)) w
     WHERE w.upto > t.place * w.total ORDER BY w.upto LIMIT 1
)
UPDATE slices s SET token = $4, leased_until = clock_timestamp() + $1::interval
  FROM runs r, domains d
 WHERE s.id = (SELECT s2.id FROM open o JOIN slices s2 ON s2.id = o.id
                WHERE o.class = (SELECT class FROM turn) AND o.project_id = (SELECT id FROM project)
                  AND s2.state = 'pending' AND (s2.token IS NULL OR s2.leased_until < clock_timestamp())
                ORDER BY o.not_before, o.id LIMIT 1 FOR UPDATE OF s2 SKIP LOCKED)
   AND r.id = s.run_id AND d.id = r.domain_id
RETURNING s.id, s.token, s.run_id, s.next_key, s.attempts, s.start_ts, s.end_ts,
          s.snoozed_for >= $3::interval AS tired, s.part_of IS NOT NULL AS is_part,
          to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS') AS now,
          r.project_id, r.domain_id, r.archive, d.url, d.match, d.rules::text AS rules, d.rules_version

-- name: give_back_slice
UPDATE slices SET token = NULL, leased_until = NULL WHERE state = 'pending' AND token = $1

-- name: renew_slice
UPDATE slices s SET leased_until = clock_timestamp() + $3::interval FROM runs r
 WHERE s.id = $1 AND s.token = $2 AND r.id = s.run_id AND r.state = 'active' RETURNING s.id

-- name: release_slice
UPDATE slices SET token = NULL, leased_until = NULL, not_before = clock_timestamp() + make_interval(secs => $3),
       attempts = attempts + $4, reason = $5, detail = $6, snoozed_for = snoozed_for + CASE WHEN $4 = 0 THEN make_interval(secs => $3) ELSE '0' END
 WHERE id = $1 AND token = $2 RETURNING id

-- name: hole_slice
UPDATE slices SET token = NULL, leased_until = NULL, state = 'hole', attempts = attempts + 1, reason = $3, detail = $4
 WHERE id = $1 AND token = $2 AND state = 'pending' RETURNING id

-- name: split_slice
-- in one statement: a run whose parts are not there yet would look listed
WITH whole AS (
    UPDATE slices SET token = NULL, leased_until = NULL, state = 'split', attempts = attempts + 1, reason = $3, detail = $4
     WHERE id = $1 AND token = $2 AND state = 'pending' RETURNING id, run_id
)
INSERT INTO slices (run_id, part_of, start_ts, end_ts)
SELECT w.run_id, w.id, p.start_ts, p.end_ts
  FROM whole w, unnest($5::text[], $6::text[]) WITH ORDINALITY AS p (start_ts, end_ts, n) ORDER BY p.n
