"""A batch delivered: everything that can be indexed is, and what cannot is called by name."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from chrono_ray.model.errors import Unavailable
from chrono_ray.search.batch import NOTHING, BatchLimits, Delivered, deliver, groups
from chrono_ray.search.meilisearch import MeilisearchIndex
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.support.meilisearch import FakeMeilisearch, running
from tests.support.meilisearch.pages import page

GUILTY = ("invalid_document_fields", "invalid_request")


@pytest.fixture
async def server() -> AsyncIterator[FakeMeilisearch]:
    async with running() as fake:
        yield fake


@pytest.fixture
async def index(server: FakeMeilisearch) -> AsyncIterator[MeilisearchIndex]:
    made = MeilisearchIndex(server.url, None)
    await made.configure()
    yield made
    await made.aclose()


async def sent(index: MeilisearchIndex | TantivyIndex, count: int) -> Delivered:
    return await deliver(index, [page(i) for i in range(count)], poll=0.001, deadline=30)


async def test_a_clean_batch_is_indexed_whole(index: MeilisearchIndex) -> None:
    assert await sent(index, 20) == Delivered(tuple(range(20)), ())


async def test_nothing_delivers_nothing(index: MeilisearchIndex) -> None:
    assert await deliver(index, [], poll=0.001, deadline=1) == NOTHING


async def test_one_bad_page_in_a_hundred_is_named_and_99_are_indexed(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    server.reject = {"41": GUILTY}
    done = await sent(index, 100)
    assert [(one.id, one.code) for one in done.rejected] == [(41, GUILTY[0])]
    assert "`41`" in done.rejected[0].why
    assert sorted(done.indexed) == [i for i in range(100) if i != 41]
    assert sorted([id_ async for id_ in index.ids()]) == sorted(done.indexed)


@pytest.mark.parametrize("seed", range(4))
async def test_any_set_of_bad_pages_is_found(
    server: FakeMeilisearch, index: MeilisearchIndex, seed: int
) -> None:
    bad = set(random.Random(seed).sample(range(32), k=[0, 1, 7, 32][seed]))
    server.reject = {str(id_): GUILTY for id_ in bad}
    done = await sent(index, 32)
    assert {one.id for one in done.rejected} == bad
    assert set(done.indexed) == set(range(32)) - bad
    assert done.undecided == ()


async def test_a_page_the_adapter_refuses_is_named_too(index: MeilisearchIndex) -> None:
    entries = [page(1), replace(page(2), host="h" * 500), page(3)]
    done = await deliver(index, entries, poll=0.001, deadline=10)
    assert [(one.id, one.code) for one in done.rejected] == [(2, "document_rejected")]
    assert done.indexed == (1, 3)


async def test_a_forgotten_task_is_sent_again(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    """A server that loses its tasks once delays a batch, no more."""
    server.forget = 1
    assert await sent(index, 3) == Delivered((0, 1, 2), ())
    assert server.forget == 0
    posts = [one for one in server.requests if one == "POST /indexes/pages/documents"]
    assert len(posts) == 2


async def test_what_is_not_decided_in_time_comes_back(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    server.hold = True
    done = await deliver(index, [page(1), page(2)], poll=0.001, deadline=0.2)
    assert done == Delivered((), (), (1, 2))


async def test_an_index_that_is_away_is_no_verdict(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    await server.kill()
    with pytest.raises(Unavailable):
        await sent(index, 3)


async def test_tantivy_takes_the_same_road(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path, Role.WRITER)
    entries = [page(1), page(2**63), page(3)]
    done = await deliver(index, entries, poll=0.001, deadline=10)
    await index.aclose()
    assert done.indexed == (1, 3)
    assert [one.id for one in done.rejected] == [2**63]


async def test_grouped_batches_arrive_complete(index: MeilisearchIndex) -> None:
    entries = [page(i, text="x" * (i * 50)) for i in range(60)]
    done = NOTHING
    for batch in groups(entries, BatchLimits(documents=7, size=20_000)):
        done += await deliver(index, batch, poll=0.001, deadline=10)
    assert done.indexed == tuple(range(60))
