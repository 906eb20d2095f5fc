"""Whether a log of requests kept within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from chrono_ray.demo.reply import Kind, Logged


def sliding_max(times: Sequence[float], window: float) -> int:
    """The most requests in any half-open window [t, t + window) of so many seconds.

    `times` in any order. Every maximal window can start at a request, so only those are tried.
    """
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def smallest_gaps(times: Sequence[float], count: int = 5) -> list[float]:
    """The shortest waits between one request and the next, ascending."""
    ordered = sorted(times)
    gaps = sorted(after - before for before, after in pairwise(ordered))
    return gaps[:count]


def times_of(log: Sequence[Logged], kind: Kind) -> list[float]:
    """When the requests of one kind arrived."""
    return [entry.at for entry in log if entry.kind is kind]
