"""What the record knows of the whole instance, for whoever watches it: one statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.governor import HORIZON, Kind

COUNTED_MOST: Final = 10_000
TABLES: Final = (
    "queue", "leases", "parked", "outbox", "captures", "fetches", "payloads", "documents", "pages",
    "domain_counters", "total_changes", "archive_budgets",
)  # fmt: skip
"""Those that grow with the work, and those whose dead rows slow it down."""
_CLASSES: Final = tuple(QueueClass)


@dataclass(frozen=True, slots=True)
class Depth:
    """Work of a class: `work` is fetch, listing or task; `state` as the catalogue has them."""

    queue: QueueClass
    work: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class Oldest:
    """How long the oldest of what waits has waited, in seconds."""

    queue: QueueClass
    work: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Active:
    """Active runs of a class, by whether their archive is left alone at the moment."""

    queue: QueueClass
    silent: bool
    count: int


@dataclass(frozen=True, slots=True)
class BudgetGlance:
    """One budget. `rate` a minute and what is `left` now are None without a limit."""

    archive: str
    kind: Kind
    egress: str
    per_minute: int
    rate: float | None
    left: int | None
    wait: float
    pause: float
    reason: str
    """Why it is left alone; empty when it is not."""


@dataclass(frozen=True, slots=True)
class TableGlance:
    """Both as the server last estimated or counted them."""

    name: str
    rows: int
    dead: int


@dataclass(frozen=True, slots=True)
class Sessions:
    """Connections of the processes of one part in one state."""

    part: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class ServerGlance:
    """PostgreSQL's own numbers of this database; `bytes` on its disk, times in seconds.

    `connections_most`: what other databases hold of the server's is not in it.
    """

    revision: str
    bytes: int
    committed: int
    rolled_back: int
    hit: int
    read: int
    deadlocks: int
    connections_most: int
    statement: float
    transaction: float


@dataclass(frozen=True, slots=True)
class Glance:
    """Everything at one moment; work is counted up to `COUNTED_MOST` of a kind."""

    depths: tuple[Depth, ...]
    oldest: tuple[Oldest, ...]
    runs: tuple[Active, ...]
    expired: Mapping[str, int]
    budgets: tuple[BudgetGlance, ...]
    captures: Mapping[str, int]
    sessions: tuple[Sessions, ...]
    tables: tuple[TableGlance, ...]
    holes: int
    pages: int
    sending: int
    lag: float
    server: ServerGlance


class Glances:
    """Reads; one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("metrics")

    async def glance(self) -> Glance:
        """What there is now. Raises `Unavailable` without the record."""
        [row] = await self._database.fetch(self._sql["glance"], COUNTED_MOST, HORIZON, list(TABLES))
        return Glance(
            depths=tuple(map(_depth, _rows(row["depth"]))),
            oldest=tuple(map(_oldest, _rows(row["oldest"]))),
            runs=tuple(map(_active, _rows(row["runs"]))),
            expired={each["work"]: each["n"] for each in _rows(row["expired"])},
            budgets=tuple(map(_budget, _rows(row["budgets"]))),
            captures={each["state"]: each["n"] for each in _rows(row["captures"])},
            sessions=tuple(map(_sessions, _rows(row["connections"]))),
            tables=tuple(map(_table, _rows(row["tables"]))),
            holes=row["holes"], pages=row["pages"], sending=row["sending"], lag=row["lag"],
            server=ServerGlance(*(row[name] for name in _SERVER)),
        )  # fmt: skip


_SERVER: Final = tuple(each.name for each in fields(ServerGlance))


_Row = dict[str, Any]


def _rows(text: str | None) -> list[_Row]:
    return orjson.loads(text) if text else []


def _depth(row: _Row) -> Depth:
    return Depth(_CLASSES[row["class"]], row["work"], row["state"], row["n"])


def _oldest(row: _Row) -> Oldest:
    return Oldest(_CLASSES[row["class"]], row["work"], row["seconds"])


def _active(row: _Row) -> Active:
    return Active(_CLASSES[row["class"]], row["silent"], row["n"])


def _budget(row: _Row) -> BudgetGlance:
    return BudgetGlance(
        row["archive"], Kind(row["kind"]), row["egress"], row["per_minute"], row["rate"],
        row["left"], row["wait"], row["pause"], row["reason"] if row["paused"] else "",
    )  # fmt: skip


def _sessions(row: _Row) -> Sessions:
    return Sessions(row["part"], row["state"], row["n"])


def _table(row: _Row) -> TableGlance:
    return TableGlance(row["table"], row["rows"], row["dead"])
