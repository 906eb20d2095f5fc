"""Who asks and what that allows: roles, scopes, and how wrong passwords are slowed down."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from chrono_ray.model.errors import InvalidInput

EMAIL_CHARS_MAX: Final = 254
PASSWORD_CHARS_MIN: Final = 10
PASSWORD_CHARS_MAX: Final = 256
GUESSED_FIRST: Final = frozenset(
    {"password12", "password123", "password1234", "1234567890", "12345678910", "qwertyuiop",
     "qwerty12345", "1q2w3e4r5t", "letmein1234", "iloveyou12", "changeme123", "administrator"}
)  # fmt: skip
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")

FREE_TRIES: Final = 5
FIRST_DELAY: Final = 30.0
LONGEST_DELAY: Final = 3600.0
TRIES_MOST: Final = 100
"""Wrong passwords in a row, from everywhere together (NIST SP 800-63B, 5.2.2)."""


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"


class UserState(StrEnum):
    """`pending` waits for an admin's approval; only `active` may log in."""

    PENDING = "pending"
    ACTIVE = "active"
    DISABLED = "disabled"


class Scope(StrEnum):
    """What a token may be used for; each holds those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class ProjectRole(StrEnum):
    """What somebody may do in a project; each holds those before it."""

    READ = "read"
    WRITE = "write"
    OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Grant:
    """A project that somebody sees."""

    project_id: int
    project: str
    role: ProjectRole


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, as the token shows. `family` is the login's; None for an API key.

    `grants` are the projects of one who is not an admin, and empty for an admin, who sees all.
    """

    user_id: int
    role: Role
    scopes: frozenset[Scope]
    token_id: int
    family: UUID | None
    grants: tuple[Grant, ...] = ()

    @property
    def is_admin(self) -> bool:
        """An admin, by a token that may be used as one."""
        return self.role is Role.ADMIN and Scope.ADMIN in self.scopes


def granted(scopes: Iterable[Scope], role: Role) -> frozenset[Scope]:
    """Everything that these scopes hold for a user of this role."""
    order = list(Scope)
    most = max((order.index(scope) for scope in scopes), default=-1)
    held = frozenset(order[: most + 1])
    return held if role is Role.ADMIN else held - {Scope.ADMIN}


def delay_after(failures: int) -> float:
    """Seconds until the next try of an account from an address, after so many in a row."""
    if failures < FREE_TRIES:
        return 0.0
    return float(min(FIRST_DELAY * 2.0 ** min(failures - FREE_TRIES, 32), LONGEST_DELAY))


DELAYS: Final = tuple(delay_after(n) for n in range(1, TRIES_MOST + 1))


def email_of(text: str) -> str:
    """The address as it is compared and kept: without case. `InvalidInput` for none."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    email = unicodedata.normalize("NFKC", folded).strip()
    if len(email) > EMAIL_CHARS_MAX or not _EMAIL.fullmatch(email) or not email.isprintable():
        raise InvalidInput("That is no e-mail address", fix="Write name@host", code="email")
    return email


def check_password(password: str, email: str) -> None:
    """`InvalidInput` for a new password that is too short, too long, or among the first guesses."""
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        why = f"from {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"
    elif len(set(password)) < 4 or password.casefold() in GUESSED_FIRST:
        why = "it is among the first that anybody would guess"
    elif password.casefold() in (email, email.partition("@")[0]):
        why = "it is the e-mail address"
    else:
        return
    raise InvalidInput("The password cannot be used", why=why, code="password")
