"""What a benchmark says: figures with their goals, where they were measured, and what was real."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import orjson
import psutil

from chrono_ray.perf.catalogue import Target

LIBRARIES: Final = ("aiohttp", "asyncpg", "selectolax", "trafilatura", "uvloop", "zstandard")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; several runs of it are kept in `runs`, `value` is then their median."""

    name: str
    value: float
    unit: str
    goal: Target | None = None
    runs: tuple[float, ...] = ()

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        return "met" if self.goal.holds(self.value) else "MISSED"


@dataclass(frozen=True, slots=True)
class Report:
    """`real` says what took part and what stood in for it."""

    title: str
    figures: Sequence[Figure]
    real: Sequence[str]
    versions: dict[str, str]


def median(name: str, runs: Sequence[float], unit: str, goal: Target | None = None) -> Figure:
    return Figure(name, statistics.median(runs), unit, goal, tuple(runs))


def versions(**more: str) -> dict[str, str]:
    """Of this interpreter and the libraries that do the work."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        **more,
    }


def machine() -> dict[str, str | int | float]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 1),
    }


def show(report: Report, *, json: bool) -> None:
    """One line of JSON, or a table, on stdout."""
    sys.stdout.write(_json(report) if json else _table(report))
    sys.stdout.flush()


def _json(report: Report) -> str:
    figures = [
        {**asdict(f), "goal": str(f.goal) if f.goal else "", "verdict": f.verdict}
        for f in report.figures
    ]
    whole = {
        "title": report.title,
        "machine": machine(),
        "versions": report.versions,
        "real": list(report.real),
        "figures": figures,
    }
    return orjson.dumps(whole).decode() + "\n"


def _table(report: Report) -> str:
    lines = [report.title, ""]
    for f in report.figures:
        runs = f"  ({', '.join(_number(r) for r in f.runs)})" if len(f.runs) > 1 else ""
        goal = f"goal {f.goal}: {f.verdict}" if f.goal else ""
        lines.append(f"  {f.name:44} {_number(f.value):>10} {f.unit:14} {goal:24}{runs}".rstrip())
    lines += ["", *(f"  {line}" for line in report.real)]
    lines.append("  " + ", ".join(f"{name} {number}" for name, number in report.versions.items()))
    lines.append("  " + ", ".join(f"{name} {value}" for name, value in machine().items()))
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
