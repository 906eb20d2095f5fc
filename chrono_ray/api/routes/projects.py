"""Projects: what is kept together, who owns it, and what it holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, cast

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import OFF, Kept, answered, is_known, tagged
from chrono_ray.api.deps import Made, Reader, Writer, WriterOnce, allowed
from chrono_ray.api.ids import ProjectId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.project_schemas import (
    DeletionAnswer,
    ListedProjectAnswer,
    NewProjectRequest,
    ProjectAnswer,
    ProjectPatch,
    ProjectsAnswer,
    ProjectStatisticsAnswer,
    Word,
)
from chrono_ray.cache.entry import digest_of
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag, projects_tag, user_tag
from chrono_ray.model.accounts import Actor, Scope
from chrono_ray.model.errors import InvalidInput, Stale
from chrono_ray.storage.database import Connection
from chrono_ray.storage.named import is_number
from chrono_ray.storage.project_edits import Change, NewProject, ProjectEdits
from chrono_ray.storage.project_stats import ProjectHead, ProjectSort, ProjectStats, Wanted
from chrono_ray.storage.projects import check_name

SECONDS: Final = 10.0
STATS: Final = "stats"
TAGS_MOST: Final = 200
"""Whoever sees more projects than that has their list kept for a moment only."""

IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=1000, description="An ETag of the project")
]

router = APIRouter(tags=["projects"])


@router.get("/projects/", response_model=ProjectsAnswer)
async def projects(
    request: Request, actor: Reader, parts: OurParts,
    q: Annotated[Word, Query(description="A word in the name or the description")] = "",
    sort: ProjectSort = ProjectSort.NAME,
    deleting: Annotated[bool, Query(description="Those that are being deleted too")] = False,
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """The projects that one sees, with what they hold: by name, or the most or latest first."""
    of = f"projects?q={q}&sort={sort}&deleting={deleting}"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = cast("tuple[str | int, int]", tuple(position)) if position else None

    async def compute() -> bytes:
        found = await ProjectStats(parts.record).projects(
            actor, Wanted(q, sort, deleting, after, limit + 1)
        )
        last = found[limit - 1] if len(found) > limit else None
        end = [last.rank, last.head.id] if last else None
        answer = ProjectsAnswer(
            items=[ListedProjectAnswer.listed(each) for each in found[:limit]],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return answer.model_dump_json().encode()

    async with within(SECONDS, "Reading the projects"):
        return await answered(request, parts, _kept(actor, f"{of}:{after}:{limit}"), compute)


@router.post(
    "/projects/", status_code=201, response_model=ProjectAnswer, responses=told(409)
)  # fmt: skip
async def make_project(asked: NewProjectRequest, by: WriterOnce, parts: OurParts) -> Response:
    """A project of one's own."""
    _check_name(asked.name)
    if asked.weight is not None:
        allowed(by.actor, Scope.ADMIN)
    wanted = NewProject(asked.name, asked.description, asked.weight or 1)

    async def work(connection: Connection) -> Made:
        head = await ProjectEdits(parts.record).add(connection, by.actor, wanted)
        return Made(201, ProjectAnswer.of(head))

    async with parts.changing(user_tag(by.actor.user_id), projects_tag()) as changing:
        changing.users.add(by.actor.user_id)
        return await by.once.answer(work)


@router.get("/projects/{project_id}", response_model=ProjectAnswer, responses=told(404))
async def project(
    project_id: ProjectId, request: Request, actor: Reader, parts: OurParts
) -> Response:
    """One project. Its ETag holds until somebody changes it: what it collects has statistics."""

    async def compute() -> bytes:
        return _body(await ProjectStats(parts.record).project(actor, project_id))

    async with within(SECONDS, "Reading the project"):
        return await about(request, parts, actor, project_id, "project", compute)


