"""What an operator watches: runs, the server, and the statements that take long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.stats import Progress, Stats

SLOW: Final = timedelta(seconds=1)
NO_STATEMENTS: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.InsufficientPrivilegeError,
)
"""pg_stat_statements is there, and not for us: in another schema, or of another form."""


@dataclass(frozen=True, slots=True)
class SlowStatement:
    """At work for `seconds` now; `waits_for` is PostgreSQL's wait event, empty while it works."""

    pid: int
    name: str
    seconds: float
    waits_for: str
    query: str


@dataclass(frozen=True, slots=True)
class CostlyStatement:
    """By pg_stat_statements, since its last reset; times in milliseconds."""

    query: str
    calls: int
    mean: float
    total: float


@dataclass(frozen=True, slots=True)
class Server:
    """`at` by its clock; `statements`: pg_stat_statements can be asked."""

    version: str
    bytes: int
    at: datetime
    statements: bool


class Watching:
    """Reads; every statement is bounded."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stats = Stats(database)
        self._sql = statements("watching")

    async def runs(self, limit: int) -> list[Progress]:
        """Active and paused ones, then the newest."""
        chosen = await self._database.fetch(self._sql["runs"], limit)
        return list(await self._stats.found([row["id"] for row in chosen]))

    async def slow(self) -> tuple[SlowStatement, ...]:
        """Our own statements that have been at work for more than `SLOW`."""
        rows = await self._database.fetch(self._sql["slow"], SLOW)
        return tuple(SlowStatement(**dict(row)) for row in rows)

    async def costly(self) -> tuple[CostlyStatement, ...]:
        """What took most of the server's time; nothing where it does not count that for us."""
        try:
            rows = await self._database.fetch(self._sql["costly"])
        except NO_STATEMENTS:
            return ()
        return tuple(CostlyStatement(**dict(row)) for row in rows)

    async def server(self) -> Server:
        """Version, size and clock."""
        row = await self._database.fetchrow(self._sql["server"])
        assert row is not None  # noqa: S101 (it selects from nothing)
        return Server(**dict(row))
