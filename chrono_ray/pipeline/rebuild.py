"""Rebuild: a fresh index is filled from the record and takes the place of the live one.

It goes on where it was stopped. The live index is searched and kept up to date
meanwhile; what it confirms while the fresh one is filled, the fresh one gets,
too (storage/rebuilds.py says why nothing can fall between the two).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from chrono_ray.model.errors import LeaseLost, SearchError, Unavailable
from chrono_ray.model.query import PageEntry
from chrono_ray.pipeline.leased import renewed
from chrono_ray.pipeline.scrape import within
from chrono_ray.search.base import SearchIndex
from chrono_ray.search.batch import BatchLimits, RejectedEntry, deliver, groups, remove
from chrono_ray.storage.rebuilds import Rebuild, RebuildLease, Rebuilds, RebuildState

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0
FOLLOW_EVERY: Final = 0.25
AWAY_SECONDS: Final = 2.0
CONFIRM_EVERY: Final = 0.1
DELIVERY_SECONDS: Final = 300.0
QUIET_EVERY: Final = 0.1
LOCKED: Final = "search_locked"
TIMES_MORE: Final = 4
"""A batch of a rebuild is so many times larger: nobody waits for a single page of it."""
ROUNDS: Final = 3
"""How often the changes are caught up with before the gate is closed: each time they are fewer."""


class _Stopped(Exception):
    """We are to stop: the rebuild is given back as it is."""


class Rebuilding:
    """Works off the requests for a fresh index; any number of processes may, one does."""

    def __init__(self, rebuilds: Rebuilds, index: SearchIndex, *, limits: BatchLimits) -> None:
        self._rebuilds = rebuilds
        self._index = index
        self._limits = BatchLimits(limits.documents * TIMES_MORE, limits.size * TIMES_MORE)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what is under way is given back and gone on with by whoever is next."""
        while not stop.is_set():
            try:
                if not await self.step(stop):
                    await within(stop, LOOK_EVERY)
            except LeaseLost:
                log.warning("rebuild.lease_lost")
            except Unavailable as error:
                log.warning("rebuild.waits", extra={"error": str(error)})
                await within(stop, AWAY_SECONDS)

    async def step(self, stop: asyncio.Event) -> bool:
        """Go on with the rebuild under way to its end; False when there is nothing to do.

        A `SearchError` ends it as failed; the live index stays as it is.
        """
        lease = await self._rebuilds.claim()
        if lease is None:
            return False
        log.info("rebuild.goes_on", extra={"rebuild": lease.id, "state": lease.state})
        try:
            await renewed(
                self._go_on(lease, stop),
                lambda: self._rebuilds.renew(lease),
                every=self._rebuilds.lease.total_seconds() / 4,
            )
        except _Stopped:
            await self._rebuilds.release(lease)
        except Unavailable:
            await self._rebuilds.release(lease)
            raise
        except SearchError as error:
            await self._give_up(lease, error)
        return True

    async def _give_up(self, lease: RebuildLease, error: SearchError) -> None:
        if error.code == LOCKED:  # the one before us has not gone yet
            await self._rebuilds.release(lease)
            raise Unavailable(error.what, why=error.why, fix=error.fix) from error
        log.warning("rebuild.failed", extra={"rebuild": lease.id, "error": str(error)})
        await self._rebuilds.fail(lease, str(error))

    async def _go_on(self, lease: RebuildLease, stop: asyncio.Event) -> None:
        if lease.state is not RebuildState.SWAPPED:
            if not lease.fresh or await self._index.identity() != lease.fresh:
                lease = await self._until_swapped(lease, stop)
            lease = await self._rebuilds.swapped(lease)
        await self._index.tidy()
        await self._rebuilds.finish(lease)
        log.info("rebuild.done", extra={"rebuild": lease.id})

    async def _until_swapped(self, lease: RebuildLease, stop: asyncio.Event) -> RebuildLease:
        beside = await self._index.beside(lease.fresh) if lease.fresh else None
        if beside is None:
            lease = await self._rebuilds.begin(lease, await self._index.begin())
            beside = await self._index.beside(lease.fresh)
        if beside is None:
            raise SearchError("The fresh search index is gone", code="search_gone")
        try:
            lease = await self._fill(lease, beside, stop)
            for _ in range(ROUNDS):
                await self._catch_up(lease, beside, stop)
            lease = await self._rebuilds.close_gate(lease)
            await self._until_quiet(stop)
            await self._catch_up(lease, beside, stop)
        finally:
            await beside.aclose()
        await self._index.swap(lease.fresh)
        return lease

    async def _fill(
        self, lease: RebuildLease, beside: SearchIndex, stop: asyncio.Event
    ) -> RebuildLease:
        if lease.state is not RebuildState.FILLING:
            return lease
        while True:
            pages = await self._rebuilds.next_pages(
                lease, self._limits.documents, self._limits.size
            )
            if not pages.entries and not pages.deleted:
                return lease
            rejected = await self._put(beside, pages.entries, stop)
            lease = await self._rebuilds.advance(lease, pages, rejected=_said(rejected))

    async def _catch_up(
        self, lease: RebuildLease, beside: SearchIndex, stop: asyncio.Event
    ) -> None:
        upto = await self._rebuilds.last_change()
        limits = self._limits
        while changes := await self._rebuilds.changes(upto, limits.documents, limits.size):
            rejected = await self._put(beside, changes.change.entries, stop)
            gone = (*changes.change.deleted, *(each.id for each in rejected))
            await self._take_out(beside, gone, stop)
            await self._rebuilds.settle(lease, changes, rejected=_said(rejected))

    async def _until_quiet(self, stop: asyncio.Event) -> None:
        while not await self._rebuilds.quiet():
            await within(stop, QUIET_EVERY)
            _check(stop)

    async def _put(
        self, beside: SearchIndex, entries: Sequence[PageEntry], stop: asyncio.Event
    ) -> list[RejectedEntry]:
        """Stay until each is in it or named; what is undecided is sent again."""
        rejected: list[RejectedEntry] = []
        waiting = {entry.id: entry for entry in entries}
        while waiting:
            for batch in groups(tuple(waiting.values()), self._limits):
                _check(stop)
                done = await deliver(beside, batch, poll=CONFIRM_EVERY, deadline=DELIVERY_SECONDS)
                rejected += done.rejected
                for id_ in (*done.indexed, *(each.id for each in done.rejected)):
                    del waiting[id_]
        return rejected

    async def _take_out(self, beside: SearchIndex, ids: Sequence[int], stop: asyncio.Event) -> None:
        while ids:
            _check(stop)
            if await remove(beside, ids, poll=CONFIRM_EVERY, deadline=DELIVERY_SECONDS):
                return


