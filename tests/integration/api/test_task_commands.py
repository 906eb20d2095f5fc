"""`chrono project`, `task` and `purge` against the record: what they change and what they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chrono_ray.cli import project, task
from chrono_ray.model.errors import Conflict, InvalidInput, NotFound
from chrono_ray.model.task import Purge
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskLease, Tasks
from tests.integration.storage.making import Record, capture, stored


@pytest.fixture
async def record(database: Database, database_url: str, tmp_path: Path, monkeypatch) -> Record:
    """A project of three pages on the record that the environment names."""
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHRONO_DATABASE_URL", database_url)
    made = Record(database)
    await made.unlimited("wayback")
    run = await made.start("a.example", project="town")
    await made.list_all(run, [capture(f"http://a.example/{n}") for n in range(3)])
    await made.settling.settle([stored(lease) for lease in await made.claim()])
    return made


@pytest.fixture(autouse=True)
def quiet_signals(monkeypatch) -> None:
    """A command installs its own; here it does not run in the main thread."""
    monkeypatch.setattr(task, "interrupted", asyncio.Event)


async def call(command: Callable[..., int], *arguments: object, **options: object) -> int:
    """A command brings its own event loop, so it runs beside ours."""
    return await asyncio.to_thread(lambda: command(*arguments, **options))


async def test_projects_are_listed_and_shown_with_what_they_hold(record: Record, capsys):
    assert await call(project.list_projects, json=False) == 0
    assert capsys.readouterr().out == (
        "town (#1): 1 domains, 1 runs (1 active), 3 captures listed, 3 pages\n"
    )
    assert await call(project.show_project, "town", json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["domains"] == [
        {"url": "http://a.example/", "match": "domain", "runs": 1, "captures": 3, "pages": 3}
    ]
    with pytest.raises(NotFound, match="no project 'nowhere'"):
        await call(project.show_project, "nowhere", json=False)


async def test_a_project_is_deleted_only_when_somebody_means_it(record: Record, capsys):
    with pytest.raises(InvalidInput, match="Add --yes"):
        await call(project.delete_project, "town", yes=False, json=False)
    with pytest.raises(NotFound):
        await call(project.delete_project, "", yes=True, json=False)
    assert await record.database.fetchval("SELECT count(*) FROM pages") == 3
    assert await call(project.delete_project, "town", yes=True, json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["result"]["captures"], told["result"]["pages"]) == ("done", 3, 3)
    assert await record.database.fetchval("SELECT count(*) FROM projects") == 0
    assert await call(project.list_projects, json=True) == 0
    assert capsys.readouterr().out == ""


async def test_what_would_begin_by_itself_does_not_outlive_its_project(record: Record):
    await record.database.fetch(
        "INSERT INTO schedules (domain_id, archives, overlap, every, class)"
        " SELECT id, '{wayback}', '1 day', '1 day', 3 FROM domains"
    )
    await record.database.fetch(
        "INSERT INTO redecisions (domain_id, waits) SELECT id, false FROM domains"
    )
    assert await call(project.delete_project, "town", yes=True, json=True) == 0
    for table in ("schedules", "redecisions", "runs", "captures"):
        assert await record.database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_a_purge_says_what_it_took(record: Record, capsys):
    await record.database.fetch(
        "INSERT INTO payloads (sha256, sha1, size, stored_at) VALUES ('\\x01', '', 1, '-infinity')"
    )
    assert await call(task.purge, 3600.0, json=True) == 0
    assert json.loads(capsys.readouterr().out)["result"] == {"payloads": 1, "blobs": 0}


async def test_tasks_are_listed_shown_and_cancelled(record: Record, capsys):
    tasks = Tasks(record.database)
    submitted = await tasks.submit(Purge())
    assert await call(task.list_tasks, 10, "", json=False) == 0
    assert capsys.readouterr().out == f"task {submitted.id:<6} pending   purge\n"
    lease = await tasks.claim("worker")
    assert isinstance(lease, TaskLease)
    assert await call(task.show_task, submitted.id, json=True) == 0
    assert json.loads(capsys.readouterr().out)["worker"] == "worker"
    assert await call(task.cancel_task, submitted.id, json=False) == 0
    assert capsys.readouterr().out == f"Task {submitted.id} is cancelled\n"
    done = await tasks.submit(Purge())
    lease = await tasks.claim("worker")
    assert isinstance(lease, TaskLease)
    await tasks.fail(lease, "internal", "it broke")
    assert await call(task.show_task, done.id, json=False) == 0
    assert "failed: internal: it broke" in capsys.readouterr().out
    capsys.readouterr()
    assert await call(task.list_tasks, 10, "failed", json=True) == 0
    assert json.loads(capsys.readouterr().out)["task"] == done.id
    with pytest.raises(InvalidInput, match="no state 'broken'"):
        await call(task.list_tasks, 10, "broken", json=True)
    with pytest.raises(Conflict, match="it is failed"):
        await call(task.cancel_task, done.id, json=False)
    with pytest.raises(NotFound):
        await call(task.show_task, 10**9, json=False)
