"""The command against a server says what it says on the server's own machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chrono_ray.cli import main as cli
from chrono_ray.cli import remote_runs
from chrono_ray.client import Chrono
from chrono_ray.pipeline.plan import Plan, as_json, read_plan, summary
from chrono_ray.storage.database import Database
from tests.conftest import PostgresServer
from tests.integration.api.served import EMAIL, PAGES, PASSWORD, Served, served_in
from tests.integration.storage.making import Record, capture

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def served(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("commands")
    with served_in(folder, postgres_server, "record_of_commands") as found:
        yield found


@pytest.fixture
def run(served: Served, tmp_path: Path, monkeypatch, capsys) -> Run:
    """A command against the server, as its exit code and both outputs."""
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CHRONO_SERVER", served.url)
    monkeypatch.setenv("CHRONO_TOKEN", served.key)
    monkeypatch.setattr(remote_runs, "LOOK_SECONDS", 0.05)

    def run_it(*arguments: str) -> tuple[int, str, str]:
        return _ran(arguments, monkeypatch, capsys)

    return run_it


@pytest.fixture
def here(served: Served, monkeypatch, capsys) -> Run:
    """The same on the server's machine: from the record itself."""

    def run_it(*arguments: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.delenv("CHRONO_SERVER")
            patch.delenv("CHRONO_TOKEN")
            patch.setenv("CHRONO_DATA_DIR", served.folder)
            patch.setenv("CHRONO_DATABASE_URL", served.database_url)
            return _ran(arguments, patch, capsys)

    return run_it


def _ran(arguments: tuple[str, ...], monkeypatch: Any, capsys: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["chrono", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def _steady(text: str) -> str:
    """Without what a clock says, and where it runs: how long a search took, how old a run is."""
    said = r"^chrono_ray .*\n|^  now: .*\n|[\d.]+ ms|, [\d.]+ s$"
    text = re.sub(said, "", text, flags=re.MULTILINE)
    return re.sub(r'"seconds": ?[\d.]+|"running": ?\w+', "", text)


@pytest.mark.parametrize(
    "command",
    [
        ("search", "harbour", "--limit", "3"),
        ("search", "harbour", "--limit", "3", "--json"),
        ("search", "harbour", "--project", "town", "--from", "2003", "--to", "2005", "--json"),
        ("status", "1"),
        ("status", "1", "--json"),
        ("project", "list"),
        ("project", "list", "--json"),
        ("project", "show", "#1"),
        ("project", "show", "town"),
        ("project", "show", "town", "--json"),
        ("project", "show", "nowhere"),
        ("retry", "1", "--dry-run"),
        ("retry", "1", "--state", "gone", "--dry-run", "--json"),
        ("retry", "1", "--state", "lost"),
        ("status", "999"),
        ("search", "harbour", "--sort", "sideways"),
        ("task", "list"),
        ("task", "show", "999"),
    ],
    ids=" ".join,
)
def test_it_is_the_same_as_on_the_servers_machine(command, run: Run, here: Run):
    there, local = run(*command), here(*command)
    assert there[0] == local[0]
    assert _steady(there[1]) == _steady(local[1])
    assert bool(there[2]) == bool(local[2])
    if there[0] == 0:
        assert there[1] != "" or command == ("task", "list")


def test_a_run_is_begun_paused_resumed_and_cancelled(run: Run, served: Served):
    with Chrono(served.url, token=served.key) as c:
        project = c.projects.create(name="far away")
        number = str(c.runs.begin(project=project.id, url="http://sea.example/").run)
    for command, state in (("pause", "paused"), ("resume", "active"), ("cancel", "cancelled")):
        code, out, _ = run(command, number, "--json")
        assert (code, json.loads(out)) == (0, {"run": int(number), "state": state})
    code, _, err = run("resume", number)
    assert code == 1
    assert "cancelled" in err


def test_a_run_is_followed_to_its_end(run: Run, served: Served, monkeypatch):
    """Nobody scrapes here: somebody cancels it, which is an end."""
    seen = []

    def cancel(c: Chrono, run_id: int) -> Any:
        seen.append(run_id)
        c.runs.cancel(run_id)
        return _report(c, run_id)

    _report = remote_runs.report
    monkeypatch.setattr(remote_runs, "report", cancel)
    code, out, err = run("run", "http://lake.example/", "--project", "lake", "--json")
    told = json.loads(out)
    assert (code, told["state"], told["run"]) == (3, "cancelled", seen[0])
    assert f"Run {seen[0]}: http://lake.example/ (domain) from wayback begins" in err
    assert json.loads(run("project", "show", "lake", "--json")[1])["runs"] == 1
    code, _, err = run("project", "delete", "lake", "--yes")
    assert (code, "done" in err) == (0, True)
    assert run("project", "show", "lake")[0] == 1


def test_a_collection_is_told_as_one_and_in_its_parts(run: Run, here: Run, served: Served):
    with Chrono(served.url, token=served.key) as c:
        project = c.projects.create(name="from two")
        begun = c.runs.begin(
            project=project.id, url="http://two.example/", archives=["wayback", "commoncrawl"]
        )
        c.runs.cancel(begun.run)
    for command in (("status", str(begun.run)), ("status", str(begun.run), "--json"), ("status",)):
        there, local = run(*command), here(*command)
        assert (there[0], _steady(there[1])) == (local[0], _steady(local[1]))
    assert all(f"run {each}, " in run("status", str(begun.run))[1] for each in begun.runs)


async def test_a_plan_is_told_by_the_server_and_started_there(run: Run, served: Served):
    with Chrono(served.url, token=served.key) as c:
        project = c.projects.create(name="planned")
        begun = c.plans.begin(project=project.id, url="http://plan.example/")
    database = Database(served.database_url, pool_size=1, name="test")
    rows = [capture(f"http://plan.example/{n}") for n in range(3)]
    rows.append(capture("http://plan.example/away", statuscode="301"))
    record = Record(database)
    await record.list_all(begun.run, rows)
    await record.frontier().sweep()
    planned = await read_plan(database, begun.run)
    there = await asyncio.to_thread(lambda: _plan_of(served, begun.run))
    assert json.loads(as_json(there)) == json.loads(as_json(planned))
    assert _steady(summary(there)) == _steady(summary(planned))
    assert (there.wanted, there.requests) == (3, 3)
    code, out, _ = run("start", str(begun.run), "--json")
    assert (code, json.loads(out)) == (0, {"run": begun.run, "state": "active"})
    code, out, _ = run("pause", str(begun.run))
    assert "is paused" in run("start", str(begun.run))[1].replace("a run now, but", "is")
    await database.aclose()


def _plan_of(served: Served, run_id: int) -> Plan:
    with Chrono(served.url, token=served.key) as c:
        return remote_runs.plan(c, run_id)


@pytest.mark.parametrize(("on_interrupt", "state"), [("detach", "active"), ("stop", "paused")])
def test_ctrl_c_leaves_the_run_to_the_server(on_interrupt, state, run: Run, served: Served):
    url = f"http://{on_interrupt}.example/"
    with Chrono(served.url, token=served.key) as c:
        project = c.projects.create(name=on_interrupt)
        watching = threading.Thread(target=_interrupt_when_begun, args=(served, project.id))
        watching.start()
        code, out, err = run("run", url, "--project", on_interrupt, "--on-interrupt", on_interrupt)
        watching.join()
        [begun] = c.runs.list(project=project.id)
        assert (code, out, begun.state) == (130, "", state)
        assert f"Run {begun.run} {'is paused' if state == 'paused' else 'goes on'}" in err
        c.runs.cancel(begun.run)


def _interrupt_when_begun(served: Served, project: int) -> None:
    """Once the command follows: then it has taken the signal's place."""
    with Chrono(served.url, token=served.key) as c:
        until = time.monotonic() + 30
        while signal.getsignal(signal.SIGINT) is signal.default_int_handler or not any(
            c.runs.list(project=project)
        ):
            assert time.monotonic() < until
            time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)


def test_an_export_is_the_same_files(run: Run, here: Run, tmp_path: Path):
    folders = [tmp_path / "there", tmp_path / "here"]
    for command, folder in zip((run, here), folders, strict=True):
        code, out, err = command("export", "town", str(folder), "--form", "jsonl", "--json")
        assert (code, json.loads(out)["result"]["rows"], "task" in err) == (0, PAGES, True)
        assert json.loads(out)["result"]["to"] == str(folder)
    files = [
        {path.relative_to(each).as_posix(): path.read_bytes() for path in each.rglob("*.jsonl")}
        for each in folders
    ]
    assert files[0] == files[1]
    assert files[0]
    assert run("export", "town", str(folders[0]))[0] == 1
    assert run("export", "town", str(tmp_path / "more"), "--form", "xml")[0] == 2
    assert run("export", "nowhere", str(tmp_path / "more"))[0] == 1
    assert not (tmp_path / "more").exists()


def test_a_certificate_is_made_by_the_server(run: Run, here: Run, served: Served):
    """It does not add up, for the listing itself was never kept here; it says so in both places."""
    there, local = (
        run("verify", str(served.run), "--json"),
        here("verify", str(served.run), "--json"),
    )
    assert there[0] == local[0] == 1
    assert json.loads(there[1]) == json.loads(local[1])
    assert json.loads(there[1])["pages"] == PAGES
    tasks = [json.loads(line) for line in run("task", "list", "--json")[1].splitlines()]
    assert (tasks[0]["kind"], tasks[0]["state"], tasks[0]["worker"]) == ("certify", "done", "")
    assert "done" in run("task", "show", str(tasks[0]["task"]))[1]


@pytest.mark.parametrize(
    "command",
    [("up",), ("down",), ("migrate",), ("reindex",), ("recount",), ("rescue",), ("purge",),
     ("user", "list"), ("schedule", "list"), ("archive", "list"), ("fetch", "1"),
     ("plan", "http://a.example/", "--rules", "-")],
    ids=" ".join,
)  # fmt: skip
def test_what_needs_its_own_machine_says_so(command, run: Run):
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "server" in err.lower()


def test_login_keeps_a_key_that_logout_ends(run: Run, served: Served, tmp_path, monkeypatch):
    monkeypatch.delenv("CHRONO_SERVER")
    monkeypatch.delenv("CHRONO_TOKEN")
    kept = tmp_path / "data" / "login.json"
    log_in = ("login", served.url, "--email", EMAIL, "--password-stdin")
    for password, code in (("wrong wrong wrong", 1), (PASSWORD, 0), (PASSWORD, 1)):
        monkeypatch.setattr("sys.stdin", _Typed(f"{password}\n"))
        assert run(*log_in)[0] == code
        assert kept.exists() == (password == PASSWORD)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    key = json.loads(kept.read_bytes())["key"]
    assert "town" in run("project", "list")[1]
    assert run("up")[0] == 2
    code, out, err = run("logout")
    assert (code, key in out + err, kept.exists()) == (0, False, False)
    with Chrono(served.url, token=key, patience=1) as c, pytest.raises(Exception, match="token"):
        c.users.me()
    assert "nowhere" in run("logout")[1]


def test_a_server_without_a_token_and_plain_http_are_refused(run: Run, served: Served, monkeypatch):
    monkeypatch.setenv("CHRONO_SERVER", "http://chrono.example")
    code, _, err = run("status")
    assert (code, "CHRONO_INSECURE" in err, served.key in err) == (2, True, False)
    monkeypatch.delenv("CHRONO_TOKEN")
    code, _, err = run("status")
    assert (code, "chrono login" in err) == (2, True)


class _Typed:
    def __init__(self, text: str) -> None:
        self._text = text

    def readline(self) -> str:
        return self._text

    def isatty(self) -> bool:
        return False
