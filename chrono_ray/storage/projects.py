"""Projects, what they collect, and the runs that collect it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from chrono_ray.model.errors import Conflict, InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.tables import domains, projects, runs, slices

NAME_LIMIT: Final = 200


class RunState(StrEnum):
    """`active` is listing and fetching; the others send nothing. `planned`: listed, not begun."""

    ACTIVE = "active"
    PLANNED = "planned"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


LEGAL: Final[dict[RunState, frozenset[RunState]]] = {
    RunState.ACTIVE: frozenset({RunState.PAUSED, RunState.CANCELLED}),
    RunState.PLANNED: frozenset({RunState.CANCELLED}),
    RunState.PAUSED: frozenset({RunState.ACTIVE, RunState.CANCELLED}),
    RunState.CANCELLED: frozenset(),
    RunState.DONE: frozenset(),
}
"""What a person may change; `done` is reached by the work itself."""


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
    """Creates and changes what is collected. Names are unique; a domain is, inside its project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start_run(
        self, scope: Scope, *, project: str, archive: str, queue_class: QueueClass
    ) -> int:
        """Create a run with its slices, and its project and domain where they are missing."""
        check_name(project)
        async with self._database.begin() as connection:
            project_id = await _project(connection, project)
            domain_id = await _domain(connection, project_id, scope)
            run_id: int = (
                await connection.execute(
                    insert(runs)
                    .values(
                        project_id=project_id, domain_id=domain_id, archive=archive,
                        start_ts=scope.start, end_ts=scope.end,
                        queue_class=list(QueueClass).index(queue_class),
                    )
                    .returning(runs.c.id)
                )
            ).scalar_one()  # fmt: skip
            await connection.execute(
                insert(slices).values(run_id=run_id, start_ts=scope.start, end_ts=scope.end)
            )
        return run_id

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
            raise NotFound(f"There is no run {run_id}", fix="`chrono status` lists the runs")
        scope = Scope(row.url, MatchType(row.match), row.start_ts, row.end_ts)
        return Run(
            run_id, row.name, scope, row.archive, RunState(row.state), row.created_at,
            row.finished_at,
        )  # fmt: skip

    async def unfinished(self, scope: Scope, *, project: str, archive: str) -> int | None:
        """The newest run of exactly this that is active or paused; None without one."""
        async with self._database.begin() as connection:
            found = await connection.execute(
                select(runs.c.id)
                .join(domains, domains.c.id == runs.c.domain_id)
                .join(projects, projects.c.id == runs.c.project_id)
                .where(
                    projects.c.name == project, domains.c.url == scope.url,
                    domains.c.match == scope.match.value, runs.c.archive == archive,
                    runs.c.start_ts == scope.start, runs.c.end_ts == scope.end,
                    runs.c.state.in_([RunState.ACTIVE.value, RunState.PAUSED.value]),
                )
                .order_by(runs.c.id.desc())
                .limit(1)
            )  # fmt: skip
            return found.scalar_one_or_none()

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
        """Pause, resume or cancel. `Conflict` when the run's state does not allow it."""
        before = [each.value for each, after in LEGAL.items() if state in after]
        async with self._database.begin() as connection:
            # in the order a lister locks them: its slice, then its run
            await connection.execute(
                select(slices.c.id).where(slices.c.run_id == run_id).order_by(slices.c.id)
                .with_for_update()
            )  # fmt: skip
            changed = await connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.state.in_(before))
                .values(
                    state=state.value,
                    finished_at=func.clock_timestamp() if state is RunState.CANCELLED else None,
                )
            )
            if state is RunState.CANCELLED and changed.rowcount:
                await connection.execute(
                    update(slices)
                    .where(slices.c.run_id == run_id, slices.c.state == "pending")
                    .values(state="cancelled", reason="run")
                )
        if not changed.rowcount:
            now = (await self.run(run_id)).state
            if now is not state:
                raise Conflict(f"Run {run_id} cannot become {state}", why=f"it is {now}")


async def _project(connection: AsyncConnection, name: str) -> int:
    statement = upsert(projects).values(name=name)
    row = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"name": statement.excluded.name}
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


def check_name(name: str) -> None:
    """`InvalidInput` unless it can name a project."""
    if not name.strip() or len(name) > NAME_LIMIT or not name.isprintable():
        raise InvalidInput(
            "The project's name cannot be used",
            why=f"1 to {NAME_LIMIT} printable characters",
            code="project_name",
        )
