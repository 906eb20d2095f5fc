"""Members of a project: who else may read, or write."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from chrono_ray.api.deps import Made, Reader, Writer, WriterOnce
from chrono_ray.api.ids import ProjectId, UserId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import Changing, OurParts, within
from chrono_ray.api.problems import told
from chrono_ray.api.project_schemas import (
    MemberAnswer,
    MemberRole,
    MembersAnswer,
    NewMemberRequest,
)
from chrono_ray.api.routes.projects import about
from chrono_ray.cache.tags import project_tag, projects_tag, user_tag
from chrono_ray.model.accounts import ProjectRole, email_of
from chrono_ray.storage.database import Connection
from chrono_ray.storage.project_edits import ProjectEdits

SECONDS: Final = 10.0

router = APIRouter(prefix="/projects/{project_id}/members", tags=["projects"])


@router.get("/", response_model=MembersAnswer, responses=told(404))
async def members(
    project_id: ProjectId, request: Request, actor: Reader, parts: OurParts,
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """Who sees the project, its owner among them, by user."""
    of = f"projects/{project_id}/members"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = int(position[0] or 0) if position else 0

    async def compute() -> bytes:
        found = await ProjectEdits(parts.record).members(
            actor, project_id, after=after, limit=limit + 1
        )
        end = [found[limit - 1].user_id] if len(found) > limit else None
        answer = MembersAnswer(
            items=[MemberAnswer.of(each) for each in found[:limit]],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return answer.model_dump_json().encode()

    async with within(SECONDS, "Reading the members"):
        return await about(request, parts, actor, project_id, f"members:{after}:{limit}", compute)


@router.post("/", status_code=201, response_model=MemberAnswer, responses=told(404, 409))
async def add_member(
    project_id: ProjectId, asked: NewMemberRequest, by: WriterOnce, parts: OurParts
) -> Response:
    """Somebody with an account, by its address; by the project's owner."""
    email = email_of(asked.email)

    async def work(connection: Connection) -> Made:
        seated = await ProjectEdits(parts.record).add_member(
            connection, by.actor, project_id, email, asked.role
        )
        _add(changing, seated.member.user_id)
        return Made(201, MemberAnswer.of(seated.member))

    async with parts.changing(*_tags(project_id)) as changing:
        return await by.once.answer(work)


@router.get("/{user_id}", responses=told(404))
async def member(
    project_id: ProjectId, user_id: UserId, actor: Reader, parts: OurParts
) -> MemberAnswer:
    """One of them."""
    async with within(SECONDS, "Reading the member"):
        return MemberAnswer.of(await ProjectEdits(parts.record).member(actor, project_id, user_id))


@router.put("/{user_id}", responses=told(404, 409))
async def set_member(
    project_id: ProjectId, user_id: UserId, asked: MemberRole, actor: Writer, parts: OurParts
) -> MemberAnswer:
    """Another role for a member, by the owner. As `owner` the project is theirs.

    An admin may name any user.
    """
    edits = ProjectEdits(parts.record)
    async with parts.changing(*_tags(project_id)) as changing, within(SECONDS, "The change"):
        _add(changing, user_id, actor.user_id if asked.role is ProjectRole.OWNER else None)
        seated = await edits.set_member(actor, project_id, user_id, asked.role)
        _add(changing, seated.former)
    return MemberAnswer.of(seated.member)


@router.delete("/{user_id}", status_code=204, responses=told(404, 409))
async def drop_member(
    project_id: ProjectId, user_id: UserId, actor: Writer, parts: OurParts
) -> None:
    """A member no more: by the owner, or by themselves."""
    async with parts.changing(*_tags(project_id)) as changing, within(SECONDS, "The change"):
        _add(changing, user_id)
        await ProjectEdits(parts.record).drop_member(actor, project_id, user_id)


def _tags(project_id: int) -> tuple[str, str]:
    return project_tag(project_id), projects_tag()


def _add(changing: Changing, *user_ids: int | None) -> None:
    """The rights of these are others now."""
    known = [each for each in user_ids if each is not None]
    changing.users.update(known)
    changing.tags.update(user_tag(each) for each in known)
