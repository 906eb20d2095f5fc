"""Health over HTTP: each part's state, within a deadline, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping

import httpx2
import psutil
import pytest

from chrono_ray.api.parts import ActorState
from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import migrate
from tests.integration.api.conftest import serving, settings_of
from tests.support.embedded import start_session_parts

PATH = "/api/v1/health"
NEVER_LONGER = 6.0


@pytest.fixture
def parts(tmp_path_factory):
    """A PostgreSQL of our own, to be stopped and killed."""
    folder = tmp_path_factory.mktemp("parts")
    with start_session_parts(folder, fsync=False) as started:
        yield started


def postgres_of(parts) -> list[psutil.Process]:
    """The server and its children, the server first."""
    return [
        process
        for process in psutil.Process(parts.owner.pid).children(recursive=True)
        if process.name().startswith("postgres")
    ]


async def migrated(database_url: str) -> None:
    record = Database(database_url, pool_size=1, name="test")
    await migrate(record)
    await record.aclose()


async def test_all_is_well(client):
    answer = await client.get(PATH)
    told = answer.json()
    assert answer.status_code == 200
    assert told["status"] == "ok"
    assert {name: part["state"] for name, part in told["parts"].items()} == {
        "database": "ok", "redis": "ok", "index": "ok", "blobs": "ok", "ray": "unknown",
    }  # fmt: skip
    assert told["actors"] == {}


async def test_a_part_that_is_not_set_up_is_not_ill(tmp_path, database_url):
    async with serving(settings_of(tmp_path, database_url=database_url)) as client:
        told = (await client.get(PATH)).json()
    assert told["status"] == "ok"
    assert told["parts"]["redis"]["state"] == "unused"


async def test_redis_away_is_degraded(client, valkey):
    valkey.stop()
    answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["parts"]["redis"]["state"] == "away"


async def test_a_damaged_index_is_degraded(client, settings):
    (settings.data_dir / "index").mkdir()
    (settings.data_dir / "index" / "meta.json").write_text("{")
    answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.json()["parts"]["index"]["state"] == "away"
    assert str(settings.data_dir) not in answer.text


async def test_actors_are_told_one_by_one(settings):
    async def actors() -> Mapping[str, ActorState | None]:
        return {"scraper-0": ActorState(done=7, in_flight=2, rss=1000), "indexer": None}

    async with serving(settings, actors=actors) as client:
        told = (await client.get(PATH)).json()
    assert told["status"] == "degraded"
    assert told["parts"]["ray"]["state"] == "ok"
    assert told["actors"]["scraper-0"] == {"state": "ok", "done": 7, "in_flight": 2, "rss": 1000}
    assert told["actors"]["indexer"]["state"] == "silent"


async def test_a_stranger_learns_how_it_is_and_nothing_else(settings):
    """Nor who brings a token that is nobody's, or no admin's."""

    async def actors() -> Mapping[str, ActorState | None]:
        return {"scraper-0": ActorState(done=7, in_flight=2, rss=1000)}

    async with serving(settings, actors=actors) as near:
        away = httpx2.ASGITransport(app=near.app, client=("203.0.113.9", 4711))
        async with httpx2.AsyncClient(transport=away, base_url="http://api") as far:
            for headers in ({}, {"Authorization": "Bearer crk_nobody"}):
                assert (await far.get(PATH, headers=headers)).json() == {"status": "ok"}
            headers = {"Authorization": near.headers["authorization"]}
            told = (await far.get(PATH, headers=headers)).json()
    assert told["actors"]["scraper-0"]["done"] == 7
    assert told["parts"]["database"]["state"] == "ok"


async def test_a_cluster_that_does_not_answer_is_away(settings):
    async def silent() -> Mapping[str, ActorState | None]:
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    async def gone() -> Mapping[str, ActorState | None]:
        raise Unavailable("The supervisor does not answer")

    for actors in (silent, gone):
        async with serving(settings, actors=actors) as client:
            answer = await client.get(PATH)
        assert answer.status_code == 200
        assert answer.json()["parts"]["ray"]["state"] == "away"


async def test_the_record_away_is_503_for_what_needs_it(tmp_path, parts):
    """Killed, and so refused: told at once; search goes on for whoever is remembered."""
    settings = settings_of(tmp_path, database_url=parts.database_url)
    await migrated(parts.database_url)
    async with serving(settings) as client:
        assert (await client.get("/api/v1/search")).status_code == 200
        assert (await client.get(PATH)).status_code == 200
        parts.stop()
        health = await client.get(PATH)
        run = await client.get("/api/v1/runs/1")
        search = await client.get("/api/v1/search", params={"q": "x"})
    assert health.status_code == 503
    assert health.json()["status"] == "down"
    assert health.json()["parts"]["database"]["state"] == "away"
    assert int(health.headers["retry-after"]) > 0
    assert run.status_code == 503
    assert run.headers["content-type"] == "application/problem+json"
    assert run.json()["code"] == "database_away"
    assert int(run.headers["retry-after"]) > 0
    assert "127.0.0.1" not in run.text
    assert search.status_code == 200


async def test_a_record_that_hangs_hangs_nobody(tmp_path, parts):
    """Stopped, not killed: connections stay open and nothing ever answers."""
    settings = settings_of(tmp_path, database_url=parts.database_url)
    processes = postgres_of(parts)
    assert processes
    async with serving(settings, key="none") as client:
        assert (await client.get(PATH)).status_code == 200
        for process in postgres_of(parts):
            os.kill(process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            answer = await client.get(PATH)
            took = time.monotonic() - began
        finally:
            for process in reversed(postgres_of(parts)):
                os.kill(process.pid, signal.SIGCONT)
        assert answer.status_code == 503
        assert took < NEVER_LONGER
        async with asyncio.timeout(15):
            while (await client.get(PATH)).status_code != 200:
                await asyncio.sleep(0.05)
