"""Around the application: how a connection ends whose client does not read, or is not there.

ASGI has no word for either: this reaches for uvicorn's transport, and does
nothing with another server.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send

WIRE: Final = "chrono_ray.wire"
UNHEARD_MS: Final = 40_000
"""So long the system keeps a connection whose other end takes nothing (RFC 5482)."""


class Wire:
    """Plain ASGI, outside of everything: only there is `send` the server's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if transport is not None:
            scope[WIRE] = transport
            _bound(transport)
        await self._app(scope, receive, send)


def cut(scope: Scope) -> None:
    """End a connection at once, with what was not read: closing it would wait for that."""
    transport = scope.get(WIRE)
    if transport is not None:
        cast("asyncio.Transport", transport).abort()


def _bound(transport: asyncio.BaseTransport) -> None:
    own = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT") and own.family in (socket.AF_INET, socket.AF_INET6):
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
