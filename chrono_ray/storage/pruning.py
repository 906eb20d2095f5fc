"""What the record keeps for a while only, by age: counted, and removed in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import asyncpg

from chrono_ray.storage.database import Database, statements

CHUNK: Final = 2_000
EXPORTS: Final = 100


class Kind(StrEnum):
    """Rows that say what has ended, each by the moment of its end."""

    TASKS = "tasks"
    """That ended, whatever they were, without exports."""
    LOGINS = "logins"
    """Tokens of logins that have expired."""
    KEYS = "keys"
    """API keys that have expired or were revoked."""
    REBUILDS = "rebuilds"
    """Of the index, without the last."""


@dataclass(frozen=True, slots=True)
class Weight:
    """How much something is; `oldest` is when the first of it ended."""

    rows: int = 0
    bytes: int = 0
    oldest: datetime | None = None

    def __add__(self, other: Weight) -> Weight:
        moments = [each for each in (self.oldest, other.oldest) if each]
        return Weight(self.rows + other.rows, self.bytes + other.bytes, min(moments, default=None))


@dataclass(frozen=True, slots=True)
class EndedExport:
    """An export that ended; its files stand below `place`.

    `shared`: so do, or around it, those of another that stays. `project_id` is
    of one that was asked for over HTTP.
    """

    id: int
    place: str
    weight: Weight
    shared: bool
    project_id: int | None


class Pruning:
    """Every call is safe to repeat."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("pruning")

    async def found(self, kind: Kind, age: timedelta) -> Weight:
        """What of a kind is older."""
        return await self._weighed(f"{kind}_found", age)

    async def drop(self, kind: Kind, age: timedelta) -> Weight:
        """Remove a chunk of it; none of it is left when that weighs nothing."""
        return await self._weighed(f"{kind}_drop", age, CHUNK)

    async def exports(self, age: timedelta, *, after: int) -> Sequence[EndedExport]:
        """Exports that ended so long ago, by id behind one; some at a time."""
        rows = await self._database.fetch(self._sql["exports"], age, EXPORTS, after)
        return [
            EndedExport(
                row["id"], row["place"], Weight(1, row["bytes"], row["at"]), row["shared"],
                row["project_id"],
            )
            for row in rows
        ]  # fmt: skip

    async def files(self, task_id: int) -> list[str]:
        """The files that it closed, by their names below its place."""
        rows = await self._database.fetch(self._sql["files"], task_id)
        return [row["name"] for row in rows]

    async def drop_export(self, task_id: int) -> None:
        """Its row, when its files are gone."""
        await self._database.fetch(self._sql["drop_export"], task_id)

    async def payloads(self, ids: Sequence[int]) -> Weight:
        """How large these payloads are, unpacked."""
        return await self._weighed("weighed", list(ids))

    async def _weighed(self, name: str, *arguments: object) -> Weight:
        row = await self._database.fetchrow(self._sql[name], *arguments)
        return _weight(row) if row else Weight()


def _weight(row: asyncpg.Record) -> Weight:
    return Weight(row["rows"], row["bytes"], row["oldest"])
