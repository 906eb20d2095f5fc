"""What asks the cache in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson

from chrono_ray.cache.redis import JsonCache
from tests.integration.cache.conftest import Valkey

PATIENT = 3.0
"""A deadline that no busy machine misses, for what is not about deadlines."""
BODY = orjson.dumps({"captures": 3})


class Source:
    """Computes the answer and counts how often it had to; waits while `may_end` is not set."""

    def __init__(self, body: bytes = BODY, *, slow: bool = False) -> None:
        self.body = body
        self.computed = 0
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        if not slow:
            self.may_end.set()

    async def __call__(self) -> bytes:
        self.computed += 1
        body = self.body  # read before anything that comes meanwhile, as a statement reads
        self.began.set()
        await self.may_end.wait()
        return body


@asynccontextmanager
async def cache_of(
    server: Valkey, *, version: str = "1", deadline: float = PATIENT
) -> AsyncIterator[JsonCache]:
    """One process's cache, with what it does beside."""
    cache = JsonCache(server.url, version=version, deadline=deadline)
    beside = asyncio.create_task(cache.keep_promises())
    try:
        yield cache
    finally:
        while not beside.done():
            beside.cancel()
            await asyncio.wait({beside}, timeout=0.1)
        await cache.aclose()


async def within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> None:
    """Polls until the condition holds; fails at the deadline."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)
