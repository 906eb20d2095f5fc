"""What a person changes about a run: try again, sooner or later, this one now.

Large changes go in bounded transactions: stopped anywhere, what is done is
done, and the same call again does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import asyncpg

from chrono_ray.model.errors import Conflict, InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import CapturePriority, order_key
from chrono_ray.model.selection import CHOSEN
from chrono_ray.model.urls import host_of, key_beginnings, surt
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.listings import HOST_LIMIT, url_id
from chrono_ray.storage.named import project_named
from chrono_ray.storage.settling import GUILTY_BYTES

RETRY_BATCH: Final = 1_000
WINDOW: Final = 10_000
NOT_AGAIN: Final = (*GUILTY_BYTES, "type")
"""Reasons that the bytes themselves gave: the same bytes give them again."""
UNASKED: Final = ["cancelled", "failed", "gone"]
"""How a payload may have ended that a plan, when it is started, still asks its archive for."""
FIRST_KEY: Final = order_key(CapturePriority.NOW, 0)
PLACES: Final = 3
"""How often a fetch is looked for that moves between queue, leases and parked meanwhile."""


class Retryable(StrEnum):
    """What of a run may be tried again; `hole`: parts of its listing, also those put off."""

    FAILED = "failed"
    GONE = "gone"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    HOLE = "hole"


@dataclass(frozen=True, slots=True)
class Again:
    """What is to be tried again. Empty `reasons` mean every reason; `force` even guilty bytes."""

    states: frozenset[Retryable]
    reasons: frozenset[str] = frozenset()
    force: bool = False

    @property
    def fetch_states(self) -> list[str]:
        return sorted(each.value for each in self.states - {Retryable.HOLE})

    @property
    def slice_states(self) -> list[str]:
        words = {Retryable.HOLE: "hole", Retryable.CANCELLED: "cancelled"}
        return sorted(words[each] for each in self.states & words.keys())


@dataclass(frozen=True, slots=True)
class Retried:
    """Payloads by (state, reason) that are tried again, listing parts too.

    `withheld` are those whose own bytes were to blame: only `force` asks again.
    """

    fetches: dict[tuple[str, str], int]
    slices: int
    withheld: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A capture that a person named."""

    capture_id: int
    archive: str
    timestamp: str
    original: str


@dataclass(frozen=True, slots=True)
class StoredAlready:
    """Its payload is here: nothing is sent."""

    capture: Chosen


@dataclass(frozen=True, slots=True)
class FetchedNow:
    """`run_id` fetches it before all else. `approved`: a rule had skipped it."""

    capture: Chosen
    run_id: int
    approved: bool


