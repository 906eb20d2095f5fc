"""Control: what a person does to runs that are under way or over.

The first run of a collection from several archives stands for all of its runs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from chrono_ray.model.memento import Scope
from chrono_ray.model.priority import CapturePriority
from chrono_ray.storage.control import (
    Again,
    Control,
    FetchedNow,
    Retried,
    StoredAlready,
)
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects


@dataclass(frozen=True, slots=True)
class Named:
    """A capture as a person names it: the first of a URL in a stretch of time (14 digits each).

    `archive` may be empty for any.
    """

    project: str
    url: str
    start: str
    end: str
    archive: str


async def retry(database: Database, run_id: int, again: Again, *, dry_run: bool) -> Retried:
    """Try again what ended without a page; with `dry_run` only say what that would be.

    `NotFound` when there is no such run. Safe to repeat.
    """
    control = Control(database)
    work = control.count_retry if dry_run else control.retry
    ids = await Projects(database).together(run_id)
    return _added([await work(each, again) for each in ids])


async def prioritise(
    database: Database, run_id: int, where: Scope, priority: CapturePriority, *, dry_run: bool
) -> int:
    """How many waiting payloads of a run get (or, with `dry_run`, would get) this priority."""
    control = Control(database)
    work = control.count_matching if dry_run else control.prioritise
    return await work(await Projects(database).together(run_id), where, priority)


async def fetch_now(database: Database, capture: int | Named) -> StoredAlready | FetchedNow:
    """Have one listed capture, by its id or its name, before all else. `NotFound` if unlisted."""
    control = Control(database)
    if isinstance(capture, Named):
        capture = await control.find_capture(
            capture.project, capture.url,
            start=capture.start, end=capture.end, archive=capture.archive,
        )  # fmt: skip
    return await control.fetch_now(capture)


def _added(parts: list[Retried]) -> Retried:
    fetches: Counter[tuple[str, str]] = Counter()
    withheld: Counter[tuple[str, str]] = Counter()
    for each in parts:
        fetches.update(each.fetches)
        withheld.update(each.withheld)
    return Retried(dict(fetches), sum(each.slices for each in parts), dict(withheld))
