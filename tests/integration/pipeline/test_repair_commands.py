"""`chrono reindex`, `reconcile`, `recount`, `rescue` and the reindex job, on a real record."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chrono_ray.cli import repair
from chrono_ray.cluster.jobs.reindex import JOB
from chrono_ray.model.errors import Conflict, NotFound
from chrono_ray.search.tantivy import Role, TantivyIndex
from chrono_ray.storage.database import Database
from chrono_ray.storage.rebuilds import Rebuilds
from tests.integration.pipeline.indexed import (
    assert_same,
    held,
    indexing,
    make_pages,
    until_settled,
    working,
)
from tests.integration.storage.making import Record, capture, stored, until

ROOT = Path(__file__).parents[3]


@pytest.fixture
def environment(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What a command sees."""
    named = {"CHRONO_DATABASE_URL": database_url, "CHRONO_DATA_DIR": str(tmp_path)}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **named}


@asynccontextmanager
async def indexer(database: Database, folder: Path) -> AsyncIterator[TantivyIndex]:
    """The indexer of the cluster that the commands speak to."""
    index = TantivyIndex(folder / "index", Role.WRITER)
    try:
        async with working(indexing(database, index)):
            yield index
    finally:
        await index.aclose()


async def call(command: Callable[[], int]) -> int:
    """A command brings its own event loop, so it runs beside ours."""
    return await asyncio.to_thread(command)


async def job(environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "jobs/reindex.py", *arguments, cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_what_differs_is_told_and_mended(
    environment: dict[str, str],
    database: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = await make_pages(database, 30)
    async with indexer(database, tmp_path) as index:
        await until_settled(database)
        assert await call(lambda: repair.reconcile(repair=False, json=False)) == 0
        assert "agree" in capsys.readouterr().out
        await index.delete(ids[:3])
        assert await call(lambda: repair.reconcile(repair=False, json=False)) == 1
        said = capsys.readouterr().out
        assert f"3 missing: page {ids[0]}, {ids[1]}, {ids[2]}" in said
        assert "chrono reconcile --repair" in said
        assert await call(lambda: repair.reconcile(repair=True, json=True)) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["queued"], told["differ"]["missing"], told["clean"]) == (3, 3, False)
        await until_settled(database)
        await assert_same(database, index)


async def test_an_index_elsewhere_is_not_taken_for_an_empty_one(
    environment: dict[str, str], database: Database
) -> None:
    await Rebuilds(database).remember("on the head node")
    with pytest.raises(Conflict) as refused:
        await call(lambda: repair.reconcile(repair=True, json=False))
    assert "there is none here" in refused.value.why


async def test_a_rebuild_is_asked_for_and_worked_off_later(
    environment: dict[str, str],
    database: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await make_pages(database, 30)
    assert await call(lambda: repair.reindex(wait=False, json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "wanted"
    async with indexer(database, tmp_path):
        await until_settled(database)
    assert (await Rebuilds(database).progress(told["rebuild"])).filled == 30


async def test_the_job_follows_a_rebuild_to_its_end(
    environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    await make_pages(database, 60)
    async with indexer(database, tmp_path) as index:
        process = await job(environment)
        async with asyncio.timeout(40):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        told = json.loads(out)
        assert (told["state"], told["pages"], told["rejected"]) == ("done", 60, 0)
        assert b"The fresh index answers now" in err
        await until_settled(database)
        assert len(await held(index)) == 60


async def test_the_job_may_be_stopped_at_any_time(
    environment: dict[str, str], database: Database
) -> None:
    """Nobody works on it here: it says so, and ends when told to. The request stays."""
    process = await job(environment)
    assert process.stderr is not None
    async with asyncio.timeout(40):
        assert b"waits for the indexer" in await process.stderr.readline()
    os.kill(process.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert process.returncode == 130, err.decode()
    told = json.loads(out)
    assert await Rebuilds(database).under_way() == told["rebuild"]


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--faster", 2)])
def test_the_job_says_what_it_is_and_refuses_what_it_is_not(
    argument: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        JOB.main([argument])
    assert ended.value.code == code
    said = capsys.readouterr()
    assert "reindex.py" in said.out + said.err


async def test_numbers_are_recounted(
    environment: dict[str, str], database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record(database)
    await record.unlimited("wayback")
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(4)])
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    assert await call(lambda: repair.recount_numbers(None, repair=False, json=False)) == 0
    assert "Every number is right" in capsys.readouterr().out
    await database.fetch("UPDATE domain_counters SET n = 9 WHERE state = 'stored'")
    assert await call(lambda: repair.recount_numbers(run, repair=False, json=False)) == 1
    assert f"run {run}: stored says 9, the rows say 4" in capsys.readouterr().out
    assert await call(lambda: repair.recount_numbers(run, repair=True, json=True)) == 0
    assert json.loads(capsys.readouterr().out)["mended"] is True
    assert await call(lambda: repair.recount_numbers(None, repair=False, json=False)) == 0
    with pytest.raises(NotFound):
        await call(lambda: repair.recount_numbers(77, repair=False, json=False))


async def test_dead_workers_leases_come_back_on_demand(
    environment: dict[str, str], database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record(database)
    await record.unlimited("wayback")
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(6)])
    await record.claim(3)
    await database.fetch("UPDATE leases SET leased_until = clock_timestamp() - interval '1s'")
    await database.fetch("DELETE FROM queue WHERE fetch_id = (SELECT min(fetch_id) FROM queue)")
    assert await call(lambda: repair.rescue(json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rescued"], told["stranded"], told["crashed"]) == (3, 1, 0)

    async def all_stored() -> bool:
        await record.settling.settle([stored(lease) for lease in await record.claim()])
        return await database.fetchval("SELECT count(*) FROM pages") == 6

    await until(all_stored)
    assert await record.faults() == []
