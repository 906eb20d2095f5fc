"""`chrono monitor` and `chrono top`: what runs is told from the record, what is away is said."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from chrono_ray import settings
from chrono_ray.cli.main import main
from chrono_ray.cli.monitor import line
from chrono_ray.cli.overview import ApiView, Onlooker, Overview, _pools
from chrono_ray.cli.top import picture
from chrono_ray.model.errors import Throttled
from chrono_ray.pipeline.overview import Away, RecordView, pages_per_minute
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import RunState
from tests.conftest import PostgresServer
from tests.integration.storage.making import Record, capture, stored

NOBODY = "redis://127.0.0.1:1/0"
SCREEN_SECONDS = 30.0
HEIGHT = 24
HOSTILE = "http://a/[/b][link=http://e]\u202e\x1b[2J"
STRANGER = ApiView("ok", "", 1.0, {}, {}, None)
"""What an API says of itself to those whom it does not know."""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    for name in [name for name in os.environ if name.startswith(("CHRONO_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path / "data"))

    def more(**environment: str) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return more


@pytest.fixture
def chrono(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def run(*typed: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["chrono", *typed])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Database]:
    opened = Database(url, pool_size=1, name=name)
    try:
        await opened.ping()
        yield opened
    finally:
        await opened.aclose()


def record_of(seen: Overview) -> RecordView:
    assert not isinstance(seen.record, Away), seen.record
    return seen.record


def test_where_nothing_runs_each_part_says_so_and_nothing_is_started(
    environment: Callable[..., None], chrono: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, out = chrono("monitor", "--once", "--json")
    told = json.loads(out)
    assert code == 1, "the record could not be looked at"
    for part in ("home", "record", "pools", "api", "cache", "memory"):
        assert "chrono up" in told[part]["away"], part
    code, out = chrono("monitor", "--once")
    assert (code, out.count("\n")) == (1, 1)
    assert chrono("top")[0] == 2, "there is no terminal"
    assert not (tmp_path / "data").exists()


async def test_what_runs_waits_and_is_slow_is_in_one_look(
    environment: Callable[..., None], database: Database, database_url: str
) -> None:
    environment(CHRONO_DATABASE_URL=database_url, CHRONO_REDIS_URL=NOBODY)
    record = Record(database)
    await record.unlimited("wayback", "pywb")
    run_id = await record.start()
    await record.list_all(run_id, [capture(f"http://a.example/{n}") for n in range(4)])
    [first, *_] = await record.claim(2)
    await record.settling.settle([stored(first)])
    await record.governor.heed("pywb", Throttled("429", retry_after=300.0))
    async with (
        connected(database_url, "chrono scraper here:1"),
        connected(database_url, "chrono api") as api,
    ):
        sleeping = asyncio.create_task(api.fetch("SELECT pg_sleep(30), 'the slow one'"))
        try:
            told = await slow_shown()
        finally:
            sleeping.cancel()
            await asyncio.gather(sleeping, return_exceptions=True)
    run = told["record"]["runs"][0]
    assert (run["run"], run["state"]) == (run_id, "active")
    assert (run["listed"], run["ended"], run["stored"], run["listing"]) == (4, 1, 1, 0)
    assert run["rate"] > 0
    assert run["left"] == pytest.approx(3 / run["rate"])
    classes = {each["queue"]: each for each in told["record"]["queues"]["classes"]}
    assert (classes["scraping"]["queued"], classes["scraping"]["leased"]) == (2, 1)
    assert told["record"]["queues"]["pages"] == 1
    [silent] = {b["reason"] for b in told["record"]["budgets"] if b["paused_until"]}
    assert silent == "throttled"
    assert told["pools"]["scrapers"]["actual"] == 1
    assert told["pools"]["scrapers"]["wanted"] >= 1
    assert told["record"]["bytes"] > 1_000_000
    assert told["record"]["connections_used"] <= told["record"]["connections"]["most"]
    assert "Redis does not answer" in told["cache"]["away"]


async def slow_shown() -> dict:
    """Looks until a statement is slow, which it is after a second: as JSON tells it."""
    async with Onlooker(settings.load()) as onlooker, asyncio.timeout(15):
        while True:
            seen = await onlooker.look()
            if slow := record_of(seen).slow:
                assert (slow[0].name, slow[0].seconds > 1) == ("chrono api", True)
                assert "the slow one" in slow[0].query
                return json.loads(orjson.dumps(seen))
            await asyncio.sleep(0.1)


async def test_rates_are_those_since_the_look_before(
    environment: Callable[..., None], database: Database, database_url: str
) -> None:
    environment(CHRONO_DATABASE_URL=database_url)
    record = Record(database)
    await record.unlimited("wayback")
    for n in range(12):
        await record.projects.change(await record.start(f"old{n}.example"), RunState.CANCELLED)
    run_id = await record.start()
    await record.list_all(run_id, [capture(f"http://a.example/{n}") for n in range(10)])
    await database.fetch("UPDATE runs SET created_at = created_at - interval '1 day'")
    async with Onlooker(settings.load()) as onlooker:
        before = await onlooker.look()
        leases = await record.claim(4)
        await record.settling.settle([stored(each) for each in leases])
        after = await onlooker.look(before)
    was, run = record_of(before).runs[0], record_of(after).runs[0]
    assert (was.rate, was.left) == (0, None)
    assert run.rate_seconds < 60, "not since yesterday"
    assert run.rate == pytest.approx(4 / run.rate_seconds)
    assert run.left == pytest.approx(6 / run.rate)
    assert record_of(before).pages_per_minute is None
    assert record_of(after).pages_per_minute == pytest.approx(60 * run.rate)
    begun = [replace(run, run=run_id + 1, seconds=0.0, stored=30)]
    assert pages_per_minute(begun, record_of(after).at, record_of(before)) == pytest.approx(
        1800 / run.rate_seconds
    ), "of one that began between the looks"
    for width in (40, 60, 80, 160):
        screen = shown(after, width)
        assert str(run_id) in screen
        assert "4" in screen
        assert max(map(len, screen.splitlines())) <= width
        assert len(screen.splitlines()) <= HEIGHT
    assert f"{run_id}: 4/10" in line(after)
    hostile = replace(after, record=replace(record_of(after), runs=(replace(run, url=HOSTILE),)))
    assert "http://a/[/b][link=http://e]\\u202e\\u001b[2J" in shown(hostile, 160)
    two = replace(record_of(after), indexer_connections=2)
    assert _pools(two, (1, 2), STRANGER, alone=False).indexers.actual is None, "it tells nobody"


def shown(seen: Overview, width: int) -> str:
    screen = io.StringIO()
    Console(width=width, color_system=None, file=screen).print(picture(seen, width, HEIGHT))
    return screen.getvalue()


async def test_an_active_run_is_not_at_work_where_nothing_runs(
    environment: Callable[..., None], database: Database, database_url: str,
    chrono: Callable[..., tuple[int, str]],
) -> None:  # fmt: skip
    environment(CHRONO_DATABASE_URL=database_url)
    record = Record(database)
    await record.unlimited("wayback")
    run_id = await record.start()
    _, out = await asyncio.to_thread(chrono, "status", str(run_id))
    assert out.startswith("chrono_ray does not run here")
    assert "now: nobody here works on it" in out
    assert "/s" not in out
    _, out = await asyncio.to_thread(chrono, "status", "--json")
    told = json.loads(out)
    assert (told["run"], told["state"], told["running"]) == (run_id, "active", False)


async def test_a_record_that_is_not_migrated_is_told_with_the_cure(
    environment: Callable[..., None], postgres_server: PostgresServer
) -> None:
    environment(CHRONO_DATABASE_URL=postgres_server.database("postgres"))
    async with Onlooker(settings.load()) as onlooker:
        seen = await onlooker.look()
    assert isinstance(seen.record, Away)
    assert "chrono migrate" in seen.record.away


@pytest.fixture
def screen(environment: Callable[..., None]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`chrono top` on a terminal of its own; the descriptor is our end of it."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from chrono_ray.cli.main import main; main()", "top"],
        stdin=its, stdout=its, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )  # fmt: skip
    os.close(its)
    yield process, ours
    process.kill()
    process.wait(10)
    os.close(ours)


def read_until(descriptor: int, words: bytes) -> bytes:
    found, ends = b"", time.monotonic() + SCREEN_SECONDS
    while words not in found and time.monotonic() < ends:
        if select.select([descriptor], [], [], 0.2)[0]:
            found += os.read(descriptor, 65536)
    return found


def test_top_shows_that_nothing_runs_and_ends_with_q(
    screen: tuple[subprocess.Popen[bytes], int],
) -> None:
    process, terminal = screen
    assert b"does not run here" in read_until(terminal, b"does not run here")
    os.write(terminal, b"q")
    assert process.wait(20) == 0
