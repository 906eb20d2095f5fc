"""What an operator looks at: queues, budgets and connections, of all projects together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.governor import HORIZON, Kind

COUNTED_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class ClassDepth:
    """What waits in a class, counted up to `COUNTED_MOST` each.

    Fetches: `queued`, `held` with their paused runs, `leased` to a worker,
    `parked` until their time, the first in `parked_seconds`. `seconds` since
    the oldest run with queued fetches was created, and since the oldest task.
    """

    queue: QueueClass
    runs: int
    queued: int
    held: int
    leased: int
    parked: int
    parked_seconds: float
    listings: int
    listings_leased: int
    seconds: float
    tasks: int
    tasks_leased: int
    tasks_seconds: float


@dataclass(frozen=True, slots=True)
class Depths:
    """`pages` wait for the index, `sending` of them under way, the oldest for `lag` seconds."""

    classes: tuple[ClassDepth, ...]
    pages: int
    sending: int
    lag: float


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget; without a limit `rate` (a minute) and `now` are None.

    `now` requests would be given leave this moment, the next one after `wait`
    seconds. `pauses` follow upon one another: each is longer than the last.
    """

    archive: str
    kind: Kind
    egress: str
    per_minute: int
    rate: float | None
    now: int | None
    wait: float
    paused_until: datetime | None
    reason: str
    pauses: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Connections of the processes of one name; `longest` is their oldest statement, in seconds."""

    name: str
    total: int
    active: int
    idle_in_transaction: int
    longest: float


@dataclass(frozen=True, slots=True)
class Connections:
    """Beside the one that asks; `most` that the server admits."""

    holders: tuple[Holder, ...]
    most: int


class Operating:
    """Reads; one statement each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("admin")

    async def queues(self) -> Depths:
        """Every class, most urgent first."""
        rows = await self._database.fetch(self._sql["queues"], COUNTED_MOST)
        classes = tuple(
            ClassDepth(queue, *list(row.values())[1:13])
            for queue, row in zip(QueueClass, rows, strict=True)
        )
        return Depths(classes, *list(rows[0].values())[13:])

    async def budgets(self) -> list[BudgetState]:
        """By archive, kind of request and egress."""
        return [
            BudgetState(
                row["archive"], Kind(row["kind"]), row["egress"], row["per_minute"], row["rate"],
                row["now"], row["wait"], row["paused_until"],
                row["reason"] if row["paused_until"] else "", row["pauses"],
            )
            for row in await self._database.fetch(self._sql["budgets"], HORIZON)
        ]  # fmt: skip

    async def connections(self) -> Connections:
        """By name."""
        rows = await self._database.fetch(self._sql["pools"])
        holders = tuple(Holder(*list(row.values())[:5]) for row in rows if row["total"])
        return Connections(holders, rows[0]["most"])
