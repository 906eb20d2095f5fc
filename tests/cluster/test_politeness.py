"""An archive's own log: never more than its budget, whoever asks, wherever, before and after."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.error import URLError

import psutil
import pytest

from tests.cluster.conftest import IN_THE_LONG_RUN
from tests.support.archive import (
    ArchiveProcess,
    Kind,
    Logged,
    Refuse,
    Rule,
    Throttle,
    archive_process,
    sliding_max,
    times_of,
)
from tests.support.cluster import Cluster, another_node, owned_cluster, until

pytestmark = pytest.mark.timeout(300)

SITE = "lanternbay.example"
REPLAYS, LISTINGS = 600, 120
"""A minute; the whole cluster's."""
SCRAPERS = 4
SILENT_WITHIN = 2.0
SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS),
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": str(LISTINGS),
    "CHRONO_ARCHIVES__WAYBACK__PAGE_ROWS": "20",
    "CHRONO_SCRAPING__SCRAPERS": str(SCRAPERS),
}


@dataclass(slots=True)
class TwoNodes:
    """One owner, two raylets, four scrapers; and the archive they are to be polite to."""

    cluster: Cluster
    archive: ArchiveProcess
    other: contextlib.ExitStack

    def join(self) -> None:
        """Have the second node, and every scraper at work on one of the two."""
        self.other.enter_context(another_node(self.cluster))
        until(self._spread, 90, f"{SCRAPERS} scrapers work, on both nodes")

    def _spread(self) -> bool:
        scrapers = self.cluster.named("ray::Scraper")
        with contextlib.suppress(psutil.NoSuchProcess):
            nodes = {each.ppid() for each in scrapers}
            children = [each.children() for each in scrapers]
            return len(scrapers) == SCRAPERS and len(nodes) == 2 and all(children)
        return False

    def restart_everything(self) -> None:
        self.other.close()
        self.cluster.stop()
        self.cluster.start()
        self.join()

    def begin(self, project: str) -> None:
        """A run that nobody waits for: its command is ended when the first request came."""
        before = self.archive.stats()["requests"]
        with self.cluster.spawn("run", SITE, "--project", project) as command:
            until(lambda: self.archive.stats()["requests"] > before, 60, "the archive is asked")
            command.terminate()
            command.communicate(timeout=30)

    def log(self) -> list[Logged]:
        """The archive's log; an archive that refuses connections refuses ours, too."""

        def read() -> tuple[list[Logged], ...]:
            with contextlib.suppress(URLError):
                return (self.archive.log(),)
            return ()

        [log] = until(read, 30, "the archive takes connections")
        return log

    def replays(self) -> list[Logged]:
        return [each for each in self.log() if each.kind is Kind.REPLAY]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    with (
        archive_process("--captures", "1500") as archive,
        owned_cluster({**SETTINGS, "CHRONO_ARCHIVES__WAYBACK__URL": archive.url}) as cluster,
        contextlib.ExitStack() as other,
    ):
        nodes = TwoNodes(cluster, archive, other)
        nodes.join()
        yield nodes


@pytest.fixture
def nodes(two_nodes: TwoNodes) -> Iterator[TwoNodes]:
    """Nothing to do and no pause, before and after."""
    _rest(two_nodes)
    yield two_nodes
    two_nodes.archive.behave()
    _rest(two_nodes)


def test_no_window_holds_more_than_the_budget_not_even_across_a_restart(nodes: TwoNodes):
    began = len(nodes.archive.log())
    nodes.begin("polite")
    _asked_since(nodes, began, 260)
    workers = {row["worker"] for row in nodes.cluster.fetch("SELECT DISTINCT worker FROM leases")}
    nodes.restart_everything()
    _asked_since(nodes, began, 620)
    log = nodes.archive.log()[began:]
    assert len(workers) > 1, "one scraper alone proves nothing"
    replays, listings = times_of(log, Kind.REPLAY), times_of(log, Kind.LISTING)
    assert max(replays) - min(replays) > 60.0
    assert sliding_max(replays, 60.0) <= REPLAYS
    assert sliding_max(listings, 60.0) <= LISTINGS
    _assert_steady(replays, REPLAYS)
    _assert_steady(listings, LISTINGS)
    assert sliding_max(replays, 10.0) > 0.7 * REPLAYS / 6, "the budget is used, too"


