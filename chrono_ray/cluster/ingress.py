"""What Serve's own HTTP servers do as ours: bounded heads, and every error a problem.

Serve calls `middlewares` in each process that listens: its Python proxy, and
where HAProxy stands before them the replicas (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH).
It imports little: the proxy needs nothing else of ours, and has no settings.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any, Final

import ray
from ray import serve
from ray.serve._private import http_util
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import config as uvicorn_config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chrono_ray.cluster.haproxy import (
    HEAD_SECONDS,
    OVERLOADED,
    REFUSED,
    RETRY_SECONDS,
    Refusal,
    problem,
)
from chrono_ray.cluster.metrics import Exporter
from chrono_ray.observability import log as logs

log = logging.getLogger(__name__)

CLOSES: Final = b"connection: close\r\n"
_TRY_AGAIN: Final = 1013


def middlewares() -> list[Middleware]:
    """What Serve puts around its HTTP applications in this process."""
    uvicorn_config.HTTP_PROTOCOLS["auto"] = f"{__name__}:PatientProtocol"
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        _listen_inside()
    if not _replica():
        _tell_of_proxy()
    return [Middleware(Problems)]


def _replica() -> bool:
    """Replicas tell of themselves (chrono_ray/cluster/serve.py)."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return True


@cache
def _tell_of_proxy() -> None:
    """It refuses what no replica takes, and nobody else counts that or writes it down."""
    logs.configure("warning", json=True)
    Exporter("proxy").start()


def _listen_inside() -> None:
    """Behind HAProxy nobody else is to reach these servers, wherever the API itself listens.

    Ray 2.60 has them listen where HAProxy does (ray/serve/_private/{replica,proxy}.py).
    """
    own = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray's own
    for name in ("ray.serve._private.replica", "ray.serve._private.proxy"):
        names = vars(sys.modules[name]) if name in sys.modules else {}
        if "start_asgi_http_server" in names:
            names["start_asgi_http_server"] = _inside(own)


def _inside(own: str) -> Callable[..., Awaitable[Any]]:
    async def start(
        app: ASGIApp,
        http_options: HTTPOptions,
        *,
        event_loop: asyncio.AbstractEventLoop,
        enable_so_reuseport: bool = False,
    ) -> Any:
        options = http_options.model_copy(update={"host": own})
        return await http_util.start_asgi_http_server(
            app, options, event_loop=event_loop, enable_so_reuseport=enable_so_reuseport
        )

    return start


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's own, which waits for a request's head no longer than `HEAD_SECONDS`."""

    head_seconds: float = HEAD_SECONDS
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect()

    def on_headers_complete(self) -> None:
        self._came()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's)
        self._refuse(400)

    def _expect(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self._refuse, 408)

    def _came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: int) -> None:
        self._came()
        if self.transport.is_closing():
            return
        start, body = _refusal(status, REFUSED[status], uuid.uuid4().hex)
        lines = b"".join(b"%s: %s\r\n" % header for header in start["headers"])
        self.transport.write(
            b"HTTP/1.1 %d Refused\r\n" % status + lines + CLOSES + b"\r\n" + body["body"]
        )
        self.transport.close()


class Problems:
    """Serve's own answers (nobody there, too many wait) as the application would give them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._app(scope, receive, _Upgrade(scope, send).send)
        elif scope["type"] == "http" and not scope["path"].startswith("/-/"):
            answer = _Answer(send)
            await self._app(scope, receive, answer.send)
            await answer.end()
        else:
            await self._app(scope, receive, send)


class _Answer:
    """One answer on its way. Serve's errors are plain text; the application has none such."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False
        self._held: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            if message["status"] in REFUSED and _header(message, b"content-type").startswith(
                b"text/plain"
            ):
                self._held = message
        if self._held is None:
            await self._send(message)
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            held, self._held = self._held, None
            for each in _in_place_of(held):
                await self._send(each)

    async def end(self) -> None:
        """A replica that ended in the middle of a request leaves no answer at all."""
        if not self._begun:
            for each in _refusal(503, REFUSED[503], uuid.uuid4().hex):
                await self._send(each)


class _Upgrade:
    """A WebSocket that Serve refuses before the application sees it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._denies = "websocket.http.response" in (scope.get("extensions") or {})
        self._send = send

    async def send(self, message: Message) -> None:
        if not message["type"].startswith("http.response."):
            await self._send(message)
        elif self._denies:
            for each in _in_place_of(message) if message["type"] == "http.response.start" else ():
                await self._send({**each, "type": f"websocket.{each['type']}"})
        elif message["type"] == "http.response.start":
            await self._send({"type": "websocket.close", "code": _TRY_AGAIN, "reason": ""})


def _in_place_of(start: MutableMapping[str, Any]) -> tuple[Message, Message]:
    request_id = _header(start, b"x-request-id").decode("latin-1") or uuid.uuid4().hex
    # a 500 in Serve's own words is a replica that it lost: the application has its own for a fault
    status = 503 if start["status"] == 500 else start["status"]
    # with Retry-After: the queue is full; without: nobody is there to have one
    full = start["status"] == 503 and _header(start, b"retry-after")
    return _refusal(status, OVERLOADED if full else REFUSED[status], request_id)


def _refusal(status: int, why: Refusal, request_id: str) -> tuple[Message, Message]:
    if status == 503:  # the application, which counts its answers, never saw it
        log.warning("request.refused", extra={"code": why.code, "request": request_id})
    body = problem(status, why, request_id=request_id).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id.encode("latin-1")),
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
    return (
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


def _header(start: MutableMapping[str, Any], name: bytes) -> bytes:
    return next((value for key, value in start["headers"] if key.lower() == name), b"")
