-- Users, their tokens, and requests that are safe to repeat.

-- name: authenticate
-- Who brings a token, and the projects they see; with $2 also the right to their request ($2 to $5).
WITH token AS MATERIALIZED (
    SELECT t.id, t.user_id, t.kind, t.family, t.scopes, t.expires_at, t.used_at, u.role
      FROM api_tokens t JOIN users u ON u.id = t.user_id AND u.state = 'active'
     WHERE t.hash = $1 AND t.kind IN ('access', 'key') AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()
), used AS (
    UPDATE api_tokens a SET used_at = clock_timestamp() FROM token t
     WHERE a.id = t.id AND t.kind = 'key' AND coalesce(t.used_at, '-infinity') < clock_timestamp() - interval '1 minute'
), asked AS MATERIALIZED (
    -- a row of its own: a plan that is kept for all arguments calls the function before it looks at a condition on $2
    SELECT user_id, $2::bytea AS key FROM token WHERE $2::bytea IS NOT NULL
)
SELECT t.id, t.user_id, t.role, t.scopes, t.family,
       extract(epoch FROM t.expires_at - clock_timestamp())::float8 AS seconds,
       (SELECT json_agg(json_build_array(p.id, p.name, v.role) ORDER BY p.id)
          FROM visible_projects(t.user_id, false) v JOIN projects p ON p.id = v.project_id
         WHERE NOT (t.role = 'admin' AND 'admin' = ANY (t.scopes)))::text AS grants,
       k.outcome, k.status, k.body, k.wait
  FROM token t LEFT JOIN (asked a CROSS JOIN LATERAL claim_key('user ' || a.user_id, a.key, $3, $4, $5) k) ON true

-- name: claim_key
SELECT outcome, status, body, wait FROM claim_key($1, $2, $3, $4, $5)

-- name: keep_answer
UPDATE idempotency_keys SET status = $4, body = $5 WHERE scope = $1 AND key = $2 AND token = $3 AND status IS NULL
RETURNING 1

-- name: release_key
DELETE FROM idempotency_keys WHERE scope = $1 AND key = $2 AND token = $3 AND status IS NULL

-- name: begin_login
-- $1 the e-mail, or null with $5 the user whose password is tried
SELECT begin_login(sha256(convert_to(coalesce(w.email, $1), 'UTF8')), $2, $3, $4) AS wait, w.id, w.state, w.password
  FROM (SELECT 1) one LEFT JOIN users w ON w.email = $1 OR w.id = $5

-- name: end_login
-- The password was right: forgiven, and an active user has a new pair of tokens.
WITH who AS MATERIALIZED (
    SELECT u.id, u.email, u.state FROM users u WHERE u.id = $1 AND u.password = $8 FOR UPDATE
), forgiven AS (
    DELETE FROM login_failures f USING who w
     WHERE f.account = sha256(convert_to(w.email, 'UTF8')) AND f.address IN ('', $2)
), seen AS (
    UPDATE users u SET seen_at = CASE w.state WHEN 'active' THEN clock_timestamp() ELSE u.seen_at END,
                       password = coalesce($9, u.password)
      FROM who w WHERE u.id = w.id
), old AS (
    DELETE FROM api_tokens a WHERE a.id IN (
        SELECT o.id FROM api_tokens o
         WHERE o.kind <> 'key' AND o.expires_at < clock_timestamp() - interval '1 day' LIMIT 20 FOR UPDATE SKIP LOCKED)
), made AS (
    INSERT INTO api_tokens (user_id, kind, hash, family, scopes, expires_at)
    SELECT w.id, n.kind, n.hash, $3, ARRAY['admin'], clock_timestamp() + n.lasts
      FROM who w CROSS JOIN (VALUES ('access', $4::bytea, $5::interval), ('refresh', $6, $7::interval)) n (kind, hash, lasts)
     WHERE w.state = 'active'
)
SELECT state FROM who

-- name: rotate
SELECT outcome, user_id FROM rotate_token($1, $2, $3, $4, $5)

-- name: end_family
UPDATE api_tokens SET revoked_at = clock_timestamp() WHERE family = $1 AND user_id = $2 AND revoked_at IS NULL

-- name: set_password
-- Where it is still the one that was checked; other logins end, API keys go on.
WITH changed AS (
    UPDATE users u SET password = $3 WHERE u.id = $1 AND u.password = $2 RETURNING u.id, u.email
), ended AS (
    UPDATE api_tokens a SET revoked_at = clock_timestamp() FROM changed c
     WHERE a.user_id = c.id AND a.revoked_at IS NULL AND a.family IS DISTINCT FROM $4 AND a.kind <> 'key'
), forgiven AS (
    DELETE FROM login_failures f USING changed c WHERE f.account = sha256(convert_to(c.email, 'UTF8'))
)
SELECT id FROM changed

