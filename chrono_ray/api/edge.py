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
        given = headers.get(REQUEST_ID, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        send = _with_headers(send, "" if request_id == given else request_id)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > BODY_BYTES_MAX:
            await response(plain(413, request_id=request_id))(scope, receive, send)
            return
        await self._app(scope, _bounded(receive), send)


def _with_headers(send: Send, new_id: str) -> Send:
    """`new_id` is empty where the asker gave one: Serve's proxy does, and sends it back itself."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if new_id:
                headers[REQUEST_ID] = new_id
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
