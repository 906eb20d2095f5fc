"""Pages made straight in the record, an indexer over them, and what must agree in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chrono_ray.pipeline.index import Indexing
from chrono_ray.search.base import SearchIndex
from chrono_ray.search.batch import BatchLimits
from chrono_ray.storage.database import Database
from chrono_ray.storage.outbox import Outbox
from chrono_ray.storage.rebuilds import Rebuilds
from tests.integration.storage.making import until
from tests.support.meilisearch import FakeMeilisearch


@dataclass
class Place:
    """Where an index stands; every `writer` is a new process's, and one lives at a time."""

    writer: Callable[[], SearchIndex]
    reader: SearchIndex
    server: FakeMeilisearch | None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SearchIndex]:
        index = self.writer()
        try:
            yield index
        finally:
            await index.aclose()


LIMITS = BatchLimits(documents=20, size=10**6, seconds=0.02)


MAKE = """
WITH p AS (
    INSERT INTO projects (name) VALUES ('town')
    ON CONFLICT (owner_id, name) DO UPDATE SET weight = 1 RETURNING id
), d AS (
    INSERT INTO domains (project_id, url, match) SELECT id, 'http://a.example/', 'domain' FROM p
    ON CONFLICT (project_id, url, match) DO UPDATE SET url = excluded.url RETURNING id, project_id
), y AS (
    INSERT INTO payloads (sha256, sha1, size)
    SELECT sha256(gen_random_uuid()::text::bytea), '', 1 FROM generate_series(1, $1) RETURNING id
), t AS (
    INSERT INTO documents (payload_id, extractor, charset, media_type, title, text, author,
                           language, words, description, canonical, links, flags, replaced)
    SELECT id, 'test/1', 'utf-8', 'text/html', 'written', 'text of ' || id, '',
           'en', 3, '', '', '[]', '{}', 0 FROM y RETURNING id, payload_id
), g AS (
    INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id,
                       first_seen, last_seen, captures)
    SELECT d.project_id, d.id, sha256(t.id::text::bytea), 'example,a)/' || t.id,
           'http://a.example/' || t.id, t.payload_id, t.id, '2001-01-01Z', '2001-01-01Z', 1
      FROM t, d RETURNING id
)
INSERT INTO outbox (page_id, op) SELECT id, 'upsert' FROM g RETURNING page_id
"""

CHANGE = """
WITH g AS (
    UPDATE pages SET captures = captures + 1, last_seen = last_seen + interval '1 day'
     WHERE id = ANY ($1::bigint[]) RETURNING id
)
INSERT INTO outbox (page_id, op) SELECT id, 'upsert' FROM g
"""


async def make_pages(database: Database, count: int) -> list[int]:
    """So many more pages, each with a document of its own, queued for the index."""
    return sorted(row["page_id"] for row in await database.fetch(MAKE, count))


async def change_pages(database: Database, ids: Sequence[int]) -> None:
    """Each was captured once more."""
    await database.fetch(CHANGE, list(ids))


async def drop_pages(database: Database, ids: Sequence[int]) -> None:
    await database.fetch(
        "WITH g AS (DELETE FROM pages WHERE id = ANY ($1::bigint[]) RETURNING id)"
        " INSERT INTO outbox (page_id, op) SELECT id, 'delete' FROM g",
        list(ids),
    )


async def recorded(database: Database) -> dict[int, int]:
    """Every page of the record and its version, without those that the index refuses."""
    rows = await database.fetch(
        "SELECT p.id, page_version(p, p.project_id::text, d.url) AS version FROM pages p"
        " JOIN domains d ON d.id = p.domain_id"
        " WHERE p.index_error = ''"
    )
    return {row["id"]: row["version"] for row in rows}


async def held(index: SearchIndex) -> dict[int, int]:
    """What the index holds; a page that stands there twice is an error."""
    found = [each async for each in index.held()]
    assert len(found) == len({each.id for each in found}), "a page stands twice in the index"
    return {each.id: each.version for each in found}


async def assert_same(database: Database, index: SearchIndex) -> None:
    there, here = await held(index), await recorded(database)
    assert there == here, (sorted(set(here) - set(there))[:5], sorted(set(there) - set(here))[:5])


def indexing(database: Database, index: SearchIndex, *, limits: BatchLimits = LIMITS) -> Indexing:
    return Indexing(Outbox(database), Rebuilds(database), index, limits=limits)


@asynccontextmanager
async def working(indexer: Indexing) -> AsyncIterator[asyncio.Task[None]]:
    """While entered the indexer runs, then it is drained."""
    stop = asyncio.Event()
    task = asyncio.create_task(indexer.run(stop))
    try:
        yield task
    finally:
        stop.set()
        if not task.cancelled():
            await task


async def until_settled(database: Database, *, seconds: float = 30) -> None:
    """Nothing waits for the index, and no rebuild is under way."""

    async def settled() -> bool:
        found = await database.fetchval(
            "SELECT (SELECT count(*) FROM outbox)"
            " + (SELECT count(*) FROM index_rebuilds WHERE state NOT IN ('done', 'failed'))"
        )
        return found == 0

    await until(settled, seconds=seconds)


async def free_leases(database: Database) -> None:
    """As if a minute had passed since whoever held them died."""
    for table in ("outbox", "index_rebuilds"):
        await database.fetch(
            f"UPDATE {table} SET leased_until = clock_timestamp() - interval '1s'"
            " WHERE token IS NOT NULL"
        )
