"""Meilisearch's promises and their breaking, against the stand-in with true task semantics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from chrono_ray.model.errors import DocumentRejected, SearchError, Unavailable
from chrono_ray.model.query import Bucket, Field, Query
from chrono_ray.search.base import Confirmed, Forgotten, Rejected, Working
from chrono_ray.search.meilisearch import MeilisearchIndex
from chrono_ray.search.meilisearch_schema import VERSION_MARK
from tests.support.meilisearch import FakeMeilisearch, running
from tests.support.meilisearch.contract import ABSENT, published
from tests.support.meilisearch.pages import page, settled, until


@pytest.fixture
async def server() -> AsyncIterator[FakeMeilisearch]:
    async with running("right-key") as fake:
        yield fake


@asynccontextmanager
async def opened(
    server: FakeMeilisearch,
    *,
    key: str | None = "right-key",
    deadline: float = 10,
    payload: int = 0,
) -> AsyncIterator[MeilisearchIndex]:
    index = MeilisearchIndex(server.url, key, deadline=deadline, payload=payload or 4_000_000)
    try:
        yield index
    finally:
        await index.aclose()


@pytest.fixture
async def index(server: FakeMeilisearch) -> AsyncIterator[MeilisearchIndex]:
    async with opened(server) as made:
        await made.configure()
        yield made


@asynccontextmanager
async def serving(answer: Handler) -> AsyncIterator[str]:
    """A server that answers everything in one way."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(url: str, *, deadline: float = 10) -> AsyncIterator[MeilisearchIndex]:
    index = MeilisearchIndex(url, None, deadline=deadline)
    try:
        yield index
    finally:
        await index.aclose()


def test_requests_are_held_against_the_published_openapi_file() -> None:
    contract = published()
    if contract is None:
        pytest.skip(ABSENT)
    search = "/indexes/pages/search"
    good = {"q": "x", "facets": ["host"], "filter": 'host IN ["a"]', "sort": ["last_seen:desc"]}
    assert contract.faults("POST", search, set(), good) == []
    assert contract.faults("POST", search, set(), {"q": 1}) != []
    assert contract.faults("POST", search, set(), {"qq": "x"}) != []
    assert contract.faults("GET", "/indexes/pages/documents", {"page"}, None) != []
    assert contract.faults("POST", "/indexes/pages/find", set(), {}) != []


async def test_accepted_is_not_indexed(server: FakeMeilisearch, index: MeilisearchIndex) -> None:
    server.hold = True
    ticket = await index.upsert([page(1, "word")])
    assert await index.confirm(ticket) == Working()
    assert (await index.search(Query("word"))).total == 0
    server.release()
    assert await settled(index, ticket) == Confirmed()
    assert (await index.search(Query("word"))).total == 1


