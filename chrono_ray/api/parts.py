"""What the routes work with: opened when the application starts, closed when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from chrono_ray import wiring
from chrono_ray.cache.redis import JsonCache
from chrono_ray.model.errors import Unavailable
from chrono_ray.search.base import SearchIndex
from chrono_ray.settings import Settings
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database

POOL_SIZE: Final = 4
CACHE_VERSION: Final = "1"
"""Change it with the shape of any answer that is cached."""


@dataclass(frozen=True, slots=True)
class ActorState:
    """An actor's last answer; `done` since it started, `rss` in bytes."""

    done: int
    in_flight: int
    rss: int


Actors = Callable[[], Awaitable[Mapping[str, ActorState | None]]]
"""Every worker actor's last answer; None for one that gives none. Raises `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """`cache` is None without Redis, `actors` where nobody knows a cluster."""

    record: Database
    index: SearchIndex
    blobs: Blobs
    cache: JsonCache | None
    actors: Actors | None


@asynccontextmanager
async def opened(settings: Settings, actors: Actors | None) -> AsyncIterator[Parts]:
    """The parts of one process. Nothing is connected before it is used."""
    async with AsyncExitStack() as stack:
        record = wiring.database(settings, pool_size=POOL_SIZE, name="chrono api")
        stack.push_async_callback(record.aclose)
        index = wiring.index(settings, "reader")
        stack.push_async_callback(index.aclose)
        cache = None
        if settings.redis_url is not None:
            cache = JsonCache(settings.redis_url.get_secret_value(), version=CACHE_VERSION)
            stack.push_async_callback(cache.aclose)
        yield Parts(record, index, wiring.blobs(settings), cache, actors)


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


OurParts = Annotated[Parts, Depends(_parts)]


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """`Unavailable` when the block takes longer: no request waits for ever."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable(
            f"{what} takes too long", why=f"over {seconds:g} s", fix="Try again", code="deadline"
        ) from error
