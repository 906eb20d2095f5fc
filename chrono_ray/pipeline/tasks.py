"""The task runner: leased tasks are worked on in steps, each step's end a safe point.

A kind of task is an async generator: it yields `Progress` wherever the work
could stop and go on later, and `Finished` as its last word. The runner writes
every safe point, and stops there when it drains, when the soft limit is over,
or when the task is no longer its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID, uuid4

from chrono_ray.model.errors import ChronoError, LeaseLost, Unavailable
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.retry import backoff
from chrono_ray.model.task import Finished, Progress, kind_of
from chrono_ray.observability.catalogue import (
    LEASES_HELD,
    LEASES_LOST,
    LEASES_RESCUED,
    TASK_SECONDS_SPENT,
)
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.pipeline.measured import TASK
from chrono_ray.pipeline.rescue import Patience
from chrono_ray.pipeline.scrape import within
from chrono_ray.storage.tasks import (
    EVERY_CLASS,
    TaskLease,
    TaskRow,
    Tasks,
    TaskState,
    UnreadableTask,
)

log = logging.getLogger(__name__)

Steps = AsyncGenerator[Progress | Finished, None]
Write = Callable[[], Awaitable[None]]
AWAY_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 20.0
CRITICAL: Final = frozenset({QueueClass.CRITICAL})


@dataclass(frozen=True, slots=True)
class TaskPace:
    """How a runner works; all times in seconds.

    `slots` tasks at once, and one more that only a critical task may take: it
    never waits for a long export. After `soft` a task stops at its next safe
    point and goes on in a later lease; at `hard` it is cancelled and charged.
    """

    slots: int = 2
    soft: float = 1500.0
    hard: float = 1800.0
    idle: float = 0.5
    renew_every: float = 15.0
    rescue_every: float = 5.0
    drain: float = DRAIN_SECONDS

    @property
    def renewal(self) -> float:
        """Within which every lease has been renewed: the longest pause (`_forever`), one renewal
        (`_renew`), and a bit."""
        return self.renew_every * 7 / 3


@dataclass(frozen=True, slots=True)
class _Ended:
    """What became of a lease, in a word, and how it is written."""

    outcome: str
    write: Write


@dataclass(frozen=True, slots=True)
class _Working:
    lease: TaskLease
    task: asyncio.Task[None]


class TaskRunner:
    """One worker's tasks."""

    def __init__(
        self,
        tasks: Tasks,
        open_steps: Callable[[TaskLease], Steps],
        *,
        worker: str,
        pace: TaskPace,
        meter: Meter = SILENT,
    ) -> None:
        """`open_steps` begins a task's work at its lease's position."""
        self._meter = meter
        meter.watch(self._tell)
        self._tasks = tasks
        self._open = open_steps
        self._worker = worker
        self._pace = pace
        self._patience = Patience(renewal=pace.renewal, every=pace.rescue_every)
        self._working: dict[UUID, _Working] = {}
        self._token: UUID | None = None
        """Of a claim whose answer was lost: it may have brought a task."""
        self._ended = asyncio.Event()
        self._stop = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Tasks leased here."""
        return len(self._working)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then each task stops at its next safe point and goes back."""
        self._stop = stop
        async with asyncio.TaskGroup() as group:
            beside = self._beside(group)
            while not stop.is_set():
                if not await self._claim(group):
                    await self._wait(stop)
            await self._drain()
            for task in beside:
                task.cancel()

    async def run_one(
        self, task_id: int, stop: asyncio.Event, *, tell: Callable[[TaskRow], None]
    ) -> TaskRow:
        """Work on one task here until it ends, or `stop`; watch it when it is somebody else's.

        Returns the task as it is then: still pending after `stop`. The record
        going away is waited out; the task keeps its last safe point.
        """
        self._stop = stop
        found = await self._tasks.task(task_id)
        async with asyncio.TaskGroup() as group:
            beside = self._beside(group)
            while found.state is TaskState.PENDING and not stop.is_set():
                try:
                    found = await self._look_after(group, task_id)
                except Unavailable as error:
                    log.warning("task.away", extra={"task": task_id, "error": str(error)})
                tell(found)
                if found.state is TaskState.PENDING:
                    await self._wait(stop)
            await self._drain()
            for task in beside:
                task.cancel()
        return await self._tasks.task(task_id)

    async def _look_after(self, group: asyncio.TaskGroup, task_id: int) -> TaskRow:
        if not self._working:
            token = await self._fresh_token()
            lease = await self._tasks.claim_one(task_id, self._worker, token=token)
            await self._start(group, lease)
        return await self._tasks.task(task_id)

    # claiming

    async def _claim(self, group: asyncio.TaskGroup) -> bool:
        """Lease and start a task if there is room; False when there was nothing to start."""
        room = self._pace.slots - self.in_flight
        if room < 0:
            return False
        try:
            lease = await self._tasks.claim(
                self._worker,
                EVERY_CLASS if room else CRITICAL,
                token=await self._fresh_token(),
            )
            await self._start(group, lease)
        except Unavailable as error:
            log.warning("task.away", extra={"error": str(error)})
            return False
        return lease is not None

    async def _fresh_token(self) -> UUID:
        """For the next claim; what one brought whose answer was lost goes back before it."""
        if self._token is not None:
            await self._tasks.give_back(self._token)
        self._token = uuid4()
        return self._token

    async def _start(
        self, group: asyncio.TaskGroup, lease: TaskLease | UnreadableTask | None
    ) -> None:
        self._token = None
        if isinstance(lease, UnreadableTask):
            await self._insist(partial(self._tasks.fail, lease, "task_arguments", lease.why))
        elif lease is not None:
            log.info("task.started", extra={"task": lease.id})
            self._working[lease.token] = _Working(lease, group.create_task(self._work(lease)))

    async def _wait(self, stop: asyncio.Event) -> None:
        """Until a task ends or `stop`; `idle` at most."""
        self._ended.clear()
        if self._working and not stop.is_set():
            await within(self._ended, self._pace.idle)
        else:
            await within(stop, self._pace.idle)

    # one task

    async def _work(self, lease: TaskLease) -> None:
        began = time.monotonic()
        try:
            ended = await self._outcome(lease)
            spent = kind_of(lease.task), ended.outcome
            self._meter.observe(TASK_SECONDS_SPENT, *spent, value=time.monotonic() - began)
            await self._insist(ended.write)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(lease))
            raise
        finally:
            del self._working[lease.token]
            self._ended.set()

    async def _outcome(self, lease: TaskLease) -> _Ended:
        """Work on it as far as it goes now; returns how what became of it is written."""
        limit = asyncio.timeout(self._pace.hard)
        try:
            async with limit:
                finished = await self._advance(lease)
        except Unavailable as error:
            log.warning("task.away", extra={"task": lease.id, "error": str(error)})
            return _Ended("away", partial(self._tasks.release, lease, delay=AWAY_SECONDS))
        except ChronoError as error:
            log.warning("task.failed", extra={"task": lease.id, "error": str(error)})
            return _Ended("failed", partial(self._tasks.fail, lease, error.code, str(error)))
        except Exception as error:
            if limit.expired():
                return _Ended("late", self._charge(lease))
            log.exception("task.bug", extra={"task": lease.id})
            return _Ended("failed", partial(self._tasks.fail, lease, "internal", repr(error)))
        if finished is None:
            return _Ended("paused", partial(self._tasks.release, lease))
        return _Ended("done", partial(self._tasks.finish, lease, finished))

    async def _advance(self, lease: TaskLease) -> Finished | None:
        """Step by step to the end, or to a safe point where it must stop (None)."""
        ends = time.monotonic() + self._pace.soft
        async with aclosing(self._open(lease)) as steps:
            async for step in steps:
                if isinstance(step, Finished):
                    return step
                await self._tasks.save(lease, step)
                if self._stop.is_set() or time.monotonic() > ends:
                    return None
        raise RuntimeError(f"{type(lease.task).__name__} ended without a last word")

    def _charge(self, lease: TaskLease) -> Write:
        detail = f"no safe point within {self._pace.hard:g} s"
        log.warning("task.late", extra={"task": lease.id, "error": detail})
        delay = backoff(lease.attempts + 1, random.random())  # noqa: S311 - jitter
        return partial(self._tasks.charge, lease, "timeout", detail, delay=delay)

    async def _give_back(self, lease: TaskLease) -> None:
        try:
            await self._tasks.release(lease)
        except Unavailable as error:  # its lease runs out
            log.warning("task.away", extra={"task": lease.id, "error": str(error)})

    async def _insist(self, write: Write) -> None:
        """What became of a task is written when the record is back, unless we are to stop."""
        while True:
            try:
                await write()
            except LeaseLost as error:
                log.info("task.left", extra={"error": str(error)})
                return
            except Unavailable as error:
                log.warning("task.away", extra={"error": str(error)})
                if self._stop.is_set():
                    return
                await within(self._stop, AWAY_SECONDS)
            else:
                return

    # beside

    def _beside(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        return [
            group.create_task(self._forever(self._renew, self._pace.renew_every)),
            group.create_task(self._forever(self._rescue, self._pace.rescue_every)),
        ]

    async def _renew(self) -> None:
        before = dict(self._working)
        if not before:
            return
        try:
            async with asyncio.timeout(self._pace.renew_every):
                ours = await self._tasks.renew(list(before))
        except TimeoutError as error:
            raise Unavailable(
                "The record does not renew leases", why="no answer in time"
            ) from error
        for token in before.keys() - ours:
            log.info("task.lost", extra={"task": before[token].lease.id})
            self._meter.add(LEASES_LOST, TASK)
            before[token].task.cancel()

    async def _rescue(self) -> None:
        await self._tasks.reached()
        if not self._patience.may_rescue():
            return
        rescued = await self._tasks.rescue()
        self._patience.answered()
        if rescued:
            log.warning("task.rescued", extra={"count": rescued})
            self._meter.add(LEASES_RESCUED, TASK, amount=rescued)

    def _tell(self, meter: Meter) -> None:
        meter.set(LEASES_HELD, TASK, value=self.in_flight)

    async def _forever(self, work: Callable[[], Awaitable[None]], every: float) -> None:
        while True:
            try:
                await work()
            except Unavailable as error:
                log.warning("task.away", extra={"error": str(error)})
            await asyncio.sleep(every * (0.75 + random.random() / 2))  # noqa: S311 - jitter

    async def _drain(self) -> None:
        """Safe points are waited for; what has none in time is cancelled and given back."""
        working = [each.task for each in self._working.values()]
        if not working:
            return
        _, late = await asyncio.wait(working, timeout=self._pace.drain)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
