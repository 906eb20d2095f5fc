"""In and out: register, login, refresh, logout, another password."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final
from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from chrono_ray.api.accounts import Login, NewPassword, Refresh, Registered, Registration, Tokens
from chrono_ray.api.deps import AnybodyOnce, LoggedIn, Made, address_of
from chrono_ray.api.parts import OurParts, within
from chrono_ray.api.passwords import Passwords, Right, Wrong
from chrono_ray.api.problems import told
from chrono_ray.api.tokens import ACCESS, REFRESH, Token, hash_of, new_token
from chrono_ray.model.accounts import UserState, check_password, email_of
from chrono_ray.model.errors import Conflict, Forbidden, InvalidInput, Unauthenticated
from chrono_ray.settings import Accounts
from chrono_ray.storage.database import Connection
from chrono_ray.storage.users import Newcomer, Pair, Reused, Rotated

log = logging.getLogger(__name__)

SECONDS: Final = 25.0
STATES: Final = {
    UserState.PENDING: ("account_pending", "An admin has not approved this account yet"),
    UserState.DISABLED: ("account_disabled", "An admin has disabled this account"),
}

router = APIRouter(prefix="/auth", tags=["accounts"])


@router.post("/register", status_code=202, response_model=Registered, responses=told(409))
async def register(asked: Registration, once: AnybodyOnce, parts: OurParts) -> Response:
    """Ask for an account. An admin approves it before a login works.

    The answer is the same for an address that is taken: nothing is changed then.
    """
    doors, email = parts.doors, email_of(asked.email)
    check_password(asked.password, email)
    state = UserState.PENDING if doors.chosen.approval else UserState.ACTIVE
    hashed = await doors.passwords.hash(asked.password)

    async def work(connection: Connection) -> Made:
        newcomer = Newcomer(email, hashed, asked.name, state=state)
        await doors.users.register(connection, newcomer)
        detail = "An admin must approve it" if doors.chosen.approval else "Log in"
        return Made(202, Registered(email=email, state=state, detail=detail))

    return await once.answer(work)


@router.post("/login", responses=told(401, 403, 429))
async def login(asked: Login, request: Request, parts: OurParts) -> Tokens:
    """A pair of tokens for an address and its password.

    After five wrong ones each further try must wait, longer every time. A password that an admin
    has set is good for one login, which brings `new_password` along.
    """
    doors, email, address = parts.doors, email_of(asked.email), address_of(request)
    async with within(SECONDS, "The login"):
        who = await doors.users.begin_login(email, address)
        verdict = await doors.passwords.check(asked.password, who.password)
        if isinstance(verdict, Wrong):
            log.info("login.failed", extra={"account": _account(email), "client": address})
            raise _wrong()
        kept = await _kept(asked, verdict, doors.passwords)
        access, refresh = new_token(ACCESS), new_token(REFRESH)
        state = await doors.users.end_login(
            who, address, _pair(doors.chosen, access, refresh), uuid4(), rehashed=kept
        )
    if state is None:
        raise _wrong()
    if state is not UserState.ACTIVE:
        code, what = STATES[state]
        raise Forbidden(what, code=code)
    log.info("login.succeeded", extra={"user": who.user_id, "client": address})
    return _tokens(doors.chosen, access, refresh)


async def _kept(asked: Login, verdict: Right, passwords: Passwords) -> str | None:
    """Another password as it is to be kept from this login on; None is the same."""
    if not verdict.once:
        if asked.new_password is not None:
            raise InvalidInput(
                "This password stays", why="it is no one-time password",
                fix="Log in without `new_password`, then POST /api/v1/auth/password",
                code="password",
            )  # fmt: skip
        return verdict.rehashed
    if asked.new_password is None or asked.new_password == asked.password:
        raise Forbidden(
            "This password is good for one login", why="an admin has set it",
            fix="Log in with it and a `new_password` of your own", code="password_once",
        )  # fmt: skip
    check_password(asked.new_password, email_of(asked.email))
    return await passwords.hash(asked.new_password)


@router.post("/refresh", responses=told(401))
async def refresh(asked: Refresh, parts: OurParts) -> Tokens:
    """A new pair for a refresh token, which is spent then.

    One that was spent before has been stolen, or was the thief's: its whole login ends.
    """
    doors = parts.doors
    access, following = new_token(ACCESS), new_token(REFRESH)
    async with within(SECONDS, "The refresh"):
        outcome = await doors.users.rotate(
            hash_of(asked.refresh_token), _pair(doors.chosen, access, following)
        )
    match outcome:
        case Rotated():
            return _tokens(doors.chosen, access, following)
        case Reused(user_id):
            log.warning("login.refresh_reused", extra={"user": user_id})
            await doors.changed(user_id)
        case _:
            pass
    raise Unauthenticated(
        "This refresh token is not valid", fix="Log in: POST /api/v1/auth/login", code="refresh"
    )


@router.post("/logout", status_code=204)
async def logout(actor: LoggedIn, parts: OurParts) -> None:
    """End this login: its access and refresh tokens. Others and API keys go on."""
    async with within(SECONDS, "The logout"):
        await parts.doors.users.end_login_of(actor)
    await parts.doors.changed(actor.user_id)


@router.post("/password", status_code=204, responses=told(409, 429))
async def change_password(
    asked: NewPassword, request: Request, actor: LoggedIn, parts: OurParts
) -> None:
    """Another password. Every other login ends; API keys go on."""
    doors, address = parts.doors, address_of(request)
    check_password(asked.new_password, "")
    async with within(SECONDS, "The change"):
        who = await doors.users.begin_check(actor.user_id, address)
        if isinstance(await doors.passwords.check(asked.password, who.password), Wrong):
            raise Forbidden("The password of now is another one", code="password_wrong")
        hashed = await doors.passwords.hash(asked.new_password)
        changed = await doors.users.set_password(who, hashed, keep=actor.family)
    await doors.changed(actor.user_id)
    if not changed:
        raise Conflict("The password was changed meanwhile", code="password_changed")


def _wrong() -> Unauthenticated:
    """The same for an address nobody has."""
    return Unauthenticated("The address or the password is wrong", code="credentials")


def _pair(chosen: Accounts, access: Token, refresh: Token) -> Pair:
    return Pair(
        access.hash, timedelta(seconds=chosen.access), refresh.hash,
        timedelta(seconds=chosen.refresh),
    )  # fmt: skip


def _tokens(chosen: Accounts, access: Token, refresh: Token) -> Tokens:
    return Tokens(
        access_token=access.text, expires_in=int(chosen.access), refresh_token=refresh.text,
        refresh_expires_in=int(chosen.refresh),
    )  # fmt: skip


def _account(email: str) -> str:
    """An address as it may stand in a log."""
    return hash_of(email).hex()[:16]
