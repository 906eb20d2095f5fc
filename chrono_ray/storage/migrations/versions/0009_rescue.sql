-- What was lost or held up goes on.

-- Up to when finished runs have listed a domain in an archive, less the overlap: 14 digits, or empty
-- where nothing was. A run that only looked at chosen captures, or only planned, listed nothing for
-- good; neither did one with a hole: listings come by URL, so a part of one has the newest dates too.
CREATE OR REPLACE FUNCTION listed_since(p_domain int, p_archive text, p_overlap interval) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT coalesce(to_char((max(s.newest) - p_overlap) AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS'), '')
      FROM runs r JOIN slices s ON s.run_id = r.id
     WHERE r.domain_id = p_domain AND r.archive = p_archive AND r.state = 'done' AND r.goal = 'collect'
       AND NOT EXISTS (SELECT FROM slices h WHERE h.run_id = r.id AND h.state = 'hole')
$$;

-- How often a fetch was lost with its worker since it last came back by itself. Once says nothing of it:
-- it goes among the others again. Twice: it is a suspect (`alone`), leased with up to 7 suspects and
-- nothing else beside them. More often: by itself, and only then a loss is charged to it (`crashes`).
ALTER TABLE queue ADD COLUMN lost smallint NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN lost smallint NOT NULL DEFAULT 0;

-- `tat` of a budget is when its next slot may be. The last one given lay within the horizon when it was
-- given, so the next is a step behind the horizon at most: what lies further was written by a clock that
-- was ahead, and is set back to that. It stays a step behind every slot that was given: nothing is sent
-- sooner than without it.

-- Slots of one budget: how many, when the first is (seconds from now), how far apart they are; or,
-- with `granted` 0, how long to wait before asking again.
CREATE OR REPLACE FUNCTION take_slots(p_archive text, p_kind text, p_egress text, p_wanted int, p_horizon interval)
RETURNS TABLE (granted int, delay float8, step float8, wait float8)
LANGUAGE plpgsql AS $$
DECLARE
    b archive_budgets;
    v_now timestamptz;
    v_start timestamptz;
    v_step interval;
BEGIN
    SELECT * INTO b FROM archive_budgets a
     WHERE a.archive = p_archive AND a.kind = p_kind AND a.egress = p_egress;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no budget for % % %', p_archive, p_kind, p_egress USING ERRCODE = 'no_data_found';
    END IF;
    IF b.step > interval '0' THEN
        SELECT * INTO b FROM archive_budgets a
         WHERE a.archive = p_archive AND a.kind = p_kind AND a.egress = p_egress FOR UPDATE;
    END IF;
    v_now := clock_timestamp();
    IF b.paused_until > v_now THEN
        RETURN QUERY SELECT 0, 0::float8, 0::float8, extract(epoch FROM b.paused_until - v_now)::float8;
        RETURN;
    END IF;
    IF b.step = interval '0' THEN
        RETURN QUERY SELECT p_wanted, 0::float8, 0::float8, 0::float8;
        RETURN;
    END IF;
    v_step := budget_step(b, v_now);
    IF b.tat > v_now + p_horizon + v_step THEN
        b.tat := v_now + p_horizon + v_step;
        UPDATE archive_budgets a SET tat = b.tat WHERE a.archive = p_archive AND a.kind = p_kind AND a.egress = p_egress;
    END IF;
    IF b.tat > v_now + p_horizon THEN
        RETURN QUERY SELECT 0, 0::float8, 0::float8, extract(epoch FROM b.tat - v_now - p_horizon)::float8;
        RETURN;
    END IF;
    v_start := greatest(b.tat, v_now);
    granted := least(p_wanted, 1 + floor(extract(epoch FROM v_now + p_horizon - v_start) / extract(epoch FROM v_step))::int);
    UPDATE archive_budgets a SET tat = v_start + granted * v_step
     WHERE a.archive = p_archive AND a.kind = p_kind AND a.egress = p_egress;
    RETURN QUERY SELECT granted, extract(epoch FROM v_start - v_now)::float8, extract(epoch FROM v_step)::float8, 0::float8;
END $$;

-- When somebody who can ask that archive from there last said so; who works does it again and again.
ALTER TABLE archive_budgets ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();

-- What an archive may be asked now: without egresses that nobody has used for five minutes while others
-- were. Where all are as old, as when nobody works, all count.
CREATE VIEW budgets_in_use AS
SELECT b.archive, b.kind, b.egress, b.per_minute, b.step, b.paused_until
  FROM (SELECT a.*, max(a.seen_at) OVER (PARTITION BY a.archive) AS newest FROM archive_budgets a) b
 WHERE b.seen_at >= b.newest - interval '5 minutes';

-- A batch of fetches, fenced by a token that is the caller's own (it can give back what a lost answer
-- brought), each with its slot. Class by ticket, run by weight inside the class. A batch is either of
-- suspects (queue.alone) or of others. With nothing to give: one row without a fetch, `delay` says how
-- long to wait. Unused slots go back in the same transaction.
CREATE OR REPLACE FUNCTION claim(p_worker text, p_egress text, p_wanted int, p_lease interval, p_horizon interval, p_archives text[], p_token uuid)
RETURNS TABLE (fetch_id bigint, run_id bigint, attempts smallint, alone boolean, capture_id bigint,
               archive text, urlkey text, ts text, original text, mimetype text, statuscode text,
               digest text, locator text, token uuid, delay float8, step float8, order_key bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_token uuid := p_token;
    v_now timestamptz;
    v_wait float8 := NULL;
    v_budget archive_budgets;
    r record;
    -- one element per budget that may be used
    b_name text[] := '{}'; b_room int[] := '{}'; b_start timestamptz[] := '{}'; b_step interval[] := '{}';
    -- one element per run that may be claimed from, sorted by class
    c_run bigint[]; c_class int[]; c_weight float8[]; c_budget int[]; c_count int[]; c_turns int[]; c_floor bigint[];
    -- while the same budgets have room: weights summed up over the runs, and each class's part of it
    c_sum float8[]; k_begin float8[]; k_end float8[]; k_last int[];
    v_pattern smallint[]; v_mask int := 0; v_class int; v_ticket bigint; v_frac float8;
    v_pick int; v_got int; v_wanted int; n int;
    -- suspects: which turn looks for them, the room that there was before it, and where they are
    v_look int; b_most int[]; v_lost smallint; v_tids tid[] := NULL;
BEGIN
    FOR v_budget IN
        SELECT a.* FROM archive_budgets a
         WHERE a.kind = 'replay' AND a.egress = p_egress
           AND a.archive IN (SELECT u.archive FROM runs u WHERE u.state = 'active' AND u.ready AND u.goal <> 'plan')
           AND a.archive = ANY (p_archives)
         ORDER BY a.archive
    LOOP
        v_now := clock_timestamp();
        IF v_budget.step > interval '0' AND v_budget.paused_until <= v_now
           AND (v_budget.tat <= v_now + p_horizon OR v_budget.tat > v_now + p_horizon + budget_step(v_budget, v_now)) THEN
            SELECT a.* INTO v_budget FROM archive_budgets a
             WHERE a.archive = v_budget.archive AND a.kind = 'replay' AND a.egress = p_egress FOR UPDATE;
            v_now := clock_timestamp();
            IF v_budget.tat > v_now + p_horizon + budget_step(v_budget, v_now) THEN
                -- a clock that was ahead (take_slots)
                v_budget.tat := v_now + p_horizon + budget_step(v_budget, v_now);
                UPDATE archive_budgets a SET tat = v_budget.tat
                 WHERE a.archive = v_budget.archive AND a.kind = 'replay' AND a.egress = p_egress;
            END IF;
        END IF;
        IF v_budget.paused_until > v_now THEN
            v_wait := least(v_wait, extract(epoch FROM v_budget.paused_until - v_now)::float8);
        ELSIF v_budget.step = interval '0' THEN
            b_name := b_name || v_budget.archive; b_room := b_room || p_wanted;
            b_start := b_start || v_now; b_step := b_step || interval '0';
        ELSIF v_budget.tat > v_now + p_horizon THEN
            v_wait := least(v_wait, extract(epoch FROM v_budget.tat - v_now - p_horizon)::float8);
        ELSE
            b_name := b_name || v_budget.archive;
            b_start := b_start || greatest(v_budget.tat, v_now);
            b_step := b_step || budget_step(v_budget, v_now);
            n := cardinality(b_name);
            b_room := b_room || (1 + floor(extract(epoch FROM v_now + p_horizon - b_start[n]) / extract(epoch FROM b_step[n]))::int);
        END IF;
    END LOOP;

    SELECT array_agg(u.id), array_agg(u.class::int), array_agg(u.w), array_agg(u.b), array_agg(0), array_agg(u.floor_key)
      INTO c_run, c_class, c_weight, c_budget, c_count, c_floor
      FROM (SELECT u.id, u.class, u.floor_key, array_position(b_name, u.archive) AS b,
                   p.weight::float8 / count(*) OVER (PARTITION BY u.class, u.project_id) AS w
              FROM runs u JOIN projects p ON p.id = u.project_id
             WHERE u.state = 'active' AND u.ready AND u.goal <> 'plan' AND u.archive = ANY (b_name)
             ORDER BY u.class, u.id) u;
    IF c_run IS NULL THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, 0::smallint, false, NULL::bigint, ''::text, ''::text, ''::text,
            ''::text, ''::text, ''::text, ''::text, ''::text, v_token, v_wait, 0::float8, 0::bigint;
        RETURN;
    END IF;

    -- by chance: classes whose turns fall on other tickets than a batch's first would never be looked at
    SELECT 1 + floor(random() * least(p_wanted, sum(m)))::int INTO v_look FROM unnest(b_room) m;
    b_most := b_room;
    FOR i IN 1..p_wanted LOOP
        IF c_sum IS NULL THEN
            -- a run whose archive has no room left weighs nothing: it is passed over, not ahead
            SELECT array_agg(x.s ORDER BY x.i) INTO c_sum
              FROM (SELECT t.i, sum(CASE WHEN b_room[t.b] > 0 THEN t.w ELSE 0 END) OVER (ORDER BY t.i) AS s
                      FROM unnest(c_weight, c_budget) WITH ORDINALITY AS t (w, b, i)) x;
            k_begin := '{}'; k_end := '{}'; k_last := '{}'; v_mask := 0;
            FOR r IN
                SELECT t.class, max(t.i)::int AS last, min(t.s - t.w) AS s0, max(t.s) AS s1
                  FROM (SELECT c.class, c.i, c.s, c.w FROM unnest(c_class, c_weight, c_budget, c_sum)
                               WITH ORDINALITY AS c (class, w, b, s, i) WHERE b_room[c.b] > 0) t
                 GROUP BY t.class
            LOOP
                k_begin[r.class] := r.s0; k_end[r.class] := r.s1; k_last[r.class] := r.last;
                v_mask := v_mask | (1 << r.class);
            END LOOP;
            EXIT WHEN v_mask = 0;
            SELECT k.pattern INTO v_pattern FROM class_pattern k WHERE k.mask = v_mask;
        END IF;
        v_ticket := nextval('ticket');
        v_class := v_pattern[1 + v_ticket % cardinality(v_pattern)];
        v_frac := v_ticket * 0.6180339887498949::float8;
        v_pick := least(k_last[v_class],
            1 + width_bucket(k_begin[v_class] + (v_frac - floor(v_frac)) * (k_end[v_class] - k_begin[v_class]), c_sum));
        IF i = v_look THEN
            -- Suspects have their run's turn like any other; the partial index finds them. Few are leased
            -- together, then each alone, so that a crash is charged to the guilty.
            SELECT q.lost INTO v_lost FROM queue q WHERE q.alone AND q.run_id = c_run[v_pick]
             LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF FOUND THEN
                SELECT array_agg(s.tid) INTO v_tids
                  FROM (SELECT q.ctid AS tid FROM queue q WHERE q.alone AND q.run_id = c_run[v_pick] AND q.lost = v_lost
                         LIMIT CASE WHEN v_lost = 2 THEN least(8, p_wanted, b_most[c_budget[v_pick]]) ELSE 1 END
                           FOR UPDATE SKIP LOCKED) s;
                c_count := array_fill(0, ARRAY[cardinality(c_run)]);
                EXIT;
            END IF;
        END IF;
        c_count[v_pick] := c_count[v_pick] + 1;
        n := c_budget[v_pick];
        b_room[n] := b_room[n] - 1;
        IF b_room[n] = 0 THEN c_sum := NULL; END IF;
    END LOOP;

    v_now := clock_timestamp();
    RETURN QUERY
        WITH pick AS MATERIALIZED (
            SELECT p.run, p.n, p.floor, p.b, p.i FROM unnest(c_run, c_count, c_floor, c_budget)
                   WITH ORDINALITY AS p (run, n, floor, b, i) WHERE p.n > 0
        ), got AS MATERIALIZED (
            SELECT q.*, p.b, p.i FROM pick p CROSS JOIN LATERAL (
                SELECT q.ctid AS tid, q.* FROM queue q
                 WHERE q.run_id = p.run AND q.order_key >= p.floor AND NOT q.alone
                 ORDER BY q.order_key LIMIT p.n FOR UPDATE SKIP LOCKED) q
             UNION ALL
            SELECT q.ctid, q.*, c_budget[v_pick], 0 FROM queue q WHERE q.ctid = ANY (v_tids)
        ), gone AS (
            DELETE FROM queue WHERE ctid = ANY (ARRAY (SELECT g.tid FROM got g))
        ), leased AS (
            INSERT INTO leases (fetch_id, run_id, order_key, attempts, crashes, alone, lost, capture_id, token, worker, leased_until)
            SELECT g.fetch_id, g.run_id, g.order_key, g.attempts, g.crashes, g.alone, g.lost, g.capture_id,
                   v_token, p_worker, clock_timestamp() + p_lease FROM got g
        )
        SELECT g.fetch_id, g.run_id, g.attempts, g.alone, g.capture_id, g.archive, g.urlkey, g.ts, g.original,
               g.mimetype, g.statuscode, g.digest, g.locator, v_token,
               extract(epoch FROM b_start[g.b] - v_now
                   + b_step[g.b] * (row_number() OVER (PARTITION BY g.b ORDER BY g.i, g.order_key) - 1))::float8,
               extract(epoch FROM b_step[g.b])::float8, g.order_key
          FROM got g ORDER BY g.i, g.order_key;
    GET DIAGNOSTICS v_got = ROW_COUNT;
    SELECT sum(k) INTO v_wanted FROM unnest(c_count) k;
    IF v_tids IS NOT NULL THEN
        c_count[v_pick] := v_got;
    ELSIF v_got < v_wanted THEN
        -- some runs gave less than their turns (dry, or others had their rows locked): the slots that
        -- they did not use go back
        c_turns := c_count;
        SELECT array_agg(coalesce(l.n, 0)::int ORDER BY c.i) INTO c_count
          FROM unnest(c_run) WITH ORDINALITY AS c (run, i)
          LEFT JOIN (SELECT l.run_id, count(*) AS n FROM leases l WHERE l.token = v_token GROUP BY l.run_id) l ON l.run_id = c.run;
        UPDATE runs u SET ready = false FROM unnest(c_run, c_count, c_turns) AS c (run, got, turns)
         WHERE u.id = c.run AND c.got < c.turns AND u.ready
           AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.run_id = u.id);
    END IF;
    FOR j IN 1..cardinality(c_run) LOOP
        CONTINUE WHEN c_count[j] = 0;
        b_start[c_budget[j]] := b_start[c_budget[j]] + c_count[j] * b_step[c_budget[j]];
    END LOOP;

    FOR j IN 1..cardinality(b_name) LOOP
        IF b_step[j] > interval '0' THEN
            UPDATE archive_budgets a SET tat = greatest(a.tat, b_start[j])
             WHERE a.archive = b_name[j] AND a.kind = 'replay' AND a.egress = p_egress AND a.tat < b_start[j];
        END IF;
    END LOOP;
    IF v_got = 0 THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, 0::smallint, false, NULL::bigint, ''::text, ''::text, ''::text,
            ''::text, ''::text, ''::text, ''::text, ''::text, v_token, 0::float8, 0::float8, 0::bigint;
    END IF;
END $$;
