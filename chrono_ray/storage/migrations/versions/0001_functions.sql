-- Leave to send: the governor and the claim. PostgreSQL's clock only.

-- The interval between two requests now: the budget's own, stretched after a pause (4x at its end,
-- back to 1x over ten minutes), so that recovery goes in small steps.
CREATE FUNCTION budget_step(b archive_budgets, at timestamptz) RETURNS interval
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN b.paused_until = '-infinity' OR at >= b.paused_until + interval '10 minutes' THEN b.step
        ELSE b.step * (4 - 3 * extract(epoch FROM at - b.paused_until)::float8 / 600)
    END
$$;

-- Slots of one budget: how many, when the first is (seconds from now), how far apart they are; or,
-- with `granted` 0, how long to wait before asking again.
CREATE FUNCTION take_slots(p_archive text, p_kind text, p_egress text, p_wanted int, p_horizon interval)
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
    IF b.tat > v_now + p_horizon THEN
        RETURN QUERY SELECT 0, 0::float8, 0::float8, extract(epoch FROM b.tat - v_now - p_horizon)::float8;
        RETURN;
    END IF;
    v_start := greatest(b.tat, v_now);
    v_step := budget_step(b, v_now);
    granted := least(p_wanted, 1 + floor(extract(epoch FROM v_now + p_horizon - v_start) / extract(epoch FROM v_step))::int);
    UPDATE archive_budgets a SET tat = v_start + granted * v_step
     WHERE a.archive = p_archive AND a.kind = p_kind AND a.egress = p_egress;
    RETURN QUERY SELECT granted, extract(epoch FROM v_start - v_now)::float8, extract(epoch FROM v_step)::float8, 0::float8;
END $$;

-- A batch of fetches, fenced by a fresh token, each with its slot. Class by ticket, run by weight
-- inside the class. With nothing to give: one row without a fetch, `delay` says how long to wait.
-- Unused slots go back in the same transaction.
CREATE FUNCTION claim(p_worker text, p_egress text, p_wanted int, p_lease interval, p_horizon interval, p_archives text[])
RETURNS TABLE (fetch_id bigint, run_id bigint, attempts smallint, alone boolean, capture_id bigint,
               archive text, urlkey text, ts text, original text, mimetype text, statuscode text,
               digest text, locator text, token uuid, delay float8, step float8)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_token uuid := gen_random_uuid();
    v_now timestamptz;
    v_wait float8 := NULL;
    v_budget archive_budgets;
    r record;
    -- one element per budget that may be used
    b_name text[] := '{}'; b_room int[] := '{}'; b_start timestamptz[] := '{}'; b_step interval[] := '{}';
    -- one element per run that may be claimed from
    c_run bigint[]; c_class int[]; c_weight float8[]; c_budget int[]; c_count int[]; c_floor bigint[];
    v_pattern smallint[]; v_mask int; v_known_mask int := 0; v_class int; v_total float8; v_left float8; v_ticket bigint;
    v_pick int; v_alone bigint := NULL; v_got int := 0; n int;
