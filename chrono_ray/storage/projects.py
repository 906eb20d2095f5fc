"""Projects, what they collect, and the runs that collect it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import asyncpg
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chrono_ray.model.accounts import Actor, ProjectRole
from chrono_ray.model.errors import Conflict, Forbidden, InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.named import named_or_new, project_named
from chrono_ray.storage.tables import domains, projects, runs

NAME_LIMIT: Final = 200
WEIGHT_MOST: Final = 1000
OVERLAP_MOST: Final = timedelta(days=3660)


class RunState(StrEnum):
    """`active` is listing and fetching; the others send nothing. `planned`: listed, not begun."""

    ACTIVE = "active"
    PLANNED = "planned"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class Goal(StrEnum):
    """What a run is for: list and decide only; list and fetch; fetch what a person chose."""

    PLAN = "plan"
    COLLECT = "collect"
    FETCH = "fetch"


LEGAL: Final[dict[RunState, frozenset[RunState]]] = {
    RunState.ACTIVE: frozenset({RunState.PAUSED, RunState.CANCELLED}),
    RunState.PLANNED: frozenset({RunState.CANCELLED}),
    RunState.PAUSED: frozenset({RunState.ACTIVE, RunState.CANCELLED}),
    RunState.CANCELLED: frozenset(),
    RunState.DONE: frozenset(),
}
"""What a person may change; `done` is reached by the work itself."""

INSTEAD: Final = {
    RunState.ACTIVE: "It goes on by itself: chrono status",
    RunState.PLANNED: "Fetch it: chrono start. Drop it: chrono cancel",
    RunState.PAUSED: "Go on: chrono resume",
    RunState.CANCELLED: "Collect it again: chrono run. What failed or was cancelled: chrono retry",
    RunState.DONE: "Nothing is left to stop. Collect it again: chrono run",
}
"""What a person may do with a run that cannot become what was asked."""

ANYBODYS: Final = (None, True)
"""Who asks, where it is the command at the machine: nobody's user, and an admin."""


@dataclass(frozen=True, slots=True)
class Collection:
    """What a person asks for: a scope, and the archives to have it from, most preferred first.

    `since` is for a repeated collection: only what each archive has added since
    the newest capture that finished runs listed there, less so much overlap,
    because archives add captures late. `project` is the id of one that there is,
    or a name as it is typed here: one is made where it means none.
    """

    scope: Scope
    project: str | int
    archives: tuple[str, ...]
    queue_class: QueueClass = QueueClass.SCRAPING
    since: timedelta | None = None
    goal: Goal = Goal.COLLECT


@dataclass(frozen=True, slots=True)
class Begun:
    """A collection's runs, one an archive in its order. `joined`: they were under way already."""

    run_ids: tuple[int, ...]
    joined: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One collection of one domain from one archive."""

    id: int
    project: str
    scope: Scope
    archive: str
    state: RunState
    created_at: datetime
    finished_at: datetime | None


class Projects:
    """Creates and changes what is collected.

    A name is unique for its owner, a domain inside its project.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("runs")

    async def start_run(
        self,
        scope: Scope,
        *,
        project: str,
        archive: str,
        queue_class: QueueClass,
        goal: Goal = Goal.COLLECT,
    ) -> int:
        """Create a run with its slices, and its project and domain where they are missing."""
        check_name(project)
        row = await self._database.fetchrow(
            self._sql["start"],
            *id_or_name(await named_or_new(self._database, project)),
            scope.url, scope.match.value, scope.start, scope.end, archive,
            number_of(queue_class), goal.value,
        )  # fmt: skip
        return int(placed(row, project)["run"])

    async def begin(self, wanted: Collection) -> Begun:
        """Start a collection, or join one of exactly this that is not finished: it goes on then.

        Its runs stand together: what is done to the first is done to all.
        `NotFound` for a project's id that there is not, `Conflict` while it is being deleted.
        """
        check_project(wanted.project)
        meant = replace(wanted, project=await named_or_new(self._database, wanted.project))
        return await self._database.transact(lambda c: self.begin_on(c, meant))

    async def begin_on(
        self, connection: Connection, wanted: Collection, *, by: Actor | None = None
    ) -> Begun:
        """`begin` by one statement, in the transaction of whoever asks: an actor if they may."""
        check_project(wanted.project)
        check_overlap(wanted.since)
        scope = wanted.scope
        row = await connection.fetchrow(
            self._sql["begin"],
            *id_or_name(wanted.project), scope.url, scope.match.value, scope.start, scope.end,
            list(wanted.archives), wanted.since, number_of(wanted.queue_class), wanted.goal.value,
            by and by.user_id, bool(by and by.is_admin),
        )  # fmt: skip
        found = placed(row, wanted.project, role=row["role"])
        return Begun(tuple(found["run_ids"]), joined=found["joined"])

    async def domain(self, scope: Scope, *, project: str | int) -> int:
        """The id of a domain, which comes into being with its project where it is missing."""
        check_project(project)
        meant = await named_or_new(self._database, project)
        row = await self._database.fetchrow(
            self._sql["place"], *id_or_name(meant), scope.url, scope.match.value
        )
        return int(placed(row, project)["domain"])

    async def together(self, run_id: int) -> tuple[int, ...]:
        """The runs that are meant with this one: all of its collection when it is their first.

        In the order of preference; `NotFound` when there is no such run.
        """
        async with self._database.begin() as connection:
            found = await _members(connection, run_id)
        if not found:
            raise _unknown(run_id)
        return found

    async def run(self, run_id: int) -> Run:
        """One run; `NotFound` when there is none."""
        async with self._database.begin() as connection:
            row = (
                await connection.execute(
                    select(runs, domains.c.url, domains.c.match, projects.c.name)
                    .join(domains, domains.c.id == runs.c.domain_id)
                    .join(projects, projects.c.id == runs.c.project_id)
                    .where(runs.c.id == run_id)
                )
            ).one_or_none()
        if row is None:
            raise _unknown(run_id)
        scope = Scope(row.url, MatchType(row.match), row.start_ts, row.end_ts)
        return Run(
            run_id, row.name, scope, row.archive, RunState(row.state), row.created_at,
            row.finished_at,
        )  # fmt: skip

    async def recent_runs(self, limit: int) -> list[int]:
        """Ids of the newest runs, newest first."""
        async with self._database.begin() as connection:
            rows = await connection.execute(
                select(runs.c.id).order_by(runs.c.id.desc()).limit(limit)
            )
            return [row.id for row in rows]

    async def any_active(self) -> bool:
        """Whether any run is listing or fetching."""
        async with self._database.begin() as connection:
            found = await connection.execute(
                select(runs.c.id).where(runs.c.state == RunState.ACTIVE.value).limit(1)
            )
            return found.first() is not None

    async def change(self, run_id: int, state: RunState) -> None:
        """Pause, resume or cancel it, or all of its collection when it is the first of several.

        Those that have ended stay as they are. `Conflict` when no state allows it.
        """
        row = await self._database.fetchrow(
            self._sql["change"], run_id, state.value, before(state), *ANYBODYS
        )
        if row is None:
            raise _unknown(run_id)
        now = RunState(row["state"])
        if not row["changed"] and now is not state:
            raise Conflict(
                f"Run {run_id} cannot become {state}", why=f"it is {now}", fix=INSTEAD[now]
            )

    async def set_class(self, run_id: int, queue_class: QueueClass) -> tuple[int, ...]:
        """The queue class of a run, or of its whole collection when it is their first."""
        row = await self._database.fetchrow(
            self._sql["set_class"], run_id, number_of(queue_class), *ANYBODYS
        )
        if row is None:
            raise _unknown(run_id)
        return tuple(row["run_ids"])

    async def set_weight(self, project: str, weight: int) -> None:
        """A project's share of each class it has work in, against other projects' (1 to 1,000)."""
        if not 1 <= weight <= WEIGHT_MOST:
            raise InvalidInput(
                "The weight cannot be used", why=f"1 to {WEIGHT_MOST}", code="project_weight"
            )
        project_id = await project_named(self._database, project)
        async with self._database.begin() as connection:
            await connection.execute(
                update(projects).where(projects.c.id == project_id).values(weight=weight)
            )


