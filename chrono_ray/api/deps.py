"""What a route may ask for: who asks, what they may do, and a request that may come again.

`Reader`, `Writer` and `Admin` are the actor of the request, whose token may be
used for that; `LoggedIn` came by a password. `WriterOnce` and `AnybodyOnce`
are for what a POST creates: with an `Idempotency-Key` it is created once.

All of them are coroutines: FastAPI sends any other function to a thread, which
costs a request more than everything they do.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Final, TypeVar, assert_never
from uuid import uuid4

from fastapi import Depends, Header, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Scope as AsgiScope

from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import IDEMPOTENCY_BUSY
from chrono_ray.api.tokens import ACCESS, CHARS_MAX, KEY, hash_of
from chrono_ray.model.accounts import Actor, Scope
from chrono_ray.model.errors import (
    ChronoError,
    Conflict,
    Forbidden,
    Unauthenticated,
)
from chrono_ray.storage.database import Connection
from chrono_ray.storage.users import (
    EVERYBODY,
    Busy,
    Claim,
    ClaimOutcome,
    Kept,
    OtherRequest,
    Ours,
    scope_of,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

AUTH_SECONDS: Final = 5.0
WORK_SECONDS: Final = 20.0
ACTOR: Final = "actor"
"""Of a request's state: who asks."""
KEY_HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"

BEARER: Final = "An access token of POST /auth/login, or an API key"
_bearer = HTTPBearer(auto_error=False, description=BEARER)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=KEY_HEADER, min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$",
        description="The same key and request within a day: the same answer, and no second effect",
    ),
]  # fmt: skip


async def json_only(request: Request) -> None:
    """415 for a body that is not what the route reads."""
    headers = request.headers
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if empty or getattr(request.scope.get("route"), "body_field", None) is None:
        return
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415)


def token_in(authorization: str) -> bytes | None:
    """The hash of the token that an `Authorization` header brings; None where it brings none."""
    scheme, _, text = authorization.partition(" ")
    return hashed(text.strip()) if scheme.lower() == "bearer" else None


def hashed(text: str) -> bytes | None:
    """By which a token is known; None for what cannot be one."""
    if not text.startswith((ACCESS, KEY)) or len(text) > CHARS_MAX:
        return None
    return hash_of(text)


def seen(scope: AsgiScope, actor: Actor) -> None:
    """It is this one who asks: for whoever tells of the request, or of its answer."""
    state = scope.setdefault("state", {})
    state[ACTOR], state["user"], state["admin"] = actor, actor.user_id, actor.is_admin


