"""Accounts over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field as Rule
from pydantic import StringConstraints

from chrono_ray.api.schemas import Answer, Asked
from chrono_ray.model.accounts import PASSWORD_CHARS_MAX, Role, Scope, UserState
from chrono_ray.storage.users import Key, User

Email = Annotated[str, StringConstraints(min_length=3, max_length=320)]
Password = Annotated[str, Rule(min_length=1, max_length=PASSWORD_CHARS_MAX, repr=False)]
Secret = Annotated[str, Rule(min_length=1, max_length=100, repr=False)]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Days = Annotated[int, Rule(ge=1, le=3650)]


class Registration(Asked):
    """Who wants to become a user."""

    email: Email
    password: Password
    name: Name = ""


class Registered(Answer):
    """The same whether the address was free or taken: nobody learns who has an account."""

    email: str
    state: UserState
    detail: str


class Login(Asked):
    """An address and its password.

    With a password that an admin has set also the one to come: that is good for one login.
    """

    email: Email
    password: Password
    new_password: Annotated[
        str | None, Rule(min_length=1, max_length=PASSWORD_CHARS_MAX, repr=False)
    ] = None


class Refresh(Asked):
    """The last refresh token that was given out."""

    refresh_token: Secret


class NewPassword(Asked):
    """The password of now, and the one that is to be."""

    password: Password
    new_password: Password


class Tokens(Answer):
    """`expires_in` and `refresh_expires_in` in seconds. A refresh token is used once."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 (RFC 6750's name for it)
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


class UserAnswer(Answer):
    """A user; `seen_at` is the last login."""

    id: int
    email: str
    name: str
    role: Role
    state: UserState
    created_at: datetime
    approved_at: datetime | None
    seen_at: datetime | None

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            id=user.id, email=user.email, name=user.name, role=user.role, state=user.state,
            created_at=user.created_at, approved_at=user.approved_at, seen_at=user.seen_at,
        )  # fmt: skip


class UsersAnswer(Answer):
    """Users by id."""

    items: list[UserAnswer]
    next: str | None


class OneTimePassword(Answer):
    """A password that is good for one login, which must bring another. It is shown once."""

    user: int
    password: str


class UserPatch(Asked):
    """What users may change of themselves."""

    name: Name


class UserChange(Asked):
    """What an admin may change. `active` approves, `disabled` ends all of the user's tokens."""

    role: Role | None = None
    state: Literal[UserState.ACTIVE, UserState.DISABLED] | None = None


class KeyRequest(Asked):
    """An API key to be. Each scope holds those before it: read, write, admin."""

    name: Annotated[Name, Rule(min_length=1)]
    scopes: Annotated[
        list[Scope], Rule(min_length=1, max_length=len(Scope), default_factory=lambda: [Scope.READ])
    ]
    expires_in_days: Days = 90


class KeyAnswer(Answer):
    """An API key, known by its first characters."""

    id: int
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None

    @classmethod
    def of(cls, key: Key) -> Self:
        return cls(
            id=key.id, name=key.name, prefix=key.prefix, scopes=list(key.scopes),
            created_at=key.created_at, expires_at=key.expires_at, used_at=key.used_at,
        )  # fmt: skip


class NewKeyAnswer(KeyAnswer):
    """`key` is shown once: a repeated request gets it empty."""

    key: str


class KeysAnswer(Answer):
    """A user's API keys, oldest first."""

    items: list[KeyAnswer]
    next: str | None