async def test_a_task_under_way_is_not_confirmed(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    server.slow = 3600
    ticket = await index.upsert([page(1)])
    await until(lambda: list(server.tasks.values())[-1].status == "processing")
    assert await index.confirm(ticket) == Working()


async def test_one_bad_page_fails_its_whole_batch(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    server.reject = {"2": ("invalid_document_fields", "invalid_request")}
    verdict = await settled(index, await index.upsert([page(1), page(2), page(3)]))
    assert isinstance(verdict, Rejected)
    assert verdict.code == "invalid_document_fields"
    assert "`2`" in verdict.why
    assert [id_ async for id_ in index.ids()] == []


async def test_a_full_disk_blames_no_page(server: FakeMeilisearch, index: MeilisearchIndex) -> None:
    server.reject = {"2": ("no_space_left_on_device", "system")}
    ticket = await index.upsert([page(2)])
    with pytest.raises(Unavailable):
        await settled(index, ticket)


async def test_a_pruned_task_is_forgotten(server: FakeMeilisearch, index: MeilisearchIndex) -> None:
    ticket = await index.upsert([page(1)])
    await settled(index, ticket)
    server.prune()
    assert await index.confirm(ticket) == Forgotten()


async def test_a_namesake_on_a_wiped_server_confirms_nothing(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    """Task numbers start again at 0: only number and moment together name a task."""
    ticket = await index.upsert([page(1)])
    await settled(index, ticket)
    server.wipe()
    await index.configure()
    await settled(index, await index.upsert([page(2)]))
    assert set(server.tasks) >= {int(ticket.split("@")[0])}, "the namesake must exist"
    assert await index.confirm(ticket) == Forgotten()


async def test_a_server_killed_in_the_middle_of_a_task_finishes_it_later(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    server.slow = 3600
    ticket = await index.upsert([page(1, "word")])
    await until(lambda: list(server.tasks.values())[-1].status == "processing")
    await server.kill()
    with pytest.raises(Unavailable):
        await index.confirm(ticket)
    server.slow = 0
    await server.start()
    assert await settled(index, ticket) == Confirmed()
    assert (await index.search(Query("word"))).total == 1


async def test_everything_says_unavailable_while_the_server_is_away(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    await server.kill()
    for call in (
        index.configure(),
        index.upsert([page(1)]),
        index.delete([1]),
        index.confirm("0@1"),
        index.search(Query("x")),
        anext(index.ids()),
    ):
        with pytest.raises(Unavailable):
            await call


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_an_ill_server_is_unavailable(
    server: FakeMeilisearch, index: MeilisearchIndex, status: int
) -> None:
    server.status = status
    with pytest.raises(Unavailable):
        await index.search(Query("x"))


async def test_a_server_that_never_answers_is_given_up(server: FakeMeilisearch) -> None:
    async with opened(server, deadline=0.2) as index:
        server.mute = True
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await index.search(Query("x"))


@pytest.mark.parametrize("key", [None, "wrong-key"])
async def test_a_refused_key_says_what_to_do(server: FakeMeilisearch, key: str | None) -> None:
    async with opened(server, key=key) as index:
        with pytest.raises(SearchError) as refused:
            await index.configure()
    assert refused.value.code == "search_key"
    assert "key" in refused.value.fix


async def test_searching_a_missing_index_names_it(server: FakeMeilisearch) -> None:
    async with opened(server) as index:
        with pytest.raises(SearchError) as refused:
            await index.search(Query("x"))
    assert refused.value.code == "index_not_found"


async def test_a_lost_index_is_an_error_not_a_bad_page(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    server.hold = True
    ticket = await index.delete([1])
    server.indexes.clear()
    server.release()
    with pytest.raises(SearchError) as refused:
        await settled(index, ticket)
    assert refused.value.code == "index_not_found"


@pytest.mark.parametrize(
    "answer",
    [b"{}", b"[]", b"<html>", b'{"hits": [{"id": "x"}], "query": "", "processingTimeMs": 1}'],
)
async def test_nonsense_is_told_from_absence(answer: bytes) -> None:
    async def nonsense(_: web.Request) -> web.Response:
        return web.Response(body=answer, content_type="application/json")

    async with serving(nonsense) as url, asking(url) as index:
        with pytest.raises(SearchError) as refused:
            await index.search(Query("x"))
    assert "nonsense" in refused.value.what


async def test_an_answer_that_drips_is_given_up_at_the_deadline() -> None:
    """Each byte comes in time, all of them never."""

    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        async with asyncio.timeout(20):
            while True:
                await answer.write(b" ")
                await asyncio.sleep(0.02)

    async with serving(drip) as url, asking(url, deadline=0.3) as index:
        with pytest.raises(Unavailable):
            async with asyncio.timeout(10):
                await index.search(Query("x"))


async def test_a_batch_goes_out_in_bounded_payloads(server: FakeMeilisearch) -> None:
    async with opened(server, payload=10_000) as index:
        await index.configure()
        server.payload_limit = 12_000
        ticket = await index.upsert([page(i, text="x" * 900) for i in range(50)])
        assert len(ticket.split(",")) > 3
        assert await settled(index, ticket) == Confirmed()
        assert len([id_ async for id_ in index.ids()]) == 50


async def test_a_ticket_of_several_tasks_is_rejected_when_one_fails(
    server: FakeMeilisearch,
) -> None:
    server.reject = {"30": ("invalid_document_fields", "invalid_request")}
    async with opened(server, payload=10_000) as index:
        await index.configure()
        ticket = await index.upsert([page(i, text="x" * 900) for i in range(50)])
        await until(lambda: all(t.finished for t in server.tasks.values()))
        assert isinstance(await index.confirm(ticket), Rejected)


async def test_a_page_over_the_servers_limit_is_named(server: FakeMeilisearch) -> None:
    async with opened(server) as index:
        await index.configure()
        server.payload_limit = 50_000
        with pytest.raises(DocumentRejected) as refused:
            await index.upsert([page(7, text="x" * 60_000)])
    assert refused.value.page_id == 7


@pytest.mark.parametrize(
    "entry",
    [
        replace(page(7), host="h" * 469),
        replace(page(7), domain="é" * 100),
        page(7, text="a. " * 1_000_000),
    ],
)
async def test_what_meilisearch_would_cut_in_silence_is_named_and_not_sent(
    server: FakeMeilisearch, index: MeilisearchIndex, entry: object
) -> None:
    before = len(server.requests)
    with pytest.raises(DocumentRejected) as refused:
        await index.upsert([page(1), entry])  # type: ignore[list-item]
    assert refused.value.page_id == 7
    assert len(server.requests) == before


async def test_settings_are_in_force_when_configure_returns(server: FakeMeilisearch) -> None:
    server.slow = 0.05
    async with opened(server) as index:
        await index.configure()
    found = server.indexes["pages"]
    assert found.primary_key == "id"
    assert found.settings["rankingRules"][0] == "sort"
    assert set(found.settings["filterableAttributes"]) >= {"project", "first_seen", "last_seen"}


async def test_an_index_of_another_version_is_told_and_left_alone(server: FakeMeilisearch) -> None:
    """It is neither filled nor searched: what it holds means something else."""
    async with opened(server) as index:
        await index.configure()
        settings = server.indexes["pages"].settings
        settings["filterableAttributes"].remove(VERSION_MARK)
        before = dict(settings)
        asked = (
            index.configure(), index.search(Query("")),
            index.search(Query("", facets=(Field.HOST,), histogram=Bucket.DAY)),
            index.matching(Query("word"), 0, 10),
        )  # fmt: skip
        for each in asked:
            with pytest.raises(SearchError) as refused:
                await each
            assert refused.value.code == "search_schema"
        assert server.indexes["pages"].settings == before


async def test_an_index_without_settings_yet_is_ours_to_set(server: FakeMeilisearch) -> None:
    """Whoever made it died before it set anything."""
    async with opened(server) as index:
        await index.configure()
        server.indexes["pages"].settings["filterableAttributes"] = []
        await index.configure()
        assert VERSION_MARK in server.indexes["pages"].settings["filterableAttributes"]


async def test_two_configure_at_once_without_harm(server: FakeMeilisearch) -> None:
    async with opened(server) as one, opened(server) as two, asyncio.TaskGroup() as group:
        group.create_task(one.configure())
        group.create_task(two.configure())


async def test_a_filter_is_one_string_of_known_fields(
    server: FakeMeilisearch, index: MeilisearchIndex
) -> None:
    """Nothing of a value but a lower-case, percent-encoded key ever stands in a filter."""
    from chrono_ray.model.query import Equals, Field
    from chrono_ray.search.meilisearch_query import filter_text

    text = filter_text(Equals(Field.HOST, ('A" OR host != "b', "é")))
    assert text is not None
    keys = json.loads(text.removeprefix("host IN "))
    assert all(key.isascii() and key == key.lower() and '"' not in key for key in keys)
