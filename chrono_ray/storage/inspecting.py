"""What may be wrong with PostgreSQL and with what the record holds: read, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chrono_ray.storage.database import Database, statements

HOLES_SHOWN: Final = 20
RESCUED: Final = timedelta(seconds=30)
"""Whoever works looks for expired leases every few seconds: after this nobody does."""
LEASES_COUNTED: Final = 10_000
WAITING_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """PostgreSQL's version as a number (180001), its clock, and what a crash may cost.

    `most` is how many connections we may hold.
    """

    version: int
    at: datetime
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    autovacuum: bool
    most: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Leases of workers that are not heard of, the oldest for `seconds`."""

    leases: int
    workers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Active runs, and the names of the processes that could work on them."""

    runs: int
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """`waiting` is counted up to `WAITING_COUNTED`, the oldest for `lag` seconds.

    `failed`: why the last rebuild failed; empty when it did not.
    """

    pages: int
    refused: int
    waiting: int
    lag: float
    failed: str


class Inspecting:
    """Reads; one statement each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("inspecting")

    async def server(self) -> ServerFacts:
        """Of any PostgreSQL, with a record in it or not."""
        row = await self._database.fetchrow(self._sql["server"])
        assert row is not None  # noqa: S101 (we are connected to it)
        return ServerFacts(**dict(row))

    async def holes(self) -> dict[int, int]:
        """How many parts of its listing a run has lost, the newest runs first."""
        rows = await self._database.fetch(self._sql["holes"], HOLES_SHOWN)
        return {row["run"]: row["holes"] for row in rows}

    async def expired(self) -> Expired:
        """Leases that should have been taken back by now."""
        row = await self._database.fetchrow(self._sql["expired"], RESCUED, LEASES_COUNTED)
        assert row is not None  # noqa: S101 (it counts)
        return Expired(**dict(row))

    async def unfinished(self) -> Unfinished:
        """What there is to do, and who is there to do it."""
        row = await self._database.fetchrow(self._sql["unfinished"])
        assert row is not None  # noqa: S101 (it counts)
        return Unfinished(row["runs"], tuple(row["workers"]))

    async def index(self) -> IndexFacts:
        """What the index should hold by now."""
        row = await self._database.fetchrow(self._sql["index"], WAITING_COUNTED)
        assert row is not None  # noqa: S101 (it counts)
        return IndexFacts(**dict(row))
