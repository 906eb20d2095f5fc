"""Requests at a steady rate, as clients send them that know what to do when nobody answers."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Final

import httpx2

TRIES: Final = 8
AGAIN_SECONDS: Final = 0.5
POST_EVERY: Final = 5
LEFT: Final = (httpx2.TransportError, httpx2.TimeoutException)


@dataclass(slots=True)
class Seen:
    """How it went. `errors` are requests that a client without patience saw fail; `made` are the
    names of projects that were made by one that tries again with the same key."""

    total: int = 0
    errors: int = 0
    slowest: float = 0.0
    made: list[str] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)


async def load(
    http: httpx2.AsyncClient, *, rate: float, seconds: float = 60.0,
    stop: asyncio.Event | None = None,
) -> Seen:  # fmt: skip
    """Every fifth makes a project, the others read; each is sent when its moment has come,
    whether or not those before it were answered."""
    seen, began, number = Seen(), time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while number < rate * seconds and not (stop and stop.is_set()):
            group.create_task(_one(http, seen, number))
            number += 1
            await asyncio.sleep(max(began + number / rate - time.monotonic(), 0))
    return seen


async def _one(http: httpx2.AsyncClient, seen: Seen, number: int) -> None:
    began = time.monotonic()
    if number % POST_EVERY:
        status = await _status(http, "GET", "/projects/?limit=1")
    else:
        status = await _made(http, seen)
    seen.total += 1
    seen.slowest = max(seen.slowest, time.monotonic() - began)
    seen.statuses[status] = seen.statuses.get(status, 0) + 1
    seen.errors += status not in ("200", "201")


async def _made(http: httpx2.AsyncClient, seen: Seen) -> str:
    name = f"load-{uuid.uuid4().hex}"
    headers, first = {"Idempotency-Key": name}, ""
    for _ in range(TRIES):
        status = await _status(http, "POST", "/projects/", headers=headers, json={"name": name})
        first = first or status
        if status == "201":
            seen.made.append(name)
            return first
        await asyncio.sleep(AGAIN_SECONDS)
    raise AssertionError(f"a project could not be made in {TRIES} tries: {status}")


async def _status(
    http: httpx2.AsyncClient, method: str, path: str, *,
    headers: dict[str, str] | None = None, json: dict[str, str] | None = None,
) -> str:  # fmt: skip
    try:
        answer = await http.request(method, path, headers=headers, json=json)
    except LEFT as error:
        return type(error).__name__
    return str(answer.status_code)