def _check(stop: asyncio.Event) -> None:
    if stop.is_set():
        raise _Stopped


def _said(rejected: Sequence[RejectedEntry]) -> list[tuple[int, str]]:
    return [(each.id, f"{each.code}: {each.why}") for each in rejected]


async def follow(
    rebuilds: Rebuilds,
    rebuild_id: int,
    stop: asyncio.Event,
    *,
    alive: Callable[[], bool],
    tell: Callable[[str], None],
    every: float,
) -> Rebuild:
    """How a rebuild ended, or how far it is when `stop` is set. `tell` gets a line now and then.

    PostgreSQL going away is waited out as long as `alive` says that what works
    on it is there; else `Unavailable` is raised.
    """
    told = 0.0
    progress = await rebuilds.progress(rebuild_id)
    while not progress.state.ended and not stop.is_set():
        now = asyncio.get_running_loop().time()
        if now >= told + every:
            told = now
            tell(live_line(progress))
        await within(stop, FOLLOW_EVERY)
        try:
            progress = await rebuilds.progress(rebuild_id)
        except Unavailable:
            if not alive():
                raise
    return progress


def live_line(progress: Rebuild) -> str:
    """Where a rebuild is, for a person."""
    if not progress.worked_on and not progress.state.ended:
        return f"rebuild {progress.id}: waits for the indexer"
    done = progress.filled + progress.rejected
    rate = done / progress.seconds if progress.seconds else 0.0
    changes = f", {progress.changes:,} changes to catch up with" if progress.changes else ""
    return (
        f"rebuild {progress.id}: {progress.state}, {done:,} of {progress.total:,} pages"
        f" ({rate:,.0f}/s){changes}"
    )


def exit_code(ended: Rebuild) -> int:
    """0 done, 1 failed, 3 done without the pages that the index refuses, 130 not at its end."""
    if not ended.state.ended:
        return 130
    if ended.state is RebuildState.FAILED:
        return 1
    return 3 if ended.rejected else 0


def as_json(ended: Rebuild) -> str:
    """One object on one line."""
    told = {
        "rebuild": ended.id, "state": ended.state, "pages": ended.filled,
        "rejected": ended.rejected, "seconds": round(ended.seconds, 1), "error": ended.error,
    }  # fmt: skip
    return orjson.dumps(told).decode()


def summary(rebuild: Rebuild) -> str:
    """How it ended, or where it is, for a person."""
    if rebuild.state is RebuildState.FAILED:
        return f"The fresh index could not be built; the old one is untouched: {rebuild.error}"
    if rebuild.state is not RebuildState.DONE:
        return f"Rebuild {rebuild.id} is {rebuild.state}; the indexer works it off while it runs."
    refused = f", {rebuild.rejected:,} are refused by it" if rebuild.rejected else ""
    return f"The fresh index answers now: {rebuild.filled:,} pages{refused}."
