"""The parts of a data folder: owned by one, kept alive, found again, stopped whole."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import QUICK
from redis.asyncio import Redis

from chrono_ray.embedded import parts as parts_module
from chrono_ray.embedded.folder import running_parts
from chrono_ray.embedded.parts import Died, EmbeddedParts, PartEvent, Revived, Started
from chrono_ray.model.errors import EmbeddedError


async def sql(url: str | None, statement: str, *arguments: object) -> object:
    assert url is not None
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()


@asynccontextmanager
async def redis(url: str | None):
    assert url is not None
    async with Redis.from_url(url, decode_responses=True, socket_timeout=5) as client:
        yield client


@asynccontextmanager
async def watched(parts: EmbeddedParts):
    await parts.start()
    watching = asyncio.create_task(parts.watch())
    try:
        yield
    finally:
        await parts.stop()
        await asyncio.wait_for(watching, 5)


@asynccontextmanager
async def endless_query(url: str):
    """A backend that will not notice its postmaster's death; its client is cut off."""
    connection = await asyncpg.connect(url)
    query = connection.fetchval("SELECT count(*) FROM generate_series(1, 100000000000)")
    endless = asyncio.create_task(query)
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(10):
        while not await sql(url, busy):
            await asyncio.sleep(0.02)
    yield
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await endless


def quick_parts(folder: Path, **more) -> EmbeddedParts:
    return EmbeddedParts(folder, postgres_tuning=QUICK, **more)


def pid_of(events: list[PartEvent], part: str) -> int:
    return next(e.pid for e in reversed(events) if not isinstance(e, Died) and e.part == part)


async def test_a_fresh_folder_serves_within_seconds(tmp_path):
    began = time.monotonic()
    async with EmbeddedParts(tmp_path / "data", postgres=True, valkey=True) as parts:
        assert time.monotonic() - began < 15
        database, cache = urlsplit(parts.database_url), urlsplit(parts.redis_url)
        assert (database.scheme, database.username, database.path) == (
            "postgresql",
            "chrono",
            "/chrono",
        )
        assert (cache.scheme, cache.username, cache.path) == ("redis", "", "/0")
        assert database.hostname == cache.hostname == "127.0.0.1"
        assert len(database.password) >= 32
        assert await sql(parts.database_url, "SELECT current_database()") == "chrono"
        assert await sql(parts.database_url, "SELECT count(*) FROM pg_stat_statements") >= 0
        async with redis(parts.redis_url) as client:
            assert await client.ping()


async def test_what_is_not_wanted_is_not_started(tmp_path):
    async with quick_parts(tmp_path, postgres=False, valkey=True) as parts:
        assert parts.database_url is None
        assert parts.redis_url is not None
    assert not (tmp_path / "embedded" / "postgres").exists()


async def test_a_restart_keeps_rows_keys_and_urls(tmp_path):
    async with quick_parts(tmp_path, postgres=True, valkey=True) as parts:
        before = (parts.database_url, parts.redis_url)
        await sql(parts.database_url, "CREATE TABLE kept AS SELECT 42 AS n")
        async with redis(parts.redis_url) as client:
            await client.set("kept", "42")
    async with quick_parts(tmp_path, postgres=True, valkey=True) as parts:
        assert (parts.database_url, parts.redis_url) == before
        assert await sql(parts.database_url, "SELECT n FROM kept") == 42
        async with redis(parts.redis_url) as client:
            assert await client.get("kept") == "42"


async def test_killed_servers_come_back_on_their_ports(tmp_path, eventually):
    events: list[PartEvent] = []
    parts = quick_parts(tmp_path, postgres=True, valkey=True, report=events.append)
    async with watched(parts):
        urls = (parts.database_url, parts.redis_url)
        await sql(parts.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
        for part in ("postgres", "valkey"):
            os.kill(pid_of(events, part), signal.SIGKILL)
        await eventually(lambda: sum(isinstance(e, Revived) for e in events) == 2)
        assert (parts.database_url, parts.redis_url) == urls
        assert await sql(parts.database_url, "SELECT n FROM kept") == 7
        async with redis(parts.redis_url) as client:
            assert await client.ping()
    assert sorted(e.part for e in events if isinstance(e, Died)) == ["postgres", "valkey"]


async def test_who_only_looks_leaves_what_a_killed_owner_left_at_work(tmp_path, start_owner):
    first = start_owner(tmp_path, valkey=False)
    url = first.wait_for("ready")["database_url"]
    first.kill()
    for _ in range(2):
        looking = quick_parts(tmp_path, postgres=True, valkey=False)
        await looking.start()
        assert looking.database_url == url
        await looking.leave()
        assert await sql(str(url), "SELECT 1") == 1
    await looking.claim()
    await looking.end_left_behind()
    with pytest.raises(ConnectionRefusedError):
        await sql(url, "SELECT 1")
    own = quick_parts(tmp_path, postgres=True, valkey=False)
    await own.start()
    url = own.database_url
    await own.leave()
    with pytest.raises(ConnectionRefusedError):
        await sql(url, "SELECT 1")


async def test_a_query_that_outlives_its_postmaster_does_not_hold_up_the_next(tmp_path, eventually):
    events: list[PartEvent] = []
    parts = quick_parts(tmp_path, postgres=True, valkey=False, report=events.append)
    async with watched(parts):
        async with endless_query(parts.database_url):
            os.kill(pid_of(events, "postgres"), signal.SIGKILL)
            await eventually(lambda: isinstance(events[-1], Revived))
        assert await sql(parts.database_url, "SELECT 1") == 1


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)
async def test_a_root_that_may_not_look_into_processes_manages_too(tmp_path, start_owner):
    """Docker's root has no CAP_SYS_PTRACE, which hides the server's working folder."""
    blind = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    first = start_owner(tmp_path, under=blind)
    url = first.wait_for("ready")["database_url"]
    async with endless_query(url):
        os.kill(first.pids()["postgres"], signal.SIGKILL)
        revived = first.wait_for("Revived")
    first.kill()
    second = start_owner(tmp_path, under=blind)
    assert second.wait_for("ready")["database_url"] == url
    assert {said["came"] for said in second.heard if said["kind"] == "Started"} == {"attached"}
    assert second.pids()["postgres"] == revived["pid"]


