-- Live progress, tickets for connections, throughput over time.

-- name: pulse
-- `decided`: domains decided again to the end since, less two minutes and a day back at most like the others
SELECT version, at, runs, tasks,
       (SELECT coalesce(json_agg(json_build_array(d.project_id, x.domain_id, extract(epoch FROM x.finished_at))), '[]')
          FROM redecisions x JOIN domains d ON d.id = x.domain_id
         WHERE x.finished_at > greatest(to_timestamp(least($1, version) / 1000000.0) - interval '2 minutes',
                                        at - interval '1 day')
           AND $1 IS NOT NULL)::text AS decided
  FROM live_pulse($1, $2, $3)

-- name: issue
WITH old AS (
    DELETE FROM live_tickets t WHERE t.hash IN (
        SELECT o.hash FROM live_tickets o WHERE o.expires_at < clock_timestamp() LIMIT 20 FOR UPDATE SKIP LOCKED)
)
INSERT INTO live_tickets (hash, token_id, expires_at) VALUES ($1, $2, clock_timestamp() + $3::interval)

-- name: take
-- whoever takes it has it alone; who its token stands for now
WITH taken AS (
    DELETE FROM live_tickets WHERE hash = $1 RETURNING token_id, expires_at
)
SELECT t.id, t.user_id, u.role, t.scopes, t.family,
       (SELECT json_agg(json_build_array(p.id, p.name, v.role) ORDER BY p.id)
          FROM visible_projects(t.user_id, false) v JOIN projects p ON p.id = v.project_id
         WHERE NOT (u.role = 'admin' AND 'admin' = ANY (t.scopes)))::text AS grants
  FROM taken k JOIN api_tokens t ON t.id = k.token_id JOIN users u ON u.id = t.user_id AND u.state = 'active'
 WHERE k.expires_at > clock_timestamp() AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()

-- name: standing
-- of connections by ($1 user, $2 token, $3 login) those that still may be: as long as the login lasts, or the key
SELECT w.n::int AS n, u.role, (SELECT array_agg(v.project_id) FROM visible_projects(u.id, false) v) AS projects
  FROM unnest($1::int[], $2::bigint[], $3::uuid[]) WITH ORDINALITY AS w (user_id, token_id, family, n)
  JOIN users u ON u.id = w.user_id AND u.state = 'active'
 WHERE EXISTS (SELECT FROM api_tokens t
                WHERE t.user_id = w.user_id AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()
                  AND (t.id = w.token_id OR t.family = w.family))

-- name: sample
SELECT take_samples()

-- name: throughput
-- what was done in projects $1 (null: all) from $2 until $3, in steps of $4: the difference to the sample before.
-- No row: there are no such projects; one of nulls: nothing was done in them.
WITH wanted AS (
    SELECT p.id FROM projects p WHERE $1::int[] IS NULL OR p.id = ANY ($1)
), seen AS (
    SELECT s.* FROM wanted w CROSS JOIN LATERAL (
        (SELECT b.* FROM samples b WHERE b.project_id = w.id AND b.minute < $2 ORDER BY b.minute DESC LIMIT 1)
        UNION ALL
        SELECT a.* FROM samples a WHERE a.project_id = w.id AND a.minute >= $2 AND a.minute < $3) s
), done AS (
    SELECT s.minute,
           s.listed - lag(s.listed) OVER b AS listed, s.stored - lag(s.stored) OVER b AS stored,
           s.unchanged - lag(s.unchanged) OVER b AS unchanged, s.known - lag(s.known) OVER b AS known,
           s.skipped - lag(s.skipped) OVER b AS skipped, s.gone - lag(s.gone) OVER b AS gone,
           s.refused - lag(s.refused) OVER b AS refused, s.failed - lag(s.failed) OVER b AS failed,
           s.listing_requests - lag(s.listing_requests) OVER b AS listing_requests,
           s.replay_requests - lag(s.replay_requests) OVER b AS replay_requests,
           s.throttled - lag(s.throttled) OVER b AS throttled
      FROM seen s WINDOW b AS (PARTITION BY s.project_id ORDER BY s.minute)
), steps AS (
    SELECT date_bin($4::interval, d.minute, '2000-01-01 00:00:00+00') AS at,
           sum(greatest(d.listed, 0))::bigint AS listed, sum(greatest(d.stored, 0))::bigint AS stored,
           sum(greatest(d.unchanged, 0))::bigint AS unchanged, sum(greatest(d.known, 0))::bigint AS known,
           sum(greatest(d.skipped, 0))::bigint AS skipped, sum(greatest(d.gone, 0))::bigint AS gone,
           sum(greatest(d.refused, 0))::bigint AS refused, sum(greatest(d.failed, 0))::bigint AS failed,
           sum(greatest(d.listing_requests, 0))::bigint AS listing_requests,
           sum(greatest(d.replay_requests, 0))::bigint AS replay_requests,
           sum(greatest(d.throttled, 0))::bigint AS throttled
      FROM done d WHERE d.minute >= $2 AND d.listed IS NOT NULL
     GROUP BY 1
)
SELECT s.* FROM (SELECT FROM wanted LIMIT 1) w LEFT JOIN steps s ON true ORDER BY s.at
