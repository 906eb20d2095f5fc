"""What the index has not confirmed yet: leased, delivered, acknowledged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from chrono_ray.model.query import PageEntry
from chrono_ray.model.urls import host_of
from chrono_ray.storage.database import Connection, Database, statements

LEASE: Final = timedelta(seconds=60)
TEXT_BYTES: Final = 4_000_000


RENEW: Final = (
    "UPDATE outbox SET leased_until = clock_timestamp() + $2::interval WHERE token = $1"
    " RETURNING seq"
)
RELEASE: Final = "UPDATE outbox SET token = NULL, leased_until = NULL WHERE token = $1"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, counted up to what was asked: rows, the oldest's age in seconds, text bytes."""

    rows: int
    oldest: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Change:
    """What an index is to do: pages to put, and ids to remove."""

    entries: tuple[PageEntry, ...]
    deleted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OutboxLease:
    """A batch for the index, ours while the token holds."""

    token: UUID
    change: Change


class Outbox:
    """The indexer's queue."""

    def __init__(self, database: Database, *, lease: timedelta = LEASE) -> None:
        """`lease` is how long a batch stays with an indexer that is not heard of."""
        self._database = database
        self._sql = statements("outbox")
        self.lease = lease

    async def backlog(self, enough: int) -> Backlog:
        """How much waits, counted no further than `enough`."""
        [row] = await self._database.fetch(self._sql["backlog"], enough)
        return Backlog(row["rows"], row["oldest"], row["bytes"])

    async def claim(
        self, limit: int, *, size: int = TEXT_BYTES, token: UUID | None = None
    ) -> OutboxLease | None:
        """The oldest rows with the pages they name, as they are now; None when there are none.

        At most `limit` rows and `size` bytes of text, but always one row. Should the answer be
        lost, whoever chose the `token` can release what it names.
        """
        token = token or uuid4()

        async def work(connection: Connection) -> set[int]:
            await connection.execute(self._sql["one_at_a_time"])
            rows = await connection.fetch(self._sql["claim"], token, limit, self.lease, size)
            return {row["page_id"] for row in rows}

        ids = await self._database.transact(work)
        return OutboxLease(token, await self.change(ids)) if ids else None

    async def change(self, ids: Collection[int]) -> Change:
        """These pages as the record has them now; those that it has no more are to be deleted."""
        rows = await self._database.fetch(self._sql["entries"], sorted(ids))
        entries = tuple(sorted((_entry(row) for row in rows), key=lambda entry: entry.id))
        return Change(entries, tuple(sorted(set(ids) - {entry.id for entry in entries})))

    async def renew(self, lease: OutboxLease) -> bool:
        """Another minute; False when somebody else has the batch now."""
        return bool(await self._database.fetch(RENEW, lease.token, self.lease))

    async def release(self, token: UUID) -> None:
        """Give the batch of this token back undelivered, if there is one."""
        await self._database.fetch(RELEASE, token)

    async def acknowledge(self, lease: OutboxLease, *, rejected: Sequence[tuple[int, str]]) -> None:
        """The index has it: forget the rows. `rejected` pages keep the index's reason."""

        async def work(connection: Connection) -> None:
            rows = await connection.fetch(self._sql["acknowledge"], lease.token)
            if not rows:
                return  # somebody else delivers it now, and knows better
            await connection.execute(self._sql["change"], [row["page_id"] for row in rows])
            await mark(connection, [entry.id for entry in lease.change.entries], rejected)

        await self._database.transact(work)


async def mark(
    connection: Connection, ids: Sequence[int], rejected: Sequence[tuple[int, str]]
) -> None:
    """Keep with each of these pages why the index refuses it, or that it does not any more."""
    await connection.execute(
        statements("outbox")["mark"],
        ids,
        [page for page, _ in rejected],
        [storable(why) for _, why in rejected],
    )


def storable(why: str) -> str:
    """A reason that PostgreSQL takes: an index quotes what a page holds."""
    return why[:500].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _entry(row: asyncpg.Record) -> PageEntry:
    return PageEntry(
        id=row["id"], project_id=row["project_id"], domain=row["domain"], url=row["url"],
        host=host_of(row["url"]), title=row["title"], text=row["text"], author=row["author"],
        language=row["language"], type=row["media_type"], first_seen=row["first_seen"],
        last_seen=row["last_seen"], captures=row["captures"], version=row["version"],
    )  # fmt: skip
