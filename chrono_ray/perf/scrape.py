"""A collection of the demo archive, without a limit: as fast as this machine goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chrono_ray.client import Chrono
from chrono_ray.client.answers import RunDetail
from chrono_ray.model.errors import Unavailable
from chrono_ray.perf.figures import Measured, Result

LOOK_SECONDS: Final = 0.25
MOST_SECONDS: Final = 120.0
ENDED: Final = ("done", "partial", "cancelled")


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a run was, so many seconds after it was asked for."""

    seconds: float
    state: str
    stored: int
    indexed: int


async def scrape(c: Chrono, project: int, site: str) -> dict[str, Result]:
    """A run from its beginning until all its pages are searchable."""
    return told(await asyncio.to_thread(_watched, c, project, site))


def _watched(c: Chrono, project: int, site: str) -> list[Seen]:
    began = time.monotonic()
    run = c.runs.begin(project=project, url=site, match="domain", archives=["wayback"]).run
    seen: list[Seen] = []
    while time.monotonic() - began < MOST_SECONDS:
        now = c.runs.get(run)
        seen.append(_seen(now, time.monotonic() - began))
        if now.state in ENDED and now.indexed >= now.pages:
            return seen
        time.sleep(LOOK_SECONDS)
    c.runs.cancel(run)
    raise Unavailable("The collection took too long", why=f"{MOST_SECONDS:.0f} s", code="timeout")


def _seen(run: RunDetail, seconds: float) -> Seen:
    return Seen(seconds, run.state, run.captures.stored, run.indexed)


def told(seen: list[Seen]) -> dict[str, Result]:
    """From the first page that was stored to the last, and the same of those searchable.

    Raises `Unavailable` when there were too few to say.
    """
    pages = _rate(seen, lambda each: each.stored)
    return {
        "scrape.pages": pages,
        "scrape.unlimited": pages,
        "index.pages": _rate(seen, lambda each: each.indexed),
    }


def _rate(seen: list[Seen], count: Callable[[Seen], int]) -> Measured:
    """A minute's worth, from the last look at none to the first at all."""
    first = max((each.seconds for each in seen if not count(each)), default=0.0)
    most = max(map(count, seen), default=0)
    last = min((each.seconds for each in seen if count(each) == most), default=0.0)
    if not most or last <= first:
        raise Unavailable("Too little was collected to measure it", code="too_little")
    course = tuple((each.seconds, float(count(each))) for each in seen)
    return Measured(60 * most / (last - first), course=course)
