"""Pools grow and shrink with what waits, replace their worn out, and use every node's egress."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import psutil
import pytest

from chrono_ray.cluster.owner import cluster_environment
from tests.cluster.conftest import IN_THE_LONG_RUN
from tests.support.archive import (
    ArchiveProcess,
    Kind,
    Rule,
    Throttle,
    archive_process,
    sliding_max,
    times_of,
)
from tests.support.cluster import ROOT, Cluster, another_node, owned_cluster, until

pytestmark = pytest.mark.timeout(200)

SITE = "lanternbay.example"
MOST = 3
A_MINUTE = 180
"""Replays a minute and egress."""
PAUSE = 6
SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(A_MINUTE),
    "CHRONO_SCRAPING__SCRAPERS_MOST": str(MOST),
    "CHRONO_SCRAPING__IN_FLIGHT": "4",
    "CHRONO_SCRAPING__IDLE": "2",
    "CHRONO_SCRAPING__LEASES": "1",
    "CHRONO_SCRAPING__LEASE": "5",
    "CHRONO_EGRESS": "first",
}


_SUPERVISOR = """
import os, sys, ray
from chrono_ray.cluster.deploy import chrono_environment
from chrono_ray.cluster.supervisor import SupervisorActor

ray.init(address=os.environ["RAY_ADDRESS"], namespace="chrono", log_to_driver=False)
other = SupervisorActor.options(num_cpus=0).remote(chrono_environment())
ray.get(other.status.remote(), timeout=30)
print("looks", flush=True)
sys.stdin.read()
ray.kill(other)
"""


@dataclass(frozen=True, slots=True)
class Two:
    """A cluster of two nodes, each with its own egress, that begins with one scraper."""

    cluster: Cluster
    archive: ArchiveProcess

    def scrapers(self) -> set[int]:
        """Pids of the scrapers that hold connections to the record: those at work."""
        rows = self.cluster.fetch(
            "SELECT DISTINCT application_name FROM pg_stat_activity"
            " WHERE application_name LIKE 'chrono scraper %'"
        )
        return {int(re.findall(r"\d+$", row["application_name"])[0]) for row in rows}

    def lost(self) -> int:
        return self.cluster.value("SELECT count(*) FROM attempts WHERE reason = 'lost'")

    def replays(self, since: float) -> list[float]:
        return [at for at in times_of(self.archive.log(), Kind.REPLAY) if at > since]


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    with (
        archive_process("--captures", "1500") as archive,
        owned_cluster({**SETTINGS, "CHRONO_ARCHIVES__WAYBACK__URL": archive.url}) as cluster,
        another_node(cluster, egress="second"),
    ):
        made = Two(cluster, archive)
        until(made.scrapers, 60, "the first scraper works")
        yield made


@pytest.fixture
def busy(two: Two) -> Two:
    """With more waiting than its scrapers can take, and as many of them as there may be."""
    waiting = "SELECT count(*) FROM queue q JOIN runs r ON r.id = q.run_id WHERE r.state = 'active'"
    if two.cluster.value(waiting) < 500:
        with two.cluster.spawn("run", SITE, "--project", f"p{time.monotonic_ns()}") as command:
            until(lambda: two.cluster.value(waiting) > 500, 60, "much waits")
            command.terminate()
            command.communicate(timeout=30)
    until(lambda: len(two.scrapers()) == MOST, 60, f"{MOST} scrapers work")
    return two


def test_fetches_go_out_by_every_egress_and_a_429_silences_all(busy: Two):
    began = time.monotonic()
    until(lambda: time.monotonic() > began + 13, 30, "they have worked for a while")
    replays = busy.replays(began)
    assert sliding_max(replays, 10) > 1.3 * A_MINUTE / 6, "one egress alone is allowed less"
    assert sliding_max(replays, 10) <= 2 * (A_MINUTE / 6 + A_MINUTE / 60 + 1)
    busy.archive.behave(Rule(Throttle(retry_after=PAUSE), kind=Kind.REPLAY, times=1))
    until(lambda: any(each.status == 429 for each in busy.archive.log()), 30, "a 429")
    [met] = [each.at for each in busy.archive.log() if each.status == 429]
    until(lambda: time.monotonic() > met + PAUSE - 0.5, 30, "the pause is nearly over")
    assert [at for at in busy.replays(met + 2) if at < met + PAUSE - 0.5] == []
    paused = busy.cluster.fetch(
        "SELECT egress FROM archive_budgets WHERE archive = 'wayback' AND kind = 'replay'"
        " AND pause_reason = 'throttled'"
    )
    assert {row["egress"] for row in paused} == {"first", "second"}


def test_worn_out_scrapers_are_replaced_one_at_a_time_and_lose_nothing(busy: Two):
    first, lost = busy.scrapers(), busy.lost()
    seen: list[int] = []

    def all_replaced() -> bool:
        now = busy.scrapers()
        seen.append(len(now))
        return len(now) == MOST and not now & first

    began = time.monotonic()
    until(all_replaced, 120, "every scraper is another process")
    assert min(seen) >= MOST - 1
    assert busy.lost() == lost
    gaps = busy.replays(began)
    assert max(b - a for a, b in pairwise(gaps)) < 5, "the pool kept working"


@IN_THE_LONG_RUN
def test_a_scraper_that_hangs_is_replaced_and_its_fetches_are_had_by_others(busy: Two):
    [victim, *_] = busy.cluster.named("ray::Scraper")
    held = "SELECT fetch_id FROM leases WHERE worker LIKE $1"
    rows: list[int] = []

    def stopped_in_the_middle() -> bool:
        victim.suspend()
        rows[:] = [row["fetch_id"] for row in busy.cluster.fetch(held, f"%{victim.pid}")]
        if not rows:
            victim.resume()
        return bool(rows)

    until(stopped_in_the_middle, 30, "it holds leases")
    until(lambda: not victim.is_running(), 60, "it is ended")
    until(lambda: victim.pid not in busy.scrapers() and len(busy.scrapers()) == MOST, 60, "another")
    left = "SELECT count(*) FROM leases WHERE worker LIKE $1"
    assert busy.cluster.value(left, f"%{victim.pid}") == 0
    lost = (
        "SELECT count(DISTINCT fetch_id) FROM attempts WHERE reason = 'lost' AND fetch_id = ANY($1)"
    )
    assert busy.cluster.value(lost, rows) == len(rows)


def test_work_goes_on_without_the_supervisor_and_the_next_one_adopts(busy: Two):
    [supervisor] = busy.cluster.named("ray::Supervisor")
    lost = busy.lost()
    supervisor.suspend()
    try:
        began = time.monotonic()
        until(lambda: len(busy.replays(began)) > 20, 30, "the scrapers work on")
    finally:
        supervisor.kill()
    until(lambda: _another(busy, supervisor), 30, "Ray starts another supervisor")
    busy.cluster.fetch("UPDATE runs SET state = 'cancelled' WHERE state = 'active'")
    until(lambda: len(busy.scrapers()) < MOST, 60, "the other one lets its scrapers go")
    _another(busy, supervisor)[0].kill()
    until(lambda: len(busy.scrapers()) == 1, 90, "a third ends what the second began")
    assert busy.lost() == lost


@IN_THE_LONG_RUN
def test_of_two_supervisors_only_one_acts(busy: Two):
    """The other one, had it a say, would let all scrapers go but one."""
    with _second_supervisor(busy.cluster, {"CHRONO_SCRAPING__SCRAPERS": "1"}):
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 8, 30, "both have looked several times")
        assert len(busy.scrapers()) >= MOST - 1
        until(lambda: len(busy.scrapers()) == MOST, 30, "none was let go")


@contextmanager
def _second_supervisor(cluster: Cluster, settings: dict[str, str]) -> Iterator[None]:
    environment = cluster_environment(cluster.running, cluster.environment)
    url = {"CHRONO_DATABASE_URL": cluster.running.database_url}
    process = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR], env={**environment, **url, **settings}, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        assert process.stdout.readline().strip() == "looks"
        yield
    finally:
        process.communicate(timeout=30)
    assert process.returncode == 0


def _another(two: Two, than: psutil.Process) -> list[psutil.Process]:
    return [each for each in two.cluster.named("ray::Supervisor") if each.pid != than.pid]