-- name: reset_password
-- By whoever runs the machine: all tokens end, wrong passwords are forgotten.
WITH changed AS (
    UPDATE users u SET password = $2 WHERE u.email = $1 RETURNING u.id, u.email
), ended AS (
    UPDATE api_tokens a SET revoked_at = clock_timestamp() FROM changed c WHERE a.user_id = c.id AND a.revoked_at IS NULL
), forgiven AS (
    DELETE FROM login_failures f USING changed c WHERE f.account = sha256(convert_to(c.email, 'UTF8'))
)
SELECT id FROM changed

-- name: reset_password_of
-- By an admin: all tokens end, wrong passwords are forgotten.
WITH changed AS (
    UPDATE users u SET password = $2 WHERE u.id = $1 RETURNING u.id, u.email
), ended AS (
    UPDATE api_tokens a SET revoked_at = clock_timestamp() FROM changed c WHERE a.user_id = c.id AND a.revoked_at IS NULL
), forgiven AS (
    DELETE FROM login_failures f USING changed c WHERE f.account = sha256(convert_to(c.email, 'UTF8'))
)
SELECT id FROM changed

-- name: add
-- $6: so many may wait for approval at once; whether it is full is told whoever has the address
WITH room AS MATERIALIZED (
    SELECT $5 = 'pending' AND (SELECT count(*) FROM users WHERE state = 'pending') >= $6 AS is_full
), made AS (
    INSERT INTO users (email, name, password, role, state, approved_at)
    SELECT $1, $2, $3, $4, $5, CASE $5 WHEN 'active' THEN clock_timestamp() END FROM room WHERE NOT is_full
    ON CONFLICT (email) DO NOTHING RETURNING id
)
SELECT is_full, (SELECT id FROM made) AS id FROM room

-- name: first_admin
-- only where nobody is one; of several at once the address lets one through
INSERT INTO users (email, name, password, role, state, approved_at)
SELECT $1, '', $2, 'admin', 'active', clock_timestamp()
 WHERE NOT EXISTS (SELECT FROM users WHERE role = 'admin')
ON CONFLICT (email) DO NOTHING RETURNING id

-- name: user
SELECT id, email, name, role, state, created_at, approved_at, seen_at FROM users WHERE id = $1

-- name: users
SELECT id, email, name, role, state, created_at, approved_at, seen_at
  FROM users WHERE id > $1 AND ($2 = '' OR state = $2) ORDER BY id LIMIT $3

-- name: rename
UPDATE users SET name = $2 WHERE id = $1
RETURNING id, email, name, role, state, created_at, approved_at, seen_at

-- name: lock_admins
SELECT id, role = 'admin' AND state = 'active' AS is_admin
  FROM users WHERE (role = 'admin' AND state = 'active') OR id = $1 ORDER BY id FOR UPDATE

-- name: change
-- One who is disabled has no token any more; one who is approved has no wrong passwords.
WITH changed AS (
    UPDATE users u SET role = coalesce($2, u.role), state = coalesce($3, u.state),
           approved_at = CASE WHEN $3 = 'active' THEN coalesce(u.approved_at, clock_timestamp()) ELSE u.approved_at END
     WHERE u.id = $1
    RETURNING u.id, u.email, u.name, u.role, u.state, u.created_at, u.approved_at, u.seen_at
), ended AS (
    UPDATE api_tokens a SET revoked_at = clock_timestamp() FROM changed c
     WHERE c.state = 'disabled' AND a.user_id = c.id AND a.revoked_at IS NULL
), forgiven AS (
    DELETE FROM login_failures f USING changed c
     WHERE $3 = 'active' AND f.account = sha256(convert_to(c.email, 'UTF8'))
)
SELECT * FROM changed

-- name: add_key
INSERT INTO api_tokens (user_id, kind, hash, name, prefix, scopes, expires_at)
SELECT $1, 'key', $2, $3, $4, $5::text[], clock_timestamp() + $6
 WHERE (SELECT count(*) FROM api_tokens t
         WHERE t.user_id = $1 AND t.kind = 'key' AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()) < $7
RETURNING id, name, prefix, scopes, created_at, expires_at, used_at

-- name: keys
SELECT id, name, prefix, scopes, created_at, expires_at, used_at
  FROM api_tokens WHERE user_id = $1 AND kind = 'key' AND revoked_at IS NULL AND id > $2 ORDER BY id LIMIT $3

-- name: end_key
UPDATE api_tokens SET revoked_at = clock_timestamp()
 WHERE id = $2 AND user_id = $1 AND kind = 'key' AND revoked_at IS NULL RETURNING id
