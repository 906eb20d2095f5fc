"""Scrape: leased fetches are replayed and understood, several at once, and handed to be settled.

What is in flight or waits to be settled is bounded: while PostgreSQL is away
nothing new is claimed, and nothing that was fetched is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol
from uuid import UUID, uuid4

import asyncpg

from chrono_ray.archives.base import Archive
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    ExtractionFailed,
    Throttled,
    Unavailable,
)
from chrono_ray.model.memento import Memento
from chrono_ray.model.outcome import Failed, Outcome, Refused, Stored
from chrono_ray.model.page import Document
from chrono_ray.model.retry import (
    Fail,
    Late,
    Retry,
    Snooze,
    Verdict,
    backoff,
    decide_replay,
    pause_after,
)
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.pipeline.measured import Request, Scraped
from chrono_ray.pipeline.rescue import Sweeping, begin_due
from chrono_ray.pipeline.settle import Batching, Settle
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.frontier import FetchLease, Frontier, Nothing
from chrono_ray.storage.governor import Governor, Kind
from chrono_ray.storage.settling import Kept, Settlement, Settling

CLAIM: Final = 32
"""Fetches that one claim leases at most."""
READS: Final = 3
"""How often a page is read that ends its reader."""
ASKED: Final = 4
"""How often a reader is asked that is away, with the page in hand."""
DEADLY: Final = frozenset({"crashed", "memory", "timeout"})

log = logging.getLogger(__name__)


class Understanding(Protocol):
    """Bytes to document, elsewhere: a child process that may die without harm."""

    async def extract(
        self,
        body: bytes,
        *,
        media_type: str,
        charset: str,
        url: str,
        captured: date | None = None,
    ) -> Document:
        """Raises `ExtractionFailed` for a guilty page, `Unavailable` while nobody reads."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How a scraper works; all times in seconds.

    It begins with `begin` requests in flight, one more with each that ends, up
    to `in_flight`; after `forget` seconds without work it begins again. An
    archive without a limit is so met slowly, as archives ask of clients.
    """

    in_flight: int = 48
    begin: int = 4
    forget: float = 10.0
    claim: int = CLAIM
    idle: float = 0.5
    renew_every: float = 15.0
    watch_every: float = 1.0
    sweep_every: float = 5.0
    replay_deadline: float = 60.0
    late_deadline: float = 180.0
    drain: float = 25.0

    @property
    def renewal(self) -> float:
        """Within which every lease has been renewed: the longest pause (`_forever`), one renewal
        (`_renew`), and a bit."""
        return self.renew_every * 7 / 3

    def deadline(self, *, late: bool) -> float:
        """For one replay; the second pass, `late`, has its own."""
        return self.late_deadline if late else self.replay_deadline


class Halted(Exception):
    """Nothing may be sent for this fetch now (paused run, silent archive): its lease goes back."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a scraper works with."""

    frontier: Frontier
    settling: Settling
    governor: Governor
    blobs: Blobs
    archives: Mapping[str, Archive]
    extraction: Understanding


@dataclass(frozen=True, slots=True)
class _InFlight:
    lease: FetchLease
    task: asyncio.Task[None]


