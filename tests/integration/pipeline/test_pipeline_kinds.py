"""Kinds of tasks that hand over to other parts, through the runner that a scraper has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.model.task import DeleteProject, Discover, Reindex, Task
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskRow, Tasks, TaskState
from tests.integration.storage.making import Record, capture, stored, until


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> chrono_settings.Settings:
    return chrono_settings.load(
        {"CHRONO_DATA_DIR": str(tmp_path), "CHRONO_DATABASE_URL": database_url,
         "CHRONO_INDEXING__SECONDS": "0.1"}
    )  # fmt: skip


@asynccontextmanager
async def scraping(settings: chrono_settings.Settings, database: Database) -> AsyncIterator[None]:
    """The part of a scraper that works on tasks, as it is wired."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(wiring.task_runner(settings, database, worker="w").run(stop))
        try:
            yield
        finally:
            stop.set()


async def done(database: Database, task: Task) -> TaskRow:
    tasks = Tasks(database)
    submitted = await tasks.submit(task)

    async def over() -> bool:
        return (await tasks.task(submitted.id)).state is not TaskState.PENDING

    await until(over, seconds=30)
    return await tasks.task(submitted.id)


async def test_a_run_is_begun_or_joined(settings, database: Database):
    wanted = Discover("town", "wayback", "http://a.example/", "domain", "2001" + "0" * 10, "")
    async with scraping(settings, database):
        first = await done(database, wanted)
        again = await done(database, wanted)
    assert (first.state, first.result["joined"]) == (TaskState.DONE, 0)
    assert again.result == {"run": first.result["run"], "joined": 1}
    assert await database.fetchval("SELECT count(*) FROM runs WHERE state = 'active'") == 1


async def test_a_project_that_is_being_deleted_begins_nothing(settings, database: Database):
    record = Record(database)
    await record.start("a.example", project="town")
    await Tasks(database).submit(DeleteProject("town", 1), delay=3600)
    async with scraping(settings, database):
        refused = await done(database, Discover("town", "wayback", "http://b.example/", "domain"))
    assert (refused.state, refused.reason) == (TaskState.FAILED, "project_deleting")


async def test_a_fresh_index_is_asked_for_and_waited_for(settings, database: Database):
    record = Record(database)
    await record.unlimited("wayback")
    run = await record.start("a.example")
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(3)])
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    index, stop = wiring.index(settings, "writer"), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(wiring.indexing(settings, database, index).run(stop))
        async with scraping(settings, database):
            row = await done(database, Reindex())
        stop.set()
    await index.aclose()
    assert (row.state, row.result["rejected"]) == (TaskState.DONE, 0), row.detail
    assert row.result["pages"] == 3
