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
