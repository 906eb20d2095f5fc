"""Fault 13: the disk is full, for PostgreSQL, the search index and the payloads at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from chrono_ray.embedded.parts import Died, EmbeddedParts, PartEvent, Revived, Started, Waits
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import migrate
from chrono_ray.storage.projects import Projects
from tests.faults.scene import LOOK, SITE
from tests.support.accounts import admin_key, bearer
from tests.support.archive import Kind, Latency, Rule, archive_process
from tests.support.cluster import ROOT
from tests.support.disk import small_disk
from tests.support.program import Program

SIZE = "400m"
FULL = {"database_full", "database_away", "blobs_away", "unavailable"}
CHRONO = "import sys; from chrono_ray.cli.main import main; sys.exit(main())"
SECONDS = 90.0
STORED = "SELECT count(*) > 20 FROM fetches WHERE run_id = $1 AND state = 'stored'"
DONE = "SELECT state = 'done' FROM runs WHERE id = $1"
PRESSED = """
INSERT INTO pressed SELECT repeat(md5(random()::text), 20) FROM generate_series(1, 2000) RETURNING 1
"""
INDEXED = "SELECT count(*) = 0 FROM outbox"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own; skips where the machine does not let us have one."""
    tmp_path.chmod(0o755)
    with small_disk(tmp_path / "disk", f"size={SIZE},mode=755") as where:
        yield where


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """To the last byte, also what becomes free meanwhile is only taken by whom it belongs to."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
    try:
        yield
    finally:
        ballast.unlink()


@asynccontextmanager
async def servers(folder: Path, seen: list[PartEvent]) -> AsyncIterator[str]:
    """The embedded PostgreSQL, kept alive as `chrono up` keeps it; its URL."""
    async with EmbeddedParts(folder, postgres=True, valkey=False, report=seen.append) as parts:
        keeper = asyncio.create_task(parts.watch())
        try:
            yield parts.database_url or ""
        finally:
            assert not keeper.done(), "it was given up"
            keeper.cancel()


async def _fetches(url: str, statement: str, *arguments: int) -> asyncpg.Record | None:
    """None while PostgreSQL is away."""
    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError):
        return None
    try:
        return await connection.fetchrow(statement, *arguments)
    except (OSError, asyncpg.PostgresError):
        return None
    finally:
        connection.terminate()


async def _until(url: str, statement: str, *arguments: int) -> None:
    async with asyncio.timeout(SECONDS):
        while not ((row := await _fetches(url, statement, *arguments)) and row[0]):
            await asyncio.sleep(0.1)


async def _begun(url: str) -> tuple[int, str]:
    """A run, and an admin's key."""
    database = Database(url, pool_size=2)
    try:
        await migrate(database)
        await database.fetch("CREATE TABLE pressed (text text)")
        run = await Projects(database).start_run(
            Scope(f"http://{SITE}/", MatchType.DOMAIN), project="full", archive="wayback",
            queue_class=QueueClass.SCRAPING,
        )  # fmt: skip
    finally:
        await database.aclose()
    return run, await admin_key(url)


async def _make(http: httpx2.AsyncClient, made: list[str]) -> str:
    """A project; "" when it was made, else the code of the refusal, which must be one of a 503."""
    name = f"disk-{uuid4().hex}"
    answer = await http.post("/projects/", json={"name": name})
    if answer.status_code == 201:
        made.append(name)
        return ""
    problem = answer.json()
    assert answer.status_code == 503, problem
    assert answer.headers["retry-after"]
    assert problem["code"] in FULL, problem
    return str(problem["code"])


async def _refused(url: str, http: httpx2.AsyncClient, made: list[str]) -> Counter[str]:
    """What is answered while the disk is full, until several writes were refused."""
    codes: Counter[str] = Counter()
    ends = time.monotonic() + SECONDS
    while codes.total() - codes[""] < 5:
        assert time.monotonic() < ends, "the disk was never full for PostgreSQL"
        await _fetches(url, PRESSED)  # PostgreSQL has some room put by, in its log and tables
        codes[await _make(http, made)] += 1
        read = await http.get("/projects/?limit=1")
        assert read.status_code in (200, 503), read.text
    return codes


async def _goes_on(http: httpx2.AsyncClient, made: list[str]) -> None:
    ends = time.monotonic() + SECONDS
    while await _make(http, made):
        assert time.monotonic() < ends, "it is not back"
        await asyncio.sleep(0.2)


@pytest.mark.timeout(300)
async def test_a_full_disk_refuses_and_loses_nothing(disk: Path) -> None:
    seen: list[PartEvent] = []
    made: list[str] = []
    folder = disk / "data"
    with archive_process("--captures", "150") as archive:
        archive.behave(Rule(Latency(0.3), kind=Kind.REPLAY))
        async with servers(folder, seen) as url:
            run, key = await _begun(url)
            program = Program(
                ROOT,
                {
                    "CHRONO_DATA_DIR": str(folder), "CHRONO_DATABASE_URL": url,
                    "CHRONO_ARCHIVES__WAYBACK__URL": archive.url,
                    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
                    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "1200",
                    "CHRONO_SCRAPING__LEASE": "3", "CHRONO_SCRAPING__SWEEP": "0.5",
                    "CHRONO_INDEXING__LEASE": "3",
                },
            )  # fmt: skip
            async with (
                program.api() as port,
                httpx2.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}/api/v1", headers=bearer(key), timeout=60
                ) as http,
            ):
                with program.working("indexer"), program.working("scraper"):
                    await _until(url, STORED, run)
                    with filled(disk):
                        codes = await _refused(url, http, made)
                        sys.stdout.write(f"fault 13: {dict(codes)}, {seen[1:]}\n")
                    await _goes_on(http, made)
                    await _until(url, DONE, run)
                    await _until(url, INDEXED)
            os.sync()
            whole = await _fetches(url, LOOK, run)
            assert whole is not None
            assert {name: n for name, n in whole.items() if n} == {}
            await program.says(CHRONO, "verify", str(run))
            await program.says(CHRONO, "reconcile")
            kept = "SELECT count(*) FROM projects WHERE name LIKE 'disk-%'"
            found = await _fetches(url, kept)
            assert found is not None
            assert found[0] == len(made), codes


async def test_a_server_that_dies_of_a_full_disk_is_waited_for_and_not_given_up(
    disk: Path,
) -> None:
    seen: list[PartEvent] = []
    async with servers(disk / "data", seen) as url:
        with filled(disk):
            [started] = [each for each in seen if isinstance(each, Started)]
            os.kill(started.pid, signal.SIGKILL)
            async with asyncio.timeout(SECONDS):
                while not any(isinstance(each, Waits) for each in seen):
                    await asyncio.sleep(0.05)
            assert await _fetches(url, "SELECT 1") is None
        await _until(url, "SELECT 1")
        async with asyncio.timeout(SECONDS):
            while not any(isinstance(each, Revived) for each in seen):
                await asyncio.sleep(0.05)  # told once it answers, which we may see before
    assert [type(each) for each in seen] == [Started, Died, Waits, Revived]
