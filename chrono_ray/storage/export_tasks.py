"""Exports to files as somebody asks for them and sees them: tasks of their projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import asyncpg
import orjson

from chrono_ray.model.accounts import Actor, ProjectRole
from chrono_ray.model.errors import Conflict, Forbidden, NotFound
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.task import CLASSES, Export, Form, Part, Subject
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.tasks import TaskState

EXPORTS_MOST: Final = 50
"""Of a project: they stand until somebody deletes them."""
ONE: Final = 1


@dataclass(frozen=True, slots=True)
class ExportRow:
    """An export as a person sees it. `parts` and `bytes` are what is written by now."""

    id: int
    project_id: int
    project: str
    role: ProjectRole
    to: str
    subject: Subject
    form: Form
    state: TaskState
    rows: int
    parts: int
    bytes: int
    reason: str
    detail: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Files:
    """Some files of an export, by name; they stand below `place`."""

    place: str
    state: TaskState
    parts: tuple[Part, ...]


class ExportTasks:
    """What an actor does not see is not there for them: `NotFound`."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor
        self._sql = statements("export_tasks")

    async def submit(self, connection: Connection, export: Export) -> ExportRow:
        """Have a project exported. `NotFound` for the project, run or domain, `Conflict` when the
        project is being deleted, or has too many exports."""
        actor, kind = self._actor, list(QueueClass).index(CLASSES[Export])
        row = await connection.fetchrow(
            self._sql["submit"], export.project_id, actor.user_id, actor.is_admin,
            f"export {export.to}", kind, orjson.dumps(asdict(export)).decode(), export.run_id,
            EXPORTS_MOST, export.domain,
        )  # fmt: skip
        if row is None:
            raise _no_project(export.project_id)
        if not row["has_run"]:
            raise NotFound(f"Project {export.project_id} has no run {export.run_id}")
        if not row["has_domain"]:
            raise NotFound(f"Project {export.project_id} has no domain {export.domain[:200]}")
        if row["deleting"]:
            raise Conflict("The project is being deleted", code="project_deleting")
        if row["is_full"]:
            raise Conflict(
                "The project has too many exports", why=f"{EXPORTS_MOST} are kept",
                fix="Delete one that is not needed", code="too_many_exports",
            )  # fmt: skip
        return ExportRow(
            row["id"], export.project_id, row["name"], ProjectRole.READ, export.to, export.subject,
            export.form, TaskState.PENDING, 0, 0, 0, "", "", row["created_at"], None, None,
        )  # fmt: skip

    async def of_project(
        self, project_id: int, *, before: int | None, limit: int
    ) -> list[ExportRow]:
        """A project's exports, newest first."""
        rows = await self._shown(project_id, None, before, limit)
        if not rows and not await self._sees(project_id):
            raise _no_project(project_id)
        return [_row(row) for row in rows]

    async def one(self, task_id: int) -> ExportRow:
        """One export."""
        rows = await self._shown(None, task_id, None, ONE)
        if not rows:
            raise _no_export(task_id)
        return _row(rows[0])

    async def files(self, task_id: int, *, after: str = "", limit: int) -> Files:
        """What it has written, by name behind `after`."""
        return await self._files(task_id, after, limit, None)

    async def file(self, task_id: int, name: str) -> Files:
        """The one file of this name, if it has written it."""
        return await self._files(task_id, "", ONE, name)

    def check_may_forget(self, export: ExportRow) -> None:
        """`Conflict` while it is written, `Forbidden` for readers."""
        if not self._actor.is_admin and export.role is ProjectRole.READ:
            raise Forbidden("You may only read in this project", code="project_role")
        if export.state is TaskState.PENDING:
            raise Conflict(
                f"Export {export.id} is being written", fix="Cancel its task first",
                code="export_pending",
            )  # fmt: skip

    async def forget(self, export: ExportRow) -> None:
        """Its row, and those of its files, which are gone by now."""
        await self._database.fetch(self._sql["forget"], export.id)

    async def _files(self, task_id: int, after: str, limit: int, name: str | None) -> Files:
        actor = self._actor
        rows = await self._database.fetch(
            self._sql["files"], task_id, actor.user_id, actor.is_admin, after, limit, name
        )
        if not rows:
            raise _no_export(task_id)
        parts = [
            Part(row["name"], row["rows"], row["bytes"], row["sha256"])
            for row in rows if row["name"] is not None
        ]  # fmt: skip
        return Files(rows[0]["place"], TaskState(rows[0]["state"]), tuple(parts))

    async def _shown(
        self, project_id: int | None, task_id: int | None, before: int | None, limit: int
    ) -> Sequence[asyncpg.Record]:
        actor = self._actor
        return await self._database.fetch(
            self._sql["show"], actor.user_id, actor.is_admin, project_id, task_id, before, limit
        )

    async def _sees(self, project_id: int) -> bool:
        actor = self._actor
        asked = (project_id, actor.user_id, actor.is_admin)
        return bool(await self._database.fetchval(self._sql["sees"], *asked))


def _row(row: asyncpg.Record) -> ExportRow:
    chosen = row["arguments"]
    return ExportRow(
        row["id"], row["project_id"], row["project"], ProjectRole(row["role"]), chosen["to"],
        Subject(chosen["subject"]), Form(chosen["form"]), TaskState(row["state"]), row["done"],
        row["parts"], row["bytes"], row["reason"], row["detail"], row["created_at"],
        row["started_at"], row["finished_at"],
    )  # fmt: skip


def _no_project(project_id: int) -> NotFound:
    return NotFound(f"There is no project {project_id}")


def _no_export(task_id: int) -> NotFound:
    return NotFound(f"There is no export {task_id}")
