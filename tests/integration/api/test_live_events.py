"""The same as server-sent events, for whatever speaks plain HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from chrono_ray.api.live.connection import Limits
from chrono_ray.settings import Settings
from chrono_ray.storage.projects import Projects, RunState
from tests.integration.api.conftest import serving, settings_of
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.listening import LIVE, Replica, begin, owned, replica
from tests.support.accounts import bearer, user_with_key


@pytest.fixture
def settings(tmp_path, database_url) -> Settings:
    return settings_of(tmp_path, database_url=database_url)


@dataclass(slots=True)
class Reading:
    """A stream that is read."""

    lines: AsyncIterator[str]
    headers: dict[str, str]

    async def line(self) -> str:
        async with asyncio.timeout(8):
            return await anext(self.lines)

    async def state(self, wanted: str) -> tuple[str, dict]:
        """The id and content of the first event of a run in this state."""
        number = ""
        while True:
            line = await self.line()
            if line.startswith("id: "):
                number = line.removeprefix("id: ")
            if line.startswith("data: ") and json.loads(line[6:]).get("state") == wanted:
                return number, json.loads(line[6:])


@asynccontextmanager
async def reading(live: Replica, key: str, last: str = "", **asked: int) -> AsyncIterator[Reading]:
    headers = {**bearer(key), **({"Last-Event-ID": last} if last else {})}
    async with live.http.stream("GET", f"{LIVE}/events", params=asked, headers=headers) as answer:
        assert answer.status_code == 200
        yield Reading(answer.aiter_lines(), dict(answer.headers))


async def test_a_run_is_followed_and_resumed(settings, database):
    user, key = await user_with_key(database)
    run_id, project = await owned(database, user)
    async with replica(settings) as live:
        async with reading(live, key, run=run_id) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-store"
            assert stream.headers["x-accel-buffering"] == "no"
            number, event = await stream.state("active")
            assert (event["run"], str(event["version"])) == (run_id, number)
        await Projects(database).change(run_id, RunState.CANCELLED)
        for asked in ({"run": run_id}, {"project": project}, {}):
            async with reading(live, key, number, **asked) as stream:
                last, event = await stream.state("cancelled")
                assert event["final"]
        async with reading(live, key, last, run=run_id) as stream:
            assert (await stream.line()).startswith("retry: ")
            assert await stream.line() == ""
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await anext(stream.lines)


async def test_it_ends_when_it_was_asked_to(settings, database):
    user, key = await user_with_key(database)
    run_id, _ = await owned(database, user)
    async with serving(settings, key=key) as client:
        answer = await client.get(f"{LIVE}/events", params={"seconds": 2})
    assert answer.status_code == 200
    [told] = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(told[6:])["run"] == run_id


async def test_it_ends_with_the_right_to_it(settings, database):
    user, key = await user_with_key(database)
    await owned(database, user)
    limits = Limits(recheck=0.2, heartbeat=0.3)
    async with replica(settings, limits=limits) as live, reading(live, key) as stream:
        await stream.state("active")
        while await stream.line() != ":":
            pass
        await database.fetch("UPDATE api_tokens SET revoked_at = clock_timestamp()")
        async with asyncio.timeout(8):
            assert [line async for line in stream.lines if line.startswith("data")] == []


async def test_what_is_not_theirs_is_not_there(settings, database, queries: Queries):
    _, key = await user_with_key(database)
    hers, _ = await user_with_key(database)
    run_id, project = await owned(database, hers)
    async with serving(settings, key=key) as client:
        for asked in ({"run": run_id}, {"project": project}, {"run": 77}, {"task": 77}):
            client.app.state.parts.doors.sessions.forget_all()
            async with queries.at_most(2):
                answer = await client.get(f"{LIVE}/events", params=asked)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        for bad in ({"run": 0}, {"run": 2**63}, {"project": 2**31}, {"run": "x"}):
            assert (await client.get(f"{LIVE}/events", params=bad)).status_code == 422
        nobody = await client.get(f"{LIVE}/events", headers={"Authorization": ""})
        assert nobody.status_code == 401


async def test_a_ticket_costs_one_statement(settings, database, queries: Queries):
    await begin(database)
    async with serving(settings) as client:
        async with queries.at_most(2):
            answer = await client.post(f"{LIVE}/tickets")
        assert answer.json()["expires_in"] == 30
        async with queries.at_most(1):
            await client.post(f"{LIVE}/tickets")
        async with queries.at_most(1):
            actor = await client.app.state.live.tickets.take(answer.json()["ticket"])
        assert actor.is_admin
        assert MOST >= 2
