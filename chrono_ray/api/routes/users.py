"""Users of themselves, their API keys, and users as admins see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from chrono_ray.api.accounts import (
    KeyAnswer,
    KeyRequest,
    KeysAnswer,
    NewKeyAnswer,
    OneTimePassword,
    UserAnswer,
    UserChange,
    UserPatch,
    UsersAnswer,
)
from chrono_ray.api.deps import Admin, Made, Reader, Writer, WriterOnce, allowed, by_password
from chrono_ray.api.ids import KeyId, UserId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import OurParts, all_of, within
from chrono_ray.api.passwords import for_one_login, random_password
from chrono_ray.api.problems import told
from chrono_ray.api.tokens import KEY, SHOWN, new_token
from chrono_ray.cache.tags import user_tag
from chrono_ray.model.accounts import UserState
from chrono_ray.storage.database import Connection
from chrono_ray.storage.users import NewKey

SECONDS: Final = 10.0

router = APIRouter(tags=["accounts"])


@router.get("/users/me")
async def me(actor: Reader, parts: OurParts) -> UserAnswer:
    """Who asks."""
    async with within(SECONDS, "Reading the user"):
        return UserAnswer.of(await parts.doors.users.user(actor.user_id))


@router.patch("/users/me")
async def change_me(asked: UserPatch, actor: Writer, parts: OurParts) -> UserAnswer:
    """Another name. Roles and addresses are for admins."""
    async with parts.changing(*all_of(actor)), within(SECONDS, "The change"):
        return UserAnswer.of(await parts.doors.users.rename(actor.user_id, asked.name))


@router.get("/users/")
async def users(
    actor: Admin,
    parts: OurParts,
    state: Annotated[
        UserState | None, Query(description="Only these: `pending` wait for approval")
    ] = None,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> UsersAnswer:
    """Users by id, for admins."""
    of = f"users?{state}"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = int(position[0] or 0) if position else 0
    async with within(SECONDS, "Reading the users"):
        found = await parts.doors.users.users(after=after, state=state, limit=limit + 1)
    end = [found[limit - 1].id] if len(found) > limit else None
    return UsersAnswer(
        items=[UserAnswer.of(each) for each in found[:limit]],
        next=await onward(parts, end, of=of, actor=actor),
    )


@router.patch("/users/{user_id}", responses=told(404, 409))
async def change_user(
    user_id: UserId,
    asked: UserChange,
    actor: Admin,  # noqa: ARG001 (nobody else)
    parts: OurParts,
) -> UserAnswer:
    """Approve, disable, make an admin or no more one. Somebody must stay an admin."""
    users = parts.doors.users
    async with parts.changing(user_tag(user_id)) as changing, within(SECONDS, "The change"):
        changing.users.add(user_id)
        changed = await users.change(user_id, role=asked.role, state=asked.state)
    return UserAnswer.of(changed)


@router.post("/users/{user_id}/password", responses=told(404))
async def reset_password(
    user_id: UserId,
    actor: Admin,  # noqa: ARG001 (nobody else)
    parts: OurParts,
) -> OneTimePassword:
    """A password for a user who has lost theirs. It is good for one login, which sets another.

    It is shown in this answer and never again. The one before, all logins and all keys end.
    """
    doors, password = parts.doors, random_password()
    kept = for_one_login(await doors.passwords.hash(password))
    async with parts.changing(user_tag(user_id)) as changing, within(SECONDS, "The change"):
        changing.users.add(user_id)
        await doors.users.reset_password_of(user_id, kept)
    return OneTimePassword(user=user_id, password=password)


@router.post(
    "/keys/", status_code=201, response_model=NewKeyAnswer,
    responses=told(409),
)  # fmt: skip
async def make_key(asked: KeyRequest, by: WriterOnce, parts: OurParts) -> Response:
    """An API key for programs, by a login. It is shown in this answer and never again.

    A key makes no keys: they would outlive it.
    """
    by_password(by.actor)
    for scope in asked.scopes:
        allowed(by.actor, scope)
    token = new_token(KEY)
    key = NewKey(
        token.hash, asked.name, token.text[:SHOWN], tuple(dict.fromkeys(asked.scopes)),
        timedelta(days=asked.expires_in_days),
    )  # fmt: skip

    async def work(connection: Connection) -> Made:
        made = await parts.doors.users.add_key(connection, by.actor.user_id, key)
        seen = KeyAnswer.of(made).model_dump()
        return Made(201, NewKeyAnswer(**seen, key=token.text), NewKeyAnswer(**seen, key=""))

    return await by.once.answer(work)


@router.get("/keys/")
async def keys(
    actor: Reader, parts: OurParts, cursor: CursorText = None, limit: Limit = 100
) -> KeysAnswer:
    """One's own API keys, oldest first, without their secrets."""
    position = await behind(parts, cursor, of="keys", actor=actor)
    after = int(position[0] or 0) if position else 0
    async with within(SECONDS, "Reading the keys"):
        found = await parts.doors.users.keys(actor.user_id, after=after, limit=limit + 1)
    end = [found[limit - 1].id] if len(found) > limit else None
    return KeysAnswer(
        items=[KeyAnswer.of(each) for each in found[:limit]],
        next=await onward(parts, end, of="keys", actor=actor),
    )


@router.delete("/keys/{key_id}", status_code=204, responses=told(404))
async def end_key(key_id: KeyId, actor: Writer, parts: OurParts) -> None:
    """End one of one's own API keys, at once. A key ends itself alone."""
    if key_id != actor.token_id:
        by_password(actor)
    async with parts.changing() as changing, within(SECONDS, "The end of the key"):
        changing.users.add(actor.user_id)
        await parts.doors.users.end_key(actor.user_id, key_id)
