"""Rescue: what must happen though nobody asks, done by every worker that happens to be alive."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from chrono_ray.model.outcome import Failed
from chrono_ray.model.retry import Fail
from chrono_ray.storage.frontier import CRASHES, Condemned, Frontier, Swept
from chrono_ray.storage.recounting import Recounting
from chrono_ray.storage.settling import Cancelled, Settlement, Settling

CANCEL_BATCH: Final = 250
CANCEL_SECONDS: Final = 1.0
"""A sweep gives what was cancelled so much time: the runs that go on wait for the next sweep."""

log = logging.getLogger(__name__)


class Patience:
    """Takes leases from nobody who could not renew them.

    While PostgreSQL is away all leases run out, and who lives renews them as
    soon as it is back. So a rescuer that just began, or had no answer for long,
    leaves them for `renewal` seconds: within them every holder has renewed.
    `every`: seconds between two looks.
    """

    def __init__(self, *, renewal: float, every: float) -> None:
        self._renewal = renewal
        self._long = max(renewal / 2, 2 * every)
        self._answered = self._back = -math.inf

    def may_rescue(self) -> bool:
        """To be asked when the record has just answered: before, it may have hung for long."""
        now = time.monotonic()
        if now - self._answered > self._long:
            self._back = now
        self._answered = now
        return now - self._back >= self._renewal

    def answered(self) -> None:
        """What took so long was work."""
        self._answered = time.monotonic()


class Sweeping:
    """A worker's sweeps: it tells of itself, and rescues with patience."""

    def __init__(
        self, frontier: Frontier, settling: Settling, *, renewal: float, every: float
    ) -> None:
        self._frontier = frontier
        self._settling = settling
        self._patience = Patience(renewal=renewal, every=every)

    async def sweep(self) -> Swept:
        """As `sweep` below; raises `Unavailable` while PostgreSQL is away."""
        await self._frontier.be_seen()
        rescue = self._patience.may_rescue()
        swept = await sweep(self._frontier, self._settling, rescue=rescue)
        self._patience.answered()
        return swept


async def sweep(
    frontier: Frontier,
    settling: Settling,
    *,
    cancelling: float = CANCEL_SECONDS,
    rescue: bool = True,
) -> Swept:
    """Expired leases go back, parked fetches return, runs that are over end.

    A fetch that killed its workers too often is settled as failed(crashed). What
    cancelled runs left ends too, for about `cancelling` seconds; later sweeps go on.
    """
    swept = await frontier.sweep(rescue=rescue)
    crashed = Fail(Failed("crashed", f"its worker died {CRASHES} times while it had only this"))
    await settling.settle(_settlements(swept.condemned, crashed))
    await _end_cancelled(frontier, settling, seconds=cancelling)
    if swept.rescued:
        log.warning("lease.rescued", extra={"count": swept.rescued})
    for run_id in swept.finished_runs:
        log.info("run.done", extra={"run": run_id})
    return swept


async def begin_due(frontier: Frontier) -> None:
    """What is scheduled begins: apart from the sweep, so that neither can hold up the other."""
    for run_id in await frontier.begin_due():
        log.info("run.due", extra={"run": run_id})


async def _end_cancelled(frontier: Frontier, settling: Settling, *, seconds: float) -> None:
    """One batch at least, so that it ends however slow the record is."""
    until = time.monotonic() + seconds
    while cancelled := await frontier.cancelled(CANCEL_BATCH):
        await settling.settle(_settlements(cancelled, Cancelled()))
        if time.monotonic() >= until:
            return


@dataclass(frozen=True, slots=True)
class Rescued:
    """What a thorough rescue found to do."""

    rescued: int = 0
    crashed: int = 0
    stranded: int = 0
    finished: int = 0


async def rescue_deep(frontier: Frontier, settling: Settling, recounting: Recounting) -> Rescued:
    """Sweep until nothing is left to rescue, and queue the fetches that stand nowhere."""
    told = Rescued(stranded=await recounting.put_back_stranded())
    while True:
        swept = await sweep(frontier, settling, cancelling=math.inf)
        told = replace(
            told, rescued=told.rescued + swept.rescued,
            crashed=told.crashed + len(swept.condemned),
            finished=told.finished + len(swept.finished_runs),
        )  # fmt: skip
        if not swept.rescued:
            return told


def _settlements(condemned: Sequence[Condemned], verdict: Fail | Cancelled) -> list[Settlement]:
    return [
        Settlement(
            fetch_id=each.fetch_id, run_id=each.run_id, capture_id=each.capture_id,
            token=each.token, verdict=verdict, kept=None, requests=0, throttled=0,
        )
        for each in condemned
    ]  # fmt: skip
