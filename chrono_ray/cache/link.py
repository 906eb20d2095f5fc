"""One Redis or Valkey: it answers within a deadline, or it is passed by."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as WireError
from redis.exceptions import ReadOnlyError, RedisError

from chrono_ray.cache.wire import Values, Wire
from chrono_ray.model.errors import Unavailable

AWAY: Final = (RedisError, OSError, TimeoutError)
"""What asking Redis raises when there is no answer to be had."""
FIRST_REST: Final = 0.1
"""Seconds without a call after a failure: it may be a hiccup."""
REST: Final = 1.0
"""The same after a further one, so that an outage is not paid for by every read."""
CONNECTIONS: Final = 4
"""One process is not faster with more, and slower where all are opened at once."""
OPERATORS: Final = 2
"""Beside them, for `ask_long`."""
ROOM_SECONDS: Final = 0.5
"""How long a call waits for one of them."""
CONNECT_SECONDS: Final = 0.3
"""How long it may take to open one: several round trips, and most of them when all is busy."""
WIRE_SECONDS: Final = 5.0
"""For redis-py, which never gets to it: `_limit` comes first."""
LATE: Final = 0.02
"""A deadline noticed so many seconds late says that this process is busy, not the server."""
LATE_MOST: Final = 3
"""And so often in a row, that it may be both."""
OUTAGE_FALLS: Final = 3
"""Failures in a row, a rest between them, that make an outage of a hiccup."""

T = TypeVar("T")
Meeting = Callable[[AbstractConnection, bytes], Awaitable[None]]

_RUN_ID: Final = re.compile(rb"run_id:([0-9a-f]+)")
_ROLE: Final = re.compile(rb"role:(\w+)")

_limit: ContextVar[asyncio.Timeout | None] = ContextVar("limit", default=None)

log = logging.getLogger(__name__)


def allow(seconds: float) -> None:
    """So many seconds from now for the call under way; one whose time is over is ending."""
    limit = _limit.get()
    if limit and not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time() + seconds)


class Link:
    """Connections to one server, none of them opened before it is needed.

    `met` is called for each new connection with the server's run id: another
    one than before says that it was started again, and may have forgotten.
    """

    def __init__(self, url: str, *, deadline: float, met: Meeting) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS + OPERATORS,
            timeout=None,  # whoever has room has a connection
            retry=Retry(NoBackoff(), 0),
            socket_timeout=WIRE_SECONDS,
            socket_connect_timeout=WIRE_SECONDS,
            redis_connect_func=self._meet,
        )
        self._pool = pool
        self._redis = Redis.from_pool(pool)
        self._wire: Wire | None = None
        self._wiring = asyncio.Lock()
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._opening = asyncio.Lock()
        self._met = met
        self._deadline = deadline
        self._resting_until = 0.0
        self._falls = 0
        self._late = 0
        self._same_until = 0.0
        self._outages = 0

    @property
    def outages(self) -> int:
        """How many outages are over: what was said meanwhile may not have been heard."""
        return self._outages

    @property
    def in_outage(self) -> bool:
        """Whether one is under way."""
        return self._falls >= OUTAGE_FALLS

    async def ask(
        self, what: Callable[[Redis], Awaitable[T]], *, knocking: bool = False
    ) -> T | None:
        """The server's answer, or None when there is none to be had in time, whatever the reason.

        `knocking` asks even while everybody else passes it by.
        """
        try:
            async with asyncio.timeout(max(ROOM_SECONDS, self._deadline)):
                await self._room.acquire()
        except TimeoutError:
            return None
        try:
            return None if self._passed_by() and not knocking else await self._asked(what)
        finally:
            self._room.release()

    async def read(self, question: bytes) -> Values | None:
        """The same for a question of `wire.mget`, of which any number goes over one connection."""
        return None if self._passed_by() else await self._asked(lambda _: self._read(question))

    async def ask_long(self, what: Callable[[Redis], Awaitable[T]], *, seconds: float) -> T:
        """For what an operator asks: its own deadline, and `Unavailable` without an answer."""
        try:
            async with asyncio.timeout(seconds):
                _limit.set(None)
                found = await what(self._redis)
        except AWAY as error:
            raise Unavailable(
                "The cache does not answer",
                why=type(error).__name__,
                fix="Reads go on without it, only slower",
            ) from error
        self._answered()
        return found

    async def refused(self, error: Exception) -> None:
        """A write was refused. A server that takes none is no cache: its reads grow old."""
        if isinstance(error, ReadOnlyError):
            await self._fell(error)

    async def aclose(self) -> None:
        if self._wire:
            self._wire.close()
        await self._redis.aclose()

    async def _read(self, question: bytes) -> Values:
        wire = self._wire
        if wire is None or wire.closed:
            wire = await self._wired()
        return await wire.ask(question)

    async def _wired(self) -> Wire:
        """One opens it, the others wait for that, longer than for an answer."""
        falls = self._falls
        allow(max(ROOM_SECONDS, self._deadline))
        async with self._wiring:
            if self._falls > falls:
                raise WireError("It did not answer another one meanwhile")
            if self._wire is None or self._wire.closed:
                self._unwire()
                self._wire = await self._opened()
        allow(self._deadline)
        return self._wire

    async def _opened(self) -> Wire:
        """What ended the one before has ended those that idle too."""
        await self._pool.disconnect(inuse_connections=False)
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            return Wire(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _unwire(self, seconds: float = 0.0) -> None:
        """What is under way on it may end within so many seconds."""
        wire, self._wire = self._wire, None
        if wire:
            wire.retire(seconds)

    async def _asked(self, what: Callable[[Redis], Awaitable[T]]) -> T | None:
        limit = asyncio.timeout(self._deadline)
        try:
            async with limit:
                _limit.set(limit)
                found = await what(self._redis)
        except TimeoutError as error:
            if not self._was_late(limit):
                await self._fell(error)
            return None
        except (RedisError, OSError) as error:
            await self._fell(error)
            return None
        self._answered()
        return found

    async def _meet(self, connection: AbstractConnection) -> None:
        """A new connection, as redis-py has it met before its first use.

        One that was given up in the middle goes: redis-py would use it as if it had been met.
        """
        try:
            await self._in_turn(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def _in_turn(self, connection: AbstractConnection) -> None:
        """One after the other. The call that needs a new connection may take longer for it."""
        allow(max(ROOM_SECONDS, self._deadline))
        falls = self._falls
        async with self._opening:
            if self._falls > falls:
                raise WireError("It did not answer another one meanwhile")
            allow(max(CONNECT_SECONDS, self._deadline))
            await self._greet(connection)
        allow(self._deadline)

    async def _greet(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "server", "replication")
        told = bytes(await connection.read_response())
        role, run_id = _ROLE.search(told), _RUN_ID.search(told)
        if role is None or run_id is None or role[1] != b"master":
            raise ReadOnlyError("It copies another server")
        await self._met(connection, run_id[1])

    def _passed_by(self) -> bool:
        """One caller in a rest's length tries, the others do not wait for what becomes of it."""
        if not self._falls:
            return False
        now = time.monotonic()
        if now < self._resting_until:
            return True
        self._resting_until = now + REST
        return False

    def _was_late(self, limit: asyncio.Timeout) -> bool:
        """Whether this process was too busy to notice the deadline; not for ever, though."""
        when = limit.when()
        if when is None or asyncio.get_running_loop().time() - when < LATE:
            return False
        self._late += 1
        return self._late < LATE_MOST

    async def _fell(self, error: Exception) -> None:
        if isinstance(error, ReadOnlyError):
            with contextlib.suppress(*AWAY):
                async with asyncio.timeout(self._deadline):
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
        now = time.monotonic()
        if now < self._same_until:
            return  # it is the same failure, met by another caller
        self._falls += 1
        rest = FIRST_REST if self._falls == 1 else REST
        self._resting_until, self._same_until = now + rest, now + rest / 2
        self._unwire(self._deadline)
        if self._falls == 1:
            log.warning("cache.away", extra={"why": type(error).__name__})

    def _answered(self) -> None:
        self._late = 0
        if not self._falls:
            return
        if self.in_outage:
            self._outages += 1
        self._falls = 0
        self._resting_until = self._same_until = 0.0
        log.info("cache.back")
