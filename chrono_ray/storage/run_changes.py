"""What somebody changes about a run: the right to it and the change by one statement each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import Conflict
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.task import OfRun
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.projects import RunState, before, check_writes, number_of
from chrono_ray.storage.tasks import Submitted, Tasks
from chrono_ray.storage.visible import no_run

INSTEAD: Final = {
    RunState.ACTIVE: "It goes on by itself: pause or cancel it",
    RunState.PLANNED: "Fetch it: start. Drop it: cancel",
    RunState.PAUSED: "Go on: resume",
    RunState.CANCELLED: "Collect it again by a new run; what failed or was cancelled: retry",
    RunState.DONE: "Nothing is left to stop. Collect it again by a new run",
}
"""What may be done with a run that cannot become what was asked."""
ANY: Final = tuple(RunState)


@dataclass(frozen=True, slots=True)
class Touched:
    """The runs that are meant, most preferred archive first; `first` is their collection's."""

    project_id: int
    first: int
    run_ids: tuple[int, ...]
    state: RunState


@dataclass(frozen=True, slots=True)
class Asked:
    """A task about a run, and the runs that are meant."""

    task: Submitted
    touched: Touched


class RunChanges:
    """Changes by somebody who may.

    `NotFound` when they see no such run, `Forbidden` for one who only reads in
    its project, `Conflict` when its state does not allow it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tasks = Tasks(database)
        self._sql = statements("runs")

    async def become(self, run_id: int, state: RunState, actor: Actor) -> Touched:
        """Pause, resume or cancel it, or all of its collection by the first.

        Those that have ended stay as they are.
        """
        row = await self._database.fetchrow(
            self._sql["change"],
            run_id, state.value, before(state), actor.user_id, actor.is_admin,
        )  # fmt: skip
        if row is None:
            raise no_run(run_id)
        check_writes(row["role"])
        now = RunState(row["state"])
        if not row["changed"] and now is not state:
            raise _illegal(f"Run {run_id} cannot become {state}", now)
        return Touched(row["project"], row["first"], tuple(row["run_ids"]), now)

    async def set_class(
        self, connection: Connection, run_id: int, queue_class: QueueClass, actor: Actor
    ) -> Touched:
        """The queue class of a run, or of all of its collection by the first."""
        row = await connection.fetchrow(
            self._sql["set_class"], run_id, number_of(queue_class), actor.user_id, actor.is_admin
        )
        if row is None:
            raise no_run(run_id)
        check_writes(row["role"])
        return Touched(row["project"], row["first"], tuple(row["run_ids"]), RunState(row["state"]))

    async def ask(
        self,
        connection: Connection,
        task: OfRun,
        actor: Actor,
        *,
        states: tuple[RunState, ...] = ANY,
    ) -> Asked:
        """Have a task done about a run that is in one of these states."""
        found = await self._tasks.submit_for(connection, task, actor, states=states)
        if found is None:
            raise no_run(task.run_id)
        check_writes(found.role)
        if found.deleting is not None:
            raise Conflict(
                "Its project is being deleted", why=f"by task {found.deleting}",
                code="project_deleting",
            )  # fmt: skip
        now = RunState(found.state)
        if found.submitted is None:
            raise _illegal(f"This cannot be done with run {task.run_id}", now)
        touched = Touched(found.project_id, found.first, found.run_ids, now)
        return Asked(found.submitted, touched)


def _illegal(what: str, now: RunState) -> Conflict:
    return Conflict(what, why=f"it is {now}", fix=INSTEAD[now], code="run_state")
