"""Projects, what they collect, and the runs that collect it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from chrono_ray.model.errors import Conflict, InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.tables import domains, projects, runs, slices, tasks

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

UNFINISHED: Final = (RunState.ACTIVE.value, RunState.PAUSED.value)


@dataclass(frozen=True, slots=True)
class Collection:
    """What a person asks for: a scope, and the archives to have it from, most preferred first.

    `since` is for a repeated collection: only what each archive has added since
    the newest capture that finished runs listed there, less so much overlap,
    because archives add captures late. `project` is a name, made where there is
    none without an owner, or the id of one that there is.
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
        async with self._database.begin() as connection:
            place = await _place(connection, project, scope)
            return await _insert_run(
                connection, place, archive, start=scope.start, end=scope.end,
                queue_class=queue_class, goal=goal,
            )  # fmt: skip

    async def begin(self, wanted: Collection) -> Begun:
        """Start a collection, or join one of exactly this that is not finished: it goes on then.

        Its runs stand together: what is done to the first is done to all.
        """
        check_project(wanted.project)
        check_overlap(wanted.since)
        async with self._database.begin() as connection:
            # the domain's row stays locked: of two that begin the same at once, one joins
            place = await _place(connection, wanted.project, wanted.scope)
            starts = [await _start_of(connection, place, wanted, each) for each in wanted.archives]
            found = await _under_way(connection, place, wanted, starts[0])
            if found:
                await _resume(connection, found)
                return Begun(found, joined=True)
            ids = [
                await _insert_run(
                    connection, place, archive, start=start, end=wanted.scope.end,
                    queue_class=wanted.queue_class, goal=wanted.goal,
                )
                for archive, start in zip(wanted.archives, starts, strict=True)
            ]  # fmt: skip
            await _bind(connection, ids)
        return Begun(tuple(ids), joined=False)

    async def domain(self, scope: Scope, *, project: str | int) -> int:
        """The id of a domain, which comes into being with its project where it is missing."""
        check_project(project)
        async with self._database.begin() as connection:
            return (await _place(connection, project, scope)).domain_id

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
        before = [each.value for each, after in LEGAL.items() if state in after]
        async with self._database.begin() as connection:
            ids = await _members(connection, run_id)
            # in the order a lister locks them: its slice, then its run
            await connection.execute(
                select(slices.c.id).where(slices.c.run_id.in_(ids)).order_by(slices.c.id)
                .with_for_update()
            )  # fmt: skip
            changed = await connection.execute(
                update(runs)
                .where(runs.c.id.in_(ids), runs.c.state.in_(before))
                .values(
                    state=state.value,
                    finished_at=func.clock_timestamp() if state is RunState.CANCELLED else None,
                )
                .returning(runs.c.id)
            )
            now_so = [row.id for row in changed]
            if state is RunState.CANCELLED and now_so:
                await connection.execute(
                    update(slices)
                    .where(slices.c.run_id.in_(now_so), slices.c.state == "pending")
                    .values(state="cancelled", reason="run")
                )
        if not now_so:
            now = (await self.run(run_id)).state
            if now is not state:
                raise Conflict(
                    f"Run {run_id} cannot become {state}", why=f"it is {now}", fix=INSTEAD[now]
                )

    async def set_class(self, run_id: int, queue_class: QueueClass) -> tuple[int, ...]:
        """The queue class of a run, or of its whole collection when it is their first."""
        ids = await self.together(run_id)
        async with self._database.begin() as connection:
            await connection.execute(
                update(runs).where(runs.c.id.in_(ids)).values(queue_class=number_of(queue_class))
            )
        return ids

    async def set_weight(self, project: str, weight: int) -> None:
        """A project's share of each class it has work in, against other projects' (1 to 1,000)."""
        if not 1 <= weight <= WEIGHT_MOST:
            raise InvalidInput(
                "The weight cannot be used", why=f"1 to {WEIGHT_MOST}", code="project_weight"
            )
        async with self._database.begin() as connection:
            changed = await connection.execute(
                update(projects).where(projects.c.name == project).values(weight=weight)
            )
        if not changed.rowcount:
            raise NotFound(f"There is no project {project!r}", fix="`chrono project list`")


def number_of(queue_class: QueueClass) -> int:
    """How a class is stored: its place in the order of urgency."""
    return list(QueueClass).index(queue_class)


@dataclass(frozen=True, slots=True)
class _Place:
    project_id: int
    domain_id: int


async def _place(connection: AsyncConnection, project: str | int, scope: Scope) -> _Place:
    project_id = await _project(connection, project)
    await _check_staying(connection, project_id, project)
    return _Place(project_id, await _domain(connection, project_id, scope))


