"""The figures as a table for people and as JSON for CI."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, assert_never

import orjson
import psutil

from chrono_ray import __version__
from chrono_ray.perf.catalogue import Row
from chrono_ray.perf.figures import (
    Failed,
    Figure,
    Measured,
    Unmeasured,
    Verdict,
    all_met,
    asked_for,
)

SCHEMA: Final = 2
WORDS: Final = {
    Verdict.MET: "met", Verdict.MISSED: "MISSED", Verdict.TOLD: "",
    Verdict.NOT_MEASURED: "not measured",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured; memory in GiB, load over the last minute when it was over."""

    system: str
    python: str
    cores: int
    memory: float
    load: float


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told. `took` seconds in all, `seconds` of each timed measure."""

    instance: str
    at: datetime
    seconds: float
    took: float
    machine: Machine
    figures: Sequence[Figure]


def machine() -> Machine:
    return Machine(
        f"{platform.system()} {platform.release()} {platform.machine()}",
        platform.python_version(), os.cpu_count() or 0,
        round(psutil.virtual_memory().total / 2**30, 1), round(os.getloadavg()[0], 1),
    )  # fmt: skip


def as_json(report: Report) -> str:
    """One line; docs/performance.md says what stands in it."""
    whole = {
        "schema": SCHEMA, "version": __version__, "instance": report.instance, "at": report.at,
        "seconds": report.seconds, "took": round(report.took, 1),
        "machine": asdict(report.machine),
        "verdict": "met" if all_met(report.figures) else "missed",
        "figures": [_object(each) for each in report.figures],
    }  # fmt: skip
    return orjson.dumps(whole, option=orjson.OPT_UTC_Z).decode()


def _object(figure: Figure) -> dict[str, Any]:
    row = figure.row
    told: dict[str, Any] = {
        "name": row.name, "measure": row.measure, "what": row.what, "unit": row.unit,
        "target": asdict(row.target) if row.target else None, "verdict": figure.verdict,
    }  # fmt: skip
    match figure.result:
        case Measured(value, spread, _, why):
            times = {"count": spread.count, "p50": spread.p50, "p95": spread.p95,
                     "p99": spread.p99} if spread else None  # fmt: skip
            return {**told, "value": value, "why": why or None, "spread": times}
        case Failed(why) | Unmeasured(why):
            return {**told, "value": None, "why": why, "spread": None}
        case _:
            assert_never(figure.result)


def as_table(report: Report) -> str:
    """A line for each row that was asked for, then why some have no value, or not the one they
    should, and where all this was measured."""
    shown = asked_for(report.figures)
    rows = [("what", "target", "measured", "verdict"), *map(_cells, shown)]
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    lines = [_line(row, widths) for row in rows]
    whole = [*lines[:1], "  ".join("-" * each for each in widths), *lines[1:]]
    return "".join(f"{each}\n" for each in [*whole, "", *_reasons(shown), *_about(report)])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    what, target, measured, verdict = row
    return (
        f"{what:<{widths[0]}}  {target:>{widths[1]}}  {measured:>{widths[2]}}  {verdict}"
    ).rstrip()


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    row = figure.row
    return row.what, target(row), measured(figure), WORDS[figure.verdict]


def target(row: Row) -> str:
    """With its unit; empty where there is none."""
    return f"{row.target} {row.unit}".rstrip() if row.target else ""


def measured(figure: Figure) -> str:
    """The value with its unit, and its percentiles where it has some."""
    match figure.result:
        case Failed() | Unmeasured():
            return ""
        case Measured(value=value):
            return f"{number(value)} {figure.row.unit}".rstrip()
        case _:
            assert_never(figure.result)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _reasons(figures: Sequence[Figure]) -> Iterator[str]:
    """Each reason once, with what it is the reason of; what is no fault first."""
    for verdict in (Verdict.NOT_MEASURED, Verdict.MISSED):
        found: dict[str, list[str]] = {}
        for each in figures:
            if each.why and each.verdict is verdict:
                found.setdefault(each.why, []).append(each.row.name)
        for why, names in found.items():
            yield f"{WORDS[verdict]}: {', '.join(names)}: {why}"


def _about(report: Report) -> Iterator[str]:
    at = report.machine
    yield f"{report.instance}, {report.at:%Y-%m-%d %H:%M} UTC, {report.took:.0f} s"
    yield f"{at.cores} cores, {at.memory:g} GiB, load {at.load:g}, {at.system}, Python {at.python}"
