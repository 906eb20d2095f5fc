"""A fresh index is built beside the live one and takes its place: whole, at once, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from chrono_ray.model.errors import SearchError
from chrono_ray.model.query import Query
from chrono_ray.search.base import Confirmed, Forgotten, Held, SearchIndex
from chrono_ray.search.meilisearch import MeilisearchIndex
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.support.meilisearch import FakeMeilisearch, running
from tests.support.meilisearch.pages import page, settled, until


async def put(index: SearchIndex, *ids: int, title: str = "word") -> str:
    ticket = await index.upsert([replace(page(id_, title), version=id_ * 10) for id_ in ids])
    assert await settled(index, ticket) == Confirmed()
    return ticket


async def filled(index: SearchIndex, *ids: int) -> str:
    """A fresh index with these pages; its identity."""
    identity = await index.begin()
    beside = await index.beside(identity)
    assert beside is not None
    await put(beside, *ids)
    await beside.aclose()
    return identity


async def ids(index: SearchIndex) -> list[int]:
    return sorted([id_ async for id_ in index.ids()])


async def test_nobody_sees_a_fresh_index_before_it_takes_the_place(index: SearchIndex) -> None:
    await put(index, 1, 2)
    before = await index.identity()
    fresh = await filled(index, 2, 3, 4)
    assert await ids(index) == [1, 2]
    assert await index.identity() == before != fresh
    await index.swap(fresh)
    assert await ids(index) == [2, 3, 4]
    assert (await index.search(Query("word"))).total == 3
    assert await index.identity() == fresh
    await index.tidy()
    await put(index, 5)
    assert await ids(index) == [2, 3, 4, 5]


async def test_a_swap_that_is_repeated_changes_nothing(index: SearchIndex) -> None:
    """Whoever died after it, and before saying so, is followed by one who does it again."""
    await put(index, 1)
    fresh = await filled(index, 2)
    for _ in range(2):
        await index.swap(fresh)
        assert await ids(index) == [2]
    await index.tidy()
    await index.swap(fresh)
    assert await ids(index) == [2]


async def test_a_half_index_is_found_again_or_thrown_away(index: SearchIndex) -> None:
    await put(index, 1)
    half = await filled(index, 7)
    beside = await index.beside(half)
    assert beside is not None
    assert await ids(beside) == [7]
    await beside.aclose()
    other = await filled(index, 8)
    assert await index.beside(half) is None, "a new one replaces the half one"
    with pytest.raises(SearchError) as refused:
        await index.swap(half)
    assert refused.value.code == "search_gone"
    await index.swap(other)
    assert await ids(index) == [8]


async def test_a_batch_that_the_old_index_confirmed_is_not_confirmed_by_the_new(
    index: SearchIndex,
) -> None:
    ticket = await put(index, 1)
    await index.swap(await filled(index, 2))
    assert await index.confirm(ticket) == Forgotten()


async def test_what_is_held_comes_with_its_version_in_order_and_in_parts(
    index: SearchIndex,
) -> None:
    for id_ in (5, 3, 9, 1):
        await put(index, id_)
    assert [each async for each in index.held()] == [Held(n, n * 10) for n in (1, 3, 5, 9)]
    assert [each.id async for each in index.held(after=1, upto=5)] == [3, 5]
    assert [each async for each in index.held(after=9)] == []


async def test_searches_never_miss_a_page_while_tantivy_swaps(tmp_path: Path) -> None:
    writer = TantivyIndex(tmp_path / "index", Role.WRITER)
    reader = TantivyIndex(tmp_path / "index", Role.READER, fresh=0.0)
    await put(writer, *range(50))
    stop, totals = asyncio.Event(), set[int]()

    async def search() -> None:
        while not stop.is_set():
            totals.add((await reader.search(Query("word", limit=50))).total)

    async with asyncio.TaskGroup() as group:
        group.create_task(search())
        for _ in range(15):
            await writer.swap(await filled(writer, *range(50)))
            await writer.tidy()
        stop.set()
    assert totals == {50}
    assert len(list((tmp_path / "index").glob("generation-*"))) == 1
    assert list((tmp_path / "index").glob("*.store")) == []
    await reader.aclose()
    await writer.aclose()


@pytest.mark.parametrize("harm", ["version", "damaged"])
async def test_an_index_that_cannot_be_used_is_replaced(tmp_path: Path, harm: str) -> None:
    async def opened() -> AsyncIterator[TantivyIndex]:
        index = TantivyIndex(tmp_path, Role.WRITER)
        yield index
        await index.aclose()

    async for index in opened():
        await put(index, 1)
    mark = tmp_path / "chrono-index.json"
    if harm == "version":
        mark.write_text(json.dumps({**json.loads(mark.read_text()), "schema": 1}))
    else:
        (tmp_path / "meta.json").unlink()
    async for index in opened():
        with pytest.raises(SearchError) as refused:
            await index.configure()
        assert "`chrono reindex`" in refused.value.fix
        await index.swap(await filled(index, 2))
        await index.tidy()
        await index.configure()
        assert await ids(index) == [2]


async def test_only_the_writer_replaces_the_index(tmp_path: Path) -> None:
    writer = TantivyIndex(tmp_path, Role.WRITER)
    await writer.configure()
    second = TantivyIndex(tmp_path, Role.WRITER)
    with pytest.raises(SearchError) as refused:
        await second.begin()
    assert refused.value.code == "search_locked"
    await second.aclose()
    await writer.aclose()


@pytest.fixture
async def server() -> AsyncIterator[FakeMeilisearch]:
    async with running() as fake:
        yield fake


async def test_a_swap_that_a_dead_process_asked_for_is_not_done_twice(
    server: FakeMeilisearch,
) -> None:
    index = MeilisearchIndex(server.url, None)
    await index.configure()
    await put(index, 1)
    fresh = await filled(index, 2)
    server.hold = True
    dead = asyncio.create_task(index.swap(fresh))
    await until(lambda: "indexSwap" in {task.kind for task in server.tasks.values()})
    dead.cancel()
    heir = asyncio.create_task(index.swap(fresh))
    await until(lambda: len([r for r in server.requests if r == "GET /tasks"]) > 2)
    server.release()
    await heir
    assert [task.kind for task in server.tasks.values()].count("indexSwap") == 1
    assert await ids(index) == [2]
    await index.aclose()


async def test_an_index_that_a_server_lost_is_replaced_too(server: FakeMeilisearch) -> None:
    index = MeilisearchIndex(server.url, None)
    assert await index.identity() == ""
    await index.swap(await filled(index, 2))
    assert await ids(index) == [2]
    await index.tidy()
    assert list(server.indexes) == ["pages"]
    await index.aclose()
