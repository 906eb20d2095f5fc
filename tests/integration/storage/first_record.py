"""A database as the first release left it, with rows in every state that matters later."""

from __future__ import annotations

from datetime import timedelta

import alembic.command
from alembic.config import Config
from sqlalchemy import Connection

from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import FOLDER
from chrono_ray.storage.projects import Collection
from chrono_ray.storage.stats import Stats
from tests.integration.storage.making import Record, stored

QUEUED = 6
ROWS = f"""
INSERT INTO projects (name) VALUES ('p');
INSERT INTO domains (project_id, url, match) VALUES
    (1, 'http://a.example/', 'domain'), (1, 'http://b.example/', 'domain');
INSERT INTO runs (project_id, domain_id, archive, ready, state, floor_key) VALUES
    (1, 1, 'wayback', true, 'active', 1), (1, 2, 'wayback', false, 'done', 0);
INSERT INTO slices (run_id, state) VALUES (1, 'listed'), (2, 'listed');
INSERT INTO fetches (project_id, share_key, run_id, capture_id)
SELECT 1, decode(md5(n::text) || '00000000', 'hex'), 1, n FROM generate_series(1, {QUEUED}) n;
INSERT INTO captures (domain_id, run_id, fetch_id, archive, key, url_id, urlkey, ts, instant,
                      original, mimetype, statuscode, digest)
SELECT 1, 1, n, 'wayback', decode(md5(n::text), 'hex'), decode(md5(n::text), 'hex'),
       'example,a)/' || n, '20100101000000', '2010-01-01 00:00:00+00', 'http://a.example/' || n,
       'text/html', '200', md5(n::text)
  FROM generate_series(1, {QUEUED}) n;
INSERT INTO captures (domain_id, run_id, archive, key, url_id, urlkey, ts, instant, original,
                      mimetype, statuscode, digest, reason, rule)
SELECT 2, 2, 'wayback', decode(md5(n::text), 'hex'), decode(md5(n::text), 'hex'), 'example,b)/',
       n || '0101000000', make_timestamptz(n, 1, 1, 0, 0, 0, 'UTC'), 'http://b.example/',
       'text/html', '404', md5(n::text), 'not_found', 'not_found'
  FROM unnest(ARRAY[2004, 2999]) n;
INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype,
                   statuscode, digest, locator)
SELECT fetch_id, 1, id, id, archive, urlkey, ts, original, mimetype, statuscode, digest, ''
  FROM captures WHERE run_id = 1;
INSERT INTO domain_counters (domain_id, run_id, state, reason, n) VALUES
    (1, 1, 'discovered', '', {QUEUED}), (2, 2, 'discovered', '', 3),
    (2, 2, 'skipped', 'not_found', 2), (2, 2, 'stored', '', 1);
WITH y AS (
    INSERT INTO payloads (sha256, sha1, size) VALUES (sha256('one'), '', 3) RETURNING id
), t AS (
    INSERT INTO documents (payload_id, extractor, charset, media_type, title, text, author,
                           language, words, description, canonical, links, flags, replaced)
    SELECT id, 'test/1', 'utf-8', 'text/html', '', 'one', '', 'en', 1, '', '', '[]', '{{}}', 0
      FROM y RETURNING id, payload_id
), f AS (
    INSERT INTO fetches (project_id, share_key, run_id, capture_id, state, payload_id, document_id)
    SELECT 1, 'one', 2, 1000, 'stored', payload_id, id FROM t RETURNING id, payload_id, document_id
), c AS (
    INSERT INTO captures (id, domain_id, run_id, fetch_id, archive, key, url_id, urlkey, ts,
                          instant, original, mimetype, statuscode, digest)
    SELECT 1000, 2, 2, id, 'wayback', 'one', 'one', 'example,b)/one', '20020101000000',
           '2002-01-01Z', 'http://b.example/one', 'text/html', '200', 'ONE' FROM f
)
INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id, first_seen,
                   last_seen, captures)
SELECT 1, 2, 'one', 'example,b)/one', 'http://b.example/one', payload_id, document_id,
       '2002-01-01Z', '2002-01-01Z', 1 FROM f
"""


async def make_first(database: Database) -> None:
    """The schema of revision 0001, a run with captures to fetch and one that is done."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")

    async with database.begin() as connection:
        await connection.run_sync(upgrade)
    async with database.connection() as driver:
        await driver.execute(ROWS)


async def goes_on(record: Record) -> None:
    """What waits is fetched, what is done is known."""
    await record.unlimited("wayback")
    leases = await record.claim()
    assert len(leases) == QUEUED
    await record.settling.settle([stored(lease) for lease in leases])
    await record.frontier().sweep()
    assert await record.state_of(1) == "done"
    assert await record.faults() == []
    assert (await Stats(record.database).pages(2)).pages == 1
    site = Scope("http://b.example/", MatchType.DOMAIN)
    wanted = Collection(site, "p", ("wayback",), since=timedelta(days=1))
    [again] = (await record.projects.begin(wanted)).run_ids
    assert (await record.projects.run(again)).scope.start == "20031231000000"