class Scrape:
    """One scraper's work."""

    def __init__(
        self, parts: Parts, *, pace: Pace, batching: Batching, meter: Meter = SILENT
    ) -> None:
        self._parts = parts
        self._measured = Scraped(meter)
        self._pace = pace
        self._sweeping = Sweeping(
            parts.frontier, parts.settling, renewal=pace.renewal, every=pace.sweep_every
        )
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self.settle = Settle(parts.settling, parts.blobs, batching=batching, written=self._settled)
        self._held: dict[int, FetchLease] = {}
        """Every lease from its claim until it is settled or given back: all of them are renewed."""
        self._in_flight: dict[int, _InFlight] = {}
        self._returned: list[FetchLease] = []
        self._token: UUID | None = None
        """Of a claim whose answer was lost: it may have brought a batch."""
        self._halted_runs: set[int] = set()
        self._silent_archives: set[str] = set()
        self._allowance = pace.begin
        self._worked_at = time.monotonic()
        self.claimed = 0
        """Fetches leased since it began."""
        self._measured.watch(lambda: self.in_flight, lambda: self.settle.waiting)

    @property
    def in_flight(self) -> int:
        """Fetches leased here and not settled yet."""
        return len(self._held)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then drain: no new claims; what is in flight ends or goes back."""
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._forever(self._renew, self._pace.renew_every)),
                group.create_task(self._forever(self._watch, self._pace.watch_every)),
                group.create_task(self._forever(self._sweep, self._pace.sweep_every)),
                group.create_task(self._forever(self._begin_due, self._pace.sweep_every)),
                group.create_task(self._sweep_when_idle()),
                group.create_task(self.settle.run()),
            ]
            while not stop.is_set():
                # what is to go back is no work: full of it, we would wait for room for ever
                if self.in_flight - len(self._returned) >= self._allowance:
                    await self._wait_for_room()
                else:
                    await within(stop, await self._claim(group, stop))
            await self._drain()
            for task in beside:
                task.cancel()

    # claiming

    async def _claim(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> float:
        """Lease and start what there is room for; returns how long to wait before the next try."""
        if not self.in_flight and time.monotonic() - self._worked_at > self._pace.forget:
            self._allowance = self._pace.begin
        try:
            await self._give_back()
            wanted = min(self._pace.claim, self._allowance - self.in_flight)
            self._token, began = uuid4(), time.monotonic()
            got = await self._parts.frontier.claim(wanted, idle=self._pace.idle, token=self._token)
            self._token = None
            self._measured.claimed(time.monotonic() - began, some=not isinstance(got, Nothing))
        except Unavailable as error:
            log.warning("claim.away", extra={"error": str(error)})
            return self._pace.idle
        if isinstance(got, Nothing):
            if not (got.silent or self.in_flight):
                self._idle.set()
            # a limited archive's slots come one by one: what waits a little finds several, and none
            # is missed, since they reach further ahead
            return max(got.wait, self._pace.idle) if got.silent else got.wait
        self._idle.clear()
        self.claimed += len(got.leases)
        self._held.update((lease.fetch_id, lease) for lease in got.leases)
        if got.leases[0].alone:
            await self._work_alone(got.leases, group, stop)
        else:
            self._start(got.leases, group)
        return 0.0

    def _start(self, leases: Sequence[FetchLease], group: asyncio.TaskGroup) -> None:
        for lease in leases:
            task = group.create_task(self._work(lease))
            self._in_flight[lease.fetch_id] = _InFlight(lease, task)

    async def _work_alone(
        self, leases: Sequence[FetchLease], group: asyncio.TaskGroup, stop: asyncio.Event
    ) -> None:
        """A batch leased alone is worked on alone: nothing else must be to blame."""
        await self._until_empty(stop)
        if stop.is_set():
            self._returned.extend(leases)
            return
        self._start(leases, group)
        await self._until_empty(stop)

    async def _until_empty(self, stop: asyncio.Event) -> None:
        while self._in_flight and not stop.is_set():
            await self._wait_for_room()

    def _settled(self, batch: Sequence[Settlement], seconds: float) -> None:
        self._measured.wrote(batch, seconds)
        for settlement in batch:
            held = self._held.get(settlement.fetch_id)
            if held and held.token == settlement.token:
                del self._held[settlement.fetch_id]
                self._measured.settled(held.archive, settlement)
        self._room.set()

    async def _wait_for_room(self) -> None:
        """Until a fetch ends or a batch is written; a second at most, to see a stop."""
        self._room.clear()
        await within(self._room, 1.0)

    # one fetch

    async def _work(self, lease: FetchLease) -> None:
        turn = _Turns(self, lease)
        try:
            self.settle.put(await self._settlement(lease, turn))
        except (Halted, Unavailable):
            self._leave(lease, turn)
        except asyncio.CancelledError:
            self._leave(lease, turn)
            raise
        except Exception as error:
            log.error("fetch.bug", exc_info=True, extra={"fetch": lease.fetch_id})
            wrapped = ArchiveUnavailable("The fetch failed", reason="unforeseen", why=repr(error))
            verdict = _verdict(lease, wrapped)
            self.settle.put(_settlement(lease, verdict, requests=turn.taken))
        finally:
            self._in_flight.pop(lease.fetch_id, None)
            self._allowance = min(self._allowance + 1, self._pace.in_flight)
            self._worked_at = time.monotonic()
            self._room.set()

    def _leave(self, lease: FetchLease, turn: _Turns) -> None:
        """Unasked, it goes back as it was; a request that went out is written down, and the next
        one for it waits: whatever ended this one may last."""
        if turn.taken:
            verdict = Snooze(backoff(1, random.random()), "halted")  # noqa: S311 - no secret
            self.settle.put(_settlement(lease, verdict, requests=turn.taken))
        else:
            self._returned.append(lease)

    async def _settlement(self, lease: FetchLease, turn: _Turns) -> Settlement:
        archive = self._parts.archives[lease.archive]
        request = Request(self._measured.meter, lease.archive, Kind.REPLAY, turn=turn)
        try:
            memento = await archive.replay(
                lease.capture, deadline=self._pace.deadline(late=lease.late), turn=request.turn
            )
        except ArchiveError as error:
            request.ended(error)
            return await self._judge(lease, error, turn.taken)
        request.ended()
        self._measured.fetched(lease.archive, len(memento.body))
        outcome = await self._understand(lease, memento)
        kept = None if isinstance(outcome, Refused) else Kept(b"", memento)
        return _settlement(lease, Fail(outcome), requests=turn.taken, kept=kept)

    async def _judge(self, lease: FetchLease, error: ArchiveError, requests: int) -> Settlement:
        verdict = _verdict(lease, error)
        if isinstance(error, Throttled | ConnectionRefused):
            self._silent_archives.add(lease.archive)
            seconds = await self._heed(lease.archive, error)
            verdict = Snooze(seconds, error.reason)
            log.warning(
                "archive.silenced",
                extra={"archive": lease.archive, "reason": error.reason, "seconds": seconds},
            )
        throttled = int(isinstance(error, Throttled))
        return _settlement(lease, verdict, requests=requests, throttled=throttled)

    async def _heed(self, archive: str, error: Throttled | ConnectionRefused) -> float:
        """Seconds of silence. With the record away it is ours alone; others learn by themselves."""
        try:
            return await self._parts.governor.heed(archive, error)
        except Unavailable:
            return pause_after(0, error.retry_after if isinstance(error, Throttled) else None)

    async def _understand(self, lease: FetchLease, memento: Memento) -> Outcome:
        """What kills its reader is read again behind the pages that wait, without a request:
        a busy machine is no fault of the page."""
        attempt = 1
        while True:
            began = time.monotonic()
            try:
                document = await self._read(lease, memento)
            except ExtractionFailed as error:
                self._measured.understood(time.monotonic() - began, error.reason)
                if error.reason == "type":
                    return Refused("type", str(error))
                if error.reason not in DEADLY or attempt == READS:
                    return Failed(error.reason, str(error), memento)
                extra = {"fetch": lease.fetch_id, "reason": error.reason, "attempt": attempt}
                log.warning("page.again", extra=extra)
                attempt += 1
            else:
                self._measured.understood(time.monotonic() - began)
                return Stored(memento, document)

    async def _read(self, lease: FetchLease, memento: Memento) -> Document:
        """While nobody reads what was fetched waits, and nothing more is claimed; given up, one
        page at a time is asked for until somebody reads again."""
        attempt = 1
        while True:
            try:
                return await self._read_once(lease, memento)
            except Unavailable as error:
                self._allowance = 0
                extra = {"fetch": lease.fetch_id, "error": str(error), "attempt": attempt}
                log.warning("page.waits", extra=extra)
                if attempt == ASKED:
                    raise
            await asyncio.sleep(backoff(attempt, random.random()))  # noqa: S311 - no secret
            attempt += 1

    async def _read_once(self, lease: FetchLease, memento: Memento) -> Document:
        document = await self._parts.extraction.extract(
            memento.body, media_type=memento.media_type, charset=memento.charset,
            url=lease.capture.original, captured=lease.capture.timestamp.instant.date(),
        )  # fmt: skip
        return document.flagged("truncated") if memento.truncated else document

    def may_send(self, lease: FetchLease) -> None:
        """Raise `Halted` when the run was paused or its archive asked for silence meanwhile."""
        if lease.run_id in self._halted_runs or lease.archive in self._silent_archives:
            raise Halted

    async def next_slot(self, lease: FetchLease) -> None:
        """Another of the archive's slots, for a request beyond the one the lease brought."""
        await self._parts.governor.turn(
            lease.archive, Kind.REPLAY, asking=lambda: self.may_send(lease)
        )

    # beside

    async def _renew(self) -> None:
        before = dict(self._held)
        tokens = {lease.token for lease in before.values()}
        if not tokens:
            return
        try:
            async with asyncio.timeout(self._pace.renew_every):
                ours = await self._parts.frontier.renew(list(tokens))
        except TimeoutError as error:
            raise Unavailable(
                "The record does not renew leases", why="no answer in time"
            ) from error
        for fetch_id in before.keys() - ours:
            working = self._in_flight.get(fetch_id)
            if working and working.lease is before[fetch_id]:
                log.warning("lease.lost", extra={"fetch": fetch_id})
                self._measured.lost()
                working.task.cancel()

    async def _watch(self) -> None:
        """Paused runs and silent archives are seen within a second."""
        budgets = await self._parts.governor.budgets()
        self._silent_archives = {b.archive for b in budgets if b.paused_seconds > 0}
        runs = {each.lease.run_id for each in self._in_flight.values()}
        self._halted_runs = await self._parts.frontier.halted(list(runs)) if runs else set()

    async def _sweep(self) -> None:
        swept = await self._sweeping.sweep()
        self._measured.rescued(swept.rescued)

    async def _begin_due(self) -> None:
        await begin_due(self._parts.frontier)

    async def _sweep_when_idle(self) -> None:
        """When there is nothing left to claim, a run may just have ended: look at once."""
        while True:
            await self._idle.wait()
            await self._once(self._sweep)
            await asyncio.sleep(self._pace.idle)
            self._idle.clear()

    async def _forever(self, work: Callable[[], Awaitable[None]], every: float) -> None:
        while True:
            await self._once(work)
            await asyncio.sleep(every * (0.75 + random.random() / 2))  # noqa: S311 - jitter

    async def _once(self, work: Callable[[], Awaitable[None]]) -> None:
        """What fails beside is tried again at its next turn: the fetches go on meanwhile."""
        try:
            await work()
        except Unavailable as error:
            log.warning("beside.away", extra={"error": str(error)})
        except asyncpg.PostgresError:
            log.error("beside.refused", exc_info=True, extra={"work": work.__name__})

    # giving back

    async def _give_back(self) -> None:
        if self._token is not None:
            await self._parts.frontier.give_back(self._token)
            self._token = None
        returned, self._returned = self._returned, []
        try:
            await self._parts.frontier.release(returned)
        except Unavailable:
            self._returned = returned + self._returned
            raise
        for lease in returned:
            if self._held.get(lease.fetch_id) is lease:
                del self._held[lease.fetch_id]

    async def _drain(self) -> None:
        """What ends in time is settled; the rest goes back; what nobody could write expires."""
        tasks = [each.task for each in self._in_flight.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._pace.drain)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        try:
            async with asyncio.timeout(self._pace.drain):
                while self.settle.waiting:
                    await self._wait_for_room()
                await self._give_back()
        except (TimeoutError, Unavailable) as error:
            log.warning("drain.left", extra={"error": str(error), "left": self.in_flight})


class _Turns:
    """The slots of one fetch: the first came with its lease, every further request asks again."""

    def __init__(self, scrape: Scrape, lease: FetchLease) -> None:
        self._scrape = scrape
        self._lease = lease
        self.taken = 0

    async def __call__(self) -> None:
        self._scrape.may_send(self._lease)
        if self.taken or not await self._lease.slot.come():
            await self._scrape.next_slot(self._lease)
        self._scrape.may_send(self._lease)
        self.taken += 1


def _verdict(lease: FetchLease, error: ArchiveError) -> Verdict | Late:
    jitter = random.random()  # noqa: S311 - no secret
    return decide_replay(error, lease.attempt, jitter, late=lease.late)


def _settlement(
    lease: FetchLease,
    verdict: Fail | Retry | Snooze | Late,
    *,
    requests: int,
    kept: Kept | None = None,
    throttled: int = 0,
) -> Settlement:
    return Settlement(
        fetch_id=lease.fetch_id, run_id=lease.run_id, capture_id=lease.capture_id,
        token=lease.token, verdict=verdict, kept=kept, requests=requests, throttled=throttled,
    )  # fmt: skip


async def within(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, so many seconds at most."""
    if seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
