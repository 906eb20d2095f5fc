"""A Redis or Valkey server as its operator sees it: one question, answered or not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from chrono_ray.model.errors import Unavailable


class LoginRefused(Unavailable):
    """The server is there, but not for us."""


@dataclass(frozen=True, slots=True)
class CacheServer:
    """Memory in bytes, 0 for no limit. `hits` and `misses` of all its keys since it started.

    An answer that is looked up counts several times, once for each of its
    tags. `hit_rate` is from 0 to 1, None when nothing was asked.
    """

    version: str
    role: str
    keys: int
    hits: int
    misses: int
    memory: int
    memory_most: int
    policy: str
    evicted: int
    clients: int
    hit_rate: float | None


async def asked(url: str, *, seconds: float) -> CacheServer:
    """What the server says of itself. Raises `Unavailable`, or `LoginRefused`, which is one."""
    client = _client(url, seconds)
    try:
        async with asyncio.timeout(seconds), client:
            told = await client.info("everything")
            keys = await client.dbsize()
    except AuthenticationError as error:
        raise LoginRefused(
            "Redis does not let us in", why=str(error), fix="Check CHRONO_REDIS_URL"
        ) from error
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(
            "Redis does not answer", why=f"{type(error).__name__}: {error}".rstrip(": "),
            fix="Start it, or check CHRONO_REDIS_URL; without it reads are only slower",
        ) from error  # fmt: skip
    hits, misses = int(told["keyspace_hits"]), int(told["keyspace_misses"])
    return CacheServer(
        version=str(told.get("valkey_version") or told["redis_version"]), role=str(told["role"]),
        keys=int(keys), hits=hits, misses=misses,
        memory=int(told["used_memory"]), memory_most=int(told["maxmemory"]),
        policy=str(told["maxmemory_policy"]), evicted=int(told["evicted_keys"]),
        clients=int(told["connected_clients"]),
        hit_rate=hits / (hits + misses) if hits + misses else None,
    )  # fmt: skip


def _client(url: str, seconds: float) -> Redis:
    try:
        return Redis.from_url(
            url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        raise Unavailable(
            "The Redis URL cannot be used", why=str(error).partition("\n")[0],
            fix="Set CHRONO_REDIS_URL to redis://:password@host:port/0, or unset it",
        ) from error  # fmt: skip
