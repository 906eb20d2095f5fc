"""The index dies, the indexer dies, a page is poison: nothing is lost, doubled or stuck."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from chrono_ray.model.errors import LeaseLost, SearchError, Unavailable
from chrono_ray.model.query import Query
from chrono_ray.pipeline import index as pipeline_index
from chrono_ray.pipeline.leased import renewed
from chrono_ray.search.batch import BatchLimits, remove
from chrono_ray.search.meilisearch import MeilisearchIndex
from chrono_ray.storage.database import Database
from chrono_ray.storage.outbox import Outbox
from tests.integration.pipeline.indexed import (
    assert_same,
    change_pages,
    drop_pages,
    free_leases,
    held,
    indexing,
    make_pages,
    until_settled,
    working,
)
from tests.integration.storage.making import until
from tests.support.meilisearch import FakeMeilisearch, running
from tests.support.meilisearch.pages import page
from tests.support.meilisearch.pages import until as until_here

ADDED = "documentAdditionOrUpdate"


@pytest.fixture
async def server() -> AsyncIterator[FakeMeilisearch]:
    async with running() as fake:
        yield fake


@pytest.fixture
async def index(server: FakeMeilisearch) -> AsyncIterator[MeilisearchIndex]:
    made = MeilisearchIndex(server.url, None)
    yield made
    await made.aclose()


def additions(server: FakeMeilisearch) -> int:
    return sum(task.kind == ADDED for task in server.tasks.values())


async def test_fault_2_an_indexer_dies_between_sending_and_knowing(
    server: FakeMeilisearch, index: MeilisearchIndex, database: Database
) -> None:
    ids = await make_pages(database, 30)
    await index.configure()
    server.hold = True
    dead = asyncio.create_task(indexing(database, index).step())
    await until_here(lambda: additions(server) == 1)
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)
    await change_pages(database, ids[:5])
    await free_leases(database)
    server.release()
    async with working(indexing(database, index)):
        await until_settled(database)
    assert additions(server) >= 3, "what was sent and not confirmed is sent again"
    assert len(server.indexes["pages"].documents) == 30
    await assert_same(database, index)


async def test_fault_10_the_server_is_killed_twenty_times_in_the_middle_of_tasks(
    server: FakeMeilisearch,
    index: MeilisearchIndex,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline_index, "AWAY_SECONDS", 0.05)
    chance = random.Random(10)
    ids = await make_pages(database, 100)
    struck = 0
    async with working(indexing(database, index)):
        while struck < 20:
            await change_pages(database, chance.sample(ids, 10))
            await drop_pages(database, await make_pages(database, 1))
            server.slow = 30.0
            await until_here(lambda: "processing" in {t.status for t in server.tasks.values()})
            await server.kill()
            struck += 1
            server.slow = 0.0
            await server.start()
        await until_settled(database)
    await assert_same(database, index)


async def test_fault_11_the_server_is_away_for_long(
    server: FakeMeilisearch,
    index: MeilisearchIndex,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record takes pages, the indexer lives, and later all is there."""
    monkeypatch.setattr(pipeline_index, "AWAY_SECONDS", 0.05)
    indexer = indexing(database, index)
    async with working(indexer) as task:
        await make_pages(database, 10)
        await until_settled(database)
        await server.kill()
        for _ in range(10):
            await make_pages(database, 10)
            await asyncio.sleep(0.05)
        with pytest.raises(Unavailable):
            await index.search(Query("written"))
        assert not task.done()
        leased = await database.fetchval("SELECT count(*) FROM outbox WHERE token IS NOT NULL")
        assert leased <= 20, "what could not be delivered is given back"
        assert await database.fetchval("SELECT count(*) FROM outbox") == 100
        await server.start()
        await until_settled(database, seconds=20)
    assert indexer.indexed == 110
    await assert_same(database, index)


async def test_fault_12_one_page_in_a_thousand_is_refused(
    server: FakeMeilisearch, index: MeilisearchIndex, database: Database
) -> None:
    ids = await make_pages(database, 1000)
    server.reject = {str(ids[617]): ("invalid_document_fields", "invalid_request")}
    limits = BatchLimits(documents=250, size=10**7, seconds=0.02)
    async with working(indexing(database, index, limits=limits)):
        await until_settled(database)
    rows = await database.fetch("SELECT id, index_error FROM pages WHERE index_error <> ''")
    assert [row["id"] for row in rows] == [ids[617]]
    assert rows[0]["index_error"].startswith("invalid_document_fields")
    assert sorted(await held(index)) == [id_ for id_ in ids if id_ != ids[617]]


async def test_a_page_that_is_refused_now_is_not_found_as_it_was(
    server: FakeMeilisearch, index: MeilisearchIndex, database: Database
) -> None:
    ids = await make_pages(database, 3)
    async with working(indexing(database, index)):
        await until_settled(database)
        server.reject = {str(ids[1]): ("invalid_document_fields", "invalid_request")}
        await change_pages(database, ids)
        await until_settled(database)
    assert sorted(await held(index)) == [ids[0], ids[2]]
    await assert_same(database, index)


async def test_an_index_that_vanishes_while_we_write_is_noticed_and_filled_again(
    server: FakeMeilisearch,
    index: MeilisearchIndex,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meilisearch makes a missing index anew at the next batch, without settings, in silence."""
    monkeypatch.setattr(pipeline_index, "IDENTITY_SECONDS", 0.1)
    ids = await make_pages(database, 50)

    async def whole() -> bool:
        found = server.indexes.get("pages")
        return found is not None and len(found.documents) == 50

    async with working(indexing(database, index)):
        await until_settled(database)
        server.indexes.clear()
        await change_pages(database, ids[:2])
        await until(whole)
        await until_settled(database)
        await assert_same(database, index)


async def test_a_removal_that_the_server_forgets_is_asked_for_again(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    await index.configure()
    await index.upsert([page(1), page(2)])
    server.forget = 2
    assert await remove(index, [1], poll=0.001, deadline=10)
    assert [id_ async for id_ in index.ids()] == [2]
    server.hold = True
    assert not await remove(index, [2], poll=0.001, deadline=0.1)


async def test_who_loses_the_lease_stops_delivering() -> None:
    ended = asyncio.Event()

    async def deliver() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def renew(answers: list[bool]) -> bool:
        return answers.pop()

    answers = [False, True]
    with pytest.raises(LeaseLost):
        await renewed(deliver(), lambda: renew(answers), every=0.001)
    assert ended.is_set()
    assert answers == []


@pytest.mark.parametrize("error", [Unavailable("away"), SearchError("nonsense")])
async def test_what_work_under_a_lease_raises_comes_as_it_is(error: Exception) -> None:
    async def fail() -> None:
        raise error

    async def renew() -> bool:
        return True

    with pytest.raises(type(error)) as raised:
        await renewed(fail(), renew, every=60)
    assert raised.value is error


async def test_a_batch_is_bounded_by_the_text_it_carries(database: Database) -> None:
    await make_pages(database, 5)
    await database.fetch("UPDATE documents SET text = repeat('x', 1000)")
    outbox, sizes = Outbox(database), []
    while lease := await outbox.claim(100, size=2500):
        sizes.append(len(lease.change.entries))
    assert sizes == [2, 2, 1]
    await free_leases(database)
    lease = await outbox.claim(100, size=10)
    assert lease is not None
    assert len(lease.change.entries) == 1, "one always goes"
