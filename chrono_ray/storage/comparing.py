"""The record's pages in order, to be held against the index, and what differs queued for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chrono_ray.storage.database import Database, statements


@dataclass(frozen=True, slots=True)
class RecordedPage:
    """A page as the index should have it; `refused` by it, or `waiting` in the outbox."""

    id: int
    version: int
    refused: bool
    waiting: bool


class Comparing:
    """Reads the record's side."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("repair")

    async def pages_after(self, last: int, limit: int) -> list[RecordedPage]:
        """The next pages, ascending by id."""
        rows = await self._database.fetch(self._sql["pages_after"], last, limit)
        return [RecordedPage(**row) for row in rows]

    async def pages(self, ids: Collection[int]) -> dict[int, RecordedPage]:
        """These pages as they are now, as far as there are any."""
        rows = await self._database.fetch(self._sql["pages_of"], sorted(ids))
        return {row["id"]: RecordedPage(**row) for row in rows}

    async def waiting(self, ids: Collection[int]) -> set[int]:
        """Which of these the outbox names, whether or not there is such a page."""
        rows = await self._database.fetch(self._sql["waiting"], sorted(ids))
        return {row["page_id"] for row in rows}

    async def queue(self, ids: Collection[int]) -> None:
        """Send these to the index once more; what the record does not have, it is to remove."""
        await self._database.fetch(self._sql["queue"], sorted(ids))
