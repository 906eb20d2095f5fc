"""A rebuild of the index: whatever happens meanwhile, in the end it holds what the record holds."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from chrono_ray.model.errors import LeaseLost, SearchError, Unavailable
from chrono_ray.model.query import Query
from chrono_ray.pipeline.rebuild import Rebuilding, follow
from chrono_ray.search.meilisearch import MeilisearchIndex
from chrono_ray.search.meilisearch_schema import VERSION_MARK
from chrono_ray.search.tantivy import Role, TantivyIndex
from chrono_ray.search.tantivy_schema import VERSION
from chrono_ray.storage.database import Database
from chrono_ray.storage.outbox import Outbox
from chrono_ray.storage.rebuilds import Rebuilds, RebuildState
from tests.integration.pipeline.indexed import (
    LIMITS,
    Place,
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
from tests.support.meilisearch import running
from tests.support.meilisearch.pages import page


async def test_pages_come_change_and_go_while_the_index_is_rebuilt(
    place: Place, database: Database
) -> None:
    """And whoever searches never misses a page that was there all the time."""
    steady = await make_pages(database, 150)
    rebuilds, chance = Rebuilds(database), random.Random(7)
    missed: list[int] = []

    async def search(stop: asyncio.Event) -> None:
        while not stop.is_set():
            found = await place.reader.search(Query("written", limit=1))
            if found.total < len(steady):
                missed.append(found.total)
            await asyncio.sleep(0.005)

    async def stir(stop: asyncio.Event) -> None:
        extra: list[int] = []
        while not stop.is_set():
            if (await Outbox(database).backlog(100)).rows >= 100:
                await asyncio.sleep(0.01)
                continue
            extra += await make_pages(database, 3)
            await change_pages(database, chance.sample(steady, 5))
            await drop_pages(database, [extra.pop(chance.randrange(len(extra)))])
            await asyncio.sleep(0.05)

    async with place.opened() as index, working(indexing(database, index)):
        await until_settled(database)
        await index.upsert([page(10**6, "a stranger")])
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(search(stop))
            group.create_task(stir(stop))
            ended = await follow(
                rebuilds, await rebuilds.request("test"), asyncio.Event(),
                alive=lambda: True, tell=lambda _: None, every=1.0,
            )  # fmt: skip
            stop.set()
        assert ended.state is RebuildState.DONE
        assert ended.filled >= len(steady)
        await until_settled(database)
    assert missed == []
    await assert_same(database, place.reader)


async def test_an_indexer_that_dies_again_and_again_still_ends_the_rebuild(
    place: Place, database: Database
) -> None:
    steady = await make_pages(database, 300)
    chance, rebuilds = random.Random(5), Rebuilds(database)
    number = await rebuilds.request("test")
    lives, seen = 0, set[str]()
    while not (await rebuilds.progress(number)).state.ended:
        lives += 1
        assert lives < 200
        async with place.opened() as index:
            task = asyncio.create_task(indexing(database, index).run(asyncio.Event()))
            await change_pages(database, chance.sample(steady, 3))
            await asyncio.wait([task], timeout=chance.uniform(0.02, 0.02 * min(lives, 25)))
            seen.add((await rebuilds.progress(number)).state)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if place.server is not None and lives % 2:
            await place.server.kill()
            await place.server.start()
        await free_leases(database)
    assert lives > 2, "it never died in between"
    assert "filling" in seen
    async with place.opened() as index, working(indexing(database, index)):
        await until_settled(database)
    await assert_same(database, place.reader)
    if place.server is not None:
        assert list(place.server.indexes) == ["pages"]


async def test_what_is_under_way_at_the_swap_is_in_the_fresh_index(
    place: Place, database: Database
) -> None:
    """A batch leased before the gate closed: the swap waits for it, or it acknowledges nothing."""
    outbox, rebuilds = Outbox(database), Rebuilds(database)
    await make_pages(database, 30)
    async with place.opened() as index:
        await index.configure()
        await rebuilds.request("test")
        early, late = await outbox.claim(10), await outbox.claim(10)
        assert early is not None
        assert late is not None
        stop = asyncio.Event()
        task = asyncio.create_task(Rebuilding(rebuilds, index, limits=LIMITS).step(stop))

        async def swapping() -> bool:
            return await database.fetchval("SELECT state FROM index_rebuilds") == "swapping"

        await until(swapping)
        assert await outbox.claim(10) is None, "nothing is leased while the gate is closed"
        await database.fetch("UPDATE pages SET captures = captures + 1")
        newer = await outbox.change([entry.id for entry in early.change.entries])
        await index.upsert(newer.entries)
        await outbox.acknowledge(early, rejected=[])
        assert not task.done()
        await database.fetch(
            "UPDATE outbox SET leased_until = clock_timestamp() WHERE token IS NOT NULL"
        )
        assert await task
        await outbox.acknowledge(late, rejected=[])
        left = await database.fetchval("SELECT count(*) FROM outbox")
        assert left == 20, "one that lost its lease has made the outbox forget its pages"
        there = (await held(index)).items()
        assert there >= {(entry.id, entry.version) for entry in newer.entries}
        async with working(indexing(database, index)):
            await until_settled(database)
    await assert_same(database, place.reader)


async def test_two_requests_are_one_and_two_indexers_share_no_rebuild(
    place: Place, database: Database
) -> None:
    rebuilds = Rebuilds(database)
    assert len({await rebuilds.request("one"), await rebuilds.request("other")}) == 1
    first = await rebuilds.claim()
    assert first is not None
    assert await rebuilds.claim() is None
    await free_leases(database)
    heir = await rebuilds.claim()
    assert heir is not None
    assert not await rebuilds.renew(first)
    with pytest.raises(LeaseLost):
        await rebuilds.begin(first, "fresh")
    assert await rebuilds.renew(heir)


async def test_the_index_that_answers_is_known_though_its_rebuild_was_asked_for_before_any_was(
    place: Place, database: Database
) -> None:
    """The order of the requests is not the order in which the indexes came to answer."""
    rebuilds = Rebuilds(database)
    await rebuilds.request("before anything ran")
    async with place.opened() as index:
        await index.configure()
        await rebuilds.remember(await index.identity())
        assert await Rebuilding(rebuilds, index, limits=LIMITS).step(asyncio.Event())
        assert await rebuilds.living() == await index.identity()


async def test_an_index_that_was_lost_is_filled_again_unasked(
    place: Place, database: Database, tmp_path: Path
) -> None:
    await make_pages(database, 40)
    async with place.opened() as index, working(indexing(database, index)):
        await until_settled(database)
    if place.server is None:
        shutil.rmtree(tmp_path / "index")
    else:
        place.server.wipe()
    async with place.opened() as index, working(indexing(database, index)):
        await until(lambda: _rebuilt(database))
        await until_settled(database)
    await assert_same(database, place.reader)


async def test_another_kind_of_index_is_filled_unasked(
    place: Place, database: Database, tmp_path: Path
) -> None:
    """Somebody set CHRONO_MEILISEARCH_URL, or unset it."""
    await make_pages(database, 40)
    other = TantivyIndex(tmp_path / "other", Role.WRITER)
    async with working(indexing(database, other)):
        await until_settled(database)
    await other.aclose()
    async with place.opened() as index, working(indexing(database, index)):
        await until(lambda: _rebuilt(database))
        await until_settled(database)
    await assert_same(database, place.reader)


async def test_a_damaged_index_is_replaced_unasked(database: Database, tmp_path: Path) -> None:
    await make_pages(database, 40)
    folder = tmp_path / "index"
    first = TantivyIndex(folder, Role.WRITER)
    async with working(indexing(database, first)):
        await until_settled(database)
    await first.aclose()
    (folder / "meta.json").write_text("{")
    index = TantivyIndex(folder, Role.WRITER)
    async with working(indexing(database, index)):
        await until(lambda: _rebuilt(database))
        await until_settled(database)
    await assert_same(database, index)
    await index.aclose()


async def test_an_index_of_an_older_version_is_refused_then_replaced_unasked(
    place: Place, database: Database, tmp_path: Path
) -> None:
    """What its documents say means something else by now: no search takes them for ours."""
    await make_pages(database, 40)
    async with place.opened() as index, working(indexing(database, index)):
        await until_settled(database)
    if place.server is None:
        mark = tmp_path / "index" / "chrono-index.json"
        mark.write_text(mark.read_text().replace(f'"schema":{VERSION}', '"schema":2'))
    else:
        place.server.indexes["pages"].settings["filterableAttributes"].remove(VERSION_MARK)
    with pytest.raises(SearchError) as refused:
        await place.reader.search(Query("written"))
    assert refused.value.code == "search_schema"
    await make_pages(database, 5)
    async with place.opened() as index, working(indexing(database, index)):
        await until(lambda: _rebuilt(database))
        await until_settled(database)
    await assert_same(database, place.reader)
    assert (await place.reader.search(Query("written"))).total == 45


async def test_a_rebuild_waits_for_the_writer_before_us_to_go(
    database: Database, tmp_path: Path
) -> None:
    await make_pages(database, 20)
    first = TantivyIndex(tmp_path, Role.WRITER)
    await first.configure()
    rebuilds = Rebuilds(database)
    number = await rebuilds.request("test")
    second = TantivyIndex(tmp_path, Role.WRITER)
    with pytest.raises(Unavailable):
        await Rebuilding(rebuilds, second, limits=LIMITS).step(asyncio.Event())
    await first.aclose()
    assert await Rebuilding(rebuilds, second, limits=LIMITS).step(asyncio.Event())
    assert (await rebuilds.progress(number)).filled == 20
    await second.aclose()


async def test_a_rebuild_that_cannot_be_done_leaves_the_index_and_says_why(
    database: Database,
) -> None:
    await make_pages(database, 40)
    async with running() as server:
        index = MeilisearchIndex(server.url, None)
        async with working(indexing(database, index)):
            await until_settled(database)
            server.forbidden = {"/swap-indexes"}
            rebuilds = Rebuilds(database)
            number = await rebuilds.request("test")
            await until_settled(database)
            ended = await rebuilds.progress(number)
            assert ended.state is RebuildState.FAILED
            assert "refuses the key" in ended.error
            await rebuilds.request_unasked("the same again")
            assert await rebuilds.under_way() is None, "what failed just now is not tried for ever"
            await make_pages(database, 3)
            await until_settled(database)
        await assert_same(database, index)
        await index.aclose()


async def test_pages_that_the_index_refuses_are_named_and_the_others_are_in_it(
    database: Database,
) -> None:
    ids = await make_pages(database, 60)
    async with running() as server:
        index = MeilisearchIndex(server.url, None)
        server.reject = {str(ids[30]): ("invalid_document_fields", "invalid_request")}
        rebuilds = Rebuilds(database)
        number = await rebuilds.request("test")
        async with working(indexing(database, index)):
            await until_settled(database)
        ended = await rebuilds.progress(number)
        assert (ended.filled, ended.rejected) == (59, 1)
        rows = await database.fetch("SELECT id, index_error FROM pages WHERE index_error <> ''")
        assert [row["id"] for row in rows] == [ids[30]]
        await assert_same(database, index)
        await index.aclose()


async def _rebuilt(database: Database) -> bool:
    found = await database.fetchval(
        "SELECT count(*) FROM index_rebuilds WHERE state = 'done' AND filled > 0"
    )
    return bool(found)
