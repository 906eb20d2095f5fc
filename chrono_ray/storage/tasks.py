"""Tasks as rows: submitted, claimed, saved at safe points, ended; fenced by tokens.

PostgreSQL's clock only. A task is worked on by whoever holds its token;
whoever lost it is told by `LeaseLost` and writes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never
from uuid import UUID, uuid4

import asyncpg
import orjson

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import Conflict, InvalidInput, LeaseLost, NotFound
from chrono_ray.model.priority import QueueClass, mask
from chrono_ray.model.task import (
    ATTEMPTS,
    CLASSES,
    Bulk,
    Certify,
    DeleteProject,
    Discover,
    Export,
    Finished,
    OfRun,
    Part,
    Prioritise,
    Progress,
    Purge,
    Reindex,
    Retry,
    Start,
    Task,
    kind_of,
    read,
)
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.named import named_or_new
from chrono_ray.storage.projects import check_writes

LEASE: Final = timedelta(seconds=60)
DETAIL_LIMIT: Final = 1000
PARTS_READ: Final = 1000
EVERY_CLASS: Final = frozenset(QueueClass)


class TaskState(StrEnum):
    """`pending` also while it is worked on."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Submitted:
    """The task that does what was asked. `joined`: it was under way already."""

    id: int
    joined: bool


@dataclass(frozen=True, slots=True)
class TaskLease:
    """One task, ours while the token holds, to go on with at `position`."""

    id: int
    task: Task
    attempts: int
    position: str
    done: int
    total: int
    token: UUID


@dataclass(frozen=True, slots=True)
class UnreadableTask:
    """A leased task whose stored kind or arguments this version cannot use."""

    id: int
    token: UUID
    why: str


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as a person sees it. `worker` is empty while nobody works on it."""

    id: int
    kind: str
    queue_class: QueueClass
    project: str
    state: TaskState
    done: int
    total: int
    result: dict[str, int | str]
    reason: str
    detail: str
    attempts: int
    worker: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    project_id: int
    """0 is none, or one that is gone."""
    run_id: int | None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks are listed; None is any."""

    project_id: int | None = None
    run_id: int | None = None
    state: TaskState | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class AskedOfRun:
    """What became of a task that somebody asked for about a run.

    `role` is theirs in its project, `deleting` the task that deletes that, and
    `run_ids` the runs that are meant; `first` stands for their collection.
    """

    role: str
    state: str
    deleting: int | None
    project_id: int
    first: int
    run_ids: tuple[int, ...]
    submitted: Submitted | None


@dataclass(frozen=True, slots=True)
class Cancelling:
    """A task as it is now, and whether it was ended just so; `role` is the asker's, or empty."""

    task: TaskRow
    role: str
    ended: bool


