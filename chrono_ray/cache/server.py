"""A Redis or Valkey server as its operator sees it: one question, answered or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
    tags. `hit_rate` is from 0 to 1, None when nothing was asked. What a server
    does not tell is 0 or empty.
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
    return _server(told, keys)


def _server(told: Mapping[str, object], keys: object) -> CacheServer:
    hits, misses = _number(told, "keyspace_hits"), _number(told, "keyspace_misses")
    return CacheServer(
        version=str(told.get("valkey_version") or told.get("redis_version") or ""),
        role=str(told.get("role") or ""), keys=_whole(keys), hits=hits, misses=misses,
        memory=_number(told, "used_memory"), memory_most=_number(told, "maxmemory"),
        policy=str(told.get("maxmemory_policy") or ""), evicted=_number(told, "evicted_keys"),
        clients=_number(told, "connected_clients"),
        hit_rate=hits / (hits + misses) if hits + misses else None,
    )  # fmt: skip


def _number(told: Mapping[str, object], name: str) -> int:
    return _whole(told.get(name))


def _whole(value: object) -> int:
    """Servers of another make say other things, or nothing."""
    return int(value) if isinstance(value, int | float) else 0


def _client(url: str, seconds: float) -> Redis:
    try:
        return Redis.from_url(
            url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
    except ValueError:  # its own words hold the password
        raise Unavailable(
            "The Redis URL cannot be used",
            why="it is no redis://, rediss:// or unix:// URL with a port that is a number",
            fix="Set CHRONO_REDIS_URL to redis://:password@host:port/0, or unset it (in a password"
            " / is %2F, ? is %3F, # is %23)",
        ) from None  # fmt: skip
