"""How many scrapers and indexers there should be: arithmetic over backlog, rates and room.

Pools share the room by their class's weight and leave nothing idle that
another could use. They grow at once and shrink when they have been too large
for a while, so that a backlog that comes in waves does not start and end
processes with each wave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

REPLAY_SECONDS: Final = 6.0
"""How long a slow archive takes for one replay: so long is how a scraper's requests in flight
become its rate (48 in flight: 8 a second, the whole budget of the Wayback Machine)."""
LISTING_SECONDS: Final = 10.0
"""How long it takes for one page of a listing; a scraper asks each archive for one at a time."""
WORTH_SECONDS: Final = 60.0
"""Another scraper is worth its start when there is work for so long."""
WORTH_BATCHES: Final = 10
"""Another indexer is, when so many batches wait."""
EXACT: Final = 10_000
"""CPUs are counted in ten-thousandths, Ray's finest step."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An archive's work that could be done now, and how fast the archive may be asked for it.

    `fetches` and `slices` waiting or under way, counted up to a bound. The
    rates are requests a second over all egresses: None is no limit, 0 silence.
    """

    archive: str
    fetches: int
    slices: int
    replays: float | None
    listings: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Everything that waits: at the archives, tasks, and `pages` for the index, the oldest for
    `lag` seconds."""

    archives: tuple[Waiting, ...]
    tasks: int
    pages: int
    lag: float


@dataclass(frozen=True, slots=True)
class Room:
    """What the pools may use together: CPUs, and memory in bytes."""

    cpus: float
    memory: int


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool: what a member takes, how many there must and may be, are, and are wanted.

    `slack`: for how many seconds it has been larger than its fair size.
    """

    weight: int
    cpus: float
    memory: int
    least: int
    most: int
    wanted: int
    present: int = 0
    slack: float = 0.0

    @property
    def aim(self) -> int:
        """What is wanted, within what there must and may be."""
        return max(min(self.wanted, self.most), self.least)


def scrapers_wanted(backlog: Backlog, *, in_flight: int, task_slots: int) -> int:
    """As many scrapers as have work, and never more than an archive's rate keeps busy.

    A scraper has `in_flight` fetches under way, one listing of each archive,
    and `task_slots` tasks, all at once.
    """
    served = in_flight / REPLAY_SECONDS
    fetching = sum(_busy(each, served) for each in backlog.archives)
    listing = max((_listing(each) for each in backlog.archives), default=0)
    return max(ceil(fetching - 1 / EXACT), listing, ceil(backlog.tasks / task_slots), 1)


def indexers_wanted(pages: int, *, batch: int) -> int:
    """One for each ten batches that wait."""
    return max(ceil(pages / (batch * WORTH_BATCHES)), 1)


def enough_fetches(scrapers: int, *, in_flight: int) -> int:
    """A backlog beyond this wants no more than so many scrapers."""
    return ceil(scrapers * WORTH_SECONDS * in_flight / REPLAY_SECONDS) + 1


def enough_pages(indexers: int, *, batch: int) -> int:
    """The same for indexers."""
    return indexers * batch * WORTH_BATCHES + 1


def fair(pools: Sequence[Pool], room: Room) -> tuple[int, ...]:
    """What each pool should have, whatever it has: the room shared out by weight.

    The least of every pool is always given. Beyond that no pool gets what does
    not fit, and none is denied what would.
    """
    return _fill(pools, [pool.least for pool in pools], room)


def sizes(pools: Sequence[Pool], room: Room, *, idle: float) -> tuple[int, ...]:
    """What each pool should have next, given what it has.

    Up to its fair size at once, as far as others leave room; down to it when it
    has been larger for `idle` seconds. Pools that are too large together (the
    room has shrunk) go to their fair sizes at once.
    """
    aims = fair(pools, room)
    kept = [_kept(pool, aim, idle) for pool, aim in zip(pools, aims, strict=True)]
    if not _fits(pools, kept, room):
        return aims
    settled = [
        replace(pool, wanted=max(aim, held), most=max(pool.most, held))
        for pool, aim, held in zip(pools, aims, kept, strict=True)
    ]
    return _fill(settled, kept, room)


def _kept(pool: Pool, aim: int, idle: float) -> int:
    if aim < pool.present <= pool.most and pool.slack < idle:
        return pool.present
    return max(min(pool.present, aim), pool.least)


def _fill(pools: Sequence[Pool], begin: Sequence[int], room: Room) -> tuple[int, ...]:
    """One member at a time to the pool that has least for its weight, while it fits."""
    given = list(begin)
    while True:
        next_up = [
            index for index, pool in enumerate(pools)
            if given[index] < pool.aim and _fits(pools, _one_more(given, index), room)
        ]  # fmt: skip
        if not next_up:
            return tuple(given)
        given[min(next_up, key=lambda index: _taken(pools[index], given[index], room))] += 1


def _one_more(given: Sequence[int], index: int) -> list[int]:
    return [n + (place == index) for place, n in enumerate(given)]


def _fits(pools: Sequence[Pool], given: Sequence[int], room: Room) -> bool:
    cpus = sum(round(pool.cpus * EXACT) * n for pool, n in zip(pools, given, strict=True))
    memory = sum(pool.memory * n for pool, n in zip(pools, given, strict=True))
    return cpus <= round(room.cpus * EXACT) and memory <= room.memory


def _taken(pool: Pool, members: int, room: Room) -> float:
    """Its larger share of the room, CPUs or memory, for its weight."""
    return members * max(pool.cpus / room.cpus, pool.memory / room.memory) / pool.weight


def _busy(waiting: Waiting, served: float) -> float:
    """How many scrapers its fetches keep busy."""
    work = waiting.fetches / (served * WORTH_SECONDS)
    return work if waiting.replays is None else min(work, waiting.replays / served)


def _listing(waiting: Waiting) -> int:
    """How many of its listings may be asked for at once."""
    if waiting.listings is None:
        return waiting.slices
    return min(waiting.slices, ceil(waiting.listings * LISTING_SECONDS))