class Control:
    """Changes what runs do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("control")
        self._settle = statements("settle")

    # again

    async def count_retry(self, run_id: int, again: Again) -> Retried:
        """What `retry` would do now."""
        again = await self._whole(run_id, again)
        rows = await self._database.fetch(
            self._sql["retry_counts"],
            run_id, again.fetch_states, _or_none(again.reasons), list(NOT_AGAIN),
        )  # fmt: skip
        slices = await self._database.fetchval(
            self._sql["count_slices"], run_id, again.slice_states
        )
        counted: dict[bool, dict[tuple[str, str], int]] = {False: {}, True: {}}
        for row in rows:
            withheld = row["guilty"] and not again.force
            key = (row["state"], row["reason"])
            counted[withheld][key] = counted[withheld].get(key, 0) + row["n"]
        return Retried(counted[False], int(slices), counted[True])

    async def retry(self, run_id: int, again: Again) -> Retried:
        """Reopen what ended without a page; the run is active again (a paused one stays paused).

        Counters move with it. Captures that were given up may be tried again.
        A cancelled run gets back what its cancelling ended, asked for or not,
        and goes on with what it had not ended yet.
        Safe to repeat: what is pending already is left alone. `Conflict` while
        the project is being deleted.
        """
        project_id = await self._database.fetchval(self._sql["project_of"], run_id)
        self._refuse(await self._database.fetchval(self._sql["being_deleted"], project_id))
        again = await self._whole(run_id, again)
        told = await self.count_retry(run_id, again)
        await self._database.fetch(self._sql["reopen_slices"], run_id, again.slice_states)
        await self._database.fetch(self._sql["go_on"], run_id)
        ends = await self._database.fetchrow(self._sql["retry_bounds"], run_id)
        if ends is None or ends["first"] is None:
            return told
        after = ends["first"]
        while ids := await self._to_retry(run_id, again, after, ends["last"]):
            await self._reopen(run_id, again, ids)
            after = ids[-1] + 1
        return told

    def _refuse(self, task_id: int | None) -> None:
        if task_id is not None:
            raise Conflict(
                "Its project is being deleted", why=f"by task {task_id}", code="project_deleting"
            )

    async def _whole(self, run_id: int, again: Again) -> Again:
        """A run that is active again holds nothing that was cancelled."""
        cancelled = await self._database.fetchval(self._sql["is_cancelled"], run_id)
        states = again.states | {Retryable.CANCELLED} if cancelled else again.states
        return replace(again, states=states)

    async def _to_retry(self, run_id: int, again: Again, first: int, last: int) -> list[int]:
        rows = await self._database.fetch(
            self._sql["retry_ids"],
            run_id, again.fetch_states, _or_none(again.reasons), list(NOT_AGAIN),
            first, last, again.force, RETRY_BATCH,
        )  # fmt: skip
        return [row["id"] for row in rows]

    async def _reopen(self, run_id: int, again: Again, ids: Sequence[int]) -> None:
        async def work(connection: Connection) -> None:
            locked = await connection.fetch(self._sql["lock_ended"], ids, again.fetch_states)
            chosen = await connection.fetch(
                self._sql["chosen_captures"], [row["id"] for row in locked], run_id
            )
            if chosen:
                ids_again = [row["fetch_id"] for row in chosen]
                await connection.execute(self._sql["forgive"], ids_again)
                await self._as_pending(connection, chosen, run_id)
                await self._enqueue(connection, chosen, run_id)

        await self._database.transact(work)

    async def open_unasked(self, run_id: int) -> None:
        """Reopen what ended while a plan stood though its archive was never asked.

        Before the plan is started; safe to repeat. For any other run it does nothing.
        """
        rows = await self._database.fetch(self._sql["unasked"], run_id, list(GUILTY_BYTES))
        ids = [row["id"] for row in rows]
        for first in range(0, len(ids), RETRY_BATCH):
            await self._reopen_unasked(run_id, ids[first : first + RETRY_BATCH])

    async def _reopen_unasked(self, run_id: int, ids: Sequence[int]) -> None:
        async def work(connection: Connection) -> None:
            locked = await connection.fetch(self._sql["lock_ended"], ids, UNASKED)
            chosen = await connection.fetch(
                self._sql["chosen_captures"], [row["id"] for row in locked], run_id
            )
            if chosen:
                await self._as_pending(connection, chosen, run_id)
                await self._enqueue(connection, chosen, run_id)

        await self._database.transact(work)

    async def _enqueue(
        self, connection: Connection, chosen: Sequence[asyncpg.Record], run_id: int
    ) -> None:
        await connection.execute(
            self._sql["enqueue"],
            run_id, [row["fetch_id"] for row in chosen], [row["capture_id"] for row in chosen],
            [host_of(row["original"])[:HOST_LIMIT] for row in chosen],
        )  # fmt: skip

    async def _as_pending(
        self, connection: Connection, chosen: Sequence[asyncpg.Record], run_id: int
    ) -> None:
        """Ended fetches (locked) are pending again; their captures no longer count as ended."""
        ids = [row["fetch_id"] for row in chosen]
        await connection.execute(self._settle["count_captures"], ids, -1, None)
        await connection.execute(
            self._settle["reopen"], ids, [row["capture_id"] for row in chosen], run_id
        )

    # sooner or later

    async def count_matching(
        self, run_ids: Sequence[int], where: Scope, priority: CapturePriority
    ) -> int:
        """How many waiting payloads `prioritise` would move now."""
        return sum(
            [
                await self._database.fetchval(
                    self._sql["count_matching"], run_id, priority.value, *bounds(where)
                )
                for run_id in run_ids
            ]
        )

    async def prioritise(
        self, run_ids: Sequence[int], where: Scope, priority: CapturePriority
    ) -> int:
        """Set the priority of waiting payloads with a capture there; returns how many moved.

        What is in work, has ended, or waits for its second pass stays as it is.
        """
        if priority is CapturePriority.LATE:
            raise InvalidInput("The second pass is no priority", fix="now, high, normal or low")
        return sum([await self._prioritise(each, where, priority) for each in run_ids])

    async def _prioritise(self, run_id: int, where: Scope, priority: CapturePriority) -> int:
        chosen = (run_id, priority.value, *bounds(where))
        moved = int(await self._database.fetchval(self._sql["set_band_parked"], *chosen))
        low, end = order_key(CapturePriority.NOW, 0), order_key(CapturePriority.LATE, 0)
        while low < end:
            beyond = await self._database.fetchval(self._sql["next_window"], run_id, low, WINDOW)
            high = end if beyond is None else min(max(beyond, low + 1), end)
            moved += await self._database.fetchval(self._sql["set_band"], *chosen, low, high)
            low = high
        return moved

    # this one now

    async def find_capture(
        self, project: str, url: str, *, start: str, end: str, archive: str
    ) -> int:
        """The id of the capture of a URL in a stretch of time; `NotFound` when none is listed.

        Where several are, one spelled exactly so and a page before an event.
        """
        project_id = await project_named(self._database, project)
        found = await self._database.fetchval(
            self._sql["find_capture"], project_id, url_id(surt(url)), url, start, end, archive
        )
        if found is None:
            raise NotFound(
                f"No listed capture of {url} in project {project!r} is of that time",
                fix="List it first: chrono run URL --match exact",
            )
        return int(found)

    async def fetch_now(self, capture_id: int) -> StoredAlready | FetchedNow:
        """Have one capture fetched before all else, by a run of its own.

        What a rule skipped is approved, what had ended is tried again, what
        waits is taken over. Asked again while it is under way, it is the same
        run. `NotFound` when there is no such capture, `Conflict` while its
        project is being deleted.
        """
        row = await self._database.fetchrow(
            self._sql["fetch_now"], capture_id, CHOSEN, FIRST_KEY
        )  # fmt: skip
        if row is None:
            raise NotFound(f"There is no capture {capture_id}")
        self._refuse(row["task"])
        chosen = Chosen(row["id"], row["archive"], row["ts"], row["original"])
        if row["run"] is None:
            return StoredAlready(chosen)
        return FetchedNow(chosen, row["run"], row["approved"])


def bounds(where: Scope) -> tuple[list[str], str, str]:
    """What keys begin with, first and last second. Keys hold no blank: it ends an exact one."""
    keys = list(key_beginnings(where.url, where.match)) if where.url else [""]
    if where.url and where.match is MatchType.EXACT:
        keys = [f"{key} " for key in keys]
    return keys, where.start or "0", where.end or "9" * 14


def _or_none(reasons: frozenset[str]) -> list[str] | None:
    return sorted(reasons) or None
