"""Replicas of live progress under uvicorn, and clients of theirs over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from chrono_ray.api.live.app import create_live_app
from chrono_ray.api.live.connection import Limits
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects
from tests.support.accounts import bearer

LIVE = "/api/v1/live"
SECONDS = 8.0


async def begin(database: Database, project: str = "town") -> int:
    """A run whose listing has not begun."""
    scope = Scope(f"https://{project}.example/", MatchType.DOMAIN, "2001", "2002")
    return await Projects(database).start_run(
        scope, project=project, archive="wayback", queue_class=QueueClass.SCRAPING
    )


async def owned(database: Database, user_id: int, project: str = "hers") -> tuple[int, int]:
    """A run and its project, which is this user's."""
    run_id = await begin(database, project)
    project_id = await database.fetchval("SELECT project_id FROM runs WHERE id = $1", run_id)
    await database.fetch("UPDATE projects SET owner_id = $2 WHERE id = $1", project_id, user_id)
    return run_id, project_id


@dataclass(slots=True)
class Client:
    """A WebSocket and every event that came so far."""

    socket: ClientConnection
    seen: list[dict[str, Any]] = field(default_factory=list)
    unread: deque[dict[str, Any]] = field(default_factory=deque)

    async def say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def event(self) -> dict[str, Any]:
        """The next one."""
        while not self.unread:
            message = json.loads(await self.socket.recv())
            self.unread += message["events"] if message["type"] == "events" else [message]
        self.seen.append(self.unread.popleft())
        return self.seen[-1]

    async def until(
        self, wanted: Callable[[dict[str, Any]], bool], *, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """The first event, from now on, that is wanted."""
        async with asyncio.timeout(seconds):
            while not wanted(event := await self.event()):
                pass
            return event

    async def run(self, run_id: int, state: str) -> dict[str, Any]:
        """When this run is in this state."""
        return await self.until(lambda it: it.get("run") == run_id and it["state"] == state)

    async def nothing(self, seconds: float) -> None:
        """No event comes for so long."""
        try:
            async with asyncio.timeout(seconds):
                event = await self.event()
        except TimeoutError:
            return
        raise AssertionError(event)

    async def closed(self, seconds: float = SECONDS) -> tuple[int | None, str | None]:
        """How the server closes it."""
        async with asyncio.timeout(seconds):
            await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason


@dataclass(frozen=True, slots=True)
class Replica:
    """One process's worth of live progress."""

    host: str
    http: httpx2.AsyncClient
    server: uvicorn.Server

    async def ticket(self, key: str) -> str:
        answer = await self.http.post(f"{LIVE}/tickets", headers=bearer(key))
        assert answer.status_code == 201, answer.text
        return answer.json()["ticket"]

    @asynccontextmanager
    async def client(self, key: str, subscribe: str = "", **options: Any) -> AsyncIterator[Client]:
        ticket = await self.ticket(key)
        asked = f"&subscribe={subscribe}" if subscribe else ""
        url = f"ws://{self.host}{LIVE}/ws?ticket={ticket}{asked}"
        async with connect(url, compression=None, close_timeout=1, **options) as opened:
            yield Client(opened)


@asynccontextmanager
async def replica(
    settings: Settings, *, limits: Limits | None = None, buffer: int = 0
) -> AsyncIterator[Replica]:
    """Served until the block ends; `buffer` are bytes that the system keeps of what is unread."""
    listener = socket.create_server(("127.0.0.1", 0))
    if buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    app = create_live_app(settings, limits=limits)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            assert not serving.done(), serving
            await asyncio.sleep(0.01)
        async with httpx2.AsyncClient(base_url=f"http://{host}") as http:
            yield Replica(host, http, server)
    finally:
        server.should_exit = True
        await serving
