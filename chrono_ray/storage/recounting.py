"""Counters and pages' numbers, recounted from the rows and mended where they differ.

A transaction is about one run, or so many pages: safe while all else runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import asyncpg

from chrono_ray.storage.database import Connection, Database, statements

RECOUNT_SECONDS: Final = 600.0
"""A run of ten million captures takes a minute or two."""
PAGES_AT_ONCE: Final = 1_000
FETCHES_AT_ONCE: Final = 200_000


@dataclass(frozen=True, slots=True)
class WrongCounter:
    run_id: int
    state: str
    reason: str
    says: int
    counted: int


@dataclass(frozen=True, slots=True)
class WrongPage:
    """A page whose numbers are not its captures'. `id` is None where there is none but should be;
    `counted` is 0 where there should be none."""

    id: int | None
    project_id: int
    url_id: bytes
    payload_id: int
    says: int
    counted: int


class Recounting:
    """Reads rows, writes numbers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("repair")
        self._verify = statements("verify")

    async def runs_after(self, last: int) -> list[int]:
        """The next thousand runs."""
        return [row["id"] for row in await self._database.fetch(self._sql["runs"], last)]

    async def counters(self, run_id: int, *, mend: bool) -> list[WrongCounter]:
        """The counters of a run that its rows contradict, as they were before mending."""
        last = self._sql["mend_counters" if mend else "tell_counters"]
        statement = self._sql["wrong_counters"].replace("{states}", self._verify["states"])

        async def work(connection: Connection) -> list[WrongCounter]:
            await connection.execute(self._sql["one_recount"], str(run_id))
            rows = await connection.fetch(f"{statement}\n{last}", run_id, timeout=RECOUNT_SECONDS)
            return [WrongCounter(run_id, *row) for row in rows]

        return await self._database.transact(work)

    async def pages(self, run_id: int) -> list[WrongPage]:
        """Up to a thousand pages of a run's captures with wrong numbers."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                self._verify["wrong_pages"], run_id, PAGES_AT_ONCE, timeout=RECOUNT_SECONDS
            )
        return [_wrong(row, row["page_id"], row["n"]) for row in rows]

    async def orphans_after(self, last: int) -> tuple[list[WrongPage], int] | None:
        """Among the next pages by id those without any capture, and the last id looked at."""
        rows = await self._database.fetch(self._sql["orphans_after"], last, PAGES_AT_ONCE)
        if not rows:
            return None
        found = [_wrong(row, row["id"], 0) for row in rows if row["id"] is not None]
        return found, rows[0]["last_id"]

    async def mend_pages(self, wrong: Sequence[WrongPage]) -> None:
        """Write these pages' numbers, make those that are missing, drop those without a capture.

        The index hears of each.
        """
        keys = (
            [page.project_id for page in wrong], [page.url_id for page in wrong],
            [page.payload_id for page in wrong],
        )  # fmt: skip

        async def work(connection: Connection) -> None:
            await connection.execute(self._sql["lock_pages"], *keys)
            mended = await connection.fetch(self._sql["mend_pages"], *keys)
            await connection.execute(self._sql["note_mended"], [row["page_id"] for row in mended])

        await self._database.transact(work)

    async def totals(self, *, mend: bool) -> int:
        """How many totals of projects, domains and runs their rows contradict, before mending.

        Costs a walk over every capture.
        """
        asked = self._sql["mend_totals" if mend else "wrong_totals"]
        async with self._database.connection() as connection:
            return int(await connection.fetchval(asked, timeout=RECOUNT_SECONDS))

    async def put_back_stranded(self) -> int:
        """Queue the fetches that wait and stand in no queue; returns how many there were."""
        newest = await self._database.fetchval("SELECT coalesce(max(id), 0) FROM fetches")
        found = 0
        for start in range(0, newest, FETCHES_AT_ONCE):
            found += await self._database.transact(partial(self._stranded, start))
        return found

    async def _stranded(self, start: int, connection: Connection) -> int:
        await connection.execute(self._sql["one_rescue"])
        return len(await connection.fetch(self._sql["stranded"], start, start + FETCHES_AT_ONCE))


def _wrong(row: asyncpg.Record, page_id: int | None, counted: int) -> WrongPage:
    return WrongPage(
        page_id, row["project_id"], row["url_id"], row["payload_id"], row["captures"] or 0, counted
    )
