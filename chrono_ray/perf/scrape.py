"""A collection of the demo archive, without a limit: as fast as this machine goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Final

from chrono_ray.client import Chrono
from chrono_ray.client.answers import RunDetail
from chrono_ray.perf.apart import apart
from chrono_ray.perf.figures import Failed, Measured, Result

LOOK_SECONDS: Final = 0.25
MOST_SECONDS: Final = 120.0
"""Longer is not waited for: it is judged by what it reached."""
ENDED: Final = ("done", "partial", "cancelled")


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a run was, so many seconds after it was asked for."""

    seconds: float
    state: str
    stored: int
    indexed: int
    pages: int

    @property
    def is_stored(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ENDED

    @property
    def is_indexed(self) -> bool:
        return self.is_stored and self.indexed >= self.pages


async def scrape(client: Callable[[], Chrono], project: int, site: str) -> dict[str, Result]:
    """A run from its beginning until all its pages are searchable."""
    return told(await apart(client, lambda c, ended: _watched(c, project, site, ended)))


def _watched(c: Chrono, project: int, site: str, ended: Event) -> list[Seen]:
    began = time.monotonic()
    run = c.runs.begin(project=project, url=site, match="domain", archives=["wayback"]).run
    seen: list[Seen] = []
    while time.monotonic() - began < MOST_SECONDS:
        now = _seen(c.runs.get(run), time.monotonic() - began)
        seen.append(now)
        if now.is_indexed:
            return seen
        if ended.wait(LOOK_SECONDS):
            break
    if not seen[-1].is_stored:
        c.runs.cancel(run)
    return seen


def _seen(run: RunDetail, seconds: float) -> Seen:
    return Seen(seconds, run.state, run.captures.stored, run.indexed, run.pages)


def told(seen: list[Seen]) -> dict[str, Result]:
    """From the first page that was stored to the last, and the same of those searchable."""
    last = seen[-1]
    pages = _rate(seen, lambda each: each.stored, whole=last.is_stored)
    return {
        "scrape.pages": pages,
        "scrape.unlimited": pages,
        "index.pages": _rate(seen, lambda each: each.indexed, whole=last.is_indexed),
    }


def _rate(seen: list[Seen], count: Callable[[Seen], int], *, whole: bool) -> Result:
    """A minute's worth, from the last look at none to the first at all, or to the last look at all
    where they did not all come."""
    first = max((each.seconds for each in seen if not count(each)), default=0.0)
    most = max(map(count, seen))
    last = min(each.seconds for each in seen if count(each) == most)
    ended = last if whole else seen[-1].seconds
    if not most or ended <= first:
        return Failed(f"too little to measure was reached in {seen[-1].seconds:.0f} s")
    course = tuple((each.seconds, float(count(each))) for each in seen)
    why = "" if whole else f"it had not ended after {ended:.0f} s"
    return Measured(60 * most / (ended - first), course=course, why=why)
