"""What the record knows, as Prometheus reads it; asked once in a while, however many scrape."""

from __future__ import annotations

import asyncio
import logging
import time
from itertools import product
from typing import Final

from chrono_ray import __version__
from chrono_ray.model.errors import ConnectionRefused, Throttled, Unavailable
from chrono_ray.model.priority import QueueClass
from chrono_ray.observability import catalogue
from chrono_ray.observability.metrics import Registry
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import BANNED, OPERATOR
from chrono_ray.storage.metrics import BudgetGlance, Glance, Glances, ServerGlance

log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 5.0
GLANCE_SECONDS: Final = 5.0
REASONS: Final = (
    Throttled.default_reason, BANNED, ConnectionRefused.default_reason, OPERATOR,
)  # fmt: skip
"""Why an archive may be left alone."""
STATES: Final = {
    "fetch": ("waiting", "silent", "leased", "parked", "held"),
    "listing": ("waiting", "silent", "leased", "parked"),
    "task": ("waiting", "leased", "parked"),
}
RUNS: Final = {"open": False, "silent": True}
CAPTURES: Final = (
    "discovered", "stored", "unchanged", "known", "repeated", "skipped", "gone", "refused",
    "failed", "cancelled",
)  # fmt: skip

PARTS: Final = ("api", "scraper", "indexer", "supervisor", "other")
"""Who holds connections at all times; others do for a while."""
SESSIONS: Final = ("active", "idle", "idle_in_transaction")


class RecordMetrics:
    """The text of /metrics. `text` asks the record every `KEPT_SECONDS` at most.

    On a connection of its own: while requests wait for theirs the record is not away.
    """

    def __init__(self, record: Database) -> None:
        self._glances = Glances(record)
        self._turn = asyncio.Lock()
        self._text = ""
        self._at = -KEPT_SECONDS

    async def text(self) -> str:
        """As the record is now, or was a moment ago. Without it that alone is told."""
        async with self._turn:
            if time.monotonic() - self._at >= KEPT_SECONDS:
                self._text = await self._asked()
                self._at = time.monotonic()
            return self._text

    async def _asked(self) -> str:
        registry = Registry()
        registry.set(catalogue.BUILD_INFO, __version__, value=1)
        try:
            async with asyncio.timeout(GLANCE_SECONDS):
                found = await self._glances.glance()
        except (Unavailable, TimeoutError) as error:
            log.warning("metrics.record_away", extra={"error": str(error)})
            registry.set(catalogue.UP, value=0)
        else:
            registry.set(catalogue.UP, value=1)
            tell(found, registry)
        return registry.render()


def tell(found: Glance, registry: Registry) -> None:
    """Every series is told at every time, at 0 where there is nothing: none comes and goes."""
    _tell_work(found, registry)
    _tell_index(found, registry)
    for budget in found.budgets:
        _tell_budget(budget, registry)
    for part, state in product(PARTS, SESSIONS):
        registry.set(catalogue.CONNECTIONS, part, state, value=0)
    for each in found.sessions:
        registry.set(catalogue.CONNECTIONS, each.part, each.state, value=each.count)
    for table in found.tables:
        registry.set(catalogue.RECORD_ROWS, table.name, value=table.rows)
        registry.set(catalogue.RECORD_DEAD_ROWS, table.name, value=table.dead)
    _tell_server(found.server, registry)


def _tell_work(found: Glance, registry: Registry) -> None:
    depths = {(each.queue, each.work, each.state): each.count for each in found.depths}
    for queue, work in product(QueueClass, STATES):
        for state in STATES[work]:
            count = depths.get((queue, work, state), 0)
            registry.set(catalogue.QUEUE_DEPTH, queue, work, state, value=count)
    oldest = {(each.queue, each.work): each.seconds for each in found.oldest}
    for queue, work in product(QueueClass, ("fetch", "task")):
        registry.set(catalogue.QUEUE_OLDEST, queue, work, value=oldest.get((queue, work), 0))
    runs = {(each.queue, each.silent): each.count for each in found.runs}
    for queue, (state, silent) in product(QueueClass, RUNS.items()):
        registry.set(catalogue.RUNS_ACTIVE, queue, state, value=runs.get((queue, silent), 0))
    for work in STATES:
        registry.set(catalogue.LEASES_EXPIRED, work, value=found.expired.get(work, 0))
    for state in CAPTURES:
        registry.set(catalogue.CAPTURES, state, value=found.captures.get(state, 0))


def _tell_index(found: Glance, registry: Registry) -> None:
    registry.set(catalogue.LISTING_HOLES, value=found.holes)
    registry.set(catalogue.OUTBOX_PAGES, "waiting", value=found.pages - found.sending)
    registry.set(catalogue.OUTBOX_PAGES, "sending", value=found.sending)
    registry.set(catalogue.OUTBOX_LAG, value=found.lag)


def _tell_budget(budget: BudgetGlance, registry: Registry) -> None:
    labels = budget.archive, budget.kind, budget.egress
    registry.set(catalogue.BUDGET_PER_MINUTE, *labels, value=budget.per_minute)
    registry.set(catalogue.BUDGET_WAIT, *labels, value=budget.wait)
    if budget.rate is not None and budget.left is not None:
        registry.set(catalogue.BUDGET_RATE, *labels, value=budget.rate)
        registry.set(catalogue.BUDGET_LEFT, *labels, value=budget.left)
    registry.set(catalogue.ARCHIVE_PAUSED_SECONDS, budget.archive, value=budget.pause)
    for reason in REASONS:
        paused = budget.reason == reason
        registry.set(catalogue.ARCHIVE_PAUSED, budget.archive, reason, value=int(paused))


def _tell_server(server: ServerGlance, registry: Registry) -> None:
    registry.set(catalogue.SCHEMA_INFO, server.revision, value=1)
    registry.set(catalogue.RECORD_BYTES, value=server.bytes)
    registry.set(catalogue.CONNECTIONS_MOST, value=server.connections_most)
    registry.set(catalogue.OLDEST_STATEMENT, value=server.statement)
    registry.set(catalogue.OLDEST_TRANSACTION, value=server.transaction)
    registry.add(catalogue.TRANSACTIONS, "committed", amount=server.committed)
    registry.add(catalogue.TRANSACTIONS, "rolled_back", amount=server.rolled_back)
    registry.add(catalogue.BLOCKS, "memory", amount=server.hit)
    registry.add(catalogue.BLOCKS, "disk", amount=server.read)
    registry.add(catalogue.DEADLOCKS, amount=server.deadlocks)
