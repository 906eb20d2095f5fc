"""Users, their tokens, and requests that are safe to repeat.

Of tokens and keys only the SHA-256 comes here; of passwords only the argon2id.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

import asyncpg
import orjson

from chrono_ray.model.accounts import (
    DELAYS,
    TRIES_MOST,
    Actor,
    Grant,
    ProjectRole,
    Role,
    Scope,
    UserState,
    granted,
)
from chrono_ray.model.errors import Conflict, NotFound, TooOften, Unavailable
from chrono_ray.storage.database import Connection, Database, statements

PENDING_MOST: Final = 1000
KEYS_MOST: Final = 50
CLAIM: Final = timedelta(seconds=60)
EVERYBODY: Final = "anonymous"


@dataclass(frozen=True, slots=True)
class User:
    id: int
    email: str
    name: str
    role: Role
    state: UserState
    created_at: datetime
    approved_at: datetime | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A user to be; `password` is already hashed."""

    email: str
    password: str
    name: str = ""
    role: Role = Role.USER
    state: UserState = UserState.PENDING


@dataclass(frozen=True, slots=True)
class Known:
    """Who a token stands for, for so many seconds more."""

    actor: Actor
    seconds: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """Whose password is tried. `password` is None where there is no such user."""

    user_id: int
    state: UserState
    password: str | None


NOBODY: Final = Candidate(0, UserState.DISABLED, None)


@dataclass(frozen=True, slots=True)
class Pair:
    """A login's new tokens, as hashes, and how long each lasts."""

    access: bytes
    access_for: timedelta
    refresh: bytes
    refresh_for: timedelta


@dataclass(frozen=True, slots=True)
class Rotated:
    user_id: int


@dataclass(frozen=True, slots=True)
class Reused:
    """Somebody brought a token that was spent or ended: its whole login is ended now."""

    user_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Unknown, expired, or of a user who may not log in."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key to be; `prefix` is what people know it by."""

    hash: bytes
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class Key:
    id: int
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that may come again: `key` and `request` are hashes, `token` is this try's own."""

    key: bytes
    request: bytes
    token: UUID


@dataclass(frozen=True, slots=True)
class Ours:
    """Nobody has answered this request: work on it, then keep the answer."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the request was answered."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """The key was used for something else."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody works on this very request, for so many seconds more at most."""

    wait: float


ClaimOutcome = Ours | Kept | OtherRequest | Busy


