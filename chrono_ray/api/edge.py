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
from chrono_ray.api.traffic import Traffic

log = logging.getLogger(__name__)

PREFIX: Final = "/api/v1"
BODY_BYTES_MAX: Final = 64 * 1024
PATH_SHOWN: Final = 200
RESPONSE_TIME: Final = "X-Response-Time"
SERVER_TIMING: Final = "Server-Timing"
"""To admins alone: what a request costs the record is nobody else's to know."""
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Edge:
    """Plain ASGI, outside of everything but the handler of the unexpected."""

    def __init__(self, app: ASGIApp, *, traffic: Traffic, slow: float) -> None:
        """A request whose answer takes longer than `slow` seconds to begin is logged as such."""
        self._app = app
        self._traffic = traffic
        self._slow_ms = slow * 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        line = _Line(scope, send, new_id="" if request_id == given else request_id)
        self._traffic.begins()
        try:
            await self._admit(scope, receive, line.send)
        finally:
            line.write()
            asyncio.get_running_loop().call_soon(self._ended, line)  # what it asked last is counted

    def _ended(self, line: _Line) -> None:
        self._traffic.ends(
            line.scope, status=line.status, seconds=line.answered_ms / 1000,
            statements=line.spent.statements,
        )  # fmt: skip
        if line.answered_ms > self._slow_ms:
            self._traffic.was_slow()
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
        self.scope = scope
        self._send = send
        self._new_id = new_id
        self._began = time.perf_counter()
        self.spent = spent.begin()
        self.status = 500
        self.answered_ms = 0.0
        """Until its answer began, or it ended without one: a stream goes on for very long."""

    async def send(self, message: Message) -> None:
        """Serve's proxy sends an id that the asker gave back by itself."""
        if message["type"] == "http.response.start":
            self.status, self.answered_ms = message["status"], self._ms()
            headers = MutableHeaders(scope=message)
            headers[RESPONSE_TIME] = f"{self.answered_ms:.1f} ms"
            if self.scope["state"].get("admin"):
                await asyncio.sleep(0)  # what it asked last is not counted yet
                headers[SERVER_TIMING] = self.spent.as_server_timing()
            if self._new_id:
                headers[REQUEST_ID] = self._new_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    def write(self) -> None:
        state, client = self.scope["state"], self.scope.get("client") or ("",)
        took = self._ms()
        self.answered_ms = self.answered_ms or took
        fields = {**self._told(), "status": self.status, "ms": round(took, 2)}
        log.info("request.served", extra={**fields, "user": state.get("user"), "client": client[0]})

    def write_slow(self) -> None:
        """With what it spent in the record: whether it waited there, or was long by itself."""
        log.warning(
            "request.slow",
            extra={
                **self._told(), "ms": round(self.answered_ms, 2),
                "statements": self.spent.statements,
                "record_ms": round(self.spent.seconds * 1000, 2),
                "asked": self.spent.as_shown(),
            },
        )  # fmt: skip

    def _told(self) -> dict[str, str]:
        scope = self.scope
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
