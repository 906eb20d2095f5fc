"""What the workers count of their work, in the words of the work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Final, assert_never

from chrono_ray.archives.base import Turn
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    MementoGone,
    RequestRefused,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.outcome import Stored
from chrono_ray.model.retry import Fail, Late, Retry, Snooze
from chrono_ray.observability import catalogue
from chrono_ray.observability.metrics import Meter
from chrono_ray.search.batch import Delivered
from chrono_ray.storage.governor import SILENCED, Kind
from chrono_ray.storage.settling import Cancelled, Settlement

FETCH: Final = "fetch"
TASK: Final = "task"
LISTING: Final = "listing"
UNDERSTOOD: Final = "understood"
RESTARTS: Final = ("timeout", "memory", "crashed", "exit")


def archive_label(archive: str) -> str:
    """Local files are archives by their paths: as a label they are one."""
    return archive.partition(":")[0]


def begin_at_zero(meter: Meter, archives: Iterable[str]) -> None:
    """Have what is rare told before it happens: nobody sees what a series begins with as growth."""
    labels = sorted(set(map(archive_label, archives)))
    for archive, kind, reason in product(labels, Kind, SILENCED):
        meter.add(catalogue.ARCHIVE_THROTTLED, archive, kind.value, reason, amount=0)
    for metric, work in product((catalogue.LEASES_LOST, catalogue.LEASES_RESCUED), (FETCH, TASK)):
        meter.add(metric, work, amount=0)
    for reason in RESTARTS:
        meter.add(catalogue.EXTRACTION_RESTARTS, reason, amount=0)


class Request:
    """One answer of an archive, redirects and all, without the waits for leave to send.

    Its `turn` is taken before every request that goes out.
    """

    def __init__(self, meter: Meter, archive: str, kind: Kind, *, turn: Turn) -> None:
        self._meter = meter
        self._labels = archive_label(archive), kind.value
        self._take = turn
        self._began = time.monotonic()

    async def turn(self) -> None:
        asked = time.monotonic()
        await self._take()
        self._began += time.monotonic() - asked
        self._meter.add(catalogue.ARCHIVE_REQUESTS, *self._labels)

    def ended(self, error: ArchiveError | None = None) -> None:
        """It was answered, or failed as the error says."""
        took, result = time.monotonic() - self._began, _result(error)
        self._meter.observe(catalogue.ARCHIVE_SECONDS_SPENT, *self._labels, result, value=took)
        if isinstance(error, Throttled | ConnectionRefused):
            self._meter.add(catalogue.ARCHIVE_THROTTLED, *self._labels, result)


def _result(error: ArchiveError | None) -> str:
    match error:
        case None:
            return "ok"
        case MementoGone():
            return "gone"
        case RequestRefused():
            return "refused"
        case Throttled() | ConnectionRefused():
            return error.default_reason
        case ArchiveUnavailable():
            return "unavailable"
        case TransferFailed() | ArchiveError():
            return "failed"


class Scraped:
    """What a scraper counts."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def claimed(self, seconds: float, *, some: bool) -> None:
        result = "granted" if some else "nothing"
        self.meter.observe(catalogue.CLAIM_SECONDS, result, value=seconds)

    def fetched(self, archive: str, size: int) -> None:
        self.meter.add(catalogue.FETCHED_BYTES, archive_label(archive), amount=size)

    def understood(self, seconds: float, outcome: str = UNDERSTOOD) -> None:
        self.meter.observe(catalogue.EXTRACTION_SECONDS, outcome, value=seconds)

    def settled(self, archive: str, settlement: Settlement) -> None:
        name, reason = _ended(settlement)
        self.meter.add(catalogue.FETCHES, archive_label(archive), name)
        if reason:
            self.meter.add(catalogue.FETCH_FAILURES, archive_label(archive), reason)

    def wrote(self, batch: Sequence[Settlement], seconds: float) -> None:
        self.meter.observe(catalogue.SETTLE_SECONDS, value=seconds)
        self.meter.observe(catalogue.SETTLE_SIZE, value=len(batch))

    def lost(self) -> None:
        self.meter.add(catalogue.LEASES_LOST, FETCH)

    def rescued(self, count: int) -> None:
        self.meter.add(catalogue.LEASES_RESCUED, FETCH, amount=count)

    def watch(self, held: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Have it told what is leased and what waits to be written."""

        def tell(meter: Meter) -> None:
            meter.set(catalogue.LEASES_HELD, FETCH, value=held())
            meter.set(catalogue.SETTLE_WAITING, value=waiting())

        self.meter.watch(tell)


def _ended(settlement: Settlement) -> tuple[str, str]:
    """What became of a fetch, and why where it was not stored."""
    match settlement.verdict:
        case Fail(outcome):
            reason = "" if isinstance(outcome, Stored) else outcome.reason
            return type(outcome).__name__.lower(), reason
        case Retry() | Snooze() | Late() as again:
            return type(again).__name__.lower(), again.reason
        case Cancelled():
            return "cancelled", ""
        case other:
            assert_never(other)


def watch_reader(meter: Meter, restarts: Mapping[str, int]) -> None:
    """Have the readers of pages that ended told by their reasons."""

    def tell(meter: Meter) -> None:
        for reason, count in Counter(restarts).items():
            meter.reach(catalogue.EXTRACTION_RESTARTS, reason, total=count)

    meter.watch(tell)


def count_delivery(meter: Meter, done: Delivered, *, deleted: int, seconds: float) -> None:
    """A batch that the index has, or has refused in part."""
    meter.observe(catalogue.INDEX_BATCH_SECONDS, "done", value=seconds)
    counts = {
        "indexed": len(done.indexed), "rejected": len(done.rejected), "deleted": deleted,
        "undecided": len(done.undecided),
    }  # fmt: skip
    meter.observe(catalogue.INDEX_BATCH_PAGES, value=sum(counts.values()))
    for outcome, count in counts.items():
        meter.add(catalogue.INDEX_PAGES, outcome, amount=count)
