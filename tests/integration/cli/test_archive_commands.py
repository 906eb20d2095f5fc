"""`chrono archive`: budgets that matter, and a silence that is ended by hand."""

from __future__ import annotations

import asyncio
import json

import pytest

from chrono_ray.cli import archive, schedule
from chrono_ray.cli.run import Request
from chrono_ray.model.errors import Conflict, ConnectionRefused, Throttled
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.retry import Retry, Snooze
from chrono_ray.storage.governor import BANNED, Governor, Kind, Limit
from chrono_ray.storage.projects import Projects, RunState
from tests.integration.storage.making import Record, capture, settlement

SITE = Scope("https://town.example/", MatchType.DOMAIN)
LIMITS = [Limit(name, kind, 60) for name in ("wayback", "pywb", "commoncrawl") for kind in Kind]


@pytest.fixture
async def governor(database, database_url, tmp_path, monkeypatch) -> Governor:
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHRONO_DATABASE_URL", database_url)
    monkeypatch.setenv("CHRONO_ARCHIVES__WAYBACK__URL", "http://127.0.0.1:9")
    found = Governor(database, egress="default")
    await found.configure(LIMITS)
    return found


async def test_a_silence_ends_by_hand_for_everyone(governor, database, capsys):
    await governor.heed("wayback", Throttled("429", retry_after=3000.0))
    await governor.heed("pywb", Throttled("429", retry_after=3000.0))
    assert await asyncio.to_thread(archive.resume, "wayback", json=False) == 0
    assert "own risk" in capsys.readouterr().out
    left = {each.archive: each.paused_seconds for each in await governor.budgets()}
    assert left["wayback"] == 0
    assert left["pywb"] > 2900, "the other one's silence is its own"
    [slot] = await database.fetch(
        "SELECT * FROM take_slots('wayback', 'replay', 'default', 1, '2 s')"
    )
    assert slot["granted"] == 1
    assert slot["step"] > 3 * LIMITS[0].step.total_seconds(), "in small steps"
    assert await asyncio.to_thread(archive.resume, "wayback", json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"archive": "wayback", "resumed": False}


async def test_a_refusal_after_that_is_still_a_ban(governor):
    await governor.heed("wayback", Throttled("429", retry_after=3000.0))
    await governor.resume("wayback")
    await governor.heed("wayback", ConnectionRefused("refused"))
    [reason] = {e.pause_reason for e in await governor.budgets() if e.archive == "wayback"}
    assert reason == BANNED


async def test_what_was_put_off_for_the_silence_is_due_at_once(governor, database):
    record = Record(database)
    await record.unlimited("wayback")
    run_id = await record.start()
    await record.list_all(run_id, [capture(f"http://a.example/{n}") for n in range(2)])
    one, two = await record.claim()
    await record.settling.settle(
        [settlement(one, Retry(600, "protocol")), settlement(two, Snooze(3000, "throttled"))]
    )
    await governor.heed("wayback", Throttled("429", retry_after=3000.0))
    await governor.resume("wayback")
    due = await database.fetch("SELECT fetch_id FROM parked WHERE until <= clock_timestamp()")
    assert [row["fetch_id"] for row in due] == [two.fetch_id], "the other waits for its own try"


async def test_status_and_list_show_only_what_is_set_up_or_used(governor, database, capsys):
    assert await asyncio.to_thread(archive.list_archives, json=False) == 0
    out = capsys.readouterr().out
    assert "wayback listing: 60 a minute" in out
    assert "pywb" not in out, "it is not set up"
    await Projects(database).start_run(
        SITE, project="town", archive="pywb", queue_class=QueueClass.SCRAPING
    )
    assert await asyncio.to_thread(archive.list_archives, json=False) == 0
    assert "pywb" in capsys.readouterr().out, "a run was begun from it"


async def test_what_a_run_cannot_become_says_what_to_do(governor, database):
    run_id = await Projects(database).start_run(
        SITE, project="town", archive="wayback", queue_class=QueueClass.SCRAPING
    )
    await Projects(database).change(run_id, RunState.CANCELLED)
    with pytest.raises(Conflict, match="chrono run"):
        await Projects(database).change(run_id, RunState.ACTIVE)


async def test_an_interval_is_told_in_words(governor, capsys):
    request = Request("a.example", "domain", "", "", ["wayback"], "town", 30, False, False)
    for typed, words in [("daily", "1 day,"), ("90m", "90 minutes,"), ("2w", "14 days,")]:
        await asyncio.to_thread(schedule.add, schedule.Planned(request, typed, "default"))
        assert f"every {words} the first time" in capsys.readouterr().out
