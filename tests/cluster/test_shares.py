"""Shares and scale, by the archive's own log: classes get their parts, a second node its own."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from chrono_ray.cluster.machine import budget_here
from chrono_ray.model.priority import WEIGHTS, QueueClass
from tests.cluster.conftest import IN_THE_LONG_RUN
from tests.support.archive import ArchiveProcess, Kind, Latency, Logged, Rule, archive_process
from tests.support.cluster import Cluster, another_node, owned_cluster, until

pytestmark = [pytest.mark.timeout(300), IN_THE_LONG_RUN]

SITE = "lanternbay.example"
LATENCY = 0.2
IN_FLIGHT = 2
MEASURED_SECONDS = 10.0
NODE_SCRAPERS = 5
"""More do not fit on the node that joins."""


@dataclass(slots=True)
class Engine:
    """A cluster whose only node has room for half of its scrapers; and its slow archive."""

    cluster: Cluster
    archive: ArchiveProcess
    scrapers: int

    def replays(self) -> list[Logged]:
        return [each for each in self.archive.log() if each.kind is Kind.REPLAY]

    def scraper_count(self) -> int:
        """Scrapers with their extraction child: at work."""
        return sum(bool(each.children()) for each in self.cluster.named("ray::Scraper"))

    def pages_a_second(self) -> tuple[float, float]:
        """Over the next seconds; and how much of the machine's processors was idle, in percent."""
        psutil.cpu_percent()
        before, began = len(self.replays()), time.monotonic()
        until(lambda: time.monotonic() - began > MEASURED_SECONDS, 60, "the measurement is over")
        return (len(self.replays()) - before) / (
            time.monotonic() - began
        ), 100 - psutil.cpu_percent()


def fitting() -> int:
    """How many scrapers the head has room for beside supervisor and indexer."""
    budget = budget_here()
    beside, each = (budget.supervisor, budget.indexer), budget.scraper
    return int(
        min(
            (budget.ray_cpus - sum(share.num_cpus for share in beside)) / each.num_cpus,
            (budget.ray_memory - sum(share.memory for share in beside)) / each.memory,
        )
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    scrapers = fitting()
    settings = {
        "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "0",
        "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
        "CHRONO_SCRAPING__SCRAPERS": str(2 * scrapers),
        "CHRONO_SCRAPING__IN_FLIGHT": str(IN_FLIGHT),
    }
    with archive_process("--captures", "4000") as archive:
        archive.behave(Rule(Latency(LATENCY), kind=Kind.REPLAY))
        chosen = {**settings, "CHRONO_ARCHIVES__WAYBACK__URL": archive.url}
        with owned_cluster(chosen) as cluster:
            found = Engine(cluster, archive, scrapers)
            until(lambda: found.scraper_count() == scrapers, 90, "the head's scrapers work")
            yield found


def test_four_backlogged_classes_get_their_shares_of_a_limited_archive(engine: Engine):
    """190 replays in a row split 100:50:30:10, as tickets say, whoever sends them."""
    cluster = engine.cluster
    cluster.fetch(
        "UPDATE archive_budgets SET per_minute = 900, step = interval '0.068 s',"
        " paused_until = now() + interval '1 hour' WHERE kind = 'replay'"
    )
    periods = {
        QueueClass.CRITICAL: ("2008", "2012"), QueueClass.SCRAPING: ("2006", "2007"),
        QueueClass.INDEXING: ("2003", "2005"), QueueClass.DEFAULT: ("1999", "2002"),
    }  # fmt: skip
    for number, (name, (start, end)) in enumerate(periods.items()):
        _list_only(engine, f"share-{name}", start, end, queue_class=number)
    began = len(engine.replays())
    cluster.fetch(
        "UPDATE archive_budgets SET paused_until = '-infinity', pause_reason = '', pauses = 0"
    )
    # the first claims were made before all four were seen, and a batch overtakes another
    until(lambda: len(engine.replays()) - began >= 220, 90, "220 replays")
    log = engine.replays()[began + 15 : began + 205]
    years = [int(each.target.removeprefix("/web/")[:4]) for each in log]
    got = Counter(
        name for year in years for name, (start, end) in periods.items()
        if int(start) <= year <= int(end)
    )  # fmt: skip
    cluster.fetch("UPDATE runs SET state = 'cancelled' WHERE state = 'active'")
    until(lambda: cluster.value("SELECT count(*) = 0 FROM leases"), 60, "nothing is in flight")
    for name, weight in WEIGHTS.items():
        # what is in flight may change places across either end of the 190
        assert abs(got[name] - weight * 10) <= min(weight + 1, 4), got


def test_a_second_node_nearly_doubles_the_pages_a_second(engine: Engine):
    """An archive with latency and no limit: what the scrapers wait for is not the processor."""
    cluster = engine.cluster
    if engine.scrapers > NODE_SCRAPERS:
        pytest.skip(f"the node that joins has no room for {engine.scrapers} scrapers")
    cluster.fetch(
        "UPDATE archive_budgets SET per_minute = 0, step = '0', paused_until = '-infinity'"
    )
    before = len(engine.replays())
    with cluster.spawn("run", SITE, "--project", "nodes") as command:
        until(lambda: len(engine.replays()) > before + 20, 60, "pages are fetched")
        command.terminate()  # the run goes on
        command.communicate(timeout=30)
    one, idle_one = engine.pages_a_second()
    with another_node(cluster):
        until(lambda: engine.scraper_count() == 2 * engine.scrapers, 90, "the other node works")
        two, idle_two = engine.pages_a_second()
        left = cluster.value("SELECT count(*) FROM queue")
        sys.stdout.write(
            f"pages/s: one node {one:.1f} ({idle_one:.0f} % idle),"
            f" two nodes {two:.1f} ({idle_two:.0f} % idle): {two / one:.2f}x\n"
        )
        assert left > 0, "the run ended before it was measured"
        assert two >= 1.8 * one
        cluster.fetch("UPDATE runs SET state = 'cancelled' WHERE state = 'active'")
        until(lambda: cluster.value("SELECT count(*) = 0 FROM leases"), 60, "leases are back")


def _list_only(engine: Engine, project: str, start: str, end: str, *, queue_class: int) -> None:
    """A run of this class, listed; the archive is silent, so nothing is fetched yet."""
    cluster = engine.cluster
    command = cluster.spawn("run", SITE, "--project", project, "--from", start, "--to", end)
    with command:
        run = until(
            lambda: cluster.value(
                "SELECT max(r.id) FROM runs r JOIN projects p ON p.id = r.project_id"
                " WHERE p.name = $1",
                project,
            ),
            60,
            "the run began",
        )
        cluster.fetch("UPDATE runs SET class = $2 WHERE id = $1", run, queue_class)
        until(
            lambda: cluster.value(
                "SELECT count(*) = 0 FROM slices WHERE run_id = $1 AND state = 'pending'", run
            ),
            60,
            "it is listed",
        )
        command.terminate()
        command.communicate(timeout=30)
