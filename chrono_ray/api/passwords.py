"""Passwords as argon2id: off the event loop, few at once, as slow for nobody as for somebody."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from chrono_ray.model.errors import Unavailable
from chrono_ray.settings import Accounts

ONCE: Final = "once "
"""Before what is kept of a password that is good for one login."""
LANES: Final = 1
WAITING: Final = 64
"""Passwords that wait to be hashed; the next one is told to come again."""
SECONDS: Final = 20.0
RANDOM_BYTES: Final = 15

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wrong:
    """Another password, or nobody's."""


@dataclass(frozen=True, slots=True)
class Right:
    """`rehashed` is the password as it is hashed today, where it was hashed another way.

    `once`: it is good for one login, which must bring another.
    """

    rehashed: str | None
    once: bool = False


class Passwords:
    """Hashes and checks; `memory` in KiB, at most `at_once` of them at the same moment."""

    def __init__(self, *, memory: int, passes: int, at_once: int) -> None:
        self._hasher = PasswordHasher(
            time_cost=passes, memory_cost=memory, parallelism=LANES, type=Type.ID
        )
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys = ""

    @classmethod
    def of(cls, chosen: Accounts) -> Self:
        """As the settings have it."""
        return cls(memory=chosen.hash_memory, passes=chosen.hash_passes, at_once=chosen.hashes)

    async def hash(self, password: str) -> str:
        """The password as it may be kept. `Unavailable` when too many wait."""
        return await self._apart(lambda: self._hasher.hash(_bytes(password)))

    async def check(self, password: str, kept: str | None) -> Right | Wrong:
        """Whether it is the one that is kept; None (nobody has one) takes as long."""
        return await self._apart(lambda: self._check(_bytes(password), kept))

    def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, password: bytes, kept: str | None) -> Right | Wrong:
        once = kept is not None and kept.startswith(ONCE)
        kept = kept.removeprefix(ONCE) if kept else kept
        try:
            self._hasher.verify(kept or self._of_nobody(), password)
        except (VerificationError, InvalidHashError):
            return Wrong()
        if kept is None:
            return Wrong()
        outdated = self._hasher.check_needs_rehash(kept)
        return Right(self._hasher.hash(password) if outdated and not once else None, once)

    def _of_nobody(self) -> str:
        if not self._nobodys:
            self._nobodys = self._hasher.hash(secrets.token_bytes())
        return self._nobodys

    async def _apart(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError as error:
            raise _busy() from error
        finally:
            self._waiting -= 1


def for_one_login(hashed: str) -> str:
    """A hashed password as it is kept where whoever logs in by it must set another."""
    return ONCE + hashed


def random_password() -> str:
    """120 random bits, for a person to copy once."""
    return secrets.token_urlsafe(RANDOM_BYTES)


def _bytes(password: str) -> bytes:
    """The same password from every keyboard (NIST SP 800-63B, 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _busy() -> Unavailable:
    return Unavailable("Too many passwords are checked now", fix="Try again", code="busy")
