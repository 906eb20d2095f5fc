"""How pages go into an index: when a batch is full, and who is to blame when it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from chrono_ray.model.errors import DocumentRejected, SearchError
from chrono_ray.model.query import PageEntry
from chrono_ray.search.base import Confirmed, Forgotten, Rejected, SearchIndex, Working


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch goes out at so many documents, so many bytes of text, or so many seconds."""

    documents: int = 100
    size: int = 4_000_000
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Filling:
    """A batch being filled: how many entries, how many bytes, and when the first came.

    `since` and every `now` are seconds on one clock that never goes back.
    """

    count: int = 0
    size: int = 0
    since: float = 0.0

    def add(self, size: int, now: float) -> Filling:
        """One more entry of `size` bytes."""
        return Filling(self.count + 1, self.size + size, now if self.count == 0 else self.since)

    def fits(self, size: int, limits: BatchLimits) -> bool:
        """Whether an entry of `size` bytes may join; the first always may."""
        if self.count == 0:
            return True
        return self.count < limits.documents and self.size + size <= limits.size

    def wait(self, limits: BatchLimits, now: float) -> float | None:
        """Seconds until it must go out: 0 at once, None while it is empty."""
        if self.count == 0:
            return None
        if self.count >= limits.documents or self.size >= limits.size:
            return 0.0
        return max(0.0, self.since + limits.seconds - now)


@dataclass(frozen=True, slots=True)
class RejectedEntry:
    """An entry the index refuses for what it holds."""

    id: int
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a batch: every id is in exactly one of the three.

    `undecided` were still waiting when the time was up: deliver them again.
    """

    indexed: tuple[int, ...]
    rejected: tuple[RejectedEntry, ...]
    undecided: tuple[int, ...] = ()

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(
            self.indexed + other.indexed,
            self.rejected + other.rejected,
            self.undecided + other.undecided,
        )


NOTHING = Delivered((), ())


def weight(entry: PageEntry) -> int:
    """Bytes of text an entry carries, about what it weighs on the wire."""
    texts = (entry.title, entry.text, entry.author, entry.url)
    return 300 + sum(len(text.encode("utf-8", "replace")) for text in texts)


def groups(entries: Iterable[PageEntry], limits: BatchLimits) -> Iterator[tuple[PageEntry, ...]]:
    """Entries in order, cut into batches by count and bytes; a huge one goes alone."""
    batch: list[PageEntry] = []
    filling = Filling()
    for entry in entries:
        size = weight(entry)
        if not filling.fits(size, limits):
            yield tuple(batch)
            batch, filling = [], Filling()
        batch.append(entry)
        filling = filling.add(size, 0.0)
    if batch:
        yield tuple(batch)


async def deliver(
    index: SearchIndex, entries: Sequence[PageEntry], *, poll: float, deadline: float
) -> Delivered:
    """Send a batch and stay until each entry is indexed or named as refused.

    A refused batch is halved until the guilty entries stand alone, so all
    others are indexed. Asks every `poll` seconds; what is not decided within
    `deadline` seconds comes back as `undecided`. Sending twice does no harm.
    Raises `Unavailable` or `SearchError` when the index as a whole fails.
    """
    until = asyncio.get_running_loop().time() + deadline
    done, todo = NOTHING, [tuple(entries)] if entries else []
    while todo:
        batch = todo.pop(0)
        match await _decide(index, batch, poll, until):
            case Confirmed():
                done += Delivered(_ids(batch), ())
            case Rejected(code, why) if len(batch) == 1:
                done += Delivered((), (RejectedEntry(batch[0].id, code, why),))
            case Rejected():
                todo[:0] = _halves(batch)
            case None:
                done += Delivered((), (), _ids(batch))
    return done


async def remove(index: SearchIndex, ids: Sequence[int], *, poll: float, deadline: float) -> bool:
    """Take pages out and stay until they are; False when that took longer than `deadline` seconds.

    Raises `SearchError` when the index refuses, and as `deliver` does.
    """
    try:
        async with asyncio.timeout(deadline):
            verdict = await _decided(index, lambda: index.delete(ids), poll)
    except TimeoutError:
        return False
    if isinstance(verdict, Rejected):
        raise SearchError("The index refuses to remove pages", why=verdict.why, code=verdict.code)
    return True


async def _decide(
    index: SearchIndex, batch: tuple[PageEntry, ...], poll: float, until: float
) -> Confirmed | Rejected | None:
    if asyncio.get_running_loop().time() >= until:
        return None
    try:
        async with asyncio.timeout_at(until):
            return await _decided(index, lambda: index.upsert(batch), poll)
    except DocumentRejected as error:
        return Rejected(error.code, str(error))
    except TimeoutError:
        return None


async def _decided(
    index: SearchIndex, send: Callable[[], Awaitable[str]], poll: float
) -> Confirmed | Rejected:
    ticket = await send()
    while True:
        match await index.confirm(ticket):
            case Confirmed() | Rejected() as verdict:
                return verdict
            case Working():
                await asyncio.sleep(poll)
            case Forgotten():
                await asyncio.sleep(poll)
                ticket = await send()
            case _ as never:
                assert_never(never)


def _halves(batch: tuple[PageEntry, ...]) -> tuple[tuple[PageEntry, ...], ...]:
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]


def _ids(batch: Sequence[PageEntry]) -> tuple[int, ...]:
    return tuple(entry.id for entry in batch)
