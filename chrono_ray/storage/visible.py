"""What somebody may see of runs: the right to it and the rows by one statement each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import orjson

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import CapturePriority, QueueClass
from chrono_ray.storage.control import NOT_AGAIN, Again, Retried, bounds
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.projects import Goal, RunState, check_writes
from chrono_ray.storage.stats import PageCounts, Progress, progress_of

HOLES_SHOWN: Final = 100
CLASSES: Final = tuple(QueueClass)


@dataclass(frozen=True, slots=True)
class Hole:
    """A part of a listing that could not be had; `start` and `end` have 14 digits, or none."""

    slice_id: int
    start: str
    end: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ArchiveHole:
    """A hole, and in which archive's listing it is."""

    archive: str
    hole: Hole


@dataclass(frozen=True, slots=True)
class RunPlace:
    """What a run is about. `first` is the run that stands for its collection, or itself."""

    first: int
    project_id: int
    domain_id: int
    scope: Scope
    queue_class: QueueClass
    goal: Goal
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A run's progress, or that of a collection's runs, most preferred archive first.

    `holes` are the first of each; the progress says how many there are.
    """

    parts: tuple[Progress, ...]
    holes: tuple[Hole, ...]
    pages: PageCounts
    place: RunPlace


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are listed; None is any."""

    project_id: int | None = None
    domain_id: int | None = None
    state: RunState | None = None
    archive: str | None = None


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One run, alone, whatever it stands with. `pages` it has captures of."""

    progress: Progress
    place: RunPlace
    pages: int


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """What a recount said, as JSON, and when."""

    made_at: datetime
    body: bytes


class Visible:
    """Reads. What somebody may not see is not there for them: `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("visible")

    async def run(self, run_id: int, actor: Actor) -> SeenRun:
        """A run; the first of a collection stands for all of it."""
        rows = await self._database.fetch(
            self._sql["run"], run_id, actor.user_id, actor.is_admin, HOLES_SHOWN
        )
        if not rows:
            raise no_run(run_id)
        holes = [Hole(*each) for row in rows for each in orjson.loads(row["hole_details"])]
        pages = next(row["pages"] for row in rows if row["id"] == run_id)
        return SeenRun(
            tuple(progress_of(row) for row in rows), tuple(holes),
            PageCounts(*orjson.loads(pages)), _place(rows[0]),
        )  # fmt: skip

    async def runs(
        self, actor: Actor, which: RunFilter, *, before: int | None, limit: int
    ) -> list[ListedRun]:
        """Newest first, older than run `before`; `NotFound` for no such project or domain."""
        rows = await self._database.fetch(
            self._sql["runs"],
            actor.user_id, actor.is_admin, before, which.project_id, which.domain_id,
            which.state and which.state.value, which.archive, limit,
        )  # fmt: skip
        if not rows[0]["known"]:
            raise NotFound("There is no such project or domain")
        return [
            ListedRun(progress_of(row), _place(row), row["pages"])
            for row in rows if row["id"] is not None
        ]  # fmt: skip

    async def holes(
        self, run_id: int, actor: Actor, *, after: int, limit: int
    ) -> list[ArchiveHole]:
        """Of a run, or of a collection by its first; by slice, behind slice `after`."""
        rows = await self._database.fetch(
            self._sql["holes"], run_id, actor.user_id, actor.is_admin, after, limit
        )
        if not rows:
            raise no_run(run_id)
        return [
            ArchiveHole(
                row["archive"],
                Hole(row["id"], row["start_ts"], row["end_ts"], row["reason"], row["detail"]),
            )
            for row in rows if row["id"] is not None
        ]  # fmt: skip

    async def certificate(self, run_id: int, actor: Actor) -> KeptCertificate | None:
        """What the last recount of a run said; None while there was none."""
        row = await self._database.fetchrow(
            self._sql["certificate"], run_id, actor.user_id, actor.is_admin
        )
        if row is None:
            raise no_run(run_id)
        return KeptCertificate(row["made_at"], row["body"].encode()) if row["body"] else None

    async def count_retry(self, run_id: int, actor: Actor, again: Again) -> Retried:
        """What trying again would do now, for who may: `Forbidden` for one who only reads."""
        row = await self._database.fetchrow(
            self._sql["retry_counts"],
            run_id, actor.user_id, actor.is_admin, again.fetch_states,
            sorted(again.reasons) or None, list(NOT_AGAIN), again.slice_states,
        )  # fmt: skip
        if row is None:
            raise no_run(run_id)
        check_writes(row["role"])
        counted: dict[bool, dict[tuple[str, str], int]] = {False: {}, True: {}}
        for state, reason, guilty, n in orjson.loads(row["fetches"]):
            kind = counted[guilty and not again.force]
            kind[state, reason] = kind.get((state, reason), 0) + n
        return Retried(counted[False], row["slices"], counted[True])

    async def count_matching(
        self, run_id: int, actor: Actor, where: Scope, priority: CapturePriority
    ) -> int:
        """How many waiting payloads would get this priority; `Forbidden` for one who only reads."""
        row = await self._database.fetchrow(
            self._sql["count_matching"],
            run_id, actor.user_id, actor.is_admin, priority.value, *bounds(where),
        )  # fmt: skip
        if row is None:
            raise no_run(run_id)
        check_writes(row["role"])
        return int(row["n"])


def no_run(run_id: int) -> NotFound:
    return NotFound(f"There is no run {run_id}")


def _place(row: asyncpg.Record) -> RunPlace:
    return RunPlace(
        row["first"], row["project_id"], row["domain_id"],
        Scope(row["url"], MatchType(row["match"]), row["start_ts"], row["end_ts"]),
        CLASSES[row["class"]], Goal(row["goal"]), row["finished_at"],
    )  # fmt: skip