@router.patch(
    "/projects/{project_id}", response_model=ProjectAnswer, responses=told(404, 409, 412)
)  # fmt: skip
async def change_project(
    project_id: ProjectId, asked: ProjectPatch, actor: Writer, parts: OurParts,
    if_match: IfMatch = None,
) -> Response:  # fmt: skip
    """Another name, description or weight, by the owner; what is not given stays."""
    if asked.name is not None:
        _check_name(asked.name)
    if asked.weight is not None:
        allowed(actor, Scope.ADMIN)

    def check(before: ProjectHead) -> None:
        if if_match is not None and not is_known(_etag(_body(before)), if_match):
            raise _stale(before)
        if asked.version not in (None, before.version):
            raise _stale(before)

    change = Change(asked.name, asked.description, asked.weight)
    tags = project_tag(project_id), projects_tag()
    async with parts.changing(*tags) as changing, within(SECONDS, "The change"):
        changed = await ProjectEdits(parts.record).change(actor, project_id, change, check)
        if asked.name is not None:  # their rights are known by another name
            knowing = {changed.head.owner_id, *changed.members}
            changing.users.update(each for each in knowing if each is not None)
    body = _body(changed.head)
    return Response(body, 200, {"ETag": _etag(body)}, "application/json")


@router.delete(
    "/projects/{project_id}", status_code=202, responses=told(404)
)  # fmt: skip
async def delete_project(project_id: ProjectId, actor: Writer, parts: OurParts) -> DeletionAnswer:
    """All of it, for good, by a task: its runs end, its rows go, then the bytes nobody shares."""
    tags = project_tag(project_id), projects_tag()
    async with parts.changing(*tags), within(SECONDS, "The deletion"):
        asked = await ProjectEdits(parts.record).delete(actor, project_id)
    return DeletionAnswer(task=asked.task.id, joined=asked.task.joined)


@router.get(
    "/projects/{project_id}/stats", response_model=ProjectStatisticsAnswer, responses=told(404)
)  # fmt: skip
async def statistics(
    project_id: ProjectId, request: Request, actor: Reader, parts: OurParts
) -> Response:
    """What a project holds, by state and reason, archive, year and domain."""

    async def compute() -> bytes:
        found = await ProjectStats(parts.record).statistics(actor, project_id)
        return ProjectStatisticsAnswer.of(found).model_dump_json().encode()

    async with within(SECONDS, "Reading the statistics"):
        return await about(request, parts, actor, project_id, STATS, compute)


async def about(
    request: Request, parts: Parts, actor: Actor, project_id: int, what: str,
    compute: Callable[[], Awaitable[bytes]],
) -> Response:  # fmt: skip
    """An answer about a project: kept until that changes, for one who is known to see it now.

    For anybody else it is asked for: they see it since a moment, or not at all. What an admin
    is told is kept for seconds: that a project is gone at last nobody tells the cache.
    """
    if not (actor.is_admin or any(each.project_id == project_id for each in actor.grants)):
        return tagged(request, await compute(), x_cache=OFF)
    asker = f"admin:{actor.user_id}" if actor.is_admin else f"u{actor.user_id}"
    ttl = Ttl.SHORT if actor.is_admin and what != STATS else Ttl.STATISTICS
    kept = Kept(f"project:{project_id}:{asker}:{what}", ttl, (project_tag(project_id),))
    return await answered(request, parts, kept, compute)


def _kept(actor: Actor, what: str) -> Kept:
    """An admin's list tells of projects that nobody can name beforehand: it is kept for seconds."""
    if actor.is_admin:
        tags = (user_tag(actor.user_id), projects_tag())
        return Kept(f"admin:{actor.user_id}:{what}", Ttl.SHORT, tags)
    seen = tuple(project_tag(each.project_id) for each in actor.grants)
    if len(seen) > TAGS_MOST:
        return Kept(f"u{actor.user_id}:{what}", Ttl.SHORT, (user_tag(actor.user_id),))
    return Kept(f"u{actor.user_id}:{what}", Ttl.STATISTICS, (user_tag(actor.user_id), *seen))


def _body(head: ProjectHead) -> bytes:
    return ProjectAnswer.of(head).model_dump_json().encode()


def _etag(body: bytes) -> str:
    """The same that a read answers with."""
    return f'"{digest_of(body)}"'


def _check_name(name: str) -> None:
    check_name(name)
    if is_number(name):
        raise InvalidInput(
            "The project's name cannot be used", why="`#7` is how a project is named by its id",
            code="project_name",
        )  # fmt: skip


def _stale(now: ProjectHead) -> Stale:
    return Stale(
        f"Project {now.id} was changed meanwhile", why=f"its version is {now.version}",
        fix="Read it again",
    )  # fmt: skip