class Users:
    """Who may ask. Emails are as `model.accounts.email_of` makes them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("users")

    async def authenticate(
        self, token: bytes, claim: Claim | None = None
    ) -> tuple[Known, ClaimOutcome | None] | None:
        """Who brings this token, and what becomes of their claim; None for nobody. One query."""
        row = await self._database.fetchrow(self._sql["authenticate"], token, *_arguments(claim))
        if row is None:
            return None
        return _known(row), _outcome(row) if claim else None

    async def begin_login(self, email: str, address: str) -> Candidate:
        """Leave to try a password, counted as a failure until `end_login`.

        `TooOften` for an account, known or not, that was tried too often.
        """
        return await self._begin(email, address, None)

    async def begin_check(self, user_id: int, address: str) -> Candidate:
        """The same for a user who is logged in."""
        return await self._begin(None, address, user_id)

    async def _begin(self, email: str | None, address: str, user_id: int | None) -> Candidate:
        row = await self._database.fetchrow(
            self._sql["begin_login"], email, address, DELAYS, TRIES_MOST, user_id
        )
        wait = row["wait"] if row else 0.0
        if wait > 0:
            raise TooOften(
                "Too many wrong passwords", retry_after=wait, code="login_delayed",
                fix="Wait; an admin can set the password anew",
            )  # fmt: skip
        if row is None or row["id"] is None:
            return NOBODY
        return Candidate(row["id"], UserState(row["state"]), row["password"])

    async def end_login(
        self, who: Candidate, address: str, pair: Pair, family: UUID, *, rehashed: str | None
    ) -> UserState | None:
        """The password was right: forgive what went before; an active user has the tokens now.

        None when the password was changed meanwhile.
        """
        state = await self._database.fetchval(
            self._sql["end_login"],
            who.user_id, address, family, pair.access, pair.access_for, pair.refresh,
            pair.refresh_for, who.password, rehashed,
        )  # fmt: skip
        return None if state is None else UserState(state)

    async def rotate(self, refresh: bytes, pair: Pair) -> Rotated | Reused | Refused:
        """A refresh token for a new pair, once."""
        row = await self._database.fetchrow(
            self._sql["rotate"],
            refresh, pair.access, pair.access_for, pair.refresh, pair.refresh_for,
        )  # fmt: skip
        outcome, user_id = row or ("unknown", 0)
        if outcome == "rotated":
            return Rotated(user_id)
        return Reused(user_id) if outcome == "reused" else Refused()

    async def end_login_of(self, actor: Actor) -> None:
        """All tokens of the actor's login."""
        await self._database.fetch(self._sql["end_family"], actor.family, actor.user_id)

    async def set_password(self, who: Candidate, password: str, *, keep: UUID | None) -> bool:
        """Another password, and no other login than `keep`; False when it was changed meanwhile."""
        changed = await self._database.fetchval(
            self._sql["set_password"], who.user_id, who.password, password, keep
        )
        return changed is not None

    async def reset_password(self, email: str, password: str) -> int:
        """Another password, whatever it was, and an end to all tokens. `NotFound` for nobody."""
        changed = await self._database.fetchval(self._sql["reset_password"], email, password)
        if changed is None:
            raise NotFound(f"There is no user {email!r}", fix="`chrono user list` names them")
        return int(changed)

    async def reset_password_of(self, user_id: int, password: str) -> None:
        """The same for a user by their number."""
        changed = await self._database.fetchval(self._sql["reset_password_of"], user_id, password)
        if changed is None:
            raise NotFound(f"There is no user {user_id}")

    async def add(self, who: Newcomer) -> int:
        """The new user's id. `Conflict` when the address is taken."""
        async with self._database.connection() as connection:
            found = await self.register(connection, who)
        if found is None:
            raise Conflict(f"There is a user {who.email!r} already", code="email_taken")
        return found

    async def register(self, connection: Connection, who: Newcomer) -> int | None:
        """The same in a transaction of the caller's; None when the address is taken.

        `Unavailable` when too many wait for approval, whoever has the address.
        """
        row = await connection.fetchrow(
            self._sql["add"],
            who.email, who.name, who.password, who.role, who.state, PENDING_MOST,
        )  # fmt: skip
        if row["is_full"]:
            raise Unavailable(
                "Too many wait for approval", why=f"{PENDING_MOST} do",
                fix="Try again when an admin has looked at them", code="registrations_full",
            )  # fmt: skip
        return cast("int | None", row["id"])

    async def first_admin(self, email: str, password: str) -> bool:
        """Make an admin where there is none; False where there is one."""
        made = await self._database.fetchval(self._sql["first_admin"], email, password)
        return made is not None

    async def has_admin(self) -> bool:
        """Whether anybody is one."""
        return bool(
            await self._database.fetchval("SELECT EXISTS (SELECT FROM users WHERE role = 'admin')")
        )

    async def user(self, user_id: int) -> User:
        """One of them; `NotFound` for nobody."""
        return _user(await self._database.fetchrow(self._sql["user"], user_id))

    async def id_of(self, email: str) -> int:
        """Whose address this is; `NotFound` for nobody's."""
        found = await self._database.fetchval("SELECT id FROM users WHERE email = $1", email)
        if found is None:
            raise NotFound(f"There is no user {email!r}", fix="`chrono user list` names them")
        return int(found)

    async def users(
        self, *, after: int = 0, state: UserState | None = None, limit: int = 100
    ) -> list[User]:
        """By id, those behind `after`."""
        rows = await self._database.fetch(self._sql["users"], after, state or "", limit)
        return [_user(row) for row in rows]

    async def rename(self, user_id: int, name: str) -> User:
        """`NotFound` for nobody."""
        return _user(await self._database.fetchrow(self._sql["rename"], user_id, name))

    async def change(
        self, user_id: int, *, role: Role | None = None, state: UserState | None = None
    ) -> User:
        """Approve, disable, promote. One who is disabled has no token any more.

        `NotFound` for nobody, `Conflict` when no active admin would be left.
        """

        async def work(connection: Connection) -> asyncpg.Record | None:
            rows = await connection.fetch(self._sql["lock_admins"], user_id)
            row = await connection.fetchrow(self._sql["change"], user_id, role, state)
            admins = {each["id"] for each in rows if each["is_admin"]}
            if row and admins == {user_id} and (row["role"], row["state"]) != ("admin", "active"):
                raise Conflict(
                    "Somebody must stay an admin", why="this is the last one", code="last_admin"
                )
            return row

        return _user(await self._database.transact(work))

    async def add_key(self, connection: Connection, user_id: int, key: NewKey) -> Key:
        """`Conflict` when the user has too many."""
        row = await connection.fetchrow(
            self._sql["add_key"],
            user_id, key.hash, key.name, key.prefix, key.scopes, key.lasts, KEYS_MOST,
        )  # fmt: skip
        if row is None:
            raise Conflict(
                "There are too many API keys", why=f"at most {KEYS_MOST} a user",
                fix="Delete one that is not used", code="too_many_keys",
            )  # fmt: skip
        return _key(row)

    async def keys(self, user_id: int, *, after: int, limit: int) -> list[Key]:
        """A user's API keys that were not deleted, expired ones too, oldest first behind one."""
        rows = await self._database.fetch(self._sql["keys"], user_id, after, limit)
        return [_key(row) for row in rows]

    async def end_key(self, user_id: int, key_id: int) -> None:
        """`NotFound` when the user has no such key."""
        if await self._database.fetchval(self._sql["end_key"], user_id, key_id) is None:
            raise NotFound(f"There is no API key {key_id}")

    async def claim(self, scope: str, claim: Claim) -> ClaimOutcome:
        """The right to work on a request, or what became of it."""
        row = await self._database.fetchrow(self._sql["claim_key"], scope, *_arguments(claim))
        return Ours() if row is None else _outcome(row)

    async def keep(self, connection: Connection, scope: str, claim: Claim, *, answer: Kept) -> None:
        """In the transaction of the work itself. `Conflict` when the claim was lost meanwhile."""
        kept = await connection.fetchval(
            self._sql["keep_answer"], scope, claim.key, claim.token, answer.status, answer.body
        )
        if kept is None:
            raise Conflict("Somebody else answers this request now", code="idempotency_lost")

    async def release(self, scope: str, claim: Claim) -> None:
        """The request came to nothing: it may be tried again, with another body too."""
        await self._database.fetch(self._sql["release_key"], scope, claim.key, claim.token)