class Tasks:
    """The tasks of the record. Any number of workers claim at once."""

    def __init__(self, database: Database, *, lease: timedelta = LEASE) -> None:
        self._database = database
        self._lease = lease
        self._sql = statements("tasks")

    async def submit(
        self,
        task: Task,
        *,
        queue_class: QueueClass | None = None,
        key: str = "",
        delay: float = 0.0,
    ) -> Submitted:
        """Have a task done, `delay` seconds from now at the earliest.

        An unfinished one of the same key is joined; by default the key is the
        task itself. A project's deletion begins with this call: no run of it
        can be started any more.
        """
        return await self._database.transact(
            lambda connection: self.submit_on(
                connection, task, queue_class=queue_class, key=key, delay=delay
            )
        )

    async def submit_on(
        self,
        connection: Connection,
        task: Task,
        *,
        queue_class: QueueClass | None = None,
        key: str = "",
        delay: float = 0.0,
        asked_by: int | None = None,
    ) -> Submitted:
        """`submit` in the transaction of whoever asks, for the user who did."""
        said = _said(task)
        project_id, run_id = await self._concerned(connection, task)
        chosen = queue_class or CLASSES[type(task)]
        row = await connection.fetchrow(
            self._sql["submit"],
            key or said.key, said.kind, list(QueueClass).index(chosen), project_id, run_id,
            said.arguments, delay, asked_by,
        )  # fmt: skip
        return Submitted(row["id"], row["joined"])

    async def submit_in(self, connection: Connection, task: Discover, actor: Actor) -> Submitted:
        """`submit_on` by somebody who may write in the task's project, which it names by its id.

        `NotFound` when they see no such project, `Forbidden` where they only read.
        """
        said = _said(task)
        row = await connection.fetchrow(
            self._sql["submit_in"],
            said.key, said.kind, list(QueueClass).index(CLASSES[type(task)]), task.project_id,
            said.arguments, actor.user_id, actor.is_admin,
        )  # fmt: skip
        if row is None:
            raise NotFound(f"There is no project {task.project_id}")
        check_writes(row["role"])
        return Submitted(row["id"], row["joined"])

    async def submit_for(
        self, connection: Connection, task: OfRun, actor: Actor, *, states: Collection[str]
    ) -> AskedOfRun | None:
        """Have a task about a run done for somebody; None when they see no such run.

        Nothing is submitted for one who only reads, while its project is being
        deleted, or for a run in none of these states.
        """
        said = _said(task)
        row = await connection.fetchrow(
            self._sql["submit_for"],
            said.key, said.kind, list(QueueClass).index(CLASSES[type(task)]), said.arguments,
            task.run_id, actor.user_id, actor.is_admin, list(states),
        )  # fmt: skip
        if row is None:
            return None
        submitted = None if row["task"] is None else Submitted(row["task"], row["joined"])
        return AskedOfRun(
            row["role"], row["state"], row["deleting"], row["project"], row["first"],
            tuple(row["run_ids"]), submitted,
        )  # fmt: skip

    async def _concerned(self, connection: Connection, task: Task) -> tuple[int, int | None]:
        """The project whose share a task has (0: none) and its run, should it be about one."""
        match task:
            case DeleteProject():
                # whoever starts a run holds this row too: one of us sees the other
                await connection.fetch(self._sql["hold_project"], task.project_id)
                return task.project_id, None
            case Bulk():
                return task.project_id, None
            case Discover() if task.project_id:
                return task.project_id, None
            case Start() | Retry() | Prioritise() | Certify():
                row = await connection.fetchrow(self._sql["run_of"], task.run_id)
                return (row["project_id"], row["id"]) if row else (0, None)
            case Export() | Discover():
                meant = await named_or_new(connection, task.project)
                run_id = task.run_id if isinstance(task, Export) else 0
                return (meant if isinstance(meant, int) else 0), run_id or None
            case Purge() | Reindex():
                return 0, None
            case other:
                assert_never(other)

    async def claim(
        self,
        worker: str,
        classes: Collection[QueueClass] = EVERY_CLASS,
        *,
        token: UUID | None = None,
    ) -> TaskLease | UnreadableTask | None:
        """The next task of these classes by ticket, leased; None when none is due.

        Should the answer be lost, whoever chose the `token` can give back what it names.
        """
        row = await self._database.fetchrow(
            self._sql["claim"], worker, self._lease, mask(frozenset(classes)), token or uuid4()
        )
        return None if row is None else _lease(row)

    async def claim_one(
        self, task_id: int, worker: str, *, token: UUID | None = None
    ) -> TaskLease | UnreadableTask | None:
        """This task, whatever it waits for; None when it has ended or somebody works on it."""
        row = await self._database.fetchrow(
            self._sql["claim_one"], task_id, worker, self._lease, token or uuid4()
        )
        return None if row is None else _lease(row)

    async def give_back(self, token: UUID) -> None:
        """The task of a claim whose answer was lost, if it brought one; nothing is charged."""
        await self._database.fetch(self._sql["give_back"], token)

    async def renew(self, tokens: Collection[UUID]) -> set[UUID]:
        """Another lease time; returns the tokens that still hold."""
        rows = await self._database.fetch(self._sql["renew"], list(tokens), self._lease)
        return {row["token"] for row in rows}

    async def save(self, lease: TaskLease, progress: Progress) -> None:
        """Write a safe point; `LeaseLost` when the task is cancelled or somebody else's."""

        async def work(connection: Connection) -> None:
            saved = await connection.fetch(
                self._sql["save"], lease.id, lease.token, progress.done, progress.total,
                progress.position, self._lease,
            )  # fmt: skip
            if not saved:
                raise _lost(lease)
            if progress.part:
                part = progress.part
                await connection.execute(
                    self._sql["keep_part"],
                    lease.id, part.name, part.rows, part.size, part.sha256,
                )  # fmt: skip

        await self._database.transact(work)

    async def parts(self, task_id: int) -> AsyncIterator[Part]:
        """The files an export has closed, by name."""
        after = ""
        while rows := await self._database.fetch(self._sql["parts"], task_id, after, PARTS_READ):
            for row in rows:
                yield Part(row["name"], row["rows"], row["bytes"], row["sha256"])
            after = rows[-1]["name"]

    async def finish(self, lease: TaskLease, finished: Finished) -> None:
        """It is done."""
        result = orjson.dumps(dict(finished.result)).decode()
        await self._end("finish", lease, result)

    async def fail(self, lease: TaskLease | UnreadableTask, reason: str, detail: str) -> None:
        """It cannot be done."""
        await self._end("fail", lease, reason, _text(detail))

    async def release(self, lease: TaskLease, *, delay: float = 0.0) -> None:
        """Give it back at its last safe point; no attempt is charged."""
        await self._database.fetch(self._sql["release"], lease.id, lease.token, delay)

    async def charge(self, lease: TaskLease, reason: str, detail: str, *, delay: float) -> None:
        """Give it back with an attempt charged; the last one ends it in failed(`reason`)."""
        await self._end("charge", lease, reason, _text(detail), delay, ATTEMPTS)

    async def cancel(self, task_id: int) -> None:
        """End it at its next safe point; `Conflict` when it has ended or cannot be stopped."""
        if await self._database.fetch(self._sql["cancel"], task_id):
            return
        found = await self.task(task_id)
        if found.state is TaskState.CANCELLED:
            return
        began = found.state is TaskState.PENDING
        raise Conflict(
            f"Task {task_id} cannot be cancelled",
            why="it is deleting a project, and half a project is none" if began
            else f"it is {found.state}",
            fix="It ends by itself" if began else "",
        )  # fmt: skip

    async def reached(self) -> None:
        """Returns when the record has answered; `Unavailable` while it is away."""
        await self._database.fetchval("SELECT 1")

    async def rescue(self) -> int:
        """Take back the tasks of dead workers; returns how many there were."""
        return len(await self._database.fetch(self._sql["rescue"], ATTEMPTS))

    async def task(self, task_id: int) -> TaskRow:
        """One task; `NotFound` when there is none."""
        rows = await self._database.fetch(self._sql["show"], task_id, "", 1)
        if not rows:
            raise _no_task(task_id, fix="`chrono task list` lists them")
        return _row(rows[0])

    async def recent(self, limit: int, *, state: TaskState | None = None) -> list[TaskRow]:
        """The newest tasks, newest first."""
        rows = await self._database.fetch(self._sql["show"], None, state or "", limit)
        return [_row(row) for row in rows]

    async def seen(
        self, actor: Actor, which: TaskFilter, *, before: int | None, limit: int
    ) -> list[TaskRow]:
        """What somebody sees, newest first, older than task `before`.

        Tasks of their projects, and what they asked for themselves of a project
        that is gone. `NotFound` for no such project.
        """
        rows = await self._database.fetch(
            self._sql["seen"],
            actor.user_id, actor.is_admin, before, which.project_id,
            which.state and which.state.value, which.kind, which.run_id, limit,
        )  # fmt: skip
        if not rows[0]["known"]:
            raise NotFound("There is no such project or run")
        return [_row(row) for row in rows if row["id"] is not None]

    async def seen_one(self, task_id: int, actor: Actor) -> TaskRow:
        """One task that somebody sees; `NotFound` when there is none for them."""
        row = await self._database.fetchrow(
            self._sql["seen_one"], task_id, actor.user_id, actor.is_admin
        )
        if row is None:
            raise _no_task(task_id)
        return _row(row)

    async def cancel_seen(self, task_id: int, actor: Actor) -> Cancelling:
        """End it at its next safe point, by somebody who may; `NotFound` when they see none."""
        row = await self._database.fetchrow(
            self._sql["cancel_seen"], task_id, actor.user_id, actor.is_admin
        )
        if row is None:
            raise _no_task(task_id)
        return Cancelling(_row(row), row["role"] or "", ended=row["ended"])

    async def _end(
        self, name: str, lease: TaskLease | UnreadableTask, *arguments: str | float
    ) -> None:
        if not await self._database.fetch(self._sql[name], lease.id, lease.token, *arguments):
            raise _lost(lease)


