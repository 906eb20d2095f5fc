"""A PostgreSQL for the whole session, and a migrated database of its own for each test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import migrate
from tests.support.embedded import start_session_parts

TEMPLATE = "template_record"
PREFIX = "chrono-tests-of-"
MEMORY = Path("/dev/shm")
ROOM = 4 << 30


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One server with a migrated template; `url` is its maintenance database."""

    url: str
    numbers: Iterator[int]

    def database(self, name: str) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}"))

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    @asynccontextmanager
    async def fresh(self, *, template: str = TEMPLATE) -> AsyncIterator[str]:
        """URL of a new database, dropped afterwards whoever is still connected."""
        name = f"record_{next(self.numbers)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield self.database(name)
        finally:
            await self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


SHARING = frozenset({
    "test_dashboards.py", "test_jobs.py", "test_live.py", "test_metrics.py", "test_plan.py",
    "test_perf.py", "test_reindex.py", "test_serve.py", "test_up.py",
})  # fmt: skip
"""Of tests/cluster: those that work on one cluster with everything in it."""
LONGEST_FIRST = ("sharing", "faults/test_wires.py", "cluster/test_politeness.py")
"""Groups that nobody should be left to wait for at the end."""


class ByCluster(LoadScopeScheduling):  # type: ignore[misc]  # xdist's loadgroup knows no pytest 9.2
    """What starts a cluster is one worker's, so that nobody starts it twice (--dist loadscope)."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_configure() -> None:
    # what a background shell starts has SIGINT ignored, and so would every process of ours
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCluster | None:
    return ByCluster(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {group: place for place, group in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(_group(item.nodeid), len(places)))


def _group(nodeid: str) -> str:
    """Of a test: its file, or what several files of tests/cluster have in common."""
    folder, _, file = nodeid.partition("::")[0].removeprefix("tests/").rpartition("/")
    return "sharing" if folder == "cluster" and file in SHARING else f"{folder}/{file}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server. A folder of our own: the server's account must be able to enter it."""
    roomy = roomy_folder()
    sweep_killed_sessions(roomy)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=roomy))
    folder.chmod(0o755)
    try:
        with start_session_parts(folder / "parts", fsync=False) as parts:
            server = PostgresServer(parts.database_url, count(1))
            run_apart(lambda: prepare_server(server))
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A migrated, empty database for this test alone."""
    async with postgres_server.fresh() as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, pool_size=8, name="test")
    yield opened
    await opened.aclose()


def roomy_folder() -> Path:
    """In memory where there is room: a new database is a copy of 300 files."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        return MEMORY
    return Path("/tmp")


def sweep_killed_sessions(roomy: Path) -> None:
    """What they left takes memory."""
    for left in roomy.glob(f"{PREFIX}*-*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


async def prepare_server(server: PostgresServer) -> None:
    """Its template, and a password that costs a connection one round of hashing, not 4,096."""
    password = urlsplit(server.url).password
    await server.execute(f"SET scram_iterations = 1; ALTER ROLE CURRENT_USER PASSWORD '{password}'")
    await prepare_template(server)


async def prepare_template(server: PostgresServer) -> None:
    await server.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    record = Database(server.database(TEMPLATE), pool_size=1)
    await migrate(record)
    await record.aclose()


def run_apart(work: Callable[[], Awaitable[None]]) -> None:
    """In a thread: a session fixture must leave the tests' own event loop alone."""

    async def main() -> None:
        await work()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(main())).result()