async def test_the_next_owner_attaches_to_what_a_killed_owner_left(
    tmp_path, start_owner, eventually
):
    first = start_owner(tmp_path)
    urls = first.wait_for("ready")
    await sql(urls["database_url"], "CREATE TABLE kept AS SELECT 1 AS n")
    first.kill()
    assert running_parts(tmp_path) is None

    events: list[PartEvent] = []
    parts = quick_parts(tmp_path, postgres=True, valkey=True, report=events.append)
    async with watched(parts):
        assert {e.part: e.pid for e in events} == first.pids()
        assert {e.came for e in events if isinstance(e, Started)} == {"attached"}
        assert parts.database_url == urls["database_url"]
        assert parts.redis_url == urls["redis_url"]
        os.kill(pid_of(events, "postgres"), signal.SIGKILL)
        await eventually(lambda: isinstance(events[-1], Revived))
        assert await sql(parts.database_url, "SELECT n FROM kept") == 1


async def test_servers_that_died_with_their_owner_are_started_again(tmp_path, start_owner):
    owner = start_owner(tmp_path)
    urls = owner.wait_for("ready")
    await sql(urls["database_url"], "CREATE TABLE kept AS SELECT 1 AS n")
    owner.kill()
    for pid in owner.pids().values():
        os.kill(pid, signal.SIGKILL)
    events: list[PartEvent] = []
    async with quick_parts(tmp_path, postgres=True, valkey=True, report=events.append) as parts:
        assert {e.came for e in events if isinstance(e, Started)} == {"launched"}
        assert parts.database_url == urls["database_url"]
        assert await sql(parts.database_url, "SELECT n FROM kept") == 1


async def test_a_second_owner_is_refused_and_told_who_is_first(tmp_path, start_owner):
    first = start_owner(tmp_path, valkey=False)
    urls = first.wait_for("ready")
    with pytest.raises(EmbeddedError, match=f"process {first.process.pid} owns"):
        await quick_parts(tmp_path, postgres=True, valkey=False).start()
    assert await sql(urls["database_url"], "SELECT 1") == 1


async def test_two_owners_at_once_leave_one(tmp_path, start_owner):
    owners = [start_owner(tmp_path, valkey=False) for _ in range(3)]
    ends = [owner.wait_for("ready", "refused")["kind"] for owner in owners]
    assert sorted(ends) == ["ready", "refused", "refused"]


async def test_others_read_the_urls_of_a_running_owner(tmp_path, start_owner):
    assert running_parts(tmp_path) is None
    owner = start_owner(tmp_path)
    urls = owner.wait_for("ready")
    running = running_parts(tmp_path)
    assert running is not None
    assert running.owner == owner.process.pid
    assert (running.database_url, running.redis_url) == (urls["database_url"], urls["redis_url"])
    owner.stop()
    assert running_parts(tmp_path) is None


async def test_after_a_stop_the_folder_can_go_and_come_back(tmp_path):
    data = tmp_path / "data"
    parts = quick_parts(data, postgres=True, valkey=True)
    await parts.start()
    await parts.stop()
    await parts.stop()
    shutil.rmtree(data)
    async with quick_parts(data, postgres=True, valkey=False) as again:
        assert await sql(again.database_url, "SELECT 1") == 1


async def test_a_failed_start_leaves_nothing_running(tmp_path):
    empty = tmp_path / "nothing-here"
    with pytest.raises(EmbeddedError, match="no usable PostgreSQL") as refused:
        await quick_parts(tmp_path / "data", postgres=True, valkey=True, postgres_bin=empty).start()
    assert "nothing-here" in refused.value.why
    async with quick_parts(tmp_path / "data", postgres=True, valkey=True) as parts:
        assert await sql(parts.database_url, "SELECT 1") == 1


async def test_a_server_that_keeps_dying_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "FIRST_PAUSE", 0.01)
    events: list[PartEvent] = []
    parts = quick_parts(tmp_path, postgres=True, valkey=True, report=events.append)
    await parts.start()
    control = tmp_path / "embedded" / "postgres" / "global" / "pg_control"
    control.rename(control.with_name("pg_control.away"))
    os.kill(pid_of(events, "postgres"), signal.SIGKILL)
    with pytest.raises(EmbeddedError, match="postgres did not start"):
        await asyncio.wait_for(parts.watch(), 30)
    assert [e.deaths for e in events if isinstance(e, Died)] == [1, 2, 3, 4, 5]
    await parts.stop()


async def test_a_vanished_data_folder_is_never_replaced_by_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "FIRST_PAUSE", 0.01)
    parts = quick_parts(tmp_path, postgres=True, valkey=False)
    await parts.start()
    data = tmp_path / "embedded" / "postgres"
    running = running_parts(tmp_path)
    assert running is not None
    pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    away = data.rename(tmp_path / "away")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EmbeddedError, match="has vanished"):
        await asyncio.wait_for(parts.watch(), 30)
    assert not data.exists()
    away.rename(data)
    await parts.stop()
