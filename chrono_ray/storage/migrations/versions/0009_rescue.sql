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