def _lease(row: asyncpg.Record) -> TaskLease | UnreadableTask:
    try:
        task = read(row["kind"], row["arguments"])
    except InvalidInput as error:  # an older or newer version wrote it
        return UnreadableTask(row["id"], row["token"], str(error))
    return TaskLease(
        row["id"], task, row["attempts"], row["position"], row["done"], row["total"], row["token"]
    )


def _row(row: asyncpg.Record) -> TaskRow:
    return TaskRow(
        id=row["id"], kind=row["kind"], queue_class=list(QueueClass)[row["class"]],
        project=row["project"], state=TaskState(row["state"]), done=row["done"],
        total=row["total"], result=row["result"], reason=row["reason"],
        detail=row["detail"], attempts=row["attempts"],
        worker=row["worker"] if row["token"] else "", created_at=row["created_at"],
        started_at=row["started_at"], finished_at=row["finished_at"],
        project_id=row["project_id"], run_id=row["run_id"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Said:
    """A task as it is stored; the key is the task itself."""

    kind: str
    arguments: str

    @property
    def key(self) -> str:
        return f"{self.kind} {self.arguments}"


def _said(task: Task) -> _Said:
    return _Said(kind_of(task), orjson.dumps(asdict(task), option=orjson.OPT_SORT_KEYS).decode())


def _no_task(task_id: int, *, fix: str = "") -> NotFound:
    return NotFound(f"There is no task {task_id}", fix=fix)


def _lost(lease: TaskLease | UnreadableTask) -> LeaseLost:
    return LeaseLost(f"Task {lease.id} was cancelled, or belongs to somebody else now")


def _text(detail: str) -> str:
    return detail.replace("\0", "")[:DETAIL_LIMIT]
