"""Five hundred WebSockets that are told of one event each, and what one costs the server."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from chrono_ray.client import Chrono
from chrono_ray.model.errors import Unavailable
from chrono_ray.perf.apart import apart
from chrono_ray.perf.catalogue import SOCKETS
from chrono_ray.perf.figures import Failed, Measured, Result, Unmeasured, of_p95
from chrono_ray.perf.instance import OutOfReach
from chrono_ray.perf.latency import PREFIX

EACH: Final = 5
"""Connections that a user may have."""
AT_ONCE: Final = 20
OPEN_SECONDS: Final = 60.0
EVENT_SECONDS: Final = 10.0
ROUNDS: Final = 3
FILES_BESIDE: Final = 100
TOO_FEW: Final = (
    f"a user may have {EACH} connections, and accounts are made on the instance's own machine only"
)

Memory = Callable[[], float]
"""MiB of the process that holds the sockets; `OutOfReach` where it cannot be seen."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Whom to open sockets for, and the project whose exports they are told of."""

    url: str
    keys: Sequence[str]
    project: int


async def sockets(
    watched: Watched, client: Callable[[], Chrono], memory: Memory
) -> dict[str, Result]:
    """Opened, as many as the server takes, told of three events one after the other, closed."""
    if len(watched.keys) * EACH < SOCKETS:
        raise OutOfReach(f"{SOCKETS} WebSockets cannot be opened", why=TOO_FEW)
    _allow_files(SOCKETS + FILES_BESIDE)
    before = _seen(memory)
    async with _opened(watched) as (listening, refused):
        late: list[float] = []
        told = len(listening)
        for _ in range(ROUNDS if listening else 0):
            times = await _round(listening, client, watched.project)
            told = min(told, len(times))
            late += times
        cost = _cost(before, _seen(memory), len(listening))
    return {
        "sockets.open": Measured(told, why=_why(len(listening), told, refused)),
        "sockets.late": of_p95(late, "nobody was told"),
        "sockets.memory": cost,
    }


def _why(opened: int, told: int, refused: Counter[str]) -> str:
    """What became of the others."""
    reasons = [f"{times} were refused: {why}" for why, times in refused.most_common()]
    if slow := SOCKETS - opened - refused.total():
        reasons.append(f"{slow} were not open after {OPEN_SECONDS:g} s")
    if opened > told:
        reasons.append(f"{opened - told} were not told of an event within {EVENT_SECONDS:g} s")
    return "; ".join(reasons)


async def _round(
    listening: Sequence[aiohttp.ClientWebSocketResponse], client: Callable[[], Chrono], project: int
) -> list[float]:
    """Milliseconds from the answer that an export begins until each was told of it."""
    export, began = await apart(client, lambda c, _: _begin(c, project))
    deadline = asyncio.get_running_loop().time() + EVENT_SECONDS
    came = await asyncio.gather(*(_told_of(each, export, deadline) for each in listening))
    return [max((each - began) * 1000, 0.0) for each in came if each is not None]


def _begin(c: Chrono, project: int) -> tuple[int, float]:
    return c.exports.begin(project, form="jsonl").id, time.perf_counter()


async def _told_of(
    socket: aiohttp.ClientWebSocketResponse, task: int, deadline: float
) -> float | None:
    """When; None when it was not in time, or the socket was closed."""
    try:
        async with asyncio.timeout_at(deadline):
            async for message in socket:
                now = time.perf_counter()
                if message.type is aiohttp.WSMsgType.TEXT and _is_of(message.data, task):
                    return now
    except TimeoutError:
        pass
    return None


def _is_of(text: str, task: int) -> bool:
    said: dict[str, Any] = orjson.loads(text)
    events = said.get("events", [said])
    return any(each.get("task") == task for each in events)


@asynccontextmanager
async def _opened(
    watched: Watched,
) -> AsyncIterator[tuple[list[aiohttp.ClientWebSocketResponse], Counter[str]]]:
    """Those that did open, and why how many of the others were refused."""
    room, refused = asyncio.Semaphore(AT_ONCE), Counter[str]()
    found = list[aiohttp.ClientWebSocketResponse]()
    keys = [key for key in watched.keys for _ in range(EACH)][:SOCKETS]
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(watched.url, connector=aiohttp.TCPConnector(limit=0))
        )

        async def one(key: str) -> None:
            async with room:
                try:
                    socket = await _open(session, key, watched.project)
                except Unavailable as error:
                    refused[error.why] += 1
                    return
            found.append(socket)
            stack.push_async_callback(socket.close)

        with suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.gather(*(one(key) for key in keys))
        yield found, refused


async def _open(
    session: aiohttp.ClientSession, key: str, project: int
) -> aiohttp.ClientWebSocketResponse:
    try:
        headers = {"Authorization": f"Bearer {key}"}
        async with session.post(f"{PREFIX}/live/tickets", headers=headers) as got:
            got.raise_for_status()
            ticket = (await got.json())["ticket"]
        path = f"{PREFIX}/live/ws?ticket={ticket}&subscribe=project:{project}"
        return await session.ws_connect(path, max_msg_size=0)
    except aiohttp.ClientResponseError as error:  # its own words hold the ticket
        raise _refused(f"the server answers {error.status}") from error
    except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
        raise _refused(type(error).__name__) from error


def _refused(why: str) -> Unavailable:
    return Unavailable("A WebSocket cannot be opened", why=why, code="socket")


def _seen(memory: Memory) -> float | None:
    try:
        return memory()
    except OutOfReach:
        return None


def _cost(before: float | None, after: float | None, opened: int) -> Result:
    if before is None or after is None:
        return Unmeasured("the process that holds them cannot be seen from here")
    if not opened:
        return Failed("none was open")
    return Measured(max(after - before, 0.0) * 1024 / opened)


def _allow_files(wanted: int) -> None:
    """Each socket is a file; as many as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
