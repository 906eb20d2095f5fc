"""Schedules: collections that begin by themselves, again and again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.named import named_or_new
from chrono_ray.storage.projects import (
    Collection,
    check_overlap,
    check_project,
    check_writes,
    id_or_name,
    number_of,
    placed,
)

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
    project_id: int


@dataclass(frozen=True, slots=True)
class Added:
    """A new schedule, and when it is due."""

    id: int
    project_id: int
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """What of a schedule is to be another; None stays."""

    every: timedelta | None = None
    enabled: bool | None = None
    queue_class: QueueClass | None = None


class Schedules:
    """Keeps schedules and begins what is due."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("schedules")

    async def add(self, wanted: Collection, *, every: timedelta) -> int:
        """A new schedule, due at once; its project and domain come into being with it."""
        meant = await named_or_new(self._database, wanted.project)
        found = await self._database.transact(
            lambda c: self.add_on(c, replace(wanted, project=meant), every=every)
        )
        return found.id

    async def add_on(
        self, connection: Connection, wanted: Collection, *, every: timedelta,
        by: Actor | None = None,
    ) -> Added:  # fmt: skip
        """`add` by one statement, in the transaction of whoever asks: an actor if they may."""
        _check_every(every)
        check_project(wanted.project)
        check_overlap(wanted.since)
        scope = wanted.scope
        row = await connection.fetchrow(
            self._sql["add"],
            *id_or_name(wanted.project), scope.url, scope.match.value, list(wanted.archives),
            scope.start, scope.end, wanted.since is not None, wanted.since or timedelta(), every,
            number_of(wanted.queue_class), by and by.user_id, bool(by and by.is_admin),
        )  # fmt: skip
        found = placed(row, wanted.project, role=row["role"])
        return Added(found["id"], found["project"], found["next_at"])

    async def seen(
        self, actor: Actor, *, project_id: int | None, after: int, limit: int
    ) -> list[Schedule]:
        """What somebody sees, oldest first, behind schedule `after`.

        `NotFound` for no such project.
        """
        rows = await self._seen(actor, after, project_id, limit, None)
        if not rows[0]["known"]:
            raise NotFound(f"There is no project {project_id}")
        return [_schedule(row) for row in rows if row["id"] is not None]

    async def seen_one(self, schedule_id: int, actor: Actor) -> Schedule:
        """One that somebody sees; `NotFound` when there is none for them."""
        [row] = await self._seen(actor, 0, None, 1, schedule_id)
        if row["id"] is None:
            raise _none(schedule_id)
        return _schedule(row)

    async def _seen(
        self, actor: Actor, after: int, project_id: int | None, limit: int, only: int | None
    ) -> list[asyncpg.Record]:
        return await self._database.fetch(
            self._sql["seen"], actor.user_id, actor.is_admin, after, project_id, limit, only
        )

    async def change(self, schedule_id: int, actor: Actor, changes: Changes) -> Schedule:
        """`NotFound` when they see none, `Forbidden` for one who only reads in its project."""
        if changes.every is not None:
            _check_every(changes.every)
        number = None if changes.queue_class is None else number_of(changes.queue_class)
        row = await self._database.fetchrow(
            self._sql["change"], schedule_id, actor.user_id, actor.is_admin, changes.every,
            changes.enabled, number,
        )  # fmt: skip
        if row is None:
            raise _none(schedule_id)
        check_writes(row["role"])
        return _schedule(row)

    async def drop(self, schedule_id: int, actor: Actor) -> int:
        """Forget it, as `change`; its runs stay. Returns its project."""
        row = await self._database.fetchrow(
            self._sql["drop"], schedule_id, actor.user_id, actor.is_admin
        )
        if row is None:
            raise _none(schedule_id)
        check_writes(row["role"])
        return int(row["project_id"])

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


def _check_every(every: timedelta) -> None:
    if not LEAST <= every <= MOST:
        raise InvalidInput(
            "The interval cannot be used",
            why=f"{every}",
            fix="From a minute to ten years",
            code="schedule_every",
        )


def _none(schedule_id: int) -> NotFound:
    return NotFound(f"There is no schedule {schedule_id}")


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
        row["last_state"], row["project_id"],
    )  # fmt: skip
