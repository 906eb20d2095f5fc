"""The application's skin: an id for every request, a bound on its body, a line in the log.

A JSON body is looked at as a whole before anything reads it. How long a
request's head may take to arrive is the proxy's to bound, or the server's.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Final

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chrono_ray.api import spent
from chrono_ray.api.json_body import fault_of
from chrono_ray.api.problems import REQUEST_ID, plain, response

log = logging.getLogger(__name__)

PREFIX: Final = "/api/v1"
BODY_BYTES_MAX: Final = 64 * 1024
PATH_SHOWN: Final = 200
SLOW_MS: Final = 1000.0
RESPONSE_TIME: Final = "X-Response-Time"
SERVER_TIMING: Final = "Server-Timing"
"""To admins alone: what a request costs the record is nobody else's to know."""
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Edge:
    """Plain ASGI, outside of everything but the handler of the unexpected."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        line = _Line(scope, send, new_id="" if request_id == given else request_id)
        try:
            await self._admit(scope, receive, line.send)
        finally:
            line.write()
            if line.is_slow:
                await asyncio.sleep(0)  # what it asked last is not counted yet
                line.write_slow()

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, request_id = Headers(scope=scope), scope["state"]["request_id"]
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > BODY_BYTES_MAX:
            await response(plain(413, request_id=request_id))(scope, receive, send)
            return
        bounded = _bounded(receive)
        if not _is_json(headers.get("content-type", "")):
            await self._app(scope, bounded, send)
            return
        try:
            body = await _whole(bounded)
        except HTTPException as error:
            refused = plain(error.status_code, request_id=request_id)
            await response(refused)(scope, receive, send)
            return
        fault = fault_of(body)
        if fault:
            refused = plain(
                fault.status, request_id=request_id, code=fault.code, detail=fault.why,
                title="The body cannot be read",
            )  # fmt: skip
            await response(refused)(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)


class _Line:
    """What is sent, with what every answer carries; one line about it when it is over.

    No query, no header and no body is written: they hold words, tokens and passwords.
    """

    def __init__(self, scope: Scope, send: Send, *, new_id: str) -> None:
        self._scope = scope
        self._send = send
        self._new_id = new_id
        self._began = time.perf_counter()
        self._spent = spent.begin()
        self._status = 500
        self._answered_ms: float | None = None

    @property
    def is_slow(self) -> bool:
        """Until its answer began: that may go on for as long as somebody listens."""
        return (self._ms() if self._answered_ms is None else self._answered_ms) > SLOW_MS

    async def send(self, message: Message) -> None:
        """Serve's proxy sends an id that the asker gave back by itself."""
        if message["type"] == "http.response.start":
            self._status, self._answered_ms = message["status"], self._ms()
            headers = MutableHeaders(scope=message)
            headers[RESPONSE_TIME] = f"{self._answered_ms:.1f} ms"
            if self._scope["state"].get("admin"):
                await asyncio.sleep(0)  # what it asked last is not counted yet
                headers[SERVER_TIMING] = self._spent.as_server_timing()
            if self._new_id:
                headers[REQUEST_ID] = self._new_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    def write(self) -> None:
        state, client = self._scope["state"], self._scope.get("client") or ("",)
        fields = {**self._told(), "status": self._status, "ms": round(self._ms(), 2)}
        log.info("request.served", extra={**fields, "user": state.get("user"), "client": client[0]})

    def write_slow(self) -> None:
        """With what it spent in the record: whether it waited there, or was long by itself."""
        log.warning(
            "request.slow",
            extra={
                **self._told(), "ms": round(self._answered_ms or self._ms(), 2),
                "statements": self._spent.statements,
                "record_ms": round(self._spent.seconds * 1000, 2),
            },
        )  # fmt: skip

    def _told(self) -> dict[str, str]:
        scope = self._scope
        return {
            "request": scope["state"]["request_id"], "method": scope["method"],
            "path": scope["path"][:PATH_SHOWN],
        }  # fmt: skip

    def _ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _bounded(receive: Receive) -> Receive:
    """A body without a length is counted while it arrives."""
    taken = 0

    async def receiving() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > BODY_BYTES_MAX:
            raise HTTPException(413)
        return message

    return receiving


async def _whole(receive: Receive) -> bytes:
    """All of a body; empty when the asker has left."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
