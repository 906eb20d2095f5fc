"""Discover: a listing is walked page by page, each page kept before the next is asked for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, assert_never
from uuid import UUID, uuid4

from chrono_ray.archives.base import Archive
from chrono_ray.model.decision import decide as decide_capture
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    LeaseLost,
    RecordRefused,
    SettingsError,
    Throttled,
    Unavailable,
)
from chrono_ray.model.memento import ListingPage
from chrono_ray.model.retry import ATTEMPTS, LONGEST_DELAY, Fail, Retry, Snooze, decide_listing
from chrono_ray.model.rules import Rules
from chrono_ray.model.spans import Span, halves, may_be_size, samples
from chrono_ray.observability.catalogue import ROWS_LISTED
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.pipeline.measured import Request, archive_label
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import RECORD_AWAY, RECORD_FULL
from chrono_ray.storage.governor import Governor, Kind
from chrono_ray.storage.listings import Decided, Listings, SliceLease

RENEW_SECONDS: Final = 15.0
IDLE_SECONDS: Final = 0.5
PART_ATTEMPTS: Final = 2
"""A part of a slice that was split is split again after so many; only a month gets all of them."""
MONTHS_ASKED: Final = 3
"""When none of so many comes, it is not the size: the archive is ill."""
PAGES_A_TURN: Final = 4
"""A slice of thousands of pages must not keep the others waiting for hours."""

log = logging.getLogger(__name__)


class Discoverer:
    """Walks slices, one at a time. Any number of discoverers may work at once."""

    def __init__(
        self,
        listings: Listings,
        governor: Governor,
        blobs: Blobs,
        archives: Mapping[str, Archive],
        *,
        meter: Meter = SILENT,
    ) -> None:
        self._meter = meter
        self._listings = listings
        self._governor = governor
        self._blobs = blobs
        self._archives = archives
        self._token: UUID | None = None
        """Of a slice that may still be leased to us, though nobody walks it."""

    async def run(self, stop: asyncio.Event) -> None:
        """Walk slices until `stop`; a listing under way is given up, its slice given back."""
        while not stop.is_set():
            walking = asyncio.create_task(self._step_or_wait())
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({walking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                walking.cancel()
                await asyncio.gather(walking, stopping, return_exceptions=True)
            if not walking.cancelled():
                walking.result()

    async def _step_or_wait(self) -> None:
        try:
            worked = await self.step()
        except Unavailable as error:
            log.warning("listing.away", extra={"error": str(error)})
            worked = False
        if not worked:
            await asyncio.sleep(IDLE_SECONDS)

    async def step(self) -> bool:
        """Walk one slice as far as it goes now; False when there was none to walk.

        It ends listed, given back to be tried again, split in two, or as a named hole.
        Raises `Unavailable` when the record or the blob store is away: its last
        kept key is where it goes on, with the blob store away when its lease has run out.
        """
        lease = await self._claim()
        if lease is None:
            return False
        try:
            await self._walk(lease)
        except asyncio.CancelledError:
            await asyncio.shield(self._leave(lease))
            raise
        except LeaseLost as error:
            log.info("slice.left", extra={"slice": lease.slice_id, "error": str(error)})
            await self._leave(lease)
        except Unavailable as error:
            if error.code in (RECORD_AWAY, RECORD_FULL):  # the next claim finds it back
                self._token = lease.token
            raise
        except Exception as error:
            log.exception("slice.bug", extra={"run": lease.run_id, "slice": lease.slice_id})
            await self._settle_unforeseen(lease, error)
        return True

    async def _claim(self) -> SliceLease | None:
        """A slice that comes while we are being cancelled goes back at once, not in a minute."""
        if self._token is not None:
            await self._listings.give_back(self._token)
        token = self._token = uuid4()
        claiming = asyncio.ensure_future(self._listings.claim(list(self._archives), token=token))
        try:
            lease = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(Unavailable):
                if lease := await claiming:
                    await self._leave(lease)
            raise
        self._token = None
        return lease

    async def _leave(self, lease: SliceLease) -> None:
        await self._listings.release(lease, delay=0, attempt=False, reason="", detail="")

    async def _settle_unforeseen(self, lease: SliceLease, error: Exception) -> None:
        """The worker loop's boundary: one bad listing must not stop the others' work."""
        wrapped = ArchiveUnavailable("The listing could not be read", reason="unforeseen",
                                     why=repr(error), requests=0)  # fmt: skip
        verdict = decide_listing(wrapped, lease.attempts + 1, random.random())  # noqa: S311 - jitter
        await self._give_back(lease, verdict, wrapped, 0.0)

    async def _walk(self, lease: SliceLease) -> None:
        """So many pages, then the slice goes back: whose listing is next goes by ticket again.

        What came with one request is kept to its end: elsewhere it would be asked for again.
        """
        try:
            rules = lease.rules
        except SettingsError as error:
            await self._put_aside(lease, error)
            return
        pages, asked = 0, False
        while pages < PAGES_A_TURN and await self._listings.renew(lease):
            try:
                page = await self._list_page(lease)
            except ArchiveError as error:
                await self._settle_error(lease, error)
                return
            try:
                await self._keep(lease, page, rules)
            except RecordRefused as error:
                log.exception("slice.refused", extra={"run": lease.run_id, "slice": lease.slice_id})
                await self._listings.leave_hole(lease, reason="internal", detail=str(error))
                return
            if not page.next_key:
                log.info("slice.listed", extra={"run": lease.run_id, "slice": lease.slice_id})
                return
            lease = replace(lease, key=page.next_key, attempts=0, tired=False)
            asked = asked or page.requests > 0
            pages += page.requests > 0 or not asked
        await self._leave(lease)

    async def _put_aside(self, lease: SliceLease, error: SettingsError) -> None:
        """Before the archive was asked: somebody newer may read the rules, within a day."""
        log.warning("slice.rules", extra={"run": lease.run_id, "error": str(error)})
        if lease.tired:
            await self._listings.leave_hole(lease, reason="rules", detail=str(error))
        else:
            await self._listings.release(
                lease, delay=LONGEST_DELAY, attempt=False, reason="rules", detail=str(error)
            )

    async def _list_page(self, lease: SliceLease) -> ListingPage:
        archive = self._archives[lease.archive]

        async def turn() -> None:
            await self._governor.turn(lease.archive, Kind.LISTING)
            if not await self._listings.renew(lease):
                raise LeaseLost("The run was paused, or the slice belongs to somebody else now")

        async with self._renewing(lease):
            request = Request(self._meter, lease.archive, Kind.LISTING, turn=turn)
            try:
                page = await archive.list_page(lease.scope, lease.key, turn=request.turn)
            except ArchiveError as error:
                request.ended(error)
                raise
            request.ended()
        if page.next_key and page.next_key == lease.key:
            raise ArchiveUnavailable(
                "The listing does not move on", why="it answers with the key it was asked from"
            )
        return page

    async def _keep(self, lease: SliceLease, page: ListingPage, rules: Rules) -> None:
        [digest] = await self._blobs.put([page.raw])
        decided = [Decided(capture, decide_capture(capture, rules)) for capture in page.captures]
        await self._listings.keep(lease, page, decided=decided, raw=digest)
        listed = len(page.captures) + len(page.bad_rows)
        self._meter.add(ROWS_LISTED, archive_label(lease.archive), amount=listed)
        log.info(
            "slice.page",
            extra={
                "run": lease.run_id,
                "slice": lease.slice_id,
                "rows": len(page.captures),
                "bad": len(page.bad_rows),
            },
        )

    async def _settle_error(self, lease: SliceLease, error: ArchiveError) -> None:
        pause = await self._heed(lease, error)
        log.warning(
            "slice.error",
            extra={
                "run": lease.run_id,
                "slice": lease.slice_id,
                "reason": error.reason,
                "error": str(error),
                "attempt": lease.attempts + 1,
            },
        )
        verdict = decide_listing(error, lease.attempts + 1, random.random())  # noqa: S311
        try:
            await self._give_back(lease, verdict, error, pause)
        except (Throttled, ConnectionRefused) as told:  # when asked for less
            pause = await self._heed(lease, told)
            await self._give_back(lease, Snooze(pause, told.reason), told, pause)

    async def _heed(self, lease: SliceLease, error: ArchiveError) -> float:
        """Count what was sent, and silence the archive where it asks for that: for how long."""
        await self._listings.count_requests(lease.run_id, "cdx", error.requests)
        if isinstance(error, Throttled):
            await self._listings.count_requests(lease.run_id, "throttled", 1)
        if isinstance(error, Throttled | ConnectionRefused):
            return await self._governor.heed(lease.archive, error)
        return 0.0

    async def _give_back(
        self, lease: SliceLease, verdict: Retry | Snooze | Fail, error: ArchiveError, pause: float
    ) -> None:
        match verdict:
            case Fail() if await self._split(lease, error):
                return
            case Retry() if _may_be_too_large(lease) and await self._split(lease, error):
                return
            case Snooze() if lease.tired:
                await self._listings.leave_hole(lease, reason=error.reason, detail=str(error))
            case Retry() | Snooze():
                await self._listings.release(
                    lease, delay=max(pause, 0.0 if pause else verdict.delay),
                    attempt=isinstance(verdict, Retry), reason=verdict.reason, detail=str(error),
                )  # fmt: skip
            case Fail():
                await self._listings.leave_hole(lease, reason=error.reason, detail=str(error))
            case other:
                assert_never(other)

    async def _split(self, lease: SliceLease, error: ArchiveError) -> bool:
        """Put two halves in the slice's place if they may fare better; whether it was done.

        Raises `Throttled` or `ConnectionRefused` when the archive wants silence instead.
        """
        parts = halves(Span(lease.scope.start, lease.scope.end), now=lease.now)
        if parts is None or not may_be_size(error) or not await self._lists_less(lease):
            return False
        await self._listings.split(lease, parts, reason=error.reason, detail=str(error))
        log.info("slice.split", extra={"run": lease.run_id, "slice": lease.slice_id})
        return True

    async def _lists_less(self, lease: SliceLease) -> bool:
        """Whether the archive lists a month of it: an ill one is not asked for ever less."""
        failed = 0
        for month in samples(Span(lease.scope.start, lease.scope.end), now=lease.now):
            scope = replace(lease.scope, start=month.start, end=month.end)
            try:
                page = await self._list_page(replace(lease, scope=scope, key=""))
            except (Throttled, ConnectionRefused):
                raise
            except ArchiveError as error:
                await self._listings.count_requests(lease.run_id, "cdx", error.requests)
                failed += 1
                if failed == MONTHS_ASKED:
                    return False
                continue
            if page.requests:  # what is known without asking says nothing of its health
                await self._listings.count_requests(lease.run_id, "cdx", page.requests)
                return True
        return True  # so few months need asking that they may as well be asked one by one

    @asynccontextmanager
    async def _renewing(self, lease: SliceLease) -> AsyncIterator[None]:
        """A listing may wait long for its turn and its answer: keep the slice meanwhile."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                try:
                    await self._listings.renew(lease)
                except Unavailable as error:
                    log.warning("slice.away", extra={"error": str(error)})

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _may_be_too_large(lease: SliceLease) -> bool:
    """It failed so often that it is no accident; a part fails as its whole did."""
    return lease.attempts + 1 >= (PART_ATTEMPTS if lease.is_part else ATTEMPTS)
