"""Scrape: leased fetches are replayed and understood, several at once, and handed to be settled.

What is in flight or waits to be settled is bounded: while PostgreSQL is away
nothing new is claimed, and nothing that was fetched is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from chrono_ray.archives.base import Archive
from chrono_ray.model.errors import (
    ArchiveError,
    ConnectionRefused,
    ExtractionFailed,
    Throttled,
    Unavailable,
)
from chrono_ray.model.memento import Memento
from chrono_ray.model.outcome import Failed, Outcome, Refused, Stored
from chrono_ray.model.page import Document
from chrono_ray.model.retry import Fail, Retry, Snooze, decide
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.pipeline.settle import Batching, Settle
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.frontier import Claimed, FetchLease, Frontier, Nothing
from chrono_ray.storage.governor import Governor, Kind
from chrono_ray.storage.settling import Kept, Settlement, Settling

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
        """Raises `ExtractionFailed`; the page is then the guilty one."""
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
    claim: int = 32
    idle: float = 0.5
    renew_every: float = 15.0
    watch_every: float = 1.0
    sweep_every: float = 5.0
    replay_deadline: float = 60.0
    drain: float = 25.0


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

    def __init__(self, parts: Parts, *, pace: Pace, batching: Batching) -> None:
        self._parts = parts
        self._pace = pace
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self.settle = Settle(parts.settling, parts.blobs, batching=batching, written=self._room.set)
        self._in_flight: dict[int, _InFlight] = {}
        self._returned: list[FetchLease] = []
        self._halted_runs: set[int] = set()
        self._silent_archives: set[str] = set()
        self._allowance = pace.begin
        self._worked_at = time.monotonic()
        self.claimed = 0

    @property
    def in_flight(self) -> int:
        """Fetches leased here and not settled yet."""
        return len(self._in_flight) + self.settle.waiting

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then drain: no new claims; what is in flight ends or goes back."""
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._forever(self._renew, self._pace.renew_every)),
                group.create_task(self._forever(self._watch, self._pace.watch_every)),
                group.create_task(self._forever(self._sweep, self._pace.sweep_every)),
                group.create_task(self._sweep_when_idle()),
                group.create_task(self.settle.run()),
            ]
            while not stop.is_set():
                if self.in_flight >= self._allowance:
                    await self._wait_for_room()
                else:
                    await within(stop, await self._claim(group))
            await self._drain()
            for task in beside:
                task.cancel()

    # claiming

    async def _claim(self, group: asyncio.TaskGroup) -> float:
        """Lease and start what there is room for; returns how long to wait before the next try."""
        if not self.in_flight and time.monotonic() - self._worked_at > self._pace.forget:
            self._allowance = self._pace.begin
        wanted = min(self._pace.claim, self._allowance - self.in_flight)
        try:
            await self._give_back()
            got = await self._parts.frontier.claim(wanted, idle=self._pace.idle)
        except Unavailable as error:
            log.warning("claim.away", extra={"error": str(error)})
            return self._pace.idle
        if isinstance(got, Nothing):
            if not (got.silent or self.in_flight):
                self._idle.set()
            return got.wait
        self._idle.clear()
        await self._start(got, group)
        return 0.0

    async def _start(self, got: Claimed, group: asyncio.TaskGroup) -> None:
        """A fetch leased alone is worked on alone: it must be the only one to blame."""
        self.claimed += len(got.leases)
        alone = got.leases[0].alone
        if alone:
            await self._until_empty()
        for lease in got.leases:
            task = group.create_task(self._work(lease))
            self._in_flight[lease.fetch_id] = _InFlight(lease, task)
        if alone:
            await self._until_empty()

    async def _until_empty(self) -> None:
        while self._in_flight:
            await asyncio.wait([each.task for each in self._in_flight.values()])

    async def _wait_for_room(self) -> None:
        """Until a fetch ends or a batch is written; a second at most, to see a stop."""
        self._room.clear()
        await within(self._room, 1.0)

    # one fetch

    async def _work(self, lease: FetchLease) -> None:
        try:
            settlement = await self._settlement(lease)
        except (Halted, Unavailable):
            self._returned.append(lease)
        except asyncio.CancelledError:
            self._returned.append(lease)
            raise
        except Exception as error:
            log.error("fetch.bug", exc_info=True, extra={"fetch": lease.fetch_id})
            self.settle.put(_settlement(lease, Fail(Failed("internal", repr(error))), requests=1))
        else:
            self.settle.put(settlement)
        finally:
            self._in_flight.pop(lease.fetch_id, None)
            self._allowance = min(self._allowance + 1, self._pace.in_flight)
            self._worked_at = time.monotonic()
            self._room.set()

    async def _settlement(self, lease: FetchLease) -> Settlement:
        turn = _Turns(self, lease)
        archive = self._parts.archives[lease.archive]
        try:
            memento = await archive.replay(
                lease.capture, deadline=self._pace.replay_deadline, turn=turn
            )
        except ArchiveError as error:
            return await self._judge(lease, error, turn.taken)
        outcome = await self._understand(lease, memento)
        kept = None if isinstance(outcome, Refused) else Kept(b"", memento)
        return _settlement(lease, Fail(outcome), requests=turn.taken, kept=kept)

    async def _judge(self, lease: FetchLease, error: ArchiveError, requests: int) -> Settlement:
        verdict = decide(error, lease.attempt, random.random())  # noqa: S311 - jitter, no secret
        if isinstance(error, Throttled | ConnectionRefused):
            self._silent_archives.add(lease.archive)
            seconds = await self._parts.governor.heed(lease.archive, error)
            verdict = Snooze(seconds, error.reason)
            log.warning(
                "archive.silenced",
                extra={"archive": lease.archive, "reason": error.reason, "seconds": seconds},
            )
        throttled = int(isinstance(error, Throttled))
        return _settlement(lease, verdict, requests=requests, throttled=throttled)

    async def _understand(self, lease: FetchLease, memento: Memento) -> Outcome:
        try:
            document = await self._parts.extraction.extract(
                memento.body, media_type=memento.media_type, charset=memento.charset,
                url=lease.capture.original, captured=lease.capture.timestamp.instant.date(),
            )  # fmt: skip
        except ExtractionFailed as error:
            if error.reason == "type":
                return Refused("type", str(error))
            return Failed(error.reason, str(error), memento)
        return Stored(memento, document)

    def may_send(self, lease: FetchLease) -> None:
        """Raise `Halted` when the run was paused or its archive asked for silence meanwhile."""
        if lease.run_id in self._halted_runs or lease.archive in self._silent_archives:
            raise Halted

    async def next_slot(self, lease: FetchLease) -> None:
        """Another of the archive's slots, for a request beyond the one the lease brought."""
        await self._parts.governor.turn(lease.archive, Kind.REPLAY)

    # beside

    async def _renew(self) -> None:
        before = dict(self._in_flight)
        tokens = {each.lease.token for each in before.values()}
        if not tokens:
            return
        ours = await self._parts.frontier.renew(list(tokens))
        for fetch_id, each in before.items():
            if fetch_id not in ours and fetch_id in self._in_flight:
                log.warning("lease.lost", extra={"fetch": fetch_id})
                each.task.cancel()

    async def _watch(self) -> None:
        """Paused runs and silent archives are seen within a second."""
        budgets = await self._parts.governor.budgets()
        self._silent_archives = {b.archive for b in budgets if b.paused_seconds > 0}
        runs = {each.lease.run_id for each in self._in_flight.values()}
        self._halted_runs = await self._parts.frontier.halted(list(runs)) if runs else set()

    async def _sweep(self) -> None:
        await sweep(self._parts.frontier, self._parts.settling)

    async def _sweep_when_idle(self) -> None:
        """When there is nothing left to claim, a run may just have ended: look at once."""
        while True:
            await self._idle.wait()
            try:
                await self._sweep()
            except Unavailable as error:
                log.warning("beside.away", extra={"error": str(error)})
            await asyncio.sleep(self._pace.idle)
            self._idle.clear()

    async def _forever(self, work: Callable[[], Awaitable[None]], every: float) -> None:
        while True:
            try:
                await work()
            except Unavailable as error:
                log.warning("beside.away", extra={"error": str(error)})
            await asyncio.sleep(every * (0.75 + random.random() / 2))  # noqa: S311 - jitter

    # giving back

    async def _give_back(self) -> None:
        returned, self._returned = self._returned, []
        try:
            await self._parts.frontier.release(returned)
        except Unavailable:
            self._returned = returned + self._returned
            raise

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


def _settlement(
    lease: FetchLease,
    verdict: Fail | Retry | Snooze,
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