def number_of(queue_class: QueueClass) -> int:
    """How a class is stored: its place in the order of urgency."""
    return list(QueueClass).index(queue_class)


def before(state: RunState) -> list[str]:
    """The states that a person may change into this one."""
    return [each.value for each, after in LEGAL.items() if state in after]


def id_or_name(project: str | int) -> tuple[int | None, str | None]:
    """How the functions of the record are told of a project."""
    return (project, None) if isinstance(project, int) else (None, project)


def check_writes(role: str) -> None:
    """`Forbidden` for one who only reads in the project."""
    if role == ProjectRole.READ:
        raise Forbidden(
            "You may only read in this project", fix="Ask its owner for the role write",
            code="project_role",
        )  # fmt: skip


def placed(
    row: asyncpg.Record | None, project: str | int, *, role: str | None = None
) -> asyncpg.Record:
    """What was placed in a project; `NotFound` without one, `Conflict` while a task deletes it.

    `Forbidden` for one whose role there is to read.
    """
    check_writes(role or "")
    if row is None or row["project"] is None:
        raise NotFound(f"There is no project {project}")
    if row["task"] is not None:
        raise Conflict(
            f"Project {project!r} is being deleted", why=f"by task {row['task']}",
            fix="Begin again when it has ended, or choose another name", code="project_deleting",
        )  # fmt: skip
    return row


async def _members(connection: AsyncConnection, run_id: int) -> tuple[int, ...]:
    rows = await connection.execute(
        select(runs.c.id)
        .where(or_(runs.c.id == run_id, runs.c.together == run_id))
        .order_by(runs.c.preference, runs.c.id)
    )
    return tuple(row.id for row in rows)


def _unknown(run_id: int) -> NotFound:
    return NotFound(f"There is no run {run_id}", fix="`chrono status` lists the runs")


def check_project(project: str | int) -> None:
    """`InvalidInput` unless it is an id, or can name a project."""
    if isinstance(project, str):
        check_name(project)


def check_name(name: str) -> None:
    """`InvalidInput` unless it can name a project."""
    if not name.strip() or len(name) > NAME_LIMIT or not name.isprintable():
        raise InvalidInput(
            "The project's name cannot be used",
            why=f"1 to {NAME_LIMIT} printable characters",
            code="project_name",
        )


def check_overlap(overlap: timedelta | None) -> None:
    """`InvalidInput` unless a repeated collection can go back so far."""
    if overlap is not None and not timedelta() <= overlap <= OVERLAP_MOST:
        raise InvalidInput(
            "The overlap cannot be used",
            why=f"{overlap.days} days",
            fix=f"From 0 to {OVERLAP_MOST.days} days",
            code="overlap",
        )
