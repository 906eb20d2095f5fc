"""What the index has not confirmed yet: leased, delivered, acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from chrono_ray.model.query import PageEntry
from chrono_ray.model.urls import host_of
from chrono_ray.storage.database import Connection, Database, statements

LEASE: Final = timedelta(seconds=60)


RENEW: Final = (
    "UPDATE outbox SET leased_until = clock_timestamp() + $2::interval WHERE token = $1"
    " RETURNING seq"
)
RELEASE: Final = "UPDATE outbox SET token = NULL, leased_until = NULL WHERE token = $1"
ACKNOWLEDGE: Final = "DELETE FROM outbox WHERE token = $1 RETURNING seq"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, counted up to what was asked: rows, the oldest's age in seconds, text bytes."""

    rows: int
    oldest: float
    bytes: int


@dataclass(frozen=True, slots=True)
class OutboxLease:
    """A batch for the index: pages to put, and ids to remove."""

    token: UUID
    entries: tuple[PageEntry, ...]
    deleted: tuple[int, ...]


class Outbox:
    """The indexer's queue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("outbox")

    async def backlog(self, enough: int) -> Backlog:
        """How much waits, counted no further than `enough`."""
        [row] = await self._database.fetch(self._sql["backlog"], enough)
        return Backlog(row["rows"], row["oldest"], row["bytes"])

    async def claim(self, limit: int) -> OutboxLease | None:
        """The oldest rows with the pages they name, as they are now; None when there are none."""
        token = uuid4()

        async def work(connection: Connection) -> OutboxLease | None:
            rows = await connection.fetch(self._sql["claim"], token, limit, LEASE)
            if not rows:
                return None
            ids = sorted({row["page_id"] for row in rows})
            found = [_entry(row) for row in await connection.fetch(self._sql["entries"], ids)]
            missing = set(ids) - {entry.id for entry in found}
            return OutboxLease(token, tuple(found), tuple(sorted(missing)))

        return await self._database.transact(work)

    async def queue_everything(self) -> int:
        """Every page goes to the index once more; returns how many. Safe while all else runs."""
        return int(await self._database.fetchval(self._sql["queue_everything"]))

    async def renew(self, lease: OutboxLease) -> bool:
        """Another minute; False when somebody else has the batch now."""
        return bool(await self._database.fetch(RENEW, lease.token, LEASE))

    async def release(self, lease: OutboxLease) -> None:
        """Give the batch back undelivered."""
        await self._database.fetch(RELEASE, lease.token)

    async def acknowledge(self, lease: OutboxLease, *, rejected: Sequence[tuple[int, str]]) -> None:
        """The index has it: forget the rows. `rejected` pages keep the index's reason."""
        ids = [entry.id for entry in lease.entries]

        async def work(connection: Connection) -> None:
            if not await connection.fetch(ACKNOWLEDGE, lease.token):
                return  # somebody else delivers it now, and knows better
            await connection.execute(
                self._sql["mark"],
                ids,
                [page for page, _ in rejected],
                [why[:500] for _, why in rejected],
            )

        await self._database.transact(work)


def _entry(row: asyncpg.Record) -> PageEntry:
    return PageEntry(
        id=row["id"], project=row["project"], domain=row["domain"], url=row["url"],
        host=host_of(row["url"]), title=row["title"], text=row["text"], author=row["author"],
        language=row["language"], type=row["media_type"], first_seen=row["first_seen"],
        last_seen=row["last_seen"], captures=row["captures"],
    )  # fmt: skip
