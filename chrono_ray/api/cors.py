"""Pages of other origins that an operator named may read, and ask for tickets; no other may.

Nothing is said of cookies: there are none. Who asks brings a token as everybody does.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chrono_ray.api.live.tickets import Origins

READS: Final = ("GET", "HEAD")
ASKED_BY_POST: Final = ("/search", "/live/tickets")
"""POSTs that change nothing of anybody's collection."""
HEADERS: Final = (
    "Authorization, Content-Type, Cache-Control, If-None-Match, If-Range, Last-Event-ID, Range,"
    " X-Request-Id"
)
EXPOSED: Final = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Retry-After, Server-Timing, X-Cache,"
    " X-Request-Id, X-Response-Time"
)
SECONDS: Final = "600"


class Cors:
    """Plain ASGI, outside of everything, for what is refused has to be readable, too."""

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is None or not self._origins.lists(origin):
            await self._app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("access-control-request-method")
        if scope["method"] == "OPTIONS" and wanted is not None:
            await _preflight(origin, _methods(scope["path"]))(scope, receive, send)
            return
        told = scope["method"] in _methods(scope["path"])

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if told:
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Expose-Headers"] = EXPOSED
            await send(message)

        await self._app(scope, receive, sending)


def _methods(path: str) -> tuple[str, ...]:
    """What a page of another origin may do there."""
    return (*READS, "POST") if path.rstrip("/").endswith(ASKED_BY_POST) else READS


def _preflight(origin: str, methods: tuple[str, ...]) -> Response:
    return Response(
        None, 204,
        {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": HEADERS,
            "Access-Control-Max-Age": SECONDS,
            "Vary": "Origin",
        },
    )  # fmt: skip
