"""Requests that are timed, over connections that stay open."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from chrono_ray.model.errors import Unavailable

SECONDS: Final = 30.0
ANEW: Final = {"Cache-Control": "no-cache"}
"""Have it computed, whatever is kept."""
NO_CACHE: Final = "off"
"""As X-Cache says where the instance has none."""
CACHELESS: Final = "the instance has no cache: no Redis"
_STATEMENTS: Final = re.compile(r'^record;dur=[\d.]+;desc="(\d+) statements"$')


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked: GET without a body, POST with one. `name` is what it is counted under."""

    name: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """`ms` until all of it was there; `cache` as X-Cache says, `statements` where we are told."""

    ms: float
    status: int
    cache: str
    statements: int | None

    @property
    def by_cache(self) -> bool:
        return self.cache in ("hit", "stale")


class Asking:
    """Asks one instance."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, ask: Ask, key: str, headers: Mapping[str, str] | None = None) -> Answered:
        """The answer, whatever it is. Raises `Unavailable` when there is none."""
        brought = {"Authorization": f"Bearer {key}", **(headers or {})}
        method = "GET" if ask.body is None else "POST"
        began = time.perf_counter()
        try:
            async with self._session.request(
                method, ask.path, json=ask.body, headers=brought
            ) as got:
                await got.read()
                ms = (time.perf_counter() - began) * 1000
                said = got.headers
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(
                "The server does not answer", why=type(error).__name__, code="server_away"
            ) from error
        told = _STATEMENTS.match(said.get("Server-Timing", ""))
        return Answered(ms, got.status, said.get("X-Cache", ""), int(told[1]) if told else None)

    async def computed(self, ask: Ask, key: str) -> Answered:
        """The same, computed anew."""
        return await self.send(ask, key, ANEW)


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Asking]:
    """As many connections as there are requests at once; nobody's proxy."""
    async with aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(SECONDS)
    ) as session:
        yield Asking(session)
