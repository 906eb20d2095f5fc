"""The one protocol every archive is spoken to through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from chrono_ray.model.capture import Capture
from chrono_ray.model.memento import ListingPage, Memento, Scope

Turn = Callable[[], Awaitable[None]]
"""Awaited before every single request on the wire, redirect hops and retries too.

It returns when the archive's budget has a slot for that request. Archives
without a wire (local WARC files) never call it.
"""


class Archive(Protocol):
    """An archive in its own dialect.

    Every method raises `ArchiveError` (see `model/errors.py` for which error
    means what); an adapter never retries and never sleeps: when to ask again is
    the caller's (`model/retry.py`, the governor).
    """

    @property
    def name(self) -> str:
        """The archive's name in settings, budgets and rows: wayback, commoncrawl, pywb, warc."""
        ...

    async def list_page(self, scope: Scope, key: str, *, turn: Turn) -> ListingPage:
        """The listing's next page; `key` is empty at first, then the last page's `next_key`.

        Walking until `next_key` is empty gives every row of the scope once,
        in the archive's order. A key stays valid across restarts.
        """
        ...

    def parse(self, raw: bytes) -> ListingPage:
        """A stored raw page understood again: pure, for `chrono verify`."""
        ...

    async def replay(self, capture: Capture, *, deadline: float, turn: Turn) -> Memento:
        """The bytes behind a capture, whole, or an error; `deadline` in seconds for all of it."""
        ...

    async def aclose(self) -> None:
        """Give back connections and files."""
        ...
