"""The application's skin: an id for every request, a bound on its body, headers on every answer."""

from __future__ import annotations

import re
import uuid
from typing import Final

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chrono_ray.api.problems import REQUEST_ID, plain, response

BODY_BYTES_MAX: Final = 64 * 1024
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Edge:
    """Plain ASGI, outside of everything but the handler of the unexpected."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get(REQUEST_ID, ""))
        scope.setdefault("state", {})["request_id"] = request_id
        send = _with_headers(send, request_id)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > BODY_BYTES_MAX:
            await response(plain(413, request_id=request_id))(scope, receive, send)
            return
        await self._app(scope, _bounded(receive), send)


def _request_id(given: str) -> str:
    """The proxy's id, so that its log and ours tell of the same request; else a new one."""
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


def _with_headers(send: Send, request_id: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault(REQUEST_ID, request_id)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


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
