"""How far a run is: one query over its counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import asyncpg
import orjson

from chrono_ray.model.errors import NotFound
from chrono_ray.storage.database import Database, statements

PLAIN: Final = ("discovered", "stored", "unchanged", "known", "repeated", "gone", "cancelled")
REASONED: Final = ("skipped", "refused", "failed")


@dataclass(frozen=True, slots=True)
class CaptureCounts:
    """A run's listed rows by the state they are in; `discovered` is the sum of the rest."""

    discovered: int
    stored: int
    unchanged: int
    known: int
    repeated: int
    gone: int
    cancelled: int
    skipped: dict[str, int]
    refused: dict[str, int]
    failed: dict[str, int]

    @property
    def pending(self) -> int:
        """Listed and not ended yet."""
        plain = self.stored + self.unchanged + self.known + self.repeated + self.gone
        reasoned = (*self.skipped.values(), *self.refused.values(), *self.failed.values())
        return self.discovered - plain - self.cancelled - sum(reasoned)


@dataclass(frozen=True, slots=True)
class PutOff:
    """How many seconds until a listing is asked for again, and why not now."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at a moment. `seconds` since it was created, until it ended.

    `put_off` where it is known that all of the listing that is left waits for another try.
    """

    run_id: int
    state: str
    project: str
    url: str
    archive: str
    captures: CaptureCounts
    requests: dict[str, int]
    holes: int
    listing: int
    seconds: float
    created_at: datetime
    put_off: PutOff | None = None

    @property
    def archives(self) -> tuple[str, ...]:
        """Where it is had from: one, or those of a collection, most preferred first."""
        return tuple(self.archive.split(", "))


@dataclass(frozen=True, slots=True)
class PageCounts:
    """A run's pages: all, findable, and refused by the index."""

    pages: int
    indexed: int
    rejected: int

    @property
    def waiting(self) -> int:
        """Not searchable yet."""
        return self.pages - self.indexed - self.rejected


class Stats:
    """Reads progress; never writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("stats")

    async def progress(self, run_id: int) -> Progress:
        """One run's counters; `NotFound` when there is no such run."""
        return (await self.of_runs([run_id]))[0]

    async def of_runs(self, run_ids: Sequence[int]) -> tuple[Progress, ...]:
        """Of several, in the order asked, by one statement; `NotFound` when one is not there."""
        found = await self.found(run_ids)
        if missing := sorted(set(run_ids) - {each.run_id for each in found}):
            raise NotFound(f"There is no run {missing[0]}", fix="`chrono status` lists the runs")
        return found

    async def found(self, run_ids: Sequence[int]) -> tuple[Progress, ...]:
        """Of those that are still there, in the order asked."""
        rows = await self._database.fetch(self._sql["progress"], run_ids)
        return tuple(replace(progress_of(row), put_off=_put_off(row)) for row in rows)

    async def pages(self, *run_ids: int) -> PageCounts:
        """Of one run, or of all runs of a collection: each page once."""
        row = await self._database.fetchrow(self._sql["pages"], run_ids[0], len(run_ids) > 1)
        return PageCounts(0, 0, 0) if row is None else PageCounts(*row)


def progress_of(row: asyncpg.Record) -> Progress:
    """A row of `progress` in stats.sql, or one with the same columns."""
    counters: list[tuple[str, str, int]] = orjson.loads(row["counters"])
    return Progress(
        run_id=row["id"], state=row["state"], project=row["project"], url=row["url"],
        archive=row["archive"], captures=counts(counters),
        requests={reason: n for state, reason, n in counters if state == "request"},
        holes=row["holes"], listing=row["listing"], seconds=row["seconds"],
        created_at=row["created_at"],
    )  # fmt: skip


def _put_off(row: asyncpg.Record) -> PutOff | None:
    return None if row["put_off"] is None else PutOff(row["put_off"], row["put_off_for"])


ORDER: Final = ("active", "paused", "planned", "cancelled", "done")
"""Of several runs' states the first of these is the collection's."""


def summed(parts: Sequence[Progress]) -> Progress:
    """A collection's runs as one, named by the first; the longest time counts."""
    if len(parts) == 1:
        return parts[0]
    requests: Counter[str] = Counter()
    for each in parts:
        requests.update(each.requests)
    return replace(
        parts[0],
        state=min((each.state for each in parts), key=ORDER.index),
        archive=", ".join(each.archive for each in parts),
        captures=_added([each.captures for each in parts]), requests=dict(requests),
        holes=sum(each.holes for each in parts), listing=sum(each.listing for each in parts),
        seconds=max(each.seconds for each in parts), put_off=_soonest(parts),
    )  # fmt: skip


def _soonest(parts: Sequence[Progress]) -> PutOff | None:
    waiting = [each.put_off for each in parts if each.listing]
    known = [each for each in waiting if each is not None]
    return min(known, key=lambda each: each.seconds) if len(known) == len(waiting) > 0 else None


def _added(parts: Sequence[CaptureCounts]) -> CaptureCounts:
    plain = {name: sum(getattr(each, name) for each in parts) for name in PLAIN}
    skipped, refused, failed = (_merged(getattr(each, name) for each in parts) for name in REASONED)
    return CaptureCounts(
        discovered=plain["discovered"], stored=plain["stored"], unchanged=plain["unchanged"],
        known=plain["known"], repeated=plain["repeated"], gone=plain["gone"],
        cancelled=plain["cancelled"], skipped=skipped, refused=refused, failed=failed,
    )  # fmt: skip


def _merged(reasons: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in reasons:
        total.update(each)
    return dict(sorted(total.items()))


def counts(counters: list[tuple[str, str, int]]) -> CaptureCounts:
    """Rows of (state, reason, n) as one value; rows that cancelled out to 0 are left away."""
    plain = dict.fromkeys(PLAIN, 0)
    reasoned: dict[str, dict[str, int]] = {state: {} for state in REASONED}
    for state, reason, n in counters:
        if state in plain:
            plain[state] += n
        elif state in reasoned and n:
            reasoned[state][reason] = n
    return CaptureCounts(
        discovered=plain["discovered"], stored=plain["stored"], unchanged=plain["unchanged"],
        known=plain["known"], repeated=plain["repeated"], gone=plain["gone"],
        cancelled=plain["cancelled"], skipped=dict(sorted(reasoned["skipped"].items())),
        refused=dict(sorted(reasoned["refused"].items())),
        failed=dict(sorted(reasoned["failed"].items())),
    )  # fmt: skip
