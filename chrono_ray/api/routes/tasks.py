"""Tasks: what was asked for besides runs, how far it is, and what it came to."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.collecting import collected, tags_of, who
from chrono_ray.api.deps import ActorOnce, Made, Reader, Writer, WriterOnce, allowed
from chrono_ray.api.ids import TaskId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.runs_schemas import CollectionRequest, TaskAsked
from chrono_ray.api.tasks_schemas import (
    DiscoverRequest,
    PurgeRequest,
    TaskAnswer,
    TaskKind,
    TasksAnswer,
)
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import TASKS, project_tag
from chrono_ray.model.accounts import Actor, Scope
from chrono_ray.model.bounds import BIG_MAX, INT_MAX
from chrono_ray.model.errors import Conflict
from chrono_ray.model.task import Discover, Purge, Reindex, Task
from chrono_ray.storage.database import Connection
from chrono_ray.storage.project_edits import check_owns
from chrono_ray.storage.projects import check_writes
from chrono_ray.storage.tasks import TaskFilter, Tasks, TaskState

SECONDS: Final = 10.0
HOUR: Final = 3600.0

router = APIRouter(prefix="/tasks", tags=["tasks"])


@router.get("/", response_model=TasksAnswer, responses=told(404))
async def tasks(
    request: Request,
    actor: Reader,
    parts: OurParts,
    project: Annotated[int | None, Query(ge=1, le=INT_MAX)] = None,
    run: Annotated[int | None, Query(ge=1, le=BIG_MAX)] = None,
    state: TaskState | None = None,
    kind: TaskKind | None = None,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Response:
    """Tasks, newest first: of one's projects, and what one asked for of a project that is gone."""
    which = TaskFilter(project, run, state, kind)
    of = f"tasks?{project}&{run}&{state}&{kind}"

    async def compute() -> bytes:
        return await _listed(parts, actor, which, of=of, cursor=cursor, limit=limit)

    kept = Kept(f"{of}&{cursor}&{limit} for {who(actor)}", Ttl.GLANCE, tags_of(actor, TASKS))
    async with within(SECONDS, "Reading the tasks"):
        return await answered(request, parts, kept, compute)


async def _listed(
    parts: Parts, actor: Actor, which: TaskFilter, *, of: str, cursor: str | None, limit: int
) -> bytes:
    position = await behind(parts, cursor, of=of, actor=actor)
    last = int(position[0] or 0) if position else None
    found = await Tasks(parts.record).seen(actor, which, before=last, limit=limit + 1)
    end = [found[limit - 1].id] if len(found) > limit else None
    answer = TasksAnswer(
        items=[TaskAnswer.of(each, admin=actor.is_admin) for each in found[:limit]],
        next=await onward(parts, end, of=of, actor=actor),
    )
    return answer.model_dump_json(by_alias=True).encode()


@router.get("/{task_id}", response_model=TaskAnswer, responses=told(404))
async def task(request: Request, task_id: TaskId, actor: Reader, parts: OurParts) -> Response:
    """One task; up to a second old."""

    async def compute() -> bytes:
        found = await Tasks(parts.record).seen_one(task_id, actor)
        return TaskAnswer.of(found, admin=actor.is_admin).model_dump_json(by_alias=True).encode()

    kept = Kept(f"task:{task_id} for {who(actor)}", Ttl.GLANCE, tags_of(actor, TASKS))
    async with within(SECONDS, "Reading the task"):
        return await answered(request, parts, kept, compute)


@router.post("/{task_id}/cancel", responses=told(404, 409))
async def cancel(task_id: TaskId, actor: Writer, parts: OurParts) -> TaskAnswer:
    """End it at its next safe point. A project's deletion that has begun goes to its end."""
    stored = Tasks(parts.record)
    async with parts.changing(TASKS, whose=actor) as changing, within(SECONDS, "The change"):
        found = await stored.cancel_seen(task_id, actor)
        changing.tags.add(project_tag(found.task.project_id))
    row = found.task
    check_writes(found.role)
    if found.role and row.kind == "delete_project":
        check_owns(found.role)
    if not found.ended and row.state is not TaskState.CANCELLED:
        began = row.state is TaskState.PENDING
        raise Conflict(
            f"Task {task_id} cannot be cancelled",
            why="it is deleting a project, and half a project is none" if began
            else f"it is {row.state}",
            fix="It ends by itself" if began else "Ask for it again", code="task_state",
        )  # fmt: skip
    return TaskAnswer.of(row, admin=actor.is_admin)


@router.post("/reindex", status_code=202, response_model=TaskAsked, responses=told(409))
async def reindex(by: WriterOnce, parts: OurParts) -> Response:
    """A fresh index from the record takes the live one's place; for admins."""
    allowed(by.actor, Scope.ADMIN)
    return await _ask(Reindex(), by, parts)


@router.post("/purge", status_code=202, response_model=TaskAsked, responses=told(409))
async def purge(asked: PurgeRequest, by: WriterOnce, parts: OurParts) -> Response:
    """Payloads that nothing refers to any more go; for admins."""
    allowed(by.actor, Scope.ADMIN)
    return await _ask(Purge(asked.older_than * HOUR), by, parts)


@router.post("/discover", status_code=202, response_model=TaskAsked, responses=told(404, 409))
async def discover(asked: DiscoverRequest, by: WriterOnce, parts: OurParts) -> Response:
    """Begin a run when somebody works, instead of now."""
    wanted = collected(
        CollectionRequest(
            project=asked.project, url=asked.url, match=asked.match, start=asked.start,
            end=asked.end, archives=[asked.archive],
        ),
        by.actor, parts,
    )  # fmt: skip
    scope = wanted.scope
    chosen = Discover(
        "", asked.archive, scope.url, scope.match.value, scope.start, scope.end, asked.project
    )
    return await _ask(chosen, by, parts)


async def _ask(task: Task, by: ActorOnce, parts: Parts) -> Response:
    async def work(connection: Connection) -> Made:
        tasks = Tasks(parts.record)
        submitted = (
            await tasks.submit_in(connection, task, by.actor) if isinstance(task, Discover)
            else await tasks.submit_on(connection, task, asked_by=by.actor.user_id)
        )  # fmt: skip
        return Made(202, TaskAsked(task=submitted.id, joined=submitted.joined))

    async with parts.changing(TASKS):
        return await by.once.answer(work)
