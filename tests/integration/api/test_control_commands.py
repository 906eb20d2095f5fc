"""`chrono pause`, `resume`, `cancel`, `retry`, `priority`, `fetch`, `schedule` on a real record."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chrono_ray.cli import control, schedule
from chrono_ray.cli.control import Sooner
from chrono_ray.cli.run import Request
from chrono_ray.model.errors import Conflict, InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.projects import Collection, Goal, Projects, RunState
from tests.integration.storage.making import Record, capture, failed, stored

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


async def test_only_a_run_that_is_not_over_is_joined(run_id, database):
    """Exactly the same scope, project and archives: anything else is a run of its own."""
    projects = Projects(database)
    same = Collection(SITE, "town", ("wayback",))

    async def joined(wanted: Collection = same) -> int | None:
        begun = await projects.begin(wanted)
        return begun.run_ids[0] if begun.joined else None

    assert await joined() == run_id
    await projects.change(run_id, RunState.PAUSED)
    assert await joined() == run_id
    assert (await projects.run(run_id)).state is RunState.ACTIVE
    dated = Scope(SITE.url, MatchType.DOMAIN, start="20010101000000")
    for other in (
        replace(same, scope=dated),
        replace(same, scope=Scope(SITE.url, MatchType.HOST)),
        replace(same, project="village"),
        replace(same, archives=("pywb",)),
        replace(same, archives=("wayback", "pywb")),
        replace(same, goal=Goal.PLAN),
    ):
        assert await joined(other) is None
    assert await joined() == run_id, "though another of the same first archive is newer"
    for each in await projects.recent_runs(20):
        await projects.change(each, RunState.CANCELLED)
    assert await joined() is None


# -- again, sooner, now


@pytest.fixture
async def record(database, run_id) -> Record:
    """The run has listed three captures, of which one is stored and one has failed."""
    made = Record(database)
    await made.unlimited("wayback")
    await made.list_all(run_id, [capture(f"http://town.example/{n}") for n in range(3)])
    one, two = await made.claim(2)
    await made.settling.settle([stored(one), failed(two)])
    return made


async def said(capsys, command, *typed, **named) -> dict:
    """What a command prints with --json."""
    import asyncio

    assert await asyncio.to_thread(command, *typed, **named, json=True) == 0
    return json.loads(capsys.readouterr().out)


async def test_failures_are_counted_then_tried_again(run_id, record, capsys):
    asked = {"force": False, "dry_run": True}
    told = await said(capsys, control.try_again, run_id, "failed,gone,hole", "", **asked)
    assert told == {
        "run": run_id, "fetches": {"failed": {"encoding": 1}}, "slices": 0, "withheld": {},
        "dry_run": True,
    }  # fmt: skip
    assert len(await record.claim()) == 1
    await said(capsys, control.try_again, run_id, "failed", "", force=False, dry_run=False)
    assert len(await record.claim()) == 1


async def test_captures_and_runs_and_projects_get_their_place(run_id, record, capsys):
    def asked(target: str, **chosen) -> Sooner:
        typed = {
            "queue_class": "", "weight": 0, "captures": "", "url": "", "match": "prefix",
            "start": "", "end": "", "dry_run": False,
        } | chosen  # fmt: skip
        return Sooner(target, **typed)

    place = {"captures": "now", "url": "town.example/2", "match": "exact"}
    told = await said(capsys, control.sooner, asked(str(run_id), **place, dry_run=True))
    assert told["moved"] == 1
    assert (await said(capsys, control.sooner, asked(str(run_id), **place)))["moved"] == 1
    await said(capsys, control.sooner, asked(str(run_id), queue_class="critical"))
    await said(capsys, control.sooner, asked("town", weight=5))
    for wrong, code in [
        (asked(str(run_id)), "priority"),
        (asked("town", queue_class="critical"), "run"),
        (asked(str(run_id), queue_class="fastest"), "class"),
        (asked(str(run_id), captures="sooner"), "priority"),
        (asked("town", weight=5000), "project_weight"),
    ]:
        with pytest.raises(InvalidInput) as refused:
            await said(capsys, control.sooner, wrong)
        assert refused.value.code == code


async def test_one_capture_is_fetched_now_or_is_here(run_id, record, capsys):
    chosen = {"project": "town", "archive": ""}
    told = await said(capsys, control.fetch, "http://town.example/2", "2010", **chosen)
    assert (told["state"], told["approved"]) == ("active", False)
    assert told["run"] > run_id
    here = await said(capsys, control.fetch, "http://town.example/0", "", **chosen)
    assert here["state"] == "stored"
    assert await said(capsys, control.fetch, str(here["capture"]), "", **chosen) == here
    with pytest.raises(NotFound):
        await said(capsys, control.fetch, "http://town.example/9", "2010", **chosen)


async def test_a_schedule_is_added_told_stopped_and_removed(run_id, capsys):
    request = Request(
        "town.example", "domain", "2001", "", ["wayback"], "town", 30, False, json=True
    )
    planned = schedule.Planned(request, "weekly", "default")

    def add(*, json: bool) -> int:
        return schedule.add(planned)

    number = (await said(capsys, add))["schedule"]
    await said(capsys, schedule.enable, number, enabled=False)
    told = await said(capsys, schedule.show)
    assert (told["every"], told["overlap_days"], told["enabled"]) == (604_800.0, 30, False)
    assert (told["from"], told["class"]) == ("20010101000000", "default")
    await said(capsys, schedule.remove, number)
    with pytest.raises(NotFound):
        await said(capsys, schedule.enable, number, enabled=True)


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-1d", "1y", "9" * 40 + "d"])
def test_an_interval_that_is_none_is_refused(text):
    with pytest.raises(InvalidInput):
        schedule.interval(text)


async def test_pausing_the_first_run_of_a_collection_pauses_all(run_id, database):
    projects = Projects(database)
    begun = await projects.begin(Collection(SITE, "village", ("wayback", "pywb")))
    assert await call(control.pause, begun.run_ids[0]) == 0
    assert {(await projects.run(each)).state for each in begun.run_ids} == {RunState.PAUSED}
