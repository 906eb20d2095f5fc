"""Live progress through everything that stands before it in a cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from chrono_ray import wiring
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects, RunState
from tests.cluster.conftest import Served
from tests.integration.api.listening import Client
from tests.support.accounts import bearer

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def record(cluster: Served) -> AsyncIterator[Database]:
    opened = wiring.database(cluster.settings, pool_size=2, name="test")
    yield opened
    await opened.aclose()


async def begin(record: Database, project: str) -> int:
    """Of an archive that is not set up: nobody works on it."""
    scope = Scope(f"https://{project}.example/", MatchType.DOMAIN, "2001", "2002")
    return await Projects(record).start_run(
        scope, project=project, archive="pywb", queue_class=QueueClass.SCRAPING
    )


async def ticket(cluster: Served) -> str:
    async with httpx2.AsyncClient(headers=bearer(cluster.key), timeout=30) as http:
        answer = await http.post(f"{cluster.api}/live/tickets")
    return answer.raise_for_status().json()["ticket"]


def url(cluster: Served, ticket: str) -> str:
    return f"{cluster.api.replace('http', 'ws', 1)}/live/ws?ticket={ticket}"


async def test_who_may_not_connect_is_told_so_through_serve(cluster):
    async def status(ticket: str, origin: str | None = None) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url(cluster, ticket), origin=origin):
                pass
        answer = refused.value.response
        return answer.status_code, json.loads(answer.body)["code"]

    assert await status(await ticket(cluster), "https://evil.example") == (403, "origin")
    assert await status("crl_none") == (401, "ticket")
    assert await status("") == (401, "ticket")


async def test_a_run_is_told_as_an_event_stream_through_serve(cluster, record):
    run_id = await begin(record, "streamed")
    states = []
    async with (
        httpx2.AsyncClient(headers=bearer(cluster.key), timeout=30) as http,
        http.stream("GET", f"{cluster.api}/live/events", params={"run": run_id}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line[6:])["state"])
                if states[-1] == "cancelled":
                    break
                await Projects(record).change(run_id, RunState.CANCELLED)
    assert states == ["active", "cancelled"]


async def test_a_killed_replica_costs_no_last_state(cluster, record):
    """Its clients come again, to another process, and say what they saw."""
    run_id = await begin(record, "followed")
    topic = f"run:{run_id}"
    [replica] = cluster.machine.named("ray::ServeReplica:live")
    async with connect(url(cluster, await ticket(cluster))) as first:
        client = Client(first)
        await client.say(subscribe=[topic])
        seen = (await client.run(run_id, "active"))["version"]
        replica.kill()
        await Projects(record).change(run_id, RunState.CANCELLED)
        with pytest.raises(ConnectionClosed):
            await client.run(run_id, "never")
    async with asyncio.timeout(60):
        while (told := await resumed(cluster, run_id, seen)) is None:
            await asyncio.sleep(0.5)
    assert told["version"] > seen


async def resumed(cluster: Served, run_id: int, seen: int) -> dict[str, Any] | None:
    """The last state, told to one who comes again; None while nobody is there to tell it."""
    topic = f"run:{run_id}"
    try:
        async with connect(url(cluster, await ticket(cluster))) as again:
            client = Client(again)
            await client.say(subscribe=[topic], seen={topic: seen})
            return await client.run(run_id, "cancelled")
    except (InvalidHandshake, ConnectionClosed, OSError, httpx2.HTTPError):
        return None
