"""`chrono pause`, `resume` and `cancel` on a real record."""

from __future__ import annotations

import json

import pytest

from chrono_ray.cli import control
from chrono_ray.model.errors import Conflict, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.projects import Projects, RunState

SITE = Scope("https://town.example/", MatchType.DOMAIN)


@pytest.fixture
async def run_id(database, database_url, tmp_path, monkeypatch) -> int:
    """A run on the record that the environment names."""
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHRONO_DATABASE_URL", database_url)
    return await Projects(database).start_run(
        SITE, project="town", archive="wayback", queue_class=QueueClass.SCRAPING
    )


async def call(command, run_id: int, *, as_json: bool = False) -> int:
    """A command brings its own event loop, so it runs beside ours."""
    import asyncio

    return await asyncio.to_thread(command, run_id, json=as_json)


async def test_a_run_is_paused_resumed_and_cancelled(run_id, database, capsys):
    projects = Projects(database)
    for command, state in [
        (control.pause, RunState.PAUSED),
        (control.resume, RunState.ACTIVE),
        (control.cancel, RunState.CANCELLED),
    ]:
        assert await call(command, run_id) == 0
        assert (await projects.run(run_id)).state is state
        assert f"Run {run_id} is {state.value}" in capsys.readouterr().out


async def test_twice_is_once(run_id, database):
    assert await call(control.pause, run_id) == 0
    assert await call(control.pause, run_id) == 0
    assert (await Projects(database).run(run_id)).state is RunState.PAUSED


async def test_json_is_one_object(run_id, capsys):
    await call(control.pause, run_id, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"run": run_id, "state": "paused"}


async def test_a_cancelled_run_stays_cancelled(run_id):
    await call(control.cancel, run_id)
    with pytest.raises(Conflict):
        await call(control.resume, run_id)


async def test_no_such_run(run_id):
    with pytest.raises(NotFound):
        await call(control.pause, run_id + 1)


async def test_only_a_run_that_is_not_over_is_gone_on_with(run_id, database):
    """What a bulk job asks before it starts a run: exactly the same scope, project and archive."""
    projects = Projects(database)

    async def found(scope: Scope = SITE, project: str = "town", archive: str = "wayback"):
        return await projects.unfinished(scope, project=project, archive=archive)

    assert await found() == run_id
    await projects.change(run_id, RunState.PAUSED)
    assert await found() == run_id
    assert await found(Scope(SITE.url, MatchType.DOMAIN, start="20010101000000")) is None
    assert await found(Scope(SITE.url, MatchType.HOST)) is None
    assert await found(project="village") is None
    assert await found(archive="pywb") is None
    await projects.change(run_id, RunState.CANCELLED)
    assert await found() is None
