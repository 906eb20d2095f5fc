"""Fresh indexes: asked for, filled under a lease, put in the place of the live one.

While one is filled, every page that the live index confirms is noted as a
change, so that the fresh one gets it, too. Before it takes the live one's
place the gate is closed: nothing is leased from the outbox, and what was
leased has been acknowledged or freed. So nothing is confirmed by an index that
is just going away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg

from chrono_ray.model.errors import LeaseLost, NotFound
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.outbox import Change, Outbox, mark, storable

LEASE: Final = timedelta(seconds=60)
AFTER_FAILURE: Final = timedelta(minutes=10)


class RebuildState(StrEnum):
    """`wanted -> filling -> swapping -> swapped -> done`, or `failed`; from anywhere to `filling`
    again when the half index is lost."""

    WANTED = "wanted"
    FILLING = "filling"
    SWAPPING = "swapping"
    SWAPPED = "swapped"
    DONE = "done"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in (RebuildState.DONE, RebuildState.FAILED)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """How far a fresh index is. `total` pages there were when it was begun; `changes` are counted
    to 10,000; `seconds` since the work began."""

    id: int
    state: RebuildState
    why: str
    total: int
    filled: int
    rejected: int
    changes: int
    error: str
    seconds: float
    worked_on: bool


@dataclass(frozen=True, slots=True)
class RebuildLease:
    """A rebuild, ours while the token holds. `fresh` is its index's identity, empty before one is
    begun; the pages up to `last_page` are in it."""

    id: int
    token: UUID
    state: RebuildState
    fresh: str
    last_page: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Pages that changed while the index was filled, and the rows that say so."""

    seqs: tuple[int, ...]
    change: Change


