"""Reconcile: the index held against the record, page by page, and mended where it differs.

Both are read in order of the page ids, a part at a time. It is safe while all
else runs: what is on its way to the index is no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from chrono_ray.model.errors import Conflict
from chrono_ray.search.base import ID_MOST, SearchIndex
from chrono_ray.storage.comparing import Comparing, RecordedPage
from chrono_ray.storage.rebuilds import Rebuilds

PAGES_AT_ONCE: Final = 5_000
SETTLE_SECONDS: Final = 0.5
"""A reader of the embedded index sees a commit so late at the most, with room to spare."""
EXAMPLES: Final = 20


class Fault(StrEnum):
    """`missing`: only the record has it; `stale`: the index has another version; `stranger`: only
    the index has it."""

    MISSING = "missing"
    STALE = "stale"
    STRANGER = "stranger"


@dataclass(slots=True)
class Reconciled:
    """What was compared. `examples` are the first page ids of each fault."""

    pages: int = 0
    refused: int = 0
    waiting: int = 0
    differ: dict[Fault, int] = field(default_factory=lambda: dict.fromkeys(Fault, 0))
    examples: dict[Fault, list[int]] = field(default_factory=dict)
    queued: int = 0

    @property
    def clean(self) -> bool:
        return not any(self.differ.values())

    def add(self, rows: Iterable[RecordedPage], found: dict[int, Fault]) -> None:
        """One part's numbers."""
        for row in rows:
            self.pages += 1
            self.refused += row.refused
            self.waiting += row.waiting
        for page_id, fault in found.items():
            self.differ[fault] += 1
            if self.differ[fault] <= EXAMPLES:
                self.examples.setdefault(fault, []).append(page_id)


class Reconcile:
    """Compares one index with the record."""

    def __init__(self, comparing: Comparing, rebuilds: Rebuilds, index: SearchIndex) -> None:
        self._comparing = comparing
        self._rebuilds = rebuilds
        self._index = index

    async def run(self, *, repair: bool) -> Reconciled:
        """The whole of both. With `repair` what differs is queued for the indexer.

        Raises `Conflict` when the index here is not the one that the indexer fills.
        """
        await self._check_index()
        told, after = Reconciled(), -1
        while after < ID_MOST:
            rows, there, upto = await self._part(after)
            found = _faults(rows, there)
            if found:
                await asyncio.sleep(SETTLE_SECONDS)
                found = await self._still(found, after, upto)
            told.add(rows, found)
            if repair and found:
                await self._comparing.queue(found)
                told.queued += len(found)
            after = upto
        return told

    async def _check_index(self) -> None:
        known, found = await self._rebuilds.living(), await self._index.identity()
        if known is not None and found != known:
            raise Conflict(
                "This is not the index that is in use",
                why="another one was filled last" if found else "there is none here",
                fix="Ask where the indexer runs; where the index was lost, run `chrono reindex`",
            )

    async def _part(self, after: int) -> tuple[list[RecordedPage], dict[int, int], int]:
        """The record's and the index's next pages, and up to which id both are told whole."""
        rows = await self._comparing.pages_after(after, PAGES_AT_ONCE)
        upto = rows[-1].id if len(rows) == PAGES_AT_ONCE else ID_MOST
        there = await self._held(after, upto)
        if len(there) == PAGES_AT_ONCE:  # more strangers than one part may hold
            upto = max(there)
            rows = [row for row in rows if row.id <= upto]
        return rows, there, upto

    async def _held(self, after: int, upto: int) -> dict[int, int]:
        there: dict[int, int] = {}
        async with aclosing(self._index.held(after, upto)) as pages:
            async for each in pages:
                there[each.id] = each.version
                if len(there) == PAGES_AT_ONCE:
                    break
        return there

    async def _still(self, found: dict[int, Fault], after: int, upto: int) -> dict[int, Fault]:
        """What differs at a second look, and did not change in the record around it.

        Whatever the record neither changes nor sends is confirmed by the
        index, so what differs then is a fault and no race.
        """
        waiting = await self._comparing.waiting(found)
        before = await self._comparing.pages(found)
        there = {
            each.id: each.version
            async for each in self._index.held(after, upto)
            if each.id in found
        }
        later = await self._comparing.pages(found)
        again = _faults(before.values(), there)
        return {
            id_: fault
            for id_, fault in again.items()
            if id_ not in waiting and before.get(id_) == later.get(id_)
        }


def _faults(rows: Iterable[RecordedPage], there: dict[int, int]) -> dict[int, Fault]:
    known = {row.id: row for row in rows}
    return dict(sorted((*_wrong(known, there), *_strangers(known, there))))


def _wrong(known: dict[int, RecordedPage], there: dict[int, int]) -> Iterator[tuple[int, Fault]]:
    for id_, row in known.items():
        if row.waiting:
            continue
        if id_ in there and (row.refused or there[id_] != row.version):
            yield id_, Fault.STALE
        elif id_ not in there and not row.refused:
            yield id_, Fault.MISSING


def _strangers(
    known: dict[int, RecordedPage], there: dict[int, int]
) -> Iterator[tuple[int, Fault]]:
    return ((id_, Fault.STRANGER) for id_ in there if id_ not in known)
