"""How processes tell each other: one of them looks and publishes, all of them hear it.

Who leads holds a key with a lifetime; publishing and renewing it are one step,
fenced by a token: whoever lost the key publishes nothing. A key without a
lifetime is nobody's of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, Final
from uuid import uuid4

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CHANNEL: Final = "chrono:live:news"
LEADER: Final = "chrono:live:leader"
LEASE_MS: Final = 3000
CALL_SECONDS: Final = 0.25
HEAR_SECONDS: Final = 2.5
SILENCES: Final = 4
"""So many `HEAR_SECONDS` without a word: the connection is opened anew."""
LISTEN_SECONDS: Final = 5.0

_LEAD: Final = """
local holder = redis.pcall('GET', KEYS[1])
if holder == ARGV[1] then return 1 end
if holder and redis.call('PTTL', KEYS[1]) > 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 2
"""
_PUBLISH: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('PUBLISH', KEYS[2], ARGV[3])
"""
_RESIGN: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Lead(IntEnum):
    """Who looks. `ANEW`: we do from now on, and another may have until now."""

    ANOTHER = 0
    STILL = 1
    ANEW = 2


class Channel:
    """One Redis. Every method raises one of `AWAY` when it does not answer in time."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=LISTEN_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
        )  # fmt: skip
        self._token = uuid4().hex

    async def lead(self) -> Lead:
        """Whether this process is the one that looks."""
        return Lead(await self._call(_LEAD, (LEADER,), self._token, LEASE_MS))

    async def publish(self, message: bytes) -> int | None:
        """How many processes hear it; None when another leads, and nothing was said."""
        heard = await self._call(_PUBLISH, (LEADER, CHANNEL), self._token, LEASE_MS, message)
        return None if heard < 0 else heard

    async def resign(self) -> None:
        """Another may lead at once."""
        await self._call(_RESIGN, (LEADER,), self._token)

    async def listen(
        self,
        began: Callable[[], Awaitable[None]],
        heard: Callable[[bytes], None],
        *,
        wanted: Callable[[], bool],
    ) -> None:
        """While it is wanted, until Redis goes away. `began` is awaited before all else."""
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            silences = 0
            while wanted() and silences < SILENCES:
                message = await channel.get_message(timeout=HEAR_SECONDS)
                silences = 0 if message else silences + 1
                match message:
                    case {"type": "subscribe"}:
                        await began()
                    case {"type": "message", "data": bytes() as data}:
                        heard(data)
                    case _:
                        pass

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _call(self, script: str, keys: tuple[str, ...], *arguments: Any) -> int:
        async with asyncio.timeout(CALL_SECONDS):
            told = await self._redis.eval(script, len(keys), *keys, *arguments)
        return int(told or 0)
