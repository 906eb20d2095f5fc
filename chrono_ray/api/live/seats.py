"""How many connections a user has, in all processes where Redis can count them, else in this one.

A seat counts as long as its process says that it is alive: those of a killed
one are free after `ALIVE_MS`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Final, cast
from uuid import uuid4

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chrono_ray.cache.link import AWAY

log = logging.getLogger(__name__)

PROCESS: Final = "chrono:live:process:"
ALIVE_MS: Final = 2000
SAY_SECONDS: Final = 0.5
CALL_SECONDS: Final = 0.25
WAIT_SECONDS: Final = 2.5
ASK_SECONDS: Final = 0.5
YES: Final = 1
NOT_YET: Final = -1
"""Some are held by others, whose process may be dead."""

_TAKE: Final = """
local mine = {}
for i = 6, #ARGV do mine[ARGV[i]] = true end
redis.call('SET', ARGV[1] .. ARGV[2], '1', 'PX', ARGV[3])
local taken, theirs = 0, 0
local seats = redis.pcall('SMEMBERS', KEYS[1])
if seats.err then  -- nobody's of ours
  redis.call('DEL', KEYS[1])
  seats = {}
end
for _, seat in ipairs(seats) do
  local process = string.match(seat, '^[^/]+')
  local other = process ~= ARGV[2] and redis.call('EXISTS', ARGV[1] .. process) == 1
  if mine[seat] or other then
    taken = taken + 1
    if other then theirs = theirs + 1 end
  else
    redis.call('SREM', KEYS[1], seat)
  end
end
if taken >= tonumber(ARGV[5]) then return theirs > 0 and -1 or 0 end
redis.call('SADD', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[1], 86400000)
return 1
"""


class Seats:
    """The connections of this process, each of a user who has at most `most`."""

    def __init__(self, url: str | None, *, most: int) -> None:
        self._redis = None
        if url is not None:
            self._redis = Redis.from_url(
                url, retry=Retry(NoBackoff(), 0), socket_timeout=CALL_SECONDS,
                socket_connect_timeout=CALL_SECONDS,
            )  # fmt: skip
        self._most = most
        self._process = uuid4().hex[:12]
        self._numbers = count(1)
        self._taken: defaultdict[int, set[str]] = defaultdict(set)
        self._left: list[tuple[int, str]] = []

    @asynccontextmanager
    async def seat(self, user_id: int) -> AsyncIterator[bool]:
        """One of the user's, for as long as the block lasts; False when there is none left.

        Where others hold them, it waits whether their process is dead.
        """
        name = f"{self._process}/{next(self._numbers)}"
        taken = self._taken[user_id]
        if len(taken) >= self._most:
            yield False
            return
        taken.add(name)
        try:
            yield await self._is_free(user_id, name)
        finally:
            taken.discard(name)
            if not taken:
                self._taken.pop(user_id, None)
            await self._leave(user_id, name)

    async def say_alive(self) -> None:
        """Until cancelled. A Redis that has forgotten us is told of our seats again."""
        while self._redis:
            try:
                if self._taken or self._left:
                    await self._say_alive(self._redis)
            except AWAY as error:
                log.debug("live.seats_untold", extra={"why": type(error).__name__})
            await asyncio.sleep(SAY_SECONDS)

    async def aclose(self) -> None:
        """Whatever is still held counts no more."""
        if self._redis:
            with suppress(*AWAY):
                await self._redis.delete(f"{PROCESS}{self._process}")
            await self._redis.aclose()

    async def _is_free(self, user_id: int, name: str) -> bool:
        """Without Redis each process counts its own."""
        ends = time.monotonic() + WAIT_SECONDS
        while True:
            told = await self._ask(user_id, name)
            if told != NOT_YET or time.monotonic() > ends:
                return told in (YES, None)
            await asyncio.sleep(ASK_SECONDS)

    async def _ask(self, user_id: int, name: str) -> int | None:
        if self._redis is None:
            return None
        mine = self._taken[user_id] - {name}
        arguments = (PROCESS, self._process, ALIVE_MS, name, self._most, *mine)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                asking = self._redis.eval(_TAKE, 1, _seats(user_id), *arguments)  # type: ignore[arg-type]  # numbers too
                return int(await cast("Awaitable[int]", asking))
        except AWAY as error:
            log.debug("live.seats_uncounted", extra={"why": type(error).__name__})
            return None

    async def _leave(self, user_id: int, name: str) -> None:
        """One that cannot be given back now is later."""
        self._left.append((user_id, name))
        if self._redis is None:
            self._left.clear()
            return
        with suppress(*AWAY):
            await self._give_back(self._redis)

    async def _give_back(self, redis: Redis) -> None:
        left, self._left = self._left, []
        try:
            async with asyncio.timeout(CALL_SECONDS), redis.pipeline(transaction=False) as wire:
                for user_id, name in left:
                    wire.srem(_seats(user_id), name)
                await wire.execute(raise_on_error=False)
        except BaseException:  # cancelled too
            self._left += left
            raise

    async def _say_alive(self, redis: Redis) -> None:
        key = f"{PROCESS}{self._process}"
        async with asyncio.timeout(CALL_SECONDS):
            known = await redis.set(key, "1", px=ALIVE_MS, get=True)
        if self._left:
            await self._give_back(redis)
        if known is None and self._taken:
            async with asyncio.timeout(SAY_SECONDS), redis.pipeline(transaction=False) as wire:
                for user_id, names in self._taken.items():
                    wire.sadd(_seats(user_id), *names)
                await wire.execute(raise_on_error=False)


def _seats(user_id: int) -> str:
    return f"chrono:live:seats:{user_id}"
