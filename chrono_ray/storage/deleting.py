"""Deleting: a project in chunks that each commit, and payloads that nothing refers to.

Every call is safe to repeat: it deletes what is still there. Nothing of
another project is touched, and no payload that another project refers to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import asyncpg

from chrono_ray.storage.backups import LOCK as BACKUP
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.restoring import refuse_unfinished

CHUNK: Final = 2_000
SCANNED: Final = 50_000
BARRIER_TIMEOUT: Final = "2s"


class Remainder(StrEnum):
    """What is left of a project when its captures and pages are gone, in the order it goes."""

    HOSTS = "drop_hosts"
    SLICES = "drop_slices"
    RUNS = "drop_runs"
    DOMAINS = "drop_domains"


CHUNKS: Final = {Remainder.RUNS: 20, Remainder.DOMAINS: 200}
"""Smaller where a row takes others with it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """One chunk: how many rows went, and the key to go on behind. The last one has none."""

    rows: int
    archive: str
    key: bytes


class IdSet:
    """Row ids as bits: a hundred million of them take 12 MiB."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, ids: Collection[int]) -> None:
        if ids and max(ids) >= len(self._bits) * 8:
            self._bits.extend(bytes(max(ids) // 8 + 1 - len(self._bits)))
        for each in ids:
            self._bits[each >> 3] |= 1 << (each & 7)

    def __contains__(self, each: int) -> bool:
        return each >> 3 < len(self._bits) and bool(self._bits[each >> 3] >> (each & 7) & 1)

    def after(self, last: int, limit: int) -> list[int]:
        """Up to `limit` members above `last`, ascending."""
        found: list[int] = []
        for place in range(max(last + 1, 0) >> 3, len(self._bits)):
            if self._bits[place]:
                here = range(place << 3, (place << 3) + 8)
                found += [each for each in here if each > last and each in self]
            if len(found) >= limit:
                break
        return found[:limit]


class Deleting:
    """Takes rows out of the record."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("deleting")

    async def forget_intentions(self, project_id: int) -> None:
        """Its schedules, and what is to be decided anew: nothing of it begins by itself."""
        await self._database.fetch(self._sql["forget_intentions"], project_id)

    async def unfinished_runs(self, project_id: int) -> list[int]:
        """Runs that list or fetch, or still could."""
        rows = await self._database.fetch(self._sql["unfinished_runs"], project_id)
        return [row["id"] for row in rows]

    async def listed(self, project_id: int) -> int:
        """How many captures it has, by the counters."""
        return int(await self._database.fetchval(self._sql["listed"], project_id))

    async def holds_captures(self, project_id: int) -> bool:
        return bool(await self._database.fetchval(self._sql["holds_captures"], project_id))

    async def drop_work(self, project_id: int) -> int:
        """A chunk of what is queued, leased or parked, with its fetches."""
        return len(await self._database.fetch(self._sql["drop_work"], project_id, CHUNK))

    async def work_left(self, project_id: int) -> bool:
        """Whether anything is queued, leased or parked. False is final once all runs ended."""
        return bool(await self._database.fetchval(self._sql["work_left"], project_id))

    async def domains(self, project_id: int) -> list[int]:
        rows = await self._database.fetch(self._sql["domains"], project_id)
        return [row["id"] for row in rows]

    async def drop_pages(self, domain_id: int, after: int) -> tuple[int, int]:
        """A chunk of a domain's pages, told to the index; how many, and the last one's id."""
        row = await self._database.fetchrow(self._sql["drop_pages"], domain_id, after, CHUNK)
        return (row["n"], row["last"] or 0) if row else (0, 0)

    async def drop_captures(self, domain_id: int, after: Dropped | None) -> Dropped | None:
        """A chunk of a domain's captures behind another; None when there were none."""
        archive, key = (after.archive, after.key) if after else ("", b"")
        row = await self._database.fetchrow(
            self._sql["drop_captures"], domain_id, archive, key, CHUNK
        )
        return Dropped(row["n"], row["archive"], row["key"]) if row else None

    async def drop_fetches(self, project_id: int, after: bytes) -> tuple[bytes, list[int]]:
        """A chunk of fetches behind a key: the last one's key (empty: none left), and payloads."""
        rows = await self._database.fetch(self._sql["drop_fetches"], project_id, after, CHUNK)
        payloads = [row["payload_id"] for row in rows if row["payload_id"] is not None]
        return (rows[-1]["share_key"] if rows else b""), payloads

    async def drop_listings(self, project_id: int) -> list[bytes]:
        """A chunk of kept listing pages; the SHA-256 of what the archive answered."""
        rows = await self._database.fetch(self._sql["drop_listings"], project_id, CHUNK)
        return [row["raw"] for row in rows]

    async def drop_remainder(self, project_id: int, what: Remainder) -> int:
        """A chunk of what is left; how many rows went."""
        rows = await self._database.fetch(self._sql[what], project_id, CHUNKS.get(what, CHUNK))
        return len(rows)

    async def drop_project(self, project_id: int) -> None:
        """The project's own row, and with it its name."""
        await self._database.fetch(self._sql["drop_project"], project_id)

    async def payload_mark(self) -> datetime | None:
        """A moment: what settles put until then is seen by `referenced`, the rest is newer.

        None when a settle under way did not end within two seconds: ask again.
        """

        async def work(connection: Connection) -> datetime:
            await connection.execute(f"SET LOCAL lock_timeout = '{BARRIER_TIMEOUT}'")
            await connection.execute(self._sql["barrier"])
            moment: datetime = await connection.fetchval(self._sql["mark"])
            return moment

        try:
            return await self._database.transact(work)
        except asyncpg.LockNotAvailableError:
            return None

    async def now(self) -> datetime:
        """The server's clock."""
        moment: datetime = await self._database.fetchval(self._sql["now"])
        return moment

    async def referenced(self, after: int) -> tuple[int, list[int]]:
        """Payloads of the fetches behind an id, and how far this look went (0: to the end)."""
        row = await self._database.fetchrow(self._sql["referenced"], after, SCANNED)
        return (row["last"], row["payloads"] or []) if row else (0, [])

    async def payloads_older(self, after: int, before: datetime) -> list[int]:
        """A chunk of payload ids behind one, last put before that moment."""
        rows = await self._database.fetch(self._sql["payloads_older"], after, before, CHUNK)
        return [row["id"] for row in rows]

    async def drop_payloads(self, ids: Sequence[int], before: datetime) -> list[bytes]:
        """Payload rows with their documents, unless put since that moment; their SHA-256."""

        async def work(connection: Connection) -> list[bytes]:
            locked = await connection.fetch(self._sql["lock_payloads"], list(ids), before)
            dying = [row["id"] for row in locked]
            await connection.execute(self._sql["drop_documents"], dying)
            rows = await connection.fetch(self._sql["drop_payloads"], dying)
            return [row["sha256"] for row in rows]

        return await self._database.transact(work)

    async def may_forget_bytes(self) -> bool:
        """Whether no backup copies what its snapshot names.

        One that begins after a yes takes its snapshot later: what had no row before this
        was asked is not named there.
        """
        return bool(await self._database.fetchval(self._sql["may_forget_bytes"], BACKUP))

    async def unnamed(self, digests: Sequence[bytes]) -> list[bytes]:
        """Those of these bytes that no row names.

        Raises `Conflict` for a record that is not whole since a restore.
        """
        await refuse_unfinished(self._database)
        rows = await self._database.fetch(self._sql["named"], list(digests))
        named = {row["sha256"] for row in rows}
        return [each for each in digests if each not in named]