def scope_of(actor: Actor) -> str:
    """Whose requests are told apart by their keys."""
    return f"user {actor.user_id}"


def _arguments(claim: Claim | None) -> tuple[Any, ...]:
    if claim is None:
        return (None, None, None, None)
    return (claim.key, claim.request, claim.token, CLAIM)


def _outcome(row: asyncpg.Record) -> ClaimOutcome:
    match row["outcome"]:
        case "ours":
            return Ours()
        case "kept":
            return Kept(row["status"], row["body"])
        case "other":
            return OtherRequest()
        case _:
            return Busy(max(row["wait"], 1.0))


def _known(row: asyncpg.Record) -> Known:
    role = Role(row["role"])
    grants: list[tuple[int, str, str]] = orjson.loads(row["grants"] or "[]")
    actor = Actor(
        row["user_id"], role, granted(_scopes(row["scopes"]), role), row["id"], row["family"],
        tuple(Grant(number, name, ProjectRole(held)) for number, name, held in grants),
    )  # fmt: skip
    return Known(actor, row["seconds"])


def _user(row: asyncpg.Record | None) -> User:
    if row is None:
        raise NotFound("There is no such user")
    values = dict(row)
    return User(**{**values, "role": Role(values["role"]), "state": UserState(values["state"])})


def _key(row: asyncpg.Record) -> Key:
    return Key(**{**dict(row), "scopes": _scopes(row["scopes"])})


def _scopes(names: Collection[str]) -> tuple[Scope, ...]:
    return tuple(Scope(name) for name in names)
