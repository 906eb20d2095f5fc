"""Follow a run, or all runs of a collection, to the end, telling how it goes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chrono_ray.model.errors import Unavailable
from chrono_ray.pipeline.report import Rates, RunReport, live_line
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Governor
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.stats import PageCounts, Progress, Stats, summed

LOOK_EVERY: Final = 0.25
INDEX_SECONDS: Final = 120.0
RATE_WINDOW: Final = 15.0
MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Interrupted:
    """We were told to stop while the run was in this state."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    ended: int
    requests: dict[str, int]


async def follow(
    database: Database,
    run_id: int,
    stop: asyncio.Event,
    *,
    egress: str,
    alive: Callable[[], bool],
    tell: Callable[[str], None],
    every: float,
) -> RunReport | Interrupted:
    """Until the run has ended and its pages are searchable, or `stop`.

    The first run of a collection from several archives stands for all of them.

    `alive` says whether what works on the run is still there; when PostgreSQL
    is away and it is not, `Unavailable` is raised: nobody would go on.

    `tell` gets a line every so many seconds. PostgreSQL going away is waited
    out: the run goes on without us.
    """
    run_ids = await Projects(database).together(run_id)
    following = _Following(database, run_ids, egress=egress, alive=alive, tell=tell, every=every)
    return await following.run(stop)


class _Following:
    def __init__(
        self,
        database: Database,
        run_ids: Sequence[int],
        *,
        egress: str,
        alive: Callable[[], bool],
        tell: Callable[[str], None],
        every: float,
    ) -> None:
        self._stats = Stats(database)
        self._governor = Governor(database, egress=egress)
        self._run_ids = run_ids
        self._parts: tuple[Progress, ...] = ()
        self._alive = alive
        self._tell = tell
        self._every = every
        self._told = 0.0
        self._seen: deque[_Seen] = deque()

    async def run(self, stop: asyncio.Event) -> RunReport | Interrupted:
        progress = await self._progress()
        while progress.state == "active" and not stop.is_set():
            await self._show(progress)
            await _sleep(stop, LOOK_EVERY)
            progress = await self._look(progress)
        if stop.is_set() and progress.state == "active":
            return Interrupted(progress)
        return await self._until_indexed(progress, stop)

    async def _progress(self) -> Progress:
        self._parts = await self._stats.of_runs(self._run_ids)
        return summed(self._parts)

    async def _look(self, before: Progress) -> Progress:
        try:
            return await self._progress()
        except Unavailable as error:
            if not self._alive():
                run_id = self._run_ids[0]
                raise Unavailable(
                    f"chrono_ray stopped while run {run_id} was under way",
                    why=error.why,
                    fix=f"Start it again with `chrono up`: run {run_id} goes on by itself",
                ) from error
            self._tell("waiting for PostgreSQL; the run goes on when it is back")
            return before

    async def _show(self, progress: Progress) -> None:
        now = time.monotonic()
        captures = progress.captures
        self._seen.append(_Seen(now, captures.discovered - captures.pending, progress.requests))
        while now - self._seen[0].at > MINUTE:
            self._seen.popleft()
        if now - self._told < self._every:
            return
        self._told = now
        try:
            budgets = await self._governor.budgets()
        except Unavailable:
            budgets = []
        self._tell(live_line(progress, budgets, self._rates()))

    def _rates(self) -> Rates:
        last, first = self._seen[-1], self._seen[0]
        near = next(each for each in self._seen if last.at - each.at <= RATE_WINDOW)
        seconds = last.at - near.at
        ended = (last.ended - near.ended) / seconds if seconds else 0.0
        kinds = (("listing", "cdx"), ("replay", "replay"))
        sent = {k: last.requests.get(n, 0) - first.requests.get(n, 0) for k, n in kinds}
        return Rates(ended, sent)

    async def _until_indexed(self, progress: Progress, stop: asyncio.Event) -> RunReport:
        """Wait for the index as long as it moves: `INDEX_SECONDS` without progress is the end."""
        pages = await self._pages(PageCounts(0, 0, 0))
        ends = time.monotonic() + INDEX_SECONDS
        while pages.waiting and time.monotonic() < ends and not stop.is_set():
            await _sleep(stop, LOOK_EVERY)
            before, pages = pages, await self._pages(pages)
            if pages != before:
                ends = time.monotonic() + INDEX_SECONDS
        return RunReport(progress, pages, self._parts if len(self._parts) > 1 else ())

    async def _pages(self, before: PageCounts) -> PageCounts:
        while True:
            try:
                return await self._stats.pages(*self._run_ids)
            except Unavailable:
                if not self._alive():
                    raise
                if before.pages:
                    return before
            await asyncio.sleep(LOOK_EVERY)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