async def _check_staying(connection: AsyncConnection, project_id: int, name: str | int) -> None:
    """`Conflict` while a task deletes it. Asked with the row locked, as that task was submitted."""
    task_id = await connection.scalar(
        select(tasks.c.id).where(
            tasks.c.project_id == project_id, tasks.c.kind == "delete_project",
            tasks.c.state == "pending",
        ).limit(1)
    )  # fmt: skip
    if task_id is not None:
        raise Conflict(
            f"Project {name!r} is being deleted", why=f"by task {task_id}",
            fix="Begin again when it has ended, or choose another name", code="project_deleting",
        )  # fmt: skip


async def _insert_run(
    connection: AsyncConnection,
    place: _Place,
    archive: str,
    *,
    start: str,
    end: str,
    queue_class: QueueClass,
    goal: Goal,
) -> int:
    statement = insert(runs).values(
        project_id=place.project_id, domain_id=place.domain_id, archive=archive,
        start_ts=start, end_ts=end, queue_class=number_of(queue_class), goal=goal.value,
    )  # fmt: skip
    run_id = int((await connection.execute(statement.returning(runs.c.id))).scalar_one())
    await connection.execute(insert(slices).values(run_id=run_id, start_ts=start, end_ts=end))
    return run_id


async def _start_of(
    connection: AsyncConnection, place: _Place, wanted: Collection, archive: str
) -> str:
    if wanted.since is None:
        return wanted.scope.start
    since = await connection.scalar(
        select(func.listed_since(place.domain_id, archive, wanted.since))
    )
    latest = max(str(since), wanted.scope.start)
    return min(latest, wanted.scope.end) if wanted.scope.end else latest


async def _under_way(
    connection: AsyncConnection, place: _Place, wanted: Collection, start: str
) -> tuple[int, ...]:
    """An unfinished collection of the same scope from the same archives in the same order."""
    firsts = await connection.scalars(
        select(runs.c.id)
        .where(
            runs.c.domain_id == place.domain_id, runs.c.archive == wanted.archives[0],
            runs.c.start_ts == start, runs.c.end_ts == wanted.scope.end,
            runs.c.goal == wanted.goal.value, runs.c.state.in_(UNFINISHED),
            or_(runs.c.together.is_(None), runs.c.together == runs.c.id),
        )
        .order_by(runs.c.id.desc())
    )  # fmt: skip
    for first in firsts:
        ids = await _members(connection, first)
        archives = await connection.scalars(
            select(runs.c.archive).where(runs.c.id.in_(ids)).order_by(runs.c.preference, runs.c.id)
        )
        if tuple(archives) == wanted.archives:
            return ids
    return ()


async def _resume(connection: AsyncConnection, ids: Sequence[int]) -> None:
    await connection.execute(
        update(runs)
        .where(runs.c.id.in_(ids), runs.c.state == RunState.PAUSED.value)
        .values(state=RunState.ACTIVE.value)
    )


async def _bind(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Several runs of one request stand together; one alone stands by itself."""
    if len(ids) < 2:
        return
    for preference, run_id in enumerate(ids):
        await connection.execute(
            update(runs).where(runs.c.id == run_id).values(together=ids[0], preference=preference)
        )


async def _members(connection: AsyncConnection, run_id: int) -> tuple[int, ...]:
    rows = await connection.execute(
        select(runs.c.id)
        .where(or_(runs.c.id == run_id, runs.c.together == run_id))
        .order_by(runs.c.preference, runs.c.id)
    )
    return tuple(row.id for row in rows)


def _unknown(run_id: int) -> NotFound:
    return NotFound(f"There is no run {run_id}", fix="`chrono status` lists the runs")


async def _project(connection: AsyncConnection, project: str | int) -> int:
    """Its row stays locked."""
    if isinstance(project, int):
        found = await connection.scalar(
            select(projects.c.id).where(projects.c.id == project).with_for_update()
        )
        if found is None:
            raise NotFound(f"There is no project {project}")
        return int(found)
    statement = upsert(projects).values(name=project)
    row = await connection.execute(
        statement.on_conflict_do_update(
            constraint="projects_owner_name", set_={"name": statement.excluded.name}
        ).returning(projects.c.id)
    )
    return int(row.scalar_one())


async def _domain(connection: AsyncConnection, project_id: int, scope: Scope) -> int:
    statement = upsert(domains).values(
        project_id=project_id, url=scope.url, match=scope.match.value
    )
    row = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["project_id", "url", "match"], set_={"url": statement.excluded.url}
        ).returning(domains.c.id)
    )
    return int(row.scalar_one())


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
