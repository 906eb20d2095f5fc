"""Measures of an API that serves, over a real record: the whole table, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from chrono_ray.client import Chrono
from chrono_ray.perf import measuring, sockets
from chrono_ray.perf.asking import Ask, asking
from chrono_ray.perf.catalogue import ROWS, SOCKETS, USERS, Measure
from chrono_ray.perf.figures import Failed, Figure, Measured, Unmeasured
from chrono_ray.perf.holdings import Holdings, holdings
from chrono_ray.perf.instance import ELSEWHERE, Here, Instance, There
from chrono_ray.perf.latency import latency
from chrono_ray.perf.measuring import ITS_OWN, NO_SCRATCH, Wanted, measure
from chrono_ray.perf.sockets import TOO_FEW
from chrono_ray.storage.database import Database
from chrono_ray.storage.guests import HOST
from tests.conftest import PostgresServer
from tests.integration.api.served import PAGES, Served, served_in

SECONDS = 0.5
REAL = ("projects", "domains", "users", "pages", "project_members")


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("perf")
    with served_in(folder, postgres_server, "perf") as found:
        yield found


async def measured(instance: Instance, *only: Measure) -> dict[str, Figure]:
    told: list[str] = []
    found = await measure(instance, Wanted(only or tuple(Measure), SECONDS), told.append)
    assert [each.row for each in found] == list(ROWS)
    return {each.row.name: each for each in found}


async def held(served: Served) -> dict[str, int]:
    """How many rows of each table there are."""
    record = Database(served.database_url, pool_size=1, name="test")
    try:
        return {table: await record.fetchval(f"SELECT count(*) FROM {table}") for table in REAL}
    finally:
        await record.aclose()


def why(figure: Figure) -> str:
    assert isinstance(figure.result, Unmeasured), figure
    return figure.result.why


def value(figure: Figure) -> float:
    assert isinstance(figure.result, Measured), figure
    return figure.result.value


async def test_what_runs_here_is_measured_and_left_as_it_was(served: Served) -> None:
    before = await held(served)
    found = await measured(Here(served.url, served.database_url, os.getpid(), scratch=False))
    for route in ("list", "statistics", "page", "search"):
        for how in ("cold", "cached"):
            assert value(found[f"api.{route}.{how}"]) > 0
    assert 1 <= value(found["api.statements"]) <= 3
    assert value(found["statistics.record"]) > 0
    assert value(found["users.served"]) == USERS
    assert value(found["users.errors"]) == 0
    assert 0 < value(found["cache.hits"]) <= 100
    assert value(found["sockets.open"]) == SOCKETS
    assert value(found["sockets.late"]) > 0
    assert ITS_OWN in why(found["scrape.pages"])
    assert NO_SCRATCH in why(found["claim.p99"])
    assert "cannot be seen" in why(found["memory.api"])
    assert await held(served) == before
    assert before["pages"] == PAGES


async def test_elsewhere_one_key_does_what_it_can(served: Served) -> None:
    before = await held(served)
    found = await measured(
        There(served.url, served.key, insecure=False),
        Measure.API, Measure.CLAIM, Measure.SOCKETS, Measure.MEMORY,
    )  # fmt: skip
    assert value(found["api.page.cold"]) > 0
    assert ELSEWHERE in why(found["claim.p99"])
    assert ELSEWHERE in why(found["memory.api"])
    assert TOO_FEW in why(found["sockets.open"])
    assert await held(served) == before


async def test_what_a_killed_measurement_left_goes_with_the_next(served: Served) -> None:
    """What another one still needs stays: it is younger than an hour."""
    before = await held(served)
    record = Database(served.database_url, pool_size=1, name="test")
    try:
        owners = await record.fetch(
            "INSERT INTO users (email, name, password, state, created_at) SELECT"
            " n || '@' || $1, '', 'nobody logs in', 'active', now() - n * interval '50 minutes'"
            " FROM generate_series(1, 2) n RETURNING id", HOST,
        )  # fmt: skip
        await record.fetch(
            "INSERT INTO projects (name, owner_id) SELECT 'performance left ' || o, o"
            " FROM unnest($1::int[]) o", [row["id"] for row in owners],
        )  # fmt: skip
        everywhere = served.url.replace("127.0.0.1", "0.0.0.0")
        here = Here(everywhere, served.database_url, os.getpid(), scratch=False)
        await measured(here, Measure.STATISTICS)
        await measured(here, Measure.STATISTICS)
        left = await record.fetch("SELECT email FROM users WHERE email LIKE '%@' || $1", HOST)
        assert [row["email"] for row in left] == [f"1@{HOST}"]
        await record.fetch("DELETE FROM projects WHERE owner_id = $1", owners[0]["id"])
        await record.fetch("DELETE FROM users WHERE id = $1", owners[0]["id"])
    finally:
        await record.aclose()
    assert await held(served) == before


async def test_one_that_is_ended_takes_away_what_it_made(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the connections of a thread, which is not ended with whoever waits for it."""
    before, looks, go = await held(served), asyncio.Event(), threading.Event()
    loop, found = asyncio.get_running_loop(), list[Holdings]()

    def look(c: Chrono) -> Holdings:
        loop.call_soon_threadsafe(looks.set)
        go.wait(20)
        found.append(holdings(c))
        return found[0]

    monkeypatch.setattr(measuring, "holdings", look)
    here = Here(served.url, served.database_url, os.getpid(), scratch=False)
    work = asyncio.create_task(measure(here, Wanted((Measure.USERS,), 60.0), lambda _: None))
    async with asyncio.timeout(30):
        await looks.wait()
        work.cancel()
        for _ in range(9):
            await asyncio.sleep(0)  # it is told
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert found, "its client was closed before it ended"
    assert await held(served) == before


@asynccontextmanager
async def ill(*, takes: int) -> AsyncIterator[str]:
    """A server whose statistics are broken and that takes so many WebSockets; its URL."""
    taken: list[web.WebSocketResponse] = []

    async def socket(request: web.Request) -> web.StreamResponse:
        if len(taken) == takes:
            return web.Response(status=503)
        taken.append(answer := web.WebSocketResponse())
        await answer.prepare(request)
        async for _ in answer:
            pass
        return answer

    async def ticket(_: web.Request) -> web.Response:
        return web.json_response({"ticket": "a-secret"})

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=500 if "stats" in request.path else 200)

    app = web.Application()
    app.add_routes([
        web.post("/api/v1/live/tickets", ticket), web.get("/api/v1/live/ws", socket),
        web.get("/{path:.*}", answer),
    ])  # fmt: skip
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


async def test_one_ill_route_fails_alone() -> None:
    wanted = {"list": [Ask("list", "/projects/")], "statistics": [Ask("statistics", "/1/stats")]}
    async with ill(takes=0) as url, asking(url) as asks:
        found = await latency(asks, "", wanted, seconds=0.0)
    assert isinstance(found["api.list.cold"], Measured)
    for how in ("cold", "cached"):
        assert found[f"api.statistics.{how}"] == Failed("it answered 500: see the server's log")
    assert isinstance(found["api.page.cold"], Unmeasured), "nobody could ask for one"


async def test_sockets_that_open_are_counted_where_others_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "SOCKETS", 20)
    async with ill(takes=16) as url:
        watched = sockets.Watched(url, tuple("abcd"), 1)
        async with sockets._opened(watched) as (listening, refused):
            assert len(listening) == 16
    assert sockets._why(16, 16, refused) == "4 were refused: the server answers 503"
