"""One look at the record for whoever operates it: few statements, one tree of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chrono_ray.storage.admin import BudgetState, Connections, Depths, Operating
from chrono_ray.storage.database import Database
from chrono_ray.storage.live import Live, Throughput
from chrono_ray.storage.stats import Progress
from chrono_ray.storage.watching import CostlyStatement, SlowStatement, Watching

RUNS_SHOWN: Final = 20
MINUTE: Final = timedelta(minutes=1)
SCRAPER: Final = "chrono scraper "
INDEXER: Final = "chrono indexer"


@dataclass(frozen=True, slots=True)
class Away:
    """A part that could not be looked at, and why."""

    away: str


@dataclass(frozen=True, slots=True)
class RunView:
    """A run at a moment. `rate`: captures ended a second over the last `rate_seconds`.

    `left` is in seconds; None while it still lists, stands still or has ended.
    """

    run: int
    state: str
    project: str
    url: str
    archive: str
    listed: int
    ended: int
    stored: int
    failed: int
    listing: int
    holes: int
    seconds: float
    rate: float
    rate_seconds: float
    left: float | None

    @property
    def share(self) -> float:
        """Of what is listed, how much has ended: 0 to 1."""
        return self.ended / self.listed if self.listed else 0.0


@dataclass(frozen=True, slots=True)
class Minute:
    """What all projects did in the minute before `at`."""

    at: datetime
    pages: int
    listed: int
    failed: int
    listing_requests: int
    replay_requests: int
    throttled: int


@dataclass(frozen=True, slots=True)
class RecordView:
    """`at` by PostgreSQL's clock, `bytes` the size of its database.

    `scrapers` and `indexer_connections` are those that are connected now.
    `pages_per_minute` is over the time since the look before, None without
    one. `rates` is None where no sample of the last two minutes was kept:
    nothing works, or no API is there to keep one.
    """

    at: datetime
    version: str
    bytes: int
    runs: tuple[RunView, ...]
    queues: Depths
    budgets: tuple[BudgetState, ...]
    pages_per_minute: float | None
    rates: Minute | None
    connections: Connections
    connections_used: int
    scrapers: int
    indexer_connections: int
    slow: tuple[SlowStatement, ...]
    costly: tuple[CostlyStatement, ...]


async def look(
    record: Database, before: RecordView | None = None, *, costly: bool = False
) -> RecordView:
    """The record now. Rates of runs are since `before`, or over a run's whole life without it.

    `costly`: also what took most of the server's time, which takes a while itself.
    """
    watching, operating = Watching(record), Operating(record)
    server = await watching.server()
    connections = await operating.connections()
    runs = run_views(await watching.runs(RUNS_SHOWN), server.at, before)
    return RecordView(
        at=server.at, version=server.version, bytes=server.bytes,
        runs=runs, queues=await operating.queues(), budgets=tuple(await operating.budgets()),
        pages_per_minute=pages_per_minute(runs, server.at, before),
        rates=await _last_minute(Live(record), server.at),
        connections=connections,
        connections_used=1 + sum(each.total for each in connections.holders),
        scrapers=sum(each.name.startswith(SCRAPER) for each in connections.holders),
        indexer_connections=sum(
            each.total for each in connections.holders if each.name == INDEXER
        ),
        slow=await watching.slow(),
        costly=await watching.costly() if costly and server.statements else (),
    )  # fmt: skip


def run_views(
    runs: Sequence[Progress], at: datetime, before: RecordView | None
) -> tuple[RunView, ...]:
    """Each run with its rate since `before`, where that knew it, else over its life."""
    known = {each.run: each for each in before.runs} if before else {}
    since = (at - before.at).total_seconds() if before else 0.0
    return tuple(_run_view(each, known.get(each.run_id), since) for each in runs)


def _run_view(run: Progress, before: RunView | None, since: float) -> RunView:
    captures = run.captures
    ended = captures.discovered - captures.pending
    done, span = (ended - before.ended, since) if before and since > 0 else (ended, run.seconds)
    rate = max(done, 0) / span if span > 0 else 0.0
    under_way = run.state == "active" and not run.listing and captures.pending and rate > 0
    return RunView(
        run=run.run_id, state=run.state, project=run.project, url=run.url, archive=run.archive,
        listed=captures.discovered, ended=ended, stored=captures.stored,
        failed=sum(captures.failed.values()), listing=run.listing, holes=run.holes,
        seconds=run.seconds, rate=rate, rate_seconds=span,
        left=captures.pending / rate if under_way else None,
    )  # fmt: skip


def pages_per_minute(
    runs: Sequence[RunView], at: datetime, before: RecordView | None
) -> float | None:
    """Of the runs that both looks show, and of those that began between them."""
    since = (at - before.at).total_seconds() if before else 0.0
    if before is None or since <= 0:
        return None
    known = {each.run: each.stored for each in before.runs}
    known |= {each.run: 0 for each in runs if each.run not in known and each.seconds <= since}
    stored = sum(each.stored - known[each.run] for each in runs if each.run in known)
    return max(stored, 0) * 60 / since


async def _last_minute(live: Live, at: datetime) -> Minute | None:
    """The newest sample that is not older than the minute before this one."""
    this = at.replace(second=0, microsecond=0)
    steps = await live.throughput(None, since=this - MINUTE, until=this + MINUTE, step=MINUTE)
    return _minute(steps[-1]) if steps else None


def _minute(step: Throughput) -> Minute:
    return Minute(
        step.at, step.stored, step.listed, step.failed, step.listing_requests,
        step.replay_requests, step.throttled,
    )  # fmt: skip
