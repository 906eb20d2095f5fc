"""What the routes about runs share: what may be collected, and how a run's task is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel
from starlette.responses import Response

from chrono_ray import wiring
from chrono_ray.api.deps import ActorOnce, Made, allowed
from chrono_ray.api.parts import Parts
from chrono_ray.api.runs_schemas import (
    BegunAnswer,
    CollectionRequest,
    PriorityRequest,
    TaskAsked,
)
from chrono_ray.cache.tags import RUNS, TASKS, project_tag, run_tag, user_tag
from chrono_ray.model.accounts import Actor
from chrono_ray.model.accounts import Scope as TokenScope
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.targets import moment, target
from chrono_ray.model.task import OfRun
from chrono_ray.storage.database import Connection
from chrono_ray.storage.projects import Collection, Projects, RunState, check_writes
from chrono_ray.storage.run_changes import ANY, RunChanges, Touched

LOCAL: Final = "warc"
Work = Callable[[Connection], Awaitable[Made]]


def who(actor: Actor) -> str:
    """Whose answer it is: a cursor in it is for nobody else, and an admin sees more."""
    return f"{'admin' if actor.is_admin else 'user'} {actor.user_id}"


def tags_of(actor: Actor, *tags: str) -> tuple[str, ...]:
    """With these the asker's own: it ends when their rights change."""
    return (*tags, user_tag(actor.user_id))


def tags_of_touched(touched: Touched) -> list[str]:
    """What tells of these runs."""
    ids = {touched.first, *touched.run_ids}
    return [RUNS, project_tag(touched.project_id), *(run_tag(each) for each in sorted(ids))]


def check_writer(actor: Actor, project_id: int) -> None:
    """`NotFound` for a project that they do not see, `Forbidden` where they only read.

    By what is remembered of them: whatever writes asks the record again.
    """
    if actor.is_admin:
        return
    for grant in actor.grants:
        if grant.project_id == project_id:
            check_writes(grant.role)
            return
    raise NotFound(f"There is no project {project_id}")


def collected(asked: CollectionRequest, actor: Actor, parts: Parts) -> Collection:
    """What is to be collected, or `InvalidInput`. An archive named twice is named once.

    Files on the server are for admins: what they hold is nobody's else.
    """
    check_writer(actor, asked.project)
    today = Timestamp14.of(datetime.now(UTC))
    scope = target(asked.url, match=asked.match, start=asked.start, end=asked.end, today=today)
    archives = tuple(dict.fromkeys(asked.archives))
    for each in archives:
        if each == LOCAL or each.startswith(wiring.OF_PATH):
            allowed(actor, TokenScope.ADMIN)
        parts.check_archive(each)
    since = None if asked.since is None else timedelta(days=asked.since)
    return Collection(scope, asked.project, archives, asked.queue_class, since)


def scope_of_captures(asked: PriorityRequest) -> Scope:
    """What captures are meant; without a URL all of that time."""
    today = Timestamp14.of(datetime.now(UTC))
    if asked.url:
        return target(asked.url, match=asked.match, start=asked.start, end=asked.end, today=today)
    start, end = moment(asked.start, today, late=False), moment(asked.end, today, late=True)
    return Scope("", MatchType.PREFIX, start, end)


async def begun_answer(wanted: Collection, by: ActorOnce, parts: Parts) -> Response:
    """Begin a collection or join it: 201 or 200."""

    async def work(connection: Connection) -> Made:
        begun = await Projects(parts.record).begin_on(connection, wanted, by=by.actor)
        changing.tags.update(run_tag(each) for each in begun.run_ids)
        answer = BegunAnswer(run=begun.run_ids[0], runs=list(begun.run_ids), joined=begun.joined)
        return Made(200 if begun.joined else 201, answer)

    tags = RUNS, project_tag(int(wanted.project))
    async with parts.changing(*tags) as changing:
        return await by.once.answer(work)


async def ask(
    task: OfRun, by: ActorOnce, parts: Parts, *, states: tuple[RunState, ...] = ANY
) -> Response:
    """Have a task done about a run: 202."""

    async def work(connection: Connection) -> Made:
        asked = await RunChanges(parts.record).ask(connection, task, by.actor, states=states)
        changing.tags.update(tags_of_touched(asked.touched))
        return Made(202, TaskAsked(task=asked.task.id, joined=asked.task.joined))

    async with parts.changing(TASKS, whose=by.actor) as changing:
        return await by.once.answer(work)


def made(answer: BaseModel, status: int = 200) -> Work:
    """An answer that is there already: nothing is left to be done."""

    async def work(_connection: Connection) -> Made:
        return Made(status, answer)

    return work
