"""Whose turn it is: stride scheduling without a clock that everybody must lock.

Each lease takes a ticket from a sequence. A fixed pattern over the classes
that have work says whose ticket it is, so shares are exact in ticket order
and an empty class costs nobody a turn. Inside a class the run is picked by
the golden ratio, which spreads consecutive tickets over the weights evenly.

The patterns are smooth weighted round robin: over any whole number of rounds
each class has exactly its share, over any window at most 1.22 leases more or
less. (No order of the weights 10:5:3:1 keeps within 1.1: searched exhaustively.)
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from itertools import accumulate
from typing import Final


class QueueClass(StrEnum):
    """What kind of work a run is, most urgent first."""

    CRITICAL = "critical"
    SCRAPING = "scraping"
    INDEXING = "indexing"
    DEFAULT = "default"


WEIGHTS: Final[dict[QueueClass, int]] = {
    QueueClass.CRITICAL: 10,
    QueueClass.SCRAPING: 5,
    QueueClass.INDEXING: 3,
    QueueClass.DEFAULT: 1,
}


class CapturePriority(IntEnum):
    """A capture's place inside its run, first to last. The value is its band of order keys.

    `LATE` is the second pass: replays that were slow or failed while others waited.
    """

    NOW = -2
    HIGH = -1
    NORMAL = 0
    LOW = 1
    LATE = 16


BAND: Final = 1 << 48
"""Order keys of one band: more than there are captures."""


def order_key(priority: CapturePriority, rank: int) -> int:
    """What the queue is sorted by inside a run; `rank` is the fetch's place in its host."""
    return priority * BAND + rank


def is_late(key: int) -> bool:
    """Whether an order key belongs to the second pass."""
    return key >= CapturePriority.LATE * BAND


def late(key: int) -> int:
    """The same rank in the second pass."""
    return order_key(CapturePriority.LATE, key % BAND)


GOLDEN: Final = 0.6180339887498949
"""The golden ratio's fraction, for `pick`; the claim's SQL uses the same double."""


def mask(backlogged: frozenset[QueueClass]) -> int:
    """The classes as bits, critical lowest: the key of the stored patterns, 0 to 15."""
    return sum(1 << bit for bit, name in enumerate(QueueClass) if name in backlogged)


def classes(mask: int) -> frozenset[QueueClass]:
    """The classes of a mask; inverse of `mask`."""
    return frozenset(name for bit, name in enumerate(QueueClass) if mask >> bit & 1)


def pattern(backlogged: frozenset[QueueClass]) -> tuple[QueueClass, ...]:
    """One round of turns, as long as the weights' sum; empty when nothing is backlogged.

    Ticket `t` belongs to the class at `t % len(pattern)`.
    """
    waiting = [name for name in QueueClass if name in backlogged]
    total = sum(WEIGHTS[name] for name in waiting)
    credit = dict.fromkeys(waiting, 0)
    turns: list[QueueClass] = []
    for _ in range(total):
        for name in waiting:
            credit[name] += WEIGHTS[name]
        turn = max(waiting, key=credit.__getitem__)
        credit[turn] -= total
        turns.append(turn)
    return tuple(turns)


def patterns() -> dict[int, tuple[QueueClass, ...]]:
    """All 15 patterns by mask, as the record stores them."""
    return {bits: pattern(classes(bits)) for bits in range(1, 1 << len(QueueClass))}


def pick(ticket: int, weights: Sequence[float]) -> int:
    """Index of the run a ticket falls to, in proportion to the runs' weights (all above 0)."""
    sums = list(accumulate(weights))
    place = ticket * GOLDEN % 1.0 * sums[-1]
    return next((index for index, limit in enumerate(sums) if place < limit), len(sums) - 1)
