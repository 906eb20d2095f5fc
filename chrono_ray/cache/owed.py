"""Invalidations that the server has not heard of yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

EVERYTHING: Final = ""
"""Stands for every tag."""
TAGS_MOST: Final = 1000
"""More than that are told as everything."""


class Owed:
    """Tags whose answers must not be believed until the server was told of their end."""

    def __init__(self) -> None:
        self._tags: dict[str, int] = {}
        self._serial = 0
        self.late = asyncio.Event()
        """Set while the server could not be told of some at once."""

    def __bool__(self) -> bool:
        return bool(self._tags)

    def holds(self, tags: Iterable[str]) -> bool:
        """Whether an answer of these tags may be of before a change."""
        if not self._tags:
            return False
        return EVERYTHING in self._tags or any(tag in self._tags for tag in tags)

    def add(self, *tags: str) -> Mapping[str, int]:
        """What to tell of these, for `settle` afterwards."""
        self._serial += 1
        added = dict.fromkeys(tags, self._serial)
        self._tags.update(added)
        if len(self._tags) > TAGS_MOST:
            self._tags = added = {EVERYTHING: self._serial}
        return dict(added)

    def all(self) -> Mapping[str, int]:
        """What to tell of everything that is owed."""
        return dict(self._tags)

    def failed(self) -> None:
        """The server could not be told."""
        if self._tags:
            self.late.set()

    def settle(self, told: Mapping[str, int]) -> None:
        """These were told, unless they came up again meanwhile."""
        for tag, serial in told.items():
            if self._tags.get(tag) == serial:
                del self._tags[tag]
        if not self._tags:
            self.late.clear()