class Rebuilds:
    """The requests for a fresh index. Whatever a lease writes raises `LeaseLost` without it."""

    def __init__(self, database: Database, *, lease: timedelta = LEASE) -> None:
        """`lease` is how long a rebuild stays with an indexer that is not heard of."""
        self._database = database
        self._outbox = Outbox(database)
        self.lease = lease
        self._sql = statements("rebuilds")

    async def request(self, why: str) -> int:
        """The number of a new rebuild, or of the one that is under way."""
        while True:
            fresh = await self._database.fetchval(self._sql["request"], storable(why))
            found = fresh or await self._database.fetchval(self._sql["under_way"])
            if found is not None:  # else the one that was under way has just ended
                return int(found)

    async def request_unasked(self, why: str) -> None:
        """The same, by a part of the system itself: not again right after one that failed."""
        await self._database.fetch(self._sql["request_unasked"], storable(why), AFTER_FAILURE)

    async def progress(self, rebuild_id: int) -> Rebuild:
        """`NotFound` when there is no such rebuild."""
        row = await self._database.fetchrow(self._sql["progress"], rebuild_id)
        if row is None:
            raise NotFound(f"There is no rebuild {rebuild_id} of the index")
        return Rebuild(
            row["id"], RebuildState(row["state"]), row["why"], row["total"], row["filled"],
            row["rejected"], row["changes"], row["error"], row["seconds"], row["worked_on"],
        )  # fmt: skip

    async def under_way(self) -> int | None:
        """The number of the rebuild that has not ended."""
        found = await self._database.fetchval(self._sql["under_way"])
        return None if found is None else int(found)

    async def living(self) -> str | None:
        """The identity of the index that answers, as the record knows it; None before any."""
        found = await self._database.fetchval(self._sql["living"])
        return None if found is None else str(found)

    async def remember(self, identity: str) -> None:
        """The very first index, which nobody rebuilt."""
        await self._database.fetch(self._sql["remember"], identity)

    async def claim(self) -> RebuildLease | None:
        """The rebuild under way, when nobody works on it."""
        row = await self._database.fetchrow(self._sql["claim"], self.lease)
        return None if row is None else _lease(row)

    async def renew(self, lease: RebuildLease) -> bool:
        """Another lease time; False when somebody else has it now."""
        return bool(await self._database.fetch(self._sql["renew"], lease.token, self.lease))

    async def release(self, lease: RebuildLease) -> None:
        """Give it back as it is."""
        await self._database.fetch(self._sql["release"], lease.token)

    async def begin(self, lease: RebuildLease, fresh: str) -> RebuildLease:
        """Fill this index from the first page on, and note every change from now on."""

        async def work(connection: Connection) -> RebuildLease:
            await connection.execute(self._sql["forget_changes"])
            return await self._written(connection, "begin", lease, fresh)

        return await self._database.transact(work)

    async def next_pages(self, lease: RebuildLease, limit: int, size: int) -> Change:
        """The next pages to fill, as they are now: at most `size` bytes of text, but one page."""
        rows = await self._database.fetch(self._sql["next_pages"], lease.last_page, limit, size)
        return await self._outbox.change([row["id"] for row in rows])

    async def advance(
        self, lease: RebuildLease, filled: Change, *, rejected: Sequence[tuple[int, str]]
    ) -> RebuildLease:
        """The fresh index has these pages. `rejected` ones keep the index's reason."""
        ids = [entry.id for entry in filled.entries]
        last = max((*ids, *filled.deleted))

        async def work(connection: Connection) -> RebuildLease:
            taken, refused = len(ids) - len(rejected), len(rejected)
            moved = await self._written(connection, "advance", lease, last, taken, refused)
            await mark(connection, ids, rejected)
            return moved

        return await self._database.transact(work)

    async def last_change(self) -> int:
        """Where the changes end now, for `changes`."""
        return int(await self._database.fetchval(self._sql["last_change"]))

    async def changes(self, upto: int, limit: int, size: int) -> Changes | None:
        """The oldest changes up to there, the pages as they are now; None when there are none."""
        rows = await self._database.fetch(self._sql["changes"], upto, limit, size)
        if not rows:
            return None
        change = await self._outbox.change({row["page_id"] for row in rows})
        return Changes(tuple(row["seq"] for row in rows), change)

    async def settle(
        self, lease: RebuildLease, changes: Changes, *, rejected: Sequence[tuple[int, str]]
    ) -> None:
        """The fresh index has these changes."""

        async def work(connection: Connection) -> None:
            if not await connection.fetch(self._sql["is_ours"], lease.token):
                raise _lost(lease)
            await connection.execute(self._sql["drop_changes"], list(changes.seqs))
            await mark(connection, [entry.id for entry in changes.change.entries], rejected)

        await self._database.transact(work)

    async def close_gate(self, lease: RebuildLease) -> RebuildLease:
        """From now on nothing is leased from the outbox."""

        async def work(connection: Connection) -> RebuildLease:
            await connection.execute(statements("outbox")["one_at_a_time"])
            return await self._written(connection, "close_gate", lease)

        return await self._database.transact(work)

    async def quiet(self) -> bool:
        """Whether nothing of the outbox is leased any more; expired leases are freed."""
        await self._database.fetch(self._sql["free_expired"])
        return not await self._database.fetchval(self._sql["leased"])

    async def swapped(self, lease: RebuildLease) -> RebuildLease:
        """It has the live one's place; the gate is open again."""

        async def work(connection: Connection) -> RebuildLease:
            moved = await self._written(connection, "swapped", lease)
            await connection.execute(self._sql["forget_changes"])
            return moved

        return await self._database.transact(work)

    async def finish(self, lease: RebuildLease) -> None:
        """All is done."""
        await self._database.fetch(self._sql["finish"], lease.token, RebuildState.DONE, "")

    async def fail(self, lease: RebuildLease, error: str) -> None:
        """It cannot be done; the live index stays, and the gate is open again."""

        async def work(connection: Connection) -> None:
            if await connection.fetch(
                self._sql["finish"], lease.token, RebuildState.FAILED, storable(error)
            ):
                await connection.execute(self._sql["forget_changes"])

        await self._database.transact(work)

    async def _written(
        self, connection: Connection, name: str, lease: RebuildLease, *values: Any
    ) -> RebuildLease:
        row = await connection.fetchrow(self._sql[name], lease.token, *values)
        if row is None:
            raise _lost(lease)
        return _lease(row)


def _lost(lease: RebuildLease) -> LeaseLost:
    return LeaseLost(f"Rebuild {lease.id} of the index is somebody else's now")


def _lease(row: asyncpg.Record) -> RebuildLease:
    return RebuildLease(
        row["id"], row["token"], RebuildState(row["state"]), row["fresh"], row["last_page"]
    )
