"""Leave to open one connection: asked for with a token, spent in a URL.

A browser sends its page's origin along, and a foreign page's is refused; what
sends none is no browser, and needs a ticket all the same.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final, Self
from urllib.parse import urlsplit

from chrono_ray.api.tokens import CHARS_MAX, hash_of
from chrono_ray.model.accounts import Actor
from chrono_ray.storage.live import Live

MARK: Final = "crl_"
BYTES: Final = 32
PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = re.compile(r"https?://[^/?#@\s]+", re.ASCII)


class Tickets:
    """Given out and taken, each once. The record keeps their SHA-256 only."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def issue(self, actor: Actor) -> str:
        """A new one, for `storage.live.TICKET`."""
        ticket = MARK + secrets.token_urlsafe(BYTES)
        await self._live.issue(hash_of(ticket), actor)
        return ticket

    async def take(self, ticket: str) -> Actor | None:
        """Who brings it; None for one that is none, expired or spent. At most one query."""
        if not ticket.startswith(MARK) or len(ticket) > CHARS_MAX:
            return None
        return await self._live.take(hash_of(ticket))


class Origins:
    """Whose pages may open a connection: those of `allowed`, and of the host that is asked."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(each for origin in allowed if (each := _place(origin)))

    @classmethod
    def named_by(cls, text: str) -> Self:
        """Those of `https://a.example,https://b.example`."""
        return cls(text.split(","))

    def lists(self, origin: str) -> bool:
        """Whether it is one of those that were named."""
        return _place(origin) in self._allowed

    def admits(self, origin: str | None, host: str) -> bool:
        """`origin` and `host` as the headers of these names say; None is no browser's."""
        if origin is None:
            return True
        place = _place(origin)
        if place is None:
            return False
        return place in self._allowed or place == _place(f"{place[0]}://{host}")


def _place(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no origin, as `null`."""
    if not _ORIGIN.fullmatch(origin):
        return None
    try:
        parts = urlsplit(origin)
        return parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme]
    except ValueError:
        return None
