-- Accounts: who may ask over HTTP, and for what. Secrets are 256 random bits; only their SHA-256 is kept.

CREATE TABLE users (
    id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email       text NOT NULL UNIQUE,
    name        text NOT NULL DEFAULT '',
    password    text NOT NULL,
    role        text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'active', 'disabled')),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    approved_at timestamptz,
    seen_at     timestamptz
);
COMMENT ON COLUMN users.email IS 'as model/accounts.py normalises it: without case';
COMMENT ON COLUMN users.password IS 'argon2id, in its own encoding';
COMMENT ON COLUMN users.seen_at IS 'of the last login';

-- `access` and `refresh` come from a login and stand in its family; a `key` is made by hand and has none.
-- `used_at` of a refresh token: spent. Whoever brings a spent one ends its family.
CREATE TABLE api_tokens (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    int NOT NULL REFERENCES users ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('access', 'refresh', 'key')),
    hash       bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    family     uuid,
    name       text NOT NULL DEFAULT '',
    prefix     text NOT NULL DEFAULT '',
    scopes     text[] NOT NULL CHECK (scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    revoked_at timestamptz,
    CHECK ((kind = 'key') = (family IS NULL))
);
CREATE INDEX api_tokens_user ON api_tokens (user_id, id) WHERE revoked_at IS NULL;
CREATE INDEX api_tokens_family ON api_tokens (family) WHERE family IS NOT NULL;
CREATE INDEX api_tokens_expired ON api_tokens (expires_at) WHERE kind <> 'key';

-- Wrong passwords in a row. `account` is the SHA-256 of the e-mail that was typed, whoever has it;
-- `address` empty: from everywhere together.
CREATE TABLE login_failures (
    account  bytea NOT NULL,
    address  text NOT NULL,
    failures int NOT NULL DEFAULT 0,
    next_at  timestamptz NOT NULL DEFAULT '-infinity',
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account, address)
) WITH (fillfactor = 70);
CREATE INDEX login_failures_seen ON login_failures (seen_at);

-- A project without an owner was there before accounts, or the command on this machine made it: admins see it.
ALTER TABLE projects ADD COLUMN owner_id int REFERENCES users ON DELETE RESTRICT;
CREATE INDEX projects_owner ON projects (owner_id) WHERE owner_id IS NOT NULL;

