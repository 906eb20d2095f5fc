"""Fault 19: a newer program changes the schema and takes over, while the older one is at work."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx2
import pytest

from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import newest
from chrono_ray.storage.projects import Projects
from tests.faults.scene import LOOK, SITE
from tests.support.accounts import admin_key, bearer
from tests.support.archive import Kind, Latency, Rule, archive_process
from tests.support.cluster import ROOT
from tests.support.load import Seen, load
from tests.support.program import Program

RATE = 25.0
SLOWEST = 10.0
"""Seconds: a request that waits for a table would take as long as the table is held."""
LATER = """
ALTER TABLE pages ADD COLUMN keyed int;
CREATE FUNCTION pages_keyed() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.keyed := length(NEW.urlkey); RETURN NEW; END $$;
CREATE TRIGGER pages_keyed BEFORE INSERT ON pages FOR EACH ROW EXECUTE FUNCTION pages_keyed();
"""
ONLINE = """
-- name: fill_pages_keyed
UPDATE pages SET keyed = length(urlkey)
 WHERE id IN (SELECT id FROM pages WHERE keyed IS NULL LIMIT 10)

-- name: pages_by_keyed
CREATE INDEX CONCURRENTLY pages_by_keyed ON pages (keyed)
"""
MIGRATE = """
import asyncio, os
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import migrate

async def main():
    record = Database(os.environ["CHRONO_DATABASE_URL"], pool_size=2)
    try:
        print(await migrate(record))
    finally:
        await record.aclose()

asyncio.run(main())
"""


@dataclass(slots=True)
class Balancer(httpx2.AsyncBaseTransport):
    """What stands before replicas: each request goes to the next of those that take some."""

    ports: list[int] = field(default_factory=list)
    given: int = 0
    way: httpx2.AsyncHTTPTransport = field(default_factory=httpx2.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.given += 1
        request.url = request.url.copy_with(port=self.ports[self.given % len(self.ports)])
        return await self.way.handle_async_request(request)

    async def aclose(self) -> None:
        await self.way.aclose()

    @asynccontextmanager
    async def replica(self, program: Program) -> AsyncIterator[int]:
        """The program's API, among those that take requests until `leave`; ended by SIGTERM."""
        async with program.api() as port:
            self.ports.append(port)
            try:
                yield port
            finally:
                self.leave(port)

    def leave(self, port: int) -> None:
        if port in self.ports:
            self.ports.remove(port)


def _newer(folder: Path, settings: dict[str, str]) -> Program:
    """This program, and one revision more."""
    shutil.copytree(
        ROOT / "chrono_ray", folder / "chrono_ray", ignore=shutil.ignore_patterns("__pycache__")
    )
    versions = folder / "chrono_ray" / "storage" / "migrations" / "versions"
    last = next(versions.glob(f"{newest()}_*.py"))
    text = last.read_text("utf-8").replace(last.stem, "9001_later")
    text = text.replace(f'revision = "{newest()}"', 'revision = "9001"', 1)
    before = f'down_revision = "{int(newest()) - 1:04}"'
    assert before in text
    text = text.replace(before, f'down_revision = "{newest()}"')
    (versions / "9001_later.py").write_text(text)
    (versions / "9001_later.sql").write_text(LATER)
    (versions / "9001_online.sql").write_text(ONLINE)
    return Program(folder, settings)


async def _fetches(url: str, statement: str, *arguments: int) -> asyncpg.Record:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(statement, *arguments)
    finally:
        await connection.close()


async def _until(url: str, statement: str, run: int) -> None:
    async with asyncio.timeout(60):
        while not (await _fetches(url, statement, run))[0]:
            await asyncio.sleep(0.1)


async def _started(url: str) -> int:
    database = Database(url, pool_size=1)
    try:
        return await Projects(database).start_run(
            Scope(f"http://{SITE}/", MatchType.DOMAIN), project="upgraded", archive="wayback",
            queue_class=QueueClass.SCRAPING,
        )  # fmt: skip
    finally:
        await database.aclose()


STORED = "SELECT count(*) > 20 FROM fetches WHERE run_id = $1 AND state = 'stored'"
HALF_OPEN = "SELECT state = 'active' FROM runs WHERE id = $1"
DONE = "SELECT state = 'done' FROM runs WHERE id = $1"
LATER_DONE = """
SELECT (SELECT count(*) FROM pages WHERE keyed IS DISTINCT FROM length(urlkey)) AS not_filled,
       (SELECT count(*) FROM pages) AS pages,
       (SELECT indisvalid FROM pg_index WHERE indexrelid = 'pages_by_keyed'::regclass) AS valid,
       (SELECT count(*) FROM schema_steps WHERE revision = '9001') AS steps
"""


@pytest.mark.timeout(150)
async def test_a_newer_program_takes_over_while_the_older_one_works(
    database_url: str, tmp_path: Path
):
    with archive_process("--captures", "150") as archive:
        archive.behave(Rule(Latency(0.5), kind=Kind.REPLAY))
        settings = {
            "CHRONO_DATA_DIR": str(tmp_path / "data"), "CHRONO_DATABASE_URL": database_url,
            "CHRONO_ARCHIVES__WAYBACK__URL": archive.url,
            "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
            "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "300",
            "CHRONO_SCRAPING__LEASE": "3", "CHRONO_SCRAPING__SWEEP": "0.5",
        }  # fmt: skip
        old, new = Program(ROOT, settings), _newer(tmp_path / "newer", settings)
        run, key = await _started(database_url), await admin_key(database_url)
        seen = await _replaced(old, new, database_url, run, key)
        with new.working("scraper"):
            await _until(database_url, DONE, run)
        assert await old.says(MIGRATE) == "9001"  # it may come back, and changes nothing
    assert seen.errors == 0, seen.statuses
    assert seen.slowest < SLOWEST
    whole = await _fetches(database_url, LOOK, run)
    assert {name: n for name, n in whole.items() if n} == {}
    found = dict(await _fetches(database_url, LATER_DONE))
    assert found.pop("pages") > 50
    assert found == {"not_filled": 0, "valid": True, "steps": 2}


async def _replaced(old: Program, new: Program, url: str, run: int, key: str) -> Seen:
    """What the clients saw, from before the schema changes until the older program is gone."""
    stop, balancer = asyncio.Event(), Balancer()
    async with (
        httpx2.AsyncClient(
            transport=balancer, base_url="http://127.0.0.1/api/v1", headers=bearer(key), timeout=30
        ) as http,
        balancer.replica(old) as first,
    ):
        with old.working("scraper"):
            loading = asyncio.create_task(load(http, rate=RATE, stop=stop))
            await _until(url, STORED, run)
            assert await new.says(MIGRATE) == "9001"
            assert (await _fetches(url, HALF_OPEN, run))[0], "the run had ended before"
            async with balancer.replica(new):
                balancer.leave(first)
                given = balancer.given
                async with asyncio.timeout(30):
                    while balancer.given < given + 2 * RATE:
                        await asyncio.sleep(0.05)
                stop.set()
                return await loading