BEGIN
    FOR v_budget IN
        SELECT a.* FROM archive_budgets a
         WHERE a.kind = 'replay' AND a.egress = p_egress
           AND a.archive IN (SELECT u.archive FROM runs u WHERE u.state = 'active' AND u.ready)
           AND a.archive = ANY (p_archives)
         ORDER BY a.archive
    LOOP
        v_now := clock_timestamp();
        IF v_budget.step > interval '0' AND v_budget.paused_until <= v_now AND v_budget.tat <= v_now + p_horizon THEN
            SELECT a.* INTO v_budget FROM archive_budgets a
             WHERE a.archive = v_budget.archive AND a.kind = 'replay' AND a.egress = p_egress FOR UPDATE;
            v_now := clock_timestamp();
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
             WHERE u.state = 'active' AND u.ready AND u.archive = ANY (b_name)
             ORDER BY u.id) u;
    IF c_run IS NULL THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, 0::smallint, false, NULL::bigint, ''::text, ''::text, ''::text,
            ''::text, ''::text, ''::text, ''::text, ''::text, v_token, v_wait, 0::float8;
        RETURN;
    END IF;

    FOR i IN 1..p_wanted LOOP
        v_mask := 0;
        FOR j IN 1..cardinality(c_run) LOOP
            IF b_room[c_budget[j]] > 0 THEN v_mask := v_mask | (1 << c_class[j]); END IF;
        END LOOP;
        EXIT WHEN v_mask = 0;
        IF v_mask <> v_known_mask THEN
            SELECT k.pattern INTO v_pattern FROM class_pattern k WHERE k.mask = v_mask;
            v_known_mask := v_mask;
        END IF;
        v_ticket := nextval('ticket');
        v_class := v_pattern[1 + v_ticket % cardinality(v_pattern)];
        v_total := 0;
        FOR j IN 1..cardinality(c_run) LOOP
            IF c_class[j] = v_class AND b_room[c_budget[j]] > 0 THEN v_total := v_total + c_weight[j]; END IF;
        END LOOP;
        v_left := (v_ticket * 0.6180339887498949::float8 - floor(v_ticket * 0.6180339887498949::float8)) * v_total;
        v_pick := NULL;
        FOR j IN 1..cardinality(c_run) LOOP
            IF c_class[j] = v_class AND b_room[c_budget[j]] > 0 THEN
                v_pick := j;
                v_left := v_left - c_weight[j];
                EXIT WHEN v_left < 0;
            END IF;
        END LOOP;
        IF i = 1 THEN
            -- A fetch whose worker died is leased alone next time, so that a crash is charged to the
            -- guilty. It has its run's turn like any other; the partial index finds it.
            SELECT q.order_key INTO v_alone FROM queue q WHERE q.alone AND q.run_id = c_run[v_pick]
             LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF FOUND THEN
                c_count[v_pick] := 1;
                c_floor[v_pick] := v_alone;
                EXIT;
            END IF;
        END IF;
        c_count[v_pick] := c_count[v_pick] + 1;
        b_room[c_budget[v_pick]] := b_room[c_budget[v_pick]] - 1;
    END LOOP;

    FOR j IN 1..cardinality(c_run) LOOP
        CONTINUE WHEN c_count[j] = 0;
        n := 0;
        FOR r IN
            WITH got AS MATERIALIZED (
                SELECT q.ctid AS tid, q.* FROM queue q
                 WHERE q.run_id = c_run[j] AND q.order_key >= c_floor[j] AND q.alone = (v_alone IS NOT NULL)
                 ORDER BY q.order_key LIMIT c_count[j] FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM queue WHERE ctid = ANY (ARRAY (SELECT g.tid FROM got g))
            ), leased AS (
                INSERT INTO leases (fetch_id, run_id, order_key, attempts, crashes, alone, capture_id, token, worker, leased_until)
                SELECT g.fetch_id, g.run_id, g.order_key, g.attempts, g.crashes, g.alone, g.capture_id,
                       v_token, p_worker, clock_timestamp() + p_lease FROM got g
            )
            SELECT * FROM got ORDER BY order_key
        LOOP
            fetch_id := r.fetch_id; run_id := r.run_id; attempts := r.attempts; alone := r.alone;
            capture_id := r.capture_id; archive := r.archive; urlkey := r.urlkey; ts := r.ts;
            original := r.original; mimetype := r.mimetype; statuscode := r.statuscode;
            digest := r.digest; locator := r.locator; token := v_token;
            step := extract(epoch FROM b_step[c_budget[j]]);
            delay := extract(epoch FROM b_start[c_budget[j]] - clock_timestamp());
            b_start[c_budget[j]] := b_start[c_budget[j]] + b_step[c_budget[j]];
            n := n + 1;
            v_got := v_got + 1;
            RETURN NEXT;
        END LOOP;
        IF n < c_count[j] AND v_alone IS NULL THEN
            UPDATE runs u SET ready = false WHERE u.id = c_run[j] AND u.ready
               AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.run_id = u.id);
        END IF;
    END LOOP;

    FOR j IN 1..cardinality(b_name) LOOP
        IF b_step[j] > interval '0' THEN
            UPDATE archive_budgets a SET tat = greatest(a.tat, b_start[j])
             WHERE a.archive = b_name[j] AND a.kind = 'replay' AND a.egress = p_egress AND a.tat < b_start[j];
        END IF;
    END LOOP;
    IF v_got = 0 THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, 0::smallint, false, NULL::bigint, ''::text, ''::text, ''::text,
            ''::text, ''::text, ''::text, ''::text, ''::text, v_token, 0::float8, 0::float8;
    END IF;
END $$;

-- An archive asked for silence: all its budgets, for everyone. Seconds double with each pause in a
-- row for the same reason (forgiven after 30 quiet minutes) unless the archive named its own.
-- Returns the pause's end.
CREATE FUNCTION pause_archive(p_archive text, p_reason text, p_seconds float8, p_doubling boolean, p_longest float8)
RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz;
    v_until timestamptz;
    v_pauses int;
    v_reason text;
BEGIN
    PERFORM 1 FROM archive_budgets WHERE archive = p_archive ORDER BY archive, kind, egress FOR UPDATE;
    v_now := clock_timestamp();
    SELECT max(paused_until), max(CASE WHEN paused_until < v_now - interval '30 minutes' OR pause_reason <> p_reason THEN 0 ELSE pauses END),
           max(pause_reason)
      INTO v_until, v_pauses, v_reason FROM archive_budgets WHERE archive = p_archive;
    -- several requests in flight meet the same throttling: that is one pause, not many. A ban seen
    -- while a shorter pause lasts is a pause of its own.
    IF v_until > v_now AND v_reason = p_reason THEN
        IF p_doubling THEN RETURN v_until; END IF;
        v_pauses := greatest(v_pauses - 1, 0);
    END IF;
    v_until := greatest(v_until, v_now + make_interval(secs =>
        CASE WHEN p_doubling THEN least(p_seconds * power(2, least(v_pauses, 20)), p_longest) ELSE p_seconds END));
    UPDATE archive_budgets SET paused_until = v_until, pause_reason = p_reason, pauses = v_pauses + 1
     WHERE archive = p_archive;
    RETURN v_until;
END $$;
