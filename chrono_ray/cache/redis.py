"""Finished JSON answers in Redis or Valkey, for a while.

Nothing depends on it: a dead, slow or poisoned server costs a few
milliseconds and an entry is a miss. Values are JSON bytes behind a version
line, never pickle, so writing to the cache never runs code in a reader.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from chrono_ray.model.errors import Unavailable

DEADLINE: Final = 0.04
"""Seconds that one call may take before the cache is passed by."""

REST: Final = 1.0
"""Seconds without a call after a failure, so that an outage is not paid for by every read."""

VALUE_BYTES_MAX: Final = 1024 * 1024
"""Larger answers are not kept: reading them back would break the deadline."""

_CONNECTIONS: Final = 32
_TAG_MS: Final = 2 * 3600 * 1000


class Ttl(float, Enum):
    """How long an answer may be kept, in seconds."""

    GLANCE = 1.0
    """Progress while somebody watches."""
    SHORT = 5.0
    MEDIUM = 60.0
    STATISTICS = 600.0
    """A project's, which a change ends before."""
    LONG = 3600.0
    """What never changes, as long as it exists."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """What became of the calls so far.

    `corrupt` counts misses whose value was there but no JSON of this version;
    `bypassed` the reads and writes that an outage passed by.
    """

    hits: int = 0
    misses: int = 0
    corrupt: int = 0
    bypassed: int = 0


class JsonCache:
    """JSON bytes by key, with a lifetime.

    `version` names the shape of the values: change it when that changes, and
    everything older is a miss. Constructing it opens no connection.
    """

    def __init__(
        self, url: str, *, version: str, prefix: str = "chrono", deadline: float = DEADLINE
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=deadline,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=deadline,
            socket_connect_timeout=deadline,
        )
        self._redis = Redis.from_pool(pool)
        self._mark = f"chrono-json {version}\n".encode()
        self._prefix = prefix
        self._deadline = deadline
        self._resting_until = 0.0
        self._away = False
        self._counts = CacheCounts()

    @property
    def counts(self) -> CacheCounts:
        return self._counts

    async def get(self, key: str) -> bytes | None:
        """The JSON kept under a key; None when there is none to be had, whatever the reason."""
        if self._passed_by():
            return None
        try:
            async with asyncio.timeout(self._deadline):
                value = await self._redis.get(self._name(key))
        except ResponseError as error:  # the key holds another type, or is not ours to read
            self._corrupt(key, str(error))
            return None
        except (RedisError, OSError, TimeoutError) as error:
            self._fell(error)
            return None
        self._answered()
        return self._checked(key, value)

    async def set(self, key: str, body: bytes, *, ttl: float) -> None:
        """Keep JSON for `ttl` seconds. Never raises for what the cache does or is."""
        if len(body) > VALUE_BYTES_MAX or self._passed_by():
            return
        try:
            async with asyncio.timeout(self._deadline):
                await self._redis.set(
                    self._name(key), self._mark + body, px=max(int(ttl * 1000), 1)
                )
        except (RedisError, OSError, TimeoutError) as error:
            self._fell(error)
            return
        self._answered()

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[bytes]],
        *,
        ttl: float,
        tags: Sequence[str] = (),
    ) -> bytes:
        """The kept answer, or a computed one, which is then kept. Raises only what `compute` does.

        The key must hold everything the answer depends on, the asking user's
        rights above all; `tags` name what it tells of, for `invalidate`.
        """
        versions = await self._versions(tags)
        if versions is None:
            return await compute()
        whole = f"{key}\n{versions}" if tags else key
        kept = await self.get(whole)
        if kept is not None:
            return kept
        body = await compute()
        await self.set(whole, body, ttl=ttl)
        return body

    async def invalidate(self, *tags: str) -> None:
        """End every answer that carries one of these tags. Never raises for what the cache does."""
        if not tags or self._passed_by():
            return
        try:
            async with asyncio.timeout(self._deadline):
                await self._redis.delete(*(self._name(f"tag:{tag}") for tag in tags))
        except (RedisError, OSError, TimeoutError) as error:
            self._fell(error)
            return
        self._answered()

    async def _versions(self, tags: Sequence[str]) -> str | None:
        """What the tags are at: random, so that what was computed before a change stays of before.

        None when that cannot be told.
        """
        if not tags:
            return ""
        if self._passed_by():
            return None
        new = secrets.token_hex(8)
        try:
            async with asyncio.timeout(self._deadline), self._redis.pipeline(False) as wire:
                for tag in tags:
                    wire.set(self._name(f"tag:{tag}"), new, px=_TAG_MS, nx=True, get=True)
                found = await wire.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._fell(error)
            return None
        self._answered()
        return " ".join(new if each is None else each.decode() for each in found)

    async def ping(self) -> None:
        """Ask the server, even while resting: `Unavailable` when it does not answer in time."""
        try:
            async with asyncio.timeout(self._deadline):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(
                "The cache does not answer",
                why=type(error).__name__,
                fix="Reads go on without it, only slower",
            ) from error
        self._answered()

    async def aclose(self) -> None:
        await self._redis.aclose()

    def _name(self, key: str) -> bytes:
        return f"{self._prefix}:{key}".encode("utf-8", "surrogatepass")

    def _checked(self, key: str, value: bytes | str | None) -> bytes | None:
        if value is None:
            self._counts = replace(self._counts, misses=self._counts.misses + 1)
            return None
        if isinstance(value, str) or not value.startswith(self._mark):
            self._corrupt(key, "another version, or not ours")
            return None
        body = value[len(self._mark) :]
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError as error:
            self._corrupt(key, str(error))
            return None
        self._counts = replace(self._counts, hits=self._counts.hits + 1)
        return body

    def _corrupt(self, key: str, why: str) -> None:
        counts = self._counts
        self._counts = replace(counts, misses=counts.misses + 1, corrupt=counts.corrupt + 1)
        log.debug("cache.corrupt", extra={"key": key, "why": why})

    def _passed_by(self) -> bool:
        if time.monotonic() >= self._resting_until:
            return False
        self._counts = replace(self._counts, bypassed=self._counts.bypassed + 1)
        return True

    def _fell(self, error: Exception) -> None:
        self._counts = replace(self._counts, bypassed=self._counts.bypassed + 1)
        self._resting_until = time.monotonic() + REST
        if not self._away:
            self._away = True
            log.warning("cache.away", extra={"why": type(error).__name__})

    def _answered(self) -> None:
        if self._away:
            self._away = False
            log.info("cache.back")
        self._resting_until = 0.0