def test_a_429_met_by_one_scraper_silences_all(nodes: TwoNodes):
    pause = 9
    began = len(nodes.replays())
    nodes.archive.behave(
        Rule(Throttle(retry_after=pause), kind=Kind.REPLAY, after=30, times=1),
    )
    nodes.begin("throttled")
    [met] = until(
        lambda: [each for each in nodes.replays()[began:] if each.status == 429], 60, "a 429"
    )
    _assert_silent(nodes, met.at + SILENT_WITHIN, met.at + pause - 0.5)
    until(lambda: nodes.replays()[-1].at > met.at + pause, 60, "it goes on when the pause is over")
    throttled = nodes.cluster.value(
        "SELECT sum(n) FROM domain_counters WHERE state = 'request' AND reason = 'throttled'"
    )
    assert throttled >= 1


@IN_THE_LONG_RUN
def test_a_refused_connection_met_by_one_scraper_silences_all(nodes: TwoNodes):
    """The port is open again before the silence must have begun: whoever still asks is heard."""
    closed = SILENT_WITHIN - 0.5
    began = len(nodes.replays())
    nodes.archive.behave(Rule(Refuse(closed), kind=Kind.REPLAY, after=30, times=1))
    nodes.begin("refused")
    [met] = until(
        lambda: [each for each in nodes.replays()[began:] if each.behaviour], 60, "a closed port"
    )
    left = until(lambda: _paused(nodes), 10, "the archive is left alone")
    assert left > SILENT_WITHIN + 3
    _assert_silent(nodes, met.at + SILENT_WITHIN, met.at + left - 0.5)
    until(lambda: nodes.replays()[-1].at > met.at + left, 90, "it goes on afterwards")


def _asked_since(nodes: TwoNodes, began: int, replays: int) -> None:
    """Until the archive has been asked for so many payloads."""

    def count() -> int:
        return sum(each.kind is Kind.REPLAY for each in nodes.archive.log()[began:])

    until(lambda: count() >= replays, 150, f"{replays} replays")


def _assert_steady(times: list[float], per_minute: int) -> None:
    """In short windows: one an interval, and what was in flight for a second."""
    for window in (1.0, 5.0, 20.0):
        allowed = (window + 1.0) * per_minute / 60 + 1
        assert sliding_max(times, window) <= allowed, f"in {window:g} s"


def _assert_silent(nodes: TwoNodes, start: float, end: float) -> None:
    """No request between two moments of the machine's monotonic clock, the second still to come."""
    until(lambda: time.monotonic() > end, 60, "the pause is nearly over")
    early = [each.at - start for each in nodes.log() if start < each.at < end]
    assert early == [], f"{len(early)} requests during the silence"


def _paused(nodes: TwoNodes) -> float:
    return nodes.cluster.value(
        "SELECT coalesce(max(extract(epoch FROM paused_until - clock_timestamp()))"
        " FILTER (WHERE paused_until > clock_timestamp()), 0)::float8 FROM archive_budgets"
        " WHERE archive = 'wayback'"
    )


def _rest(nodes: TwoNodes) -> None:
    """Cancel what runs, wait until nothing is in flight, and forgive what the archive said."""
    nodes.cluster.fetch("UPDATE runs SET state = 'cancelled' WHERE state = 'active'")
    until(
        lambda: nodes.cluster.value("SELECT count(*) = 0 FROM leases"), 60, "nothing is in flight"
    )
    nodes.cluster.fetch(
        "UPDATE archive_budgets SET paused_until = '-infinity', pause_reason = '', pauses = 0"
    )
