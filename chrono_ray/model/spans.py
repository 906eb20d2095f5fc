"""Spans of time cut in two, down to a month: for listings that are too large for their archive.

A cut is the last second of a month. It belongs to both halves, so that no
impossible timestamp (day 32, month 13, hour 25) falls between them, however an
archive compares its digits: captures of that one second are listed twice.
"""

from __future__ import annotations

import calendar
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import ArchiveError, ArchiveUnavailable, TransferFailed

_SIZE_LIKE: Final = frozenset({"archive", "truncated", "protocol", "deadline", "too_large"})
"""Reasons that a smaller listing may not meet."""
FIRST_YEAR: Final = 1996
"""Where "as far as the archive goes" is taken to begin: the Wayback Machine's oldest captures."""


@dataclass(frozen=True, slots=True)
class Span:
    """An inclusive span of 14-digit timestamps; an empty side is open."""

    start: str = ""
    end: str = ""


def halves(span: Span, *, now: Timestamp14) -> tuple[Span, Span] | None:
    """The older and the newer half; None when the span is no longer than a month.

    An open side stays open in the half that has it, and counts from 1996, or to `now`.
    """
    first, last = _months(span, now)
    if first >= last:
        return None
    cut = _last_second((first + last) // 2)
    return Span(span.start, cut), Span(cut, span.end)


def samples(span: Span, *, now: Timestamp14) -> Iterator[Span]:
    """Every month of a span that has halves: its ends, then those between, far apart first."""
    first, last = _months(span, now)
    yield _month(first, span)
    yield _month(last, span)
    gaps = deque([(first, last)])
    while gaps:
        low, high = gaps.popleft()
        if high - low > 1:
            middle = (low + high) // 2
            yield _month(middle, span)
            gaps += ((low, middle), (middle, high))


def may_be_size(error: ArchiveError) -> bool:
    """Whether a smaller listing may fare better than the one that failed so."""
    if not error.requests:  # no archive's answer: files that cannot be read, a mistake of ours
        return False
    return isinstance(error, ArchiveUnavailable | TransferFailed) and error.reason in _SIZE_LIKE


def _months(span: Span, now: Timestamp14) -> tuple[int, int]:
    """The first and the last month, counted from year 0."""
    latest = _number(now.text)
    first = _number(span.start) if span.start else FIRST_YEAR * 12
    if span.start >= _last_second(first):  # no more than that second belongs to it
        first += 1
    last = min(_number(span.end), latest) if span.end else latest
    return first, last


def _month(number: int, span: Span) -> Span:
    start, end = f"{number // 12:04}{number % 12 + 1:02}01000000", _last_second(number)
    return Span(max(start, span.start), min(end, span.end or end))


def _number(stamp: str) -> int:
    """Month 00 is taken for January, months beyond 12 for December."""
    return int(stamp[:4]) * 12 + min(max(int(stamp[4:6]), 1), 12) - 1


def _last_second(number: int) -> str:
    year, month = number // 12, number % 12 + 1
    days = calendar.monthrange(max(year, 1), month)[1]
    return f"{year:04}{month:02}{days:02}235959"
