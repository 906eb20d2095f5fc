"""What waits, as people are told: queues of the projects they see, archives of everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chrono_ray.model.accounts import Actor
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.governor import HORIZON, Kind

COUNTED_MOST: Final = 10_000
"""Pages, and a run's parked fetches, are counted no further: it is a queue's length, no census."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Active runs of a class at an archive. `seconds` since the oldest of them was created.

    `captures` are listed and have not ended; of their fetches `in_flight` are
    at a worker and `parked` wait for another try. `listings` still list.
    """

    queue: QueueClass
    archive: str
    runs: int
    captures: int
    in_flight: int
    parked: int
    listings: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Queues:
    """`tasks` wait, `tasks_running` do not; `pages` wait for the index, the oldest of anybody's
    for `lag` seconds."""

    queues: tuple[Queue, ...]
    tasks: int
    tasks_running: int
    pages: int
    lag: float


@dataclass(frozen=True, slots=True)
class ArchiveBudget:
    """What an archive allows together; `per_minute` None: no limit.

    `paused` and `wait` are seconds until a request may be sent, by any egress:
    for a silence, and for whatever reason.
    """

    archive: str
    kind: Kind
    per_minute: int | None
    paused: float
    wait: float
    reason: str


class Waiting:
    """Reads; one statement each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("waiting")

    async def queues(self, actor: Actor) -> Queues:
        """Of the projects that the actor sees."""
        rows = await self._database.fetch(
            self._sql["queues"], actor.user_id, actor.is_admin, COUNTED_MOST
        )
        classes = list(QueueClass)
        found = tuple(
            Queue(classes[row["class"]], *list(row.values())[1:8])
            for row in rows if row["class"] is not None
        )  # fmt: skip
        first = rows[0]
        return Queues(found, first["tasks"], first["tasks_running"], first["pages"], first["lag"])

    async def archives(self) -> list[ArchiveBudget]:
        """Every archive that may be asked, by name and kind of request."""
        rows = await self._database.fetch(self._sql["archives"], HORIZON)
        return [
            ArchiveBudget(
                row["archive"], Kind(row["kind"]), row["per_minute"], row["paused"], row["wait"],
                row["reason"] if row["paused"] else "",
            )
            for row in rows
        ]  # fmt: skip
