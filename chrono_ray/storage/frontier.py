"""The frontier: fetches are claimed in batches, renewed, settled, released and rescued.

A batch is fenced by one fresh token. Whatever is written says the token; what
another worker took over meanwhile is left alone. PostgreSQL's clock only.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.priority import is_late
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.governor import HORIZON, LONGEST_WAIT, Slot, slot
from chrono_ray.storage.schedules import Schedules

LEASE: Final = timedelta(seconds=60)
CRASHES: Final = 3
"""A fetch whose worker died this often while it was leased alone ends in failed(crashed)."""

FOLDED_MOST: Final = 50_000
"""Changes of totals that one sweep folds in."""


@dataclass(frozen=True, slots=True)
class FetchLease:
    """One fetch, ours while the token holds, with leave for one request.

    `late`: its first tries failed while others waited; it may take longer now.
    """

    fetch_id: int
    run_id: int
    capture_id: int
    archive: str
    capture: Capture
    attempt: int
    alone: bool
    late: bool
    token: UUID
    slot: Slot


@dataclass(frozen=True, slots=True)
class Claimed:
    leases: tuple[FetchLease, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No fetch may be leased now; ask again after `wait` seconds. `silent`: an archive waits."""

    wait: float
    silent: bool


@dataclass(frozen=True, slots=True)
class Condemned:
    """A fetch that killed its workers: leased to the rescuer, to be settled as failed(crashed)."""

    fetch_id: int
    run_id: int
    capture_id: int
    token: UUID


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did."""

    rescued: int
    condemned: tuple[Condemned, ...]
    finished_runs: tuple[int, ...]


class Frontier:
    """The queue of wanted payloads as one worker sees it."""

    def __init__(
        self,
        database: Database,
        *,
        worker: str,
        egress: str,
        archives: Collection[str],
        lease: timedelta = LEASE,
    ) -> None:
        """`archives` are those this worker can ask: it never leases another's fetches."""
        self._archives = sorted(archives)
        self._database = database
        self._worker = worker
        self._egress = egress
        self._lease = lease
        self._sql = statements("frontier")
        self._schedules = Schedules(database)

    async def claim(
        self, wanted: int, *, idle: float, token: UUID | None = None
    ) -> Claimed | Nothing:
        """Up to `wanted` fetches, classes mixed by ticket, each with its slot.

        Fetches that lost their workers more than once come in batches of
        their own, few or one (`alone`): do nothing else while these are in
        work. `idle` is the wait in seconds when there is simply nothing to
        do. Should the answer be lost, whoever chose the `token` can give back
        what it names.
        """
        asked = time.monotonic()
        rows = await self._database.fetch(
            self._sql["claim"],
            self._worker, self._egress, wanted, self._lease, HORIZON, self._archives,
            token or uuid4(),
        )  # fmt: skip
        answered = time.monotonic()
        if rows[0]["fetch_id"] is None:
            wait = rows[0]["delay"]
            if wait is None:
                return Nothing(idle, silent=False)
            return Nothing(min(max(wait, 0.01), LONGEST_WAIT), silent=wait > 0)
        return Claimed(tuple(_lease(row, asked, answered) for row in rows))

    async def renew(self, tokens: Sequence[UUID]) -> set[int]:
        """Another lease time for these batches; returns the fetches that are still ours."""
        rows = await self._database.fetch(self._sql["renew"], list(tokens), self._lease)
        return {row["fetch_id"] for row in rows}

    async def halted(self, run_ids: Sequence[int]) -> set[int]:
        """Which of these runs are paused, cancelled or done: send nothing more for them."""
        rows = await self._database.fetch(self._sql["halted_runs"], list(run_ids))
        return {row["id"] for row in rows}

    async def release(self, leases: Sequence[FetchLease]) -> None:
        """Give unused leases back as they were; no attempt is charged."""
        if leases:
            await self._database.fetch(
                self._sql["release"],
                [lease.fetch_id for lease in leases],
                [lease.token for lease in leases],
            )

    async def give_back(self, token: UUID) -> None:
        """The batch of a claim whose answer was lost, if it brought one; no attempt is charged."""
        rows = await self._database.fetch(self._sql["leased_under"], token)
        ids = [row["fetch_id"] for row in rows]
        if ids:
            await self._database.fetch(self._sql["release"], ids, [token] * len(ids))

    async def sweep(self, *, rescue: bool = True) -> Swept:
        """What must happen without anybody asking: rescue, unpark, take over, finish, fold totals.

        Any number of workers may sweep at once. What it returns as condemned
        is leased to the caller, who settles it.
        """
        rescued, condemned = await self._rescue() if rescue else (0, ())
        await self._database.fetch(self._sql["unpark"])
        await self._take_over(from_active=rescue)
        await self._database.transact(self._refresh_hints)
        finished = await self._database.transact(self._finish)
        finished += await self._database.fetch(self._sql["finish_plans"])
        await self._database.fetch(self._sql["fold_totals"], FOLDED_MOST)
        return Swept(rescued, condemned, tuple(row["id"] for row in finished))

    async def begin_due(self) -> tuple[int, ...]:
        """Begin the schedules that are due; returns the first run of each."""
        return await self._schedules.start_due()

    async def be_seen(self) -> None:
        """Say that these archives can be asked from here: what nobody says of is not waited for."""
        await self._database.fetch(self._sql["be_seen"], self._egress, self._archives)

    async def _take_over(self, *, from_active: bool) -> None:
        """What waits under a run that does not run, or for an archive that is silent, moves.

        So does what waits for an archive that nobody can ask, `from_active`
        runs: while the record was away nobody could say what can be asked.
        """
        waiting = await self._database.fetch(self._sql["waiting"], from_active)
        if waiting:
            ids = [row["id"] for row in waiting]
            await self._database.fetch(self._sql["take_over"], ids, from_active)
        if await self._database.fetch(self._sql["silenced"]):
            await self._database.fetch(self._sql["turn_aside"])

    async def _refresh_hints(self, connection: Connection) -> None:
        ids = [row["id"] for row in await connection.fetch(self._sql["lock_stale_hints"])]
        if ids:
            await connection.execute(self._sql["refresh_hints"], ids)

    async def _finish(self, connection: Connection) -> list[asyncpg.Record]:
        ids = [row["id"] for row in await connection.fetch(self._sql["lock_finishable"])]
        return list(await connection.fetch(self._sql["finish_runs"], ids)) if ids else []

    async def cancelled(self, limit: int) -> tuple[Condemned, ...]:
        """Up to `limit` fetches that cancelled runs still have queued, leased to the caller."""
        token = uuid4()
        rows = await self._database.fetch(self._sql["lease_cancelled"], token, self._worker, limit)
        return tuple(_condemned(row, token) for row in rows)

    async def _rescue(self) -> tuple[int, tuple[Condemned, ...]]:
        token = uuid4()

        async def work(connection: Connection) -> tuple[int, tuple[Condemned, ...]]:
            rows = await connection.fetch(self._sql["rescue"], CRASHES)
            guilty = [row for row in rows if row["condemned"]]
            leased = await connection.fetch(
                self._sql["lease_condemned"],
                [row["fetch_id"] for row in guilty], [row["run_id"] for row in guilty],
                [row["capture_id"] for row in guilty], token, self._worker, CRASHES,
            )  # fmt: skip
            return len(rows), tuple(_condemned(row, token) for row in leased)

        return await self._database.transact(work)


def _condemned(row: asyncpg.Record, token: UUID) -> Condemned:
    return Condemned(row["fetch_id"], row["run_id"], row["capture_id"], token)


def _lease(row: asyncpg.Record, asked: float, answered: float) -> FetchLease:
    capture = Capture(
        urlkey=row["urlkey"], timestamp=Timestamp14(row["ts"]), original=row["original"],
        mimetype=row["mimetype"], statuscode=row["statuscode"], digest=row["digest"],
        locator=row["locator"],
    )  # fmt: skip
    return FetchLease(
        fetch_id=row["fetch_id"], run_id=row["run_id"], capture_id=row["capture_id"],
        archive=row["archive"], capture=capture, attempt=row["attempts"] + 1, alone=row["alone"],
        late=is_late(row["order_key"]), token=row["token"],
        slot=slot(row["delay"], row["step"], asked=asked, answered=answered),
    )  # fmt: skip
