"""What was measured, and what that means beside its target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from chrono_ray.perf.catalogue import ROWS, Measure, Row

CURVE: Final = (*(n / 40 for n in range(1, 40)), 0.99, 0.999)


class Verdict(StrEnum):
    """`told`: there is no target."""

    MET = "met"
    MISSED = "missed"
    TOLD = "told"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True)
class Spread:
    """How times were distributed, in milliseconds; `curve` holds (share, time) for a plot."""

    count: int
    p50: float
    p95: float
    p99: float
    curve: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, times: Iterable[float]) -> Spread | None:
        """None of no times at all."""
        ordered = sorted(times)
        if not ordered:
            return None
        curve = tuple((share, percentile(ordered, share)) for share in CURVE)
        p50, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.95, 0.99))
        return cls(len(ordered), p50, p95, p99, curve)


@dataclass(frozen=True, slots=True)
class Measured:
    """A value; `spread` of the times it is of, `course` its rise as (seconds, value).

    `why` it is not as it should be, where that is known.
    """

    value: float
    spread: Spread | None = None
    course: tuple[tuple[float, float], ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """It was asked for and nothing came of it, for this reason: worse than any value."""

    why: str


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Why it was not asked for, which is no fault of the instance."""

    why: str


Result = Measured | Failed | Unmeasured
NOT_ASKED: Final = Unmeasured("nobody asked for it")
Results = Mapping[str, Result]
"""By the name of the row."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A row with what came of it."""

    row: Row
    result: Result

    @property
    def verdict(self) -> Verdict:
        match self.result:
            case Unmeasured():
                return Verdict.NOT_MEASURED
            case Failed():
                return Verdict.MISSED if self.row.target else Verdict.NOT_MEASURED
            case Measured(value=value):
                if self.row.target is None:
                    return Verdict.TOLD
                return Verdict.MET if self.row.target.holds(value) else Verdict.MISSED
            case _:
                assert_never(self.result)

    @property
    def why(self) -> str:
        """There is no value, or not the one there should be."""
        return self.result.why


def figures(results: Results) -> tuple[Figure, ...]:
    """The whole table, each row once, whatever was measured."""
    return tuple(Figure(row, results.get(row.name, NOT_ASKED)) for row in ROWS)


def asked_for(found: Iterable[Figure]) -> tuple[Figure, ...]:
    """Those that somebody asked for."""
    return tuple(each for each in found if each.result is not NOT_ASKED)


def all_met(found: Iterable[Figure]) -> bool:
    """Whether something was measured, and all of it is as it should be."""
    verdicts = {each.verdict for each in found}
    return Verdict.MET in verdicts and Verdict.MISSED not in verdicts


def none_of(measure: Measure, why: str) -> dict[str, Result]:
    """A measure that this instance cannot be asked for."""
    return {row.name: Unmeasured(why) for row in ROWS if row.measure is measure}


def failed(measure: Measure, why: str) -> dict[str, Result]:
    """A measure that came to nothing."""
    return {row.name: Failed(why) for row in ROWS if row.measure is measure}


def of_p95(times: Iterable[float], why_none: str) -> Result:
    """The 95th percentile of times in milliseconds."""
    spread = Spread.of(times)
    return Measured(spread.p95, spread) if spread else Failed(why_none)


def percentile(ordered: Sequence[float], share: float) -> float:
    """By the nearest rank: a time that did occur."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
