"""Plots as SVG that stands in a page: coloured by its style sheet, read out by its titles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from chrono_ray.perf.figures import Figure, Measured, Spread
from chrono_ray.perf.telling import measured, number

WIDTH: Final = 760
LEFT: Final = 300
RIGHT: Final = 90
LINE: Final = 24
FOOT: Final = 30
HEIGHT: Final = 240
BESIDE: Final = 56
FARTHEST: Final = 2.0
"""A bar ends at twice its target, or half of it."""
DECADES: Final = (0.1, 10_000.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a plot; `kind` is the style sheet's name for it."""

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


def against_targets(figures: Sequence[Figure]) -> str:
    """A bar for each value that has a target: what ends before the line is met."""
    shown = [each for each in figures if is_comparable(each)]
    bars = [part for line, each in enumerate(shown) for part in _bar(each, line * LINE)]
    bound, height = _across(1.0), len(shown) * LINE
    axis = _line(bound, 0, bound, height, "target")
    label = _text(bound, height + 18, "target", "middle")
    return _svg(height + FOOT, [*bars, axis, label], "Every value against its target")


def is_comparable(figure: Figure) -> bool:
    """Whether there is a value, and a target to hold it against."""
    return figure.row.target is not None and isinstance(figure.result, Measured)


def closeness(figure: Figure) -> float:
    """How much of its target a value takes up: at most 1 is as it should be."""
    target, result = figure.row.target, figure.result
    if target is None or not isinstance(result, Measured):
        raise ValueError(f"{figure.row.name} has no value or no target")
    if not target.at_least:
        return _share(result.value, target.bound)
    return _share(target.bound, result.value)


def _share(part: float, whole: float) -> float:
    if whole > 0:
        return min(part / whole, FARTHEST)
    return FARTHEST if part > 0 else 0.0


def _bar(figure: Figure, top: float) -> Iterator[str]:
    width = max(_across(closeness(figure)) - LEFT, 2.0)
    title = f"{figure.row.what}: {measured(figure)}, target {figure.row.target}"
    yield _text(LEFT - 8, top + 16, figure.row.what, "end")
    yield (
        f'<rect class="{figure.verdict}" x="{LEFT}" y="{top + 4}" width="{width:.1f}"'
        f' height="{LINE - 8}" rx="2"><title>{escape(title)}</title></rect>'
    )
    yield _text(LEFT + width + 6, top + 16, measured(figure), "start")


def _across(share: float) -> float:
    return LEFT + share / FARTHEST * (WIDTH - LEFT - RIGHT)


def latencies(named: Sequence[tuple[str, Spread]]) -> str:
    """A line for each kind of request, from its median to its 99th percentile."""
    height = len(named) * LINE
    grid = [part for each in _decades() for part in _tick(each, height)]
    rows = [part for line, (name, spread) in enumerate(named)
            for part in _spread(name, spread, line * LINE + LINE / 2)]  # fmt: skip
    return _svg(height + FOOT, [*grid, *rows], "Milliseconds: median, p95 and p99")


def _spread(name: str, spread: Spread, middle: float) -> Iterator[str]:
    title = f"{name}: " + ", ".join(
        f"{each} {number(ms)} ms"
        for each, ms in (("p50", spread.p50), ("p95", spread.p95), ("p99", spread.p99))
    )
    yield _text(LEFT - 8, middle + 4, name, "end")
    yield _line(_log(spread.p50), middle, _log(spread.p99), middle, "range")
    for kind, ms in (("p99", spread.p99), ("p95", spread.p95), ("p50", spread.p50)):
        yield (
            f'<circle class="{kind}" cx="{_log(ms):.1f}" cy="{middle}" r="5">'
            f"<title>{escape(title)}</title></circle>"
        )


def _tick(ms: float, height: float) -> Iterator[str]:
    yield _line(_log(ms), 0, _log(ms), height, "grid")
    yield _text(_log(ms), height + 18, f"{ms:,g} ms", "middle")


def _decades() -> Iterable[float]:
    first, last = (round(math.log10(each)) for each in DECADES)
    return (10.0**power for power in range(first, last + 1))


def _log(ms: float) -> float:
    first, last = (math.log10(each) for each in DECADES)
    share = (math.log10(max(ms, DECADES[0])) - first) / (last - first)
    return LEFT + min(share, 1.0) * (WIDTH - LEFT - RIGHT)


def lines(curves: Sequence[Curve], *, x: str, y: str, title: str) -> str:
    """Curves over one axis from nothing to the most there is; their names stand above."""
    points = [point for each in curves for point in each.points]
    most_x = max((each for each, _ in points), default=0.0) or 1.0
    most_y = max((each for _, each in points), default=0.0) or 1.0
    parts = [
        _line(BESIDE, HEIGHT, WIDTH - RIGHT, HEIGHT, "grid"),
        _line(BESIDE, 20, BESIDE, HEIGHT, "grid"),
        _text(BESIDE - 6, 26, number(most_y), "end"), _text(BESIDE - 6, HEIGHT, "0", "end"),
        _text(BESIDE, 12, y, "start"), _text(WIDTH - RIGHT, HEIGHT + 18, x, "end"),
        _text(WIDTH - RIGHT + 6, HEIGHT + 4, number(most_x), "start"),
        *(part for n, each in enumerate(curves) for part in _curve(each, n, most_x, most_y)),
    ]  # fmt: skip
    return _svg(HEIGHT + FOOT, parts, title)


def _curve(curve: Curve, place: int, most_x: float, most_y: float) -> Iterator[str]:
    wide, high = WIDTH - RIGHT - BESIDE, HEIGHT - 20
    drawn = " ".join(
        f"{BESIDE + x / most_x * wide:.1f},{HEIGHT - y / most_y * high:.1f}"
        for x, y in curve.points
    )
    yield (
        f'<polyline class="{escape(curve.kind)}" points="{drawn}">'
        f"<title>{escape(curve.name)}</title></polyline>"
    )
    begin = WIDTH - RIGHT - 170
    yield _line(begin, HEIGHT - 48 + 18 * place, begin + 24, HEIGHT - 48 + 18 * place, curve.kind)
    yield _text(begin + 30, HEIGHT - 44 + 18 * place, curve.name, "start")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{escape(kind)}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, parts: Iterable[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
