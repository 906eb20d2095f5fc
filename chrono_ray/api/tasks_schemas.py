"""Tasks as they go over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field as Rule

from chrono_ray.api.runs_schemas import ArchiveName, ProjectId, Url
from chrono_ray.api.schemas import Answer, Asked
from chrono_ray.api.search_schemas import Date
from chrono_ray.model.memento import MatchType
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.tasks import TaskRow, TaskState

HOURS_MOST: Final = 10 * 366 * 24
OURS: Final = "internal"
TaskKind = Literal[
    "delete_project", "purge", "export", "discover", "reindex", "start", "retry", "prioritise",
    "certify",
]  # fmt: skip


class PurgeRequest(Asked):
    """Payloads that nothing refers to, unused for so many hours."""

    older_than: Annotated[float, Rule(ge=0, le=HOURS_MOST, description="Hours")] = 24.0


class DiscoverRequest(Asked):
    """A run from one archive that begins when somebody works. Dates as for a run."""

    project: ProjectId
    url: Url
    archive: ArchiveName = "wayback"
    match: MatchType = MatchType.DOMAIN
    start: Annotated[Date, Rule(alias="from")] = ""
    end: Annotated[Date, Rule(alias="to")] = ""


class TaskAnswer(Answer):
    """A task at a moment. `working`: somebody works on it now; `total` is 0 while it is unknown.

    `reason` and `detail` say why it failed, or was tried again.
    """

    task: int
    kind: str
    queue_class: Annotated[QueueClass, Rule(serialization_alias="class")]
    project: str
    project_id: Annotated[int | None, Rule(description="null: of no project")]
    run: int | None
    state: TaskState
    working: bool
    done: int
    total: int
    result: dict[str, int | str]
    reason: str
    detail: str
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: TaskRow, *, admin: bool) -> Self:
        """What went wrong inside is for admins: it may name machines and folders."""
        return cls(
            task=row.id, kind=row.kind, queue_class=row.queue_class, project=row.project,
            project_id=row.project_id or None, run=row.run_id, state=row.state,
            working=bool(row.worker), done=row.done, total=row.total, result=row.result,
            reason=row.reason, detail=row.detail if admin or row.reason != OURS else "",
            attempts=row.attempts, created_at=row.created_at, started_at=row.started_at,
            finished_at=row.finished_at,
        )  # fmt: skip


class TasksAnswer(Answer):
    """Newest first; `next` goes on."""

    items: list[TaskAnswer]
    next: str | None
