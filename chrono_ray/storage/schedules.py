"""Schedules: collections that begin by themselves, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.projects import Collection, Projects, check_overlap, number_of

LEAST: Final = timedelta(minutes=1)
MOST: Final = timedelta(days=3660)
CLASSES: Final = tuple(QueueClass)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A collection that begins every so often; `last_run` is the newest of its runs."""

    id: int
    wanted: Collection
    every: timedelta
    enabled: bool
    next_at: datetime
    last_run: int | None
    last_state: str | None


class Schedules:
    """Keeps schedules and begins what is due."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("schedules")

    async def add(self, wanted: Collection, *, every: timedelta) -> int:
        """A new schedule, due at once; its project and domain come into being with it."""
        if not LEAST <= every <= MOST:
            raise InvalidInput(
                "The interval cannot be used",
                why=f"{every}",
                fix="From a minute to ten years",
                code="schedule_every",
            )
        check_overlap(wanted.since)
        domain_id = await Projects(self._database).domain(wanted.scope, project=wanted.project)
        scope = wanted.scope
        return int(
            await self._database.fetchval(
                self._sql["add"],
                domain_id, list(wanted.archives), scope.start, scope.end,
                wanted.since is not None, wanted.since or timedelta(), every,
                number_of(wanted.queue_class),
            )
        )  # fmt: skip

    async def all(self) -> list[Schedule]:
        """Every schedule, oldest first."""
        return [_schedule(row) for row in await self._database.fetch(self._sql["list"])]

    async def enable(self, schedule_id: int, *, enabled: bool) -> None:
        """Let it begin runs, or none; what it has begun goes on. `NotFound` for an unknown one."""
        _found(
            await self._database.fetchval(self._sql["enable"], schedule_id, enabled), schedule_id
        )

    async def remove(self, schedule_id: int) -> None:
        """Forget it; its runs stay. `NotFound` for an unknown one."""
        _found(await self._database.fetchval(self._sql["remove"], schedule_id), schedule_id)

    async def start_due(self) -> tuple[int, ...]:
        """Begin what is due, each once whoever else looks; returns the collections' first runs."""
        rows = await self._database.fetch(self._sql["start_due"])
        return tuple(row["begun"] for row in rows if row["begun"] is not None)


def _found(value: int | None, schedule_id: int) -> None:
    if value is None:
        raise NotFound(f"There is no schedule {schedule_id}", fix="`chrono schedule list`")


def _schedule(row: asyncpg.Record) -> Schedule:
    wanted = Collection(
        Scope(row["url"], MatchType(row["match"]), row["start_ts"], row["end_ts"]),
        row["project"], tuple(row["archives"]), CLASSES[row["class"]],
        row["overlap"] if row["since_last"] else None,
    )  # fmt: skip
    return Schedule(
        row["id"], wanted, row["every"], row["enabled"], row["next_at"], row["last_run"],
        row["last_state"],
    )  # fmt: skip