-- Who else may read a project, or write in it. Its owner has no row here.
CREATE TABLE project_members (
    project_id int NOT NULL REFERENCES projects ON DELETE CASCADE,
    user_id    int NOT NULL REFERENCES users ON DELETE CASCADE,
    role       text NOT NULL CHECK (role IN ('read', 'write')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX project_members_user ON project_members (user_id);

-- What a request with an Idempotency-Key was answered. `request` tells its content from another's;
-- without `status` it is being worked on, by whoever holds `token`.
CREATE TABLE idempotency_keys (
    scope        text NOT NULL,
    key          bytea NOT NULL CHECK (octet_length(key) = 32),
    request      bytea NOT NULL CHECK (octet_length(request) = 32),
    token        uuid NOT NULL,
    leased_until timestamptz NOT NULL,
    status       smallint,
    body         bytea NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key)
) WITH (fillfactor = 70);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- The projects that a user may see and as what; all of them for an admin. Inlined where it is joined,
-- and each of its parts is found by an index.
CREATE FUNCTION visible_projects(p_user int, p_admin boolean) RETURNS TABLE (project_id int, role text)
LANGUAGE sql STABLE AS $$
    SELECT p.id, 'owner' FROM projects p WHERE p_admin
    UNION ALL
    SELECT p.id, 'owner' FROM projects p WHERE NOT p_admin AND p.owner_id = p_user
    UNION ALL
    SELECT p.id, m.role FROM project_members m JOIN projects p ON p.id = m.project_id
     WHERE NOT p_admin AND m.user_id = p_user AND p.owner_id IS DISTINCT FROM p_user
$$;

-- Leave to try a password, counted as a failure before it is tried: any number at once gain nothing.
-- Answers for how many seconds there is none. `p_delays[n]` seconds after the nth failure of an account
-- from an address; at `p_most` from everywhere there is none until the password is set anew.
CREATE FUNCTION begin_login(p_account bytea, p_address text, p_delays float8[], p_most int) RETURNS float8
LANGUAGE plpgsql AS $$
DECLARE
    v_total int;
    v_wait float8;
BEGIN
    DELETE FROM login_failures f WHERE (f.account, f.address) IN (
        SELECT o.account, o.address FROM login_failures o
         WHERE o.seen_at < clock_timestamp() - interval '1 day'
           AND (o.address <> '' OR o.seen_at < clock_timestamp() - interval '30 days') AND o.account <> p_account
         LIMIT 10 FOR UPDATE SKIP LOCKED);
    INSERT INTO login_failures (account, address) VALUES (p_account, '') ON CONFLICT DO NOTHING;
    SELECT f.failures INTO v_total FROM login_failures f WHERE f.account = p_account AND f.address = '' FOR UPDATE;
    IF v_total >= p_most THEN RETURN 86400; END IF;
    SELECT extract(epoch FROM f.next_at - clock_timestamp()) INTO v_wait
      FROM login_failures f WHERE f.account = p_account AND f.address = p_address AND isfinite(f.next_at);
    IF v_wait > 0 THEN RETURN v_wait; END IF;
    UPDATE login_failures SET failures = failures + 1, seen_at = clock_timestamp()
     WHERE account = p_account AND address = '';
    INSERT INTO login_failures AS f (account, address, failures, next_at)
    VALUES (p_account, p_address, 1, clock_timestamp() + p_delays[1] * interval '1 second')
    ON CONFLICT (account, address) DO UPDATE
       SET failures = f.failures + 1, seen_at = clock_timestamp(),
           next_at = clock_timestamp() + p_delays[least(f.failures + 1, cardinality(p_delays))] * interval '1 second';
    RETURN 0;
END $$;

-- A refresh token for a new pair, once. One that was spent or ended before ends all of its login.
CREATE FUNCTION rotate_token(p_hash bytea, p_access bytea, p_access_for interval, p_refresh bytea, p_refresh_for interval)
RETURNS TABLE (outcome text, user_id int) LANGUAGE plpgsql AS $$
DECLARE
    t api_tokens%ROWTYPE;
    v_active boolean;
BEGIN
    SELECT a.* INTO t FROM api_tokens a WHERE a.hash = p_hash AND a.kind = 'refresh' FOR UPDATE;
    IF NOT FOUND OR t.expires_at <= clock_timestamp() THEN
        RETURN QUERY SELECT 'unknown', t.user_id;
        RETURN;
    END IF;
    IF t.used_at IS NOT NULL OR t.revoked_at IS NOT NULL THEN
        UPDATE api_tokens a SET revoked_at = clock_timestamp() WHERE a.family = t.family AND a.revoked_at IS NULL;
        RETURN QUERY SELECT 'reused', t.user_id;
        RETURN;
    END IF;
    SELECT u.state = 'active' INTO v_active FROM users u WHERE u.id = t.user_id FOR SHARE;
    IF NOT v_active THEN
        RETURN QUERY SELECT 'unknown', t.user_id;
        RETURN;
    END IF;
    UPDATE api_tokens a SET used_at = clock_timestamp() WHERE a.id = t.id;
    INSERT INTO api_tokens (user_id, kind, hash, family, scopes, expires_at)
    VALUES (t.user_id, 'access', p_access, t.family, t.scopes, clock_timestamp() + p_access_for),
           (t.user_id, 'refresh', p_refresh, t.family, t.scopes, clock_timestamp() + p_refresh_for);
    RETURN QUERY SELECT 'rotated', t.user_id;
END $$;

-- The right to work on a request, or what became of it: `ours`, `other` (another request has this key),
-- `busy` for `wait` seconds more at most, or `kept` with its answer. Answers are kept for a day.
CREATE FUNCTION claim_key(p_scope text, p_key bytea, p_request bytea, p_token uuid, p_lease interval)
RETURNS TABLE (outcome text, status smallint, body bytea, wait float8) LANGUAGE plpgsql AS $$
DECLARE
    k idempotency_keys%ROWTYPE;
BEGIN
    DELETE FROM idempotency_keys i WHERE (i.scope, i.key) IN (
        SELECT o.scope, o.key FROM idempotency_keys o WHERE o.created_at < clock_timestamp() - interval '1 day'
         LIMIT 10 FOR UPDATE SKIP LOCKED);
    INSERT INTO idempotency_keys AS i (scope, key, request, token, leased_until)
    VALUES (p_scope, p_key, p_request, p_token, clock_timestamp() + p_lease)
    ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO UPDATE
       SET token = excluded.token, leased_until = excluded.leased_until, request = excluded.request,
           status = NULL, body = '', created_at = clock_timestamp()
     WHERE i.created_at < clock_timestamp() - interval '1 day'
        OR (i.status IS NULL AND i.leased_until < clock_timestamp() AND i.request = excluded.request);
    IF FOUND THEN
        RETURN QUERY SELECT 'ours', NULL::smallint, NULL::bytea, 0::float8;
        RETURN;
    END IF;
    SELECT i.* INTO k FROM idempotency_keys i WHERE i.scope = p_scope AND i.key = p_key;
    RETURN QUERY SELECT
        CASE WHEN k.request IS NULL THEN 'busy' WHEN k.request <> p_request THEN 'other'
             WHEN k.status IS NULL THEN 'busy' ELSE 'kept' END,
        k.status, k.body, coalesce(extract(epoch FROM k.leased_until - clock_timestamp())::float8, 1);
END $$;
