"""Around the application: how a connection is ended whose client does not read."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

WIRE: Final = "chrono_ray.wire"


class Wire:
    """Plain ASGI, outside of everything: only there is `send` the server's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[WIRE] = getattr(getattr(send, "__self__", None), "transport", None)
        await self._app(scope, receive, send)


def cut(scope: Scope) -> None:
    """End a connection at once, with what its client has not read.

    Closing it would wait until that is read. ASGI has no word for it: this
    reaches for uvicorn's transport, and does nothing with another server.
    """
    abort = getattr(scope.get(WIRE), "abort", None)
    if abort is not None:
        abort()
