"""Every row of the table: what is measured, in which unit, and what it should be.

Names are stable: JSON for CI is read by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

USERS: Final = 200
SOCKETS: Final = 500


class Measure(StrEnum):
    """What is done together, in the order in which it is done."""

    SCRAPE = "scrape"
    API = "api"
    STATISTICS = "statistics"
    CLAIM = "claim"
    USERS = "users"
    SOCKETS = "sockets"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound: `at_least` it, or at most it."""

    bound: float
    at_least: bool

    def holds(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:,g}"


@dataclass(frozen=True, slots=True)
class Row:
    """`target` None: told for what it is."""

    name: str
    measure: Measure
    what: str
    unit: str
    target: Target | None = None


def _most(bound: float) -> Target:
    return Target(bound, at_least=False)


def _least(bound: float) -> Target:
    return Target(bound, at_least=True)


ROUTES: Final = ("list", "statistics", "page", "search")
_TITLES: Final = {
    "list": "list of projects", "statistics": "a project's statistics", "page": "a page",
    "search": "a search",
}  # fmt: skip

ROWS: Final = (
    Row("scrape.pages", Measure.SCRAPE, "pages fetched, understood and stored", "pages/min",
        _least(300)),
    Row("scrape.unlimited", Measure.SCRAPE, "the same, of an archive without a limit",
        "pages/min", _least(3000)),
    Row("index.pages", Measure.SCRAPE, "pages made searchable meanwhile", "pages/min",
        _least(300)),
    *(
        Row(f"api.{route}.{how}", Measure.API, f"{_TITLES[route]}, {told}: p95", "ms", _most(100))
        for route in ROUTES for how, told in (("cold", "computed"), ("cached", "kept"))
    ),
    Row("api.statements", Measure.API, "statements a request, at most", "", _most(3)),
    Row("statistics.record", Measure.STATISTICS, "statistics of all projects, in the database: p50",
        "ms", _most(3)),
    Row("claim.p99", Measure.CLAIM, "a claim of 32 by four workers: p99", "ms", _most(20)),
    Row("claim.rate", Measure.CLAIM, "leases by four workers", "leases/s"),
    Row("users.p95", Measure.USERS, f"{USERS} users at once: p95", "ms", _most(100)),
    Row("users.served", Measure.USERS, "users who were answered", "", _least(USERS)),
    Row("users.errors", Measure.USERS, "requests that failed", "", _most(0)),
    Row("users.rate", Measure.USERS, "requests of all users", "/s"),
    Row("cache.hits", Measure.USERS, "answered by the cache", "%", _least(75)),
    Row("sockets.open", Measure.SOCKETS, "WebSockets that are told of each event", "",
        _least(SOCKETS)),
    Row("sockets.late", Measure.SOCKETS, "a WebSocket is told of an event: p95", "ms", _most(2000)),
    Row("sockets.memory", Measure.SOCKETS, "memory of one WebSocket", "KiB", _most(100)),
    Row("memory.api", Measure.MEMORY, "API processes, after all this (PSS)", "MiB", _most(800)),
)  # fmt: skip
