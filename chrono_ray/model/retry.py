"""The only retry policy: an error, an attempt number and some jitter decide what happens next.

Figures: attempts 5 and a snooze cap of 24 h as in River and Oban (both
distinguish a snooze, which burns no attempt, from a retry); 60 s after a 429
without Retry-After is what the Internet Archive's staff ask of clients
(edgi-govdata-archiving/wayback#137).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    MementoGone,
    RequestRefused,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.outcome import Failed, Gone, Outcome, Refused

ATTEMPTS: Final = 5
FIRST_DELAY: Final = 2.0
LONGEST_DELAY: Final = 300.0
THROTTLE_PAUSE: Final = 60.0
LONGEST_PAUSE: Final = 3600.0
BAN_PAUSE: Final = 3600.0
SNOOZE_CAP: Final = 24 * 3600.0
"""Seconds of silence, added up, after which a fetch or a listing ends with the reason for it."""
LATE_PASSES: Final = (300.0, 1800.0, 7200.0, 21_600.0)
"""Seconds before each further try of a listing that failed five times in a row: what is ill, the
archive or the way to it, is often well after minutes or hours, and a hole is what nobody lists."""
PASSING: Final = frozenset({"truncated", "protocol", "deadline"})


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds; the attempt counts."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class Snooze:
    """Wait `delay` seconds because the archive is silent; the attempt does not count."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """It is over: settle with this outcome."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Late:
    """Put it behind everything else of its run, attempts afresh: only then it may fail."""

    delay: float
    reason: str
    detail: str


Verdict = Retry | Snooze | Fail


def backoff(attempt: int, jitter: float) -> float:
    """Seconds before the next try: doubling, capped, spread by `jitter` in [0, 1) to 50-100 %."""
    return min(FIRST_DELAY * 2.0 ** min(attempt - 1, 16), LONGEST_DELAY) * (0.5 + jitter / 2)


def pause_after(previous_pauses: int, retry_after: float | None) -> float:
    """Seconds of silence after throttling: the archive's own word, or 60 s doubling to an hour."""
    if retry_after is not None:
        return min(max(1.0, retry_after), 24 * 3600.0)  # in this order, "nan" is 1.0
    return min(THROTTLE_PAUSE * 2.0 ** min(previous_pauses, 16), LONGEST_PAUSE)


def decide(error: ArchiveError, attempt: int, jitter: float) -> Verdict:
    """What becomes of a fetch whose `attempt`-th try (from 1) raised `error`."""
    match error:
        case Throttled():
            return Snooze(pause_after(0, error.retry_after), error.reason)
        case ConnectionRefused():
            return Snooze(pause_after(0, None), error.reason)
        case MementoGone():
            return Fail(Gone(error.reason, str(error)))
        case RequestRefused():
            return Fail(Refused(error.reason, str(error)))
        case _ if _may_pass(error):
            return _again(error, attempt, jitter)
        case _:
            return Fail(Failed(error.reason, str(error)))


def decide_replay(
    error: ArchiveError, attempt: int, jitter: float, *, late: bool
) -> Verdict | Late:
    """`decide` for a replay: what may pass gets a second pass, `late`, before it fails.

    An archive that is slow or ill for minutes is often well hours later.
    """
    verdict = decide(error, attempt, jitter)
    if late or not isinstance(verdict, Fail) or not _may_pass(error):
        return verdict
    return Late(backoff(attempt, jitter), error.reason, str(error))


def decide_listing(error: ArchiveError, attempt: int, jitter: float) -> Verdict:
    """`decide` for a part of a listing: what may pass is tried again for hours before it fails.

    Only where an archive was asked: files that cannot be read, and mistakes of ours, get none
    of the late passes.
    """
    verdict = decide(error, attempt, jitter)
    passes = LATE_PASSES[attempt - ATTEMPTS :] if attempt >= ATTEMPTS and error.requests else ()
    if passes and isinstance(verdict, Fail) and _may_pass(error):
        return Retry(passes[0] * (0.75 + jitter / 4), error.reason)
    return verdict


def _may_pass(error: ArchiveError) -> bool:
    match error:
        case TransferFailed():
            return error.reason in PASSING
        case ArchiveUnavailable():
            return True
        case _:
            return False


def _again(error: ArchiveError, attempt: int, jitter: float) -> Verdict:
    if attempt >= ATTEMPTS:
        return Fail(Failed(error.reason, str(error)))
    return Retry(backoff(attempt, jitter), error.reason)