def address_of(request: Request) -> str:
    """Where the request comes from, as failures are counted: a network of IPv6 is one place."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


class Known(HTTPBearer):
    """The actor of a request, and whether they may: one dependency.

    Each further one costs a read that the cache answers a tenth of its time.
    """

    def __init__(self, check: Callable[[Actor], Actor]) -> None:
        super().__init__(auto_error=False, scheme_name=_bearer.scheme_name, description=BEARER)
        self._check = check

    async def __call__(self, request: Request) -> Actor:  # type: ignore[override]  # more than credentials
        token = _there(token_in(request.headers.get("authorization", "")))
        parts: Parts = request.app.state.parts
        actor = parts.doors.sessions.known(token)
        if actor is None:
            async with within(AUTH_SECONDS, "Looking up the token"):
                actor = await parts.doors.sessions.actor(token)
        found = _there(actor)
        seen(request.scope, found)
        return self._check(found)


def allowed(actor: Actor, scope: Scope) -> Actor:
    """The actor; `Forbidden` when the token may not be used for this, or the user is no admin."""
    if scope in actor.scopes:
        return actor
    raise Forbidden(f"This needs the scope {scope.value!r}", code="scope")


def by_password(actor: Actor) -> Actor:
    """The actor; `Forbidden` when the token is an API key."""
    if actor.family is None:
        raise Forbidden(
            "An API key cannot do this", fix="Log in with the password", code="login_needed"
        )
    return actor


Reader = Annotated[Actor, Depends(Known(partial(allowed, scope=Scope.READ)))]
Writer = Annotated[Actor, Depends(Known(partial(allowed, scope=Scope.WRITE)))]
Admin = Annotated[Actor, Depends(Known(partial(allowed, scope=Scope.ADMIN)))]
LoggedIn = Annotated[Actor, Depends(Known(by_password))]


@dataclass(frozen=True, slots=True)
class Made:
    """What a POST made. `again` is the answer to whoever repeats it, where that is another."""

    status: int
    answer: BaseModel
    again: BaseModel | None = None


class Once:
    """A request that may come again: its work is done in one transaction with its answer."""

    def __init__(self, parts: Parts, scope: str, claim: Claim | None, kept: Kept | None) -> None:
        self._parts = parts
        self._scope = scope
        self._claim = claim
        self._kept = kept

    async def answer(self, work: Callable[[Connection], Awaitable[Made]]) -> Response:
        """Do it, or say again what was answered when it was done."""
        if self._kept:
            return _json(self._kept.body, self._kept.status, {REPLAYED: "true"})

        async def both(connection: Connection) -> Made:
            made = await work(connection)
            if self._claim:
                kept = Kept(made.status, _bytes(made.again or made.answer))
                users = self._parts.doors.users
                await users.keep(connection, self._scope, self._claim, answer=kept)
            return made

        async with within(WORK_SECONDS, "The request"):
            made = await self._parts.record.transact(both)
        self._claim = None
        return _json(_bytes(made.answer), made.status, {})

    async def give_up(self) -> None:
        """It came to nothing: it may be tried again, otherwise too."""
        if self._claim and not self._kept:
            with suppress(ChronoError):
                await self._parts.doors.users.release(self._scope, self._claim)


@dataclass(frozen=True, slots=True)
class ActorOnce:
    """Who asks, and what they want once."""

    actor: Actor
    once: Once


async def _writer_once(
    request: Request, parts: OurParts, credentials: Credentials, key: IdempotencyKey = None
) -> AsyncIterator[ActorOnce]:
    token = _there(hashed(credentials.credentials if credentials else ""))
    claim = await _claim(request, key)
    sessions = parts.doors.sessions
    async with within(AUTH_SECONDS, "Looking up the token"):
        known, outcome = sessions.known(token), None
        if claim and known:
            outcome = await parts.doors.users.claim(scope_of(known), claim)
        elif claim:
            known, outcome = await sessions.ask(token, claim)
        else:
            known = await sessions.actor(token)
    actor = _there(known)
    seen(request.scope, actor)
    once = Once(parts, scope_of(actor), claim, _kept(outcome))
    try:
        yield ActorOnce(allowed(actor, Scope.WRITE), once)
    finally:
        await once.give_up()


async def _anybody_once(
    request: Request, parts: OurParts, key: IdempotencyKey = None
) -> AsyncIterator[Once]:
    claim, outcome = await _claim(request, key), None
    scope = f"{EVERYBODY} {address_of(request)}"
    if claim:
        async with within(AUTH_SECONDS, "Looking up the request"):
            outcome = await parts.doors.users.claim(scope, claim)
    once = Once(parts, scope, claim, _kept(outcome))
    try:
        yield once
    finally:
        await once.give_up()


WriterOnce = Annotated[ActorOnce, Depends(_writer_once)]
AnybodyOnce = Annotated[Once, Depends(_anybody_once)]


def _there(found: T | None) -> T:
    """One answer for every token that is none, so that nobody learns which it was."""
    if found is None:
        raise Unauthenticated(
            "This needs a valid token",
            fix="Log in: POST /api/v1/auth/login, then Authorization: Bearer",
        )
    return found


async def _claim(request: Request, key: str | None) -> Claim | None:
    """By hashes: a body may hold a password, so what tells requests apart is keyed by the key."""
    if key is None:
        return None
    raw = key.encode()
    said = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    content = hmac.digest(raw, said + await request.body(), "sha256")
    return Claim(sha256(raw).digest(), content, uuid4())


def _kept(outcome: ClaimOutcome | None) -> Kept | None:
    match outcome:
        case None | Ours():
            return None
        case Kept():
            return outcome
        case OtherRequest():
            raise Conflict(
                f"This {KEY_HEADER} was used for another request", fix="Choose a new one",
                code="idempotency_other",
            )  # fmt: skip
        case Busy():
            raise Conflict(
                "This very request is being answered", fix="Try again", code=IDEMPOTENCY_BUSY
            )
        case _:
            assert_never(outcome)


def _bytes(answer: BaseModel) -> bytes:
    return answer.model_dump_json(by_alias=True).encode()


def _json(body: bytes, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, headers, "application/json")
