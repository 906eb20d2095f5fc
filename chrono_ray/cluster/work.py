"""An actor's work: one coroutine in a thread with an event loop of its own.

It begins in the actor's `__init__`, so an actor that Ray restarted works
again without being asked (Ray does not resume an endless method), and the
actor's methods answer while it works. ADR 0005.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

import uvloop

from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.database import Database

TURN_EVERY: Final = 1.0
REACH_EVERY: Final = 2.0

log = logging.getLogger(__name__)

CRASHED = 70
"""Exit code of an actor whose work failed: Ray restarts it (`max_restarts=-1`)."""

Work = Callable[[asyncio.Event], Awaitable[None]]


class WorkThread:
    """Runs `work(stop)` until it returns. If it raises, the whole process exits: state is in
    PostgreSQL, and a fresh process is the one recovery that is always tested."""

    def __init__(self, work: Work, *, name: str) -> None:
        self._work = work
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._begun = threading.Event()
        self._turned_at = time.monotonic()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._begun.wait()

    @property
    def working(self) -> bool:
        return self._thread.is_alive()

    @property
    def asked(self) -> bool:
        """Whether the work was asked to end."""
        return self._stop is not None and self._stop.is_set()

    @property
    def stalled_for(self) -> float:
        """Seconds since its loop last took a turn: many when something blocks it."""
        return time.monotonic() - self._turned_at

    def ask(self) -> None:
        """Ask the work to end; do not wait for it."""
        if self._loop and self._stop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def stop(self, seconds: float) -> bool:
        """Ask the work to end and wait so long for it; True when it has ended."""
        self.ask()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._until_done())
        except BaseException:
            log.critical("actor.failed", exc_info=True, extra={"actor": self._name})
            logging.shutdown()
            os._exit(CRASHED)

    async def _until_done(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._begun.set()
        turning = asyncio.create_task(self._turn())
        try:
            await self._work(self._stop)
        finally:
            turning.cancel()

    async def _turn(self) -> None:
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(TURN_EVERY)


async def until_stopped(work: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    """Do the work until it ends, or cancel it where it stands when `stop` is set."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    if not working.cancelled():
        working.result()


async def until_reached(record: Database) -> None:
    """Wait for a record that answers, and that no restore is bringing back."""
    while True:
        try:
            await record.ping()
        except (Unavailable, TimeoutError) as error:
            log.warning("record.away", extra={"error": str(error)})
        else:
            return
        await asyncio.sleep(REACH_EVERY)
