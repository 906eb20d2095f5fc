"""Fault 16 on a real wire: the link of a scraper in a network namespace is taken down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects
from tests.faults.scene import ENDS, LOOK, SITE
from tests.support.archive import Kind, Latency, Rule, archive_process
from tests.support.cluster import ROOT, until
from tests.support.proxy import proxy_process

SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "1200",
    "CHRONO_SCRAPING__LEASE": "3",
    "CHRONO_SCRAPING__SWEEP": "0.5",
    "CHRONO_SCRAPING__IN_FLIGHT": "8",
}
SCRAPER = """
import os, sys
from chrono_ray.cluster.scraper import Scraper

scraper = Scraper({name: value for name, value in os.environ.items() if name.startswith("CHRONO_")})
sys.stdin.read()
scraper.drain()
"""


@dataclass(frozen=True, slots=True)
class Island:
    """A namespace behind a pair of interfaces; `shore` is our address as it sees it."""

    name: str
    link: str
    shore: str

    def cut(self) -> None:
        """From now on nothing passes, and nobody is told."""
        _ip("link", "set", self.link, "down")

    def join(self) -> None:
        _ip("link", "set", self.link, "up")


@contextmanager
def island() -> Iterator[Island]:
    """Skips where the machine does not let us have one."""
    number = os.getpid() % 250
    name, near, far = f"chrono{number}", f"chr{number}a", f"chr{number}b"
    shore = f"10.231.{number}.1"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace to be had here: {error}")
    try:
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("address", "add", f"{shore}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "address", "add", f"10.231.{number}.2/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield Island(name, near, shore)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", name)


@dataclass(frozen=True, slots=True)
class Record:
    """The record by a straight way."""

    url: str
    run: int

    def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return asyncio.run(_fetch(self.url, statement, *arguments))

    def held_by(self, pid: int) -> set[int]:
        sql = "SELECT fetch_id FROM leases WHERE worker LIKE '%:' || $1::text"
        return {row["fetch_id"] for row in self.fetch(sql, str(pid))}

    def lost_by(self, pid: int) -> set[int]:
        sql = "SELECT fetch_id FROM attempts WHERE reason = 'lost' AND detail LIKE '%:' || $1::text"
        return {row["fetch_id"] for row in self.fetch(sql, str(pid))}

    def ended(self) -> dict[int, tuple]:
        return {row["id"]: tuple(row) for row in self.fetch(ENDS, self.run)}

    def is_done(self) -> bool:
        [row] = self.fetch("SELECT state FROM runs WHERE id = $1", self.run)
        return row["state"] == "done"

    def assert_whole(self) -> None:
        [row] = self.fetch(LOOK, self.run)
        assert {name: n for name, n in row.items() if n} == {}


@pytest.mark.timeout(120)
async def test_a_scraper_that_was_cut_off_changes_nothing_when_it_is_back(
    database_url: str, tmp_path: Path
):
    database = Database(database_url, pool_size=1)
    run = await Projects(database).start_run(
        Scope(f"http://{SITE}/", MatchType.DOMAIN), project="island", archive="wayback",
        queue_class=QueueClass.SCRAPING,
    )  # fmt: skip
    await database.aclose()
    await asyncio.to_thread(_cut_off_and_back, Record(database_url, run), tmp_path)


def _cut_off_and_back(record: Record, folder: Path) -> None:
    seed = int(os.environ.get("CHRONO_TEST_FAULT_SEED") or random.randrange(10**6))
    sys.stdout.write(f"fault 16 CHRONO_TEST_FAULT_SEED={seed}\n")
    with ExitStack() as stack:
        island_ = stack.enter_context(island())
        archive = stack.enter_context(archive_process("--captures", "150"))
        archive.behave(Rule(Latency(0.4), kind=Kind.REPLAY))
        wires = [
            stack.enter_context(proxy_process(url, host=island_.shore))
            for url in (record.url, archive.url)
        ]
        settings = {
            **SETTINGS,
            "CHRONO_DATA_DIR": str(folder),
            "CHRONO_DATABASE_URL": wires[0].through(record.url),
            "CHRONO_ARCHIVES__WAYBACK__URL": wires[1].through(archive.url),
        }
        inside = ("ip", "netns", "exec", island_.name)
        away, _ = (stack.enter_context(_scraper(settings, *way)) for way in (inside, ()))
        until(lambda: len(record.ended()) > random.Random(seed).randrange(5, 30), 60, "it goes on")
        held = until(lambda: record.held_by(away.pid), 30, "leases of the one to be cut off")
        island_.cut()
        held |= record.held_by(away.pid)
        until(lambda: held <= record.ended().keys(), 40, "the other ended what it held")
        ended = record.ended()
        record.assert_whole()
        island_.join()
        until(record.is_done, 60, "the run ends")
        until(lambda: _heard_of(record, away.pid), 40, "it is back")
    assert held <= record.lost_by(away.pid)
    now = record.ended()
    assert {n: now[n] for n in ended} == ended
    record.assert_whole()


def _heard_of(record: Record, pid: int) -> bool:
    """Its sessions' last statements are younger than the cut: it spoke to PostgreSQL again."""
    rows = record.fetch(
        "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '%:' || $1::text"
        " AND query_start > clock_timestamp() - interval '2 seconds'",
        str(pid),
    )
    return bool(rows)


@contextmanager
def _scraper(settings: dict[str, str], *way: str) -> Iterator[subprocess.Popen[bytes]]:
    base = {k: v for k, v in os.environ.items() if not k.startswith(("CHRONO_", "RAY_"))}
    with subprocess.Popen(
        [*way, sys.executable, "-c", SCRAPER], cwd=ROOT, stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env={**base, "PYTHONPATH": str(ROOT), **settings},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()  # it drains and ends
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()


async def _fetch(url: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    async with asyncio.timeout(15):
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
