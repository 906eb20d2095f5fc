"""`chrono rules` on a real record."""

from __future__ import annotations

import asyncio
import json

import pytest

from chrono_ray.cli import rules
from chrono_ray.cli.plan import start
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.rule_text import parse
from chrono_ray.storage.projects import RunState
from tests.integration.storage.making import Record, capture

ROWS = [
    capture("http://a.example/print/1"), capture("http://a.example/1"),
    capture("http://a.example/2", statuscode="404"),
]  # fmt: skip


@pytest.fixture
async def record(database, database_url, tmp_path, monkeypatch) -> Record:
    """One listed domain of project `p`, on the record that the environment names."""
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHRONO_DATABASE_URL", database_url)
    made = Record(database)
    await made.unlimited("wayback")
    await made.list_all(await made.start(), ROWS)
    return made


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rules.txt"
    path.write_text("# ours\nskip print path /print/\nfetch status 404\n")
    return str(path)


async def call(command, *arguments, as_json: bool = False) -> int:
    return await asyncio.to_thread(command, *arguments, json=as_json)


async def test_rules_are_tried_set_and_shown(record, file, capsys):
    assert await call(rules.try_and_print, "a.example", file, "", as_json=True) == 0
    [trial] = json.loads(capsys.readouterr().out)["domains"]
    assert (trial["wanted"], trial["to_fetch"], trial["to_skip"]) == (2, 1, 1)

    assert await call(rules.set_and_decide, "https://a.example/", file, "", as_json=True) == 0
    [told] = json.loads(capsys.readouterr().out)["domains"]
    assert told["decided"]
    assert (told["captures"]["wanted"], told["captures"]["skipped"]) == (1, 1)
    assert await record.faults() == []

    assert await call(rules.show, "p", "") == 0
    assert parse(capsys.readouterr().out) == rules.read_rules(file)


async def test_the_same_rules_again_change_nothing(record, file, capsys):
    await call(rules.set_and_decide, "a.example", file, "")
    await call(rules.set_and_decide, "a.example", file, "")
    assert "0 now wanted\n  0 now skipped" in capsys.readouterr().out


async def test_rules_that_wait_for_a_listing_say_so(record, tmp_path, capsys):
    await record.start()
    path = tmp_path / "thin.txt"
    path.write_text("one per year")
    assert await call(rules.set_and_decide, "a.example", str(path), "") == 0
    assert "decided when its listing has ended" in capsys.readouterr().out


async def test_a_name_that_means_nothing_or_several_things_is_refused(record, file):
    with pytest.raises(NotFound):
        await call(rules.show, "b.example", "")
    await record.start("a.example", project="other")
    with pytest.raises(InvalidInput, match="several things"):
        await call(rules.set_and_decide, "a.example", file, "")
    assert await call(rules.show, "a.example", "other") == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "rules_file"), (b"\xff", "rules_file"), (b"skipp x", "rule_action")],
)
def test_a_file_that_holds_no_rules_is_refused(tmp_path, content, code):
    path = tmp_path / "rules"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput) as raised:
        rules.read_rules(str(path))
    assert raised.value.code == code


async def test_what_is_no_plan_is_started_already_and_no_run_is_none(record, capsys):
    run = await record.start()
    assert await call(start, run, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"run": run, "state": "active"}
    assert await record.state_of(run) == RunState.ACTIVE
    with pytest.raises(NotFound):
        await call(start, run + 1)
