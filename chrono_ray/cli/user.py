"""`chrono user`: who may ask over HTTP, for whoever runs the machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import orjson

from chrono_ray import wiring
from chrono_ray.api.passwords import Passwords, random_password
from chrono_ray.cli.machine import connected
from chrono_ray.model.accounts import Role, UserState, check_password, email_of
from chrono_ray.settings import Settings
from chrono_ray.storage.users import Newcomer, User, Users

FIRST_ADMIN = "admin@localhost"
PAGE = 1000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """A password that was made up here: shown once, kept only as a hash."""

    email: str
    password: str


def add(email: str, name: str, *, admin: bool, stdin: bool, json: bool) -> int:
    """A new active user with a password of ours, or the one on stdin."""
    address = email_of(email)
    role = Role.ADMIN if admin else Role.USER

    async def work(users: Users, passwords: Passwords) -> Shown:
        password, hashed = await _password(passwords, address, stdin=stdin)
        await users.add(Newcomer(address, hashed, name, role=role, state=UserState.ACTIVE))
        return Shown(address, password)

    return _tell(_with_users(work), json=json)


def approve(email: str, *, json: bool) -> int:
    """Let somebody log in who registered, or who was disabled."""

    async def work(users: Users, _passwords: Passwords) -> User:
        return await users.change(await users.id_of(email_of(email)), state=UserState.ACTIVE)

    user = _with_users(work)
    sys.stdout.write((_json(user) if json else f"{user.email} may log in") + "\n")
    return 0


def set_password(email: str, *, stdin: bool, json: bool) -> int:
    """Another password. All of the user's tokens and API keys end."""
    address = email_of(email)

    async def work(users: Users, passwords: Passwords) -> Shown:
        password, hashed = await _password(passwords, address, stdin=stdin)
        await users.reset_password(address, hashed)
        return Shown(address, password)

    return _tell(_with_users(work), json=json)


def list_users(*, json: bool) -> int:
    """Everybody, a line each."""

    async def work(users: Users, _passwords: Passwords) -> list[User]:
        found: list[User] = []
        while page := await users.users(after=found[-1].id if found else 0, limit=PAGE):
            found += page
        return found

    line = _json if json else _line
    sys.stdout.writelines(line(user) + "\n" for user in _with_users(work))
    return 0


def first_admin(settings: Settings) -> Shown | None:
    """Make an admin where there is none, on a first start; None where there is one."""

    async def work(users: Users, passwords: Passwords) -> Shown | None:
        if await users.has_admin():
            return None
        shown = Shown(FIRST_ADMIN, random_password())
        made = await users.first_admin(shown.email, await passwords.hash(shown.password))
        return shown if made else None

    return _on(settings, work)


def _with_users(work: Callable[[Users, Passwords], Awaitable[T]]) -> T:
    with connected() as settings:
        return _on(settings, work)


def _on(settings: Settings, work: Callable[[Users, Passwords], Awaitable[T]]) -> T:
    async def opened() -> T:
        record = wiring.database(settings, pool_size=1, name="chrono user")
        passwords = Passwords.of(settings.accounts)
        try:
            return await work(Users(record), passwords)
        finally:
            passwords.aclose()
            await record.aclose()

    return asyncio.run(opened())


async def _password(passwords: Passwords, email: str, *, stdin: bool) -> tuple[str, str]:
    """A password to show (none where its owner typed it), and its hash."""
    if not stdin:
        made = random_password()
        return made, await passwords.hash(made)
    typed = sys.stdin.readline().rstrip("\r\n")
    check_password(typed, email)
    return "", await passwords.hash(typed)


def _tell(shown: Shown, *, json: bool) -> int:
    if json:
        told = {"email": shown.email}
        made = {"password": shown.password} if shown.password else {}
        sys.stdout.write(orjson.dumps({**told, **made}).decode() + "\n")
    elif shown.password:
        sys.stdout.write(f"{shown.email}: {shown.password}  (shown this once)\n")
    else:
        sys.stdout.write(f"{shown.email} has this password now\n")
    return 0


def _line(user: User) -> str:
    name = f" ({user.name})" if user.name else ""
    return f"{user.email}{name}: {user.role}, {user.state}, since {user.created_at:%Y-%m-%d}"


def _json(user: User) -> str:
    return orjson.dumps(user, option=orjson.OPT_UTC_Z).decode()
