"""The report as one HTML file: its table, its plots, nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from chrono_ray.perf import plots
from chrono_ray.perf.figures import Figure, Measured, Spread, asked_for
from chrono_ray.perf.telling import WORDS, Report, as_json, measured, number, target

SHOWN: Final = 0.99
STYLE: Final = """
:root { color-scheme: light dark; --text: #1c1e21; --back: #fff; --dim: #667; --line: #d4d7dd;
        --good: #1a7f4b; --bad: #c0362c; --one: #2b63b8; --two: #b36b00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e9ec; --back: #16181c; --dim: #9aa0ab; --line: #3a3f48; --good: #4cc38a;
          --bad: #ff7a70; --one: #7db0ff; --two: #f2b155; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.about { color: var(--dim); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
td.met { color: var(--good); } td.missed { color: var(--bad); font-weight: 600; }
td.not_measured, td small { color: var(--dim); }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--text); } svg line, svg polyline { fill: none; stroke-width: 2; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .target { stroke: var(--text); stroke-dasharray: 4 3; }
svg .range { stroke: var(--dim); }
svg rect.met { fill: var(--good); } svg rect.missed { fill: var(--bad); }
svg circle.p50 { fill: var(--good); } svg circle.p95 { fill: var(--two); }
svg circle.p99 { fill: var(--bad); }
svg .one { stroke: var(--one); } svg .two { stroke: var(--two); }
"""


def as_html(report: Report) -> str:
    """A whole page. What came from elsewhere is shown as text, and the data stand in it as JSON."""
    data = as_json(report).replace("<", "\\u003c")  # no end of a script in it
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>Performance of chrono_ray</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n{''.join(_body(report))}"
        f'<script type="application/json" id="report">{data}</script>\n</body>\n</html>\n'
    )


def _body(report: Report) -> Iterator[str]:
    at = report.machine
    yield "<h1>Performance of chrono_ray</h1>\n"
    yield (
        f'<p class="about">{escape(report.instance)}<br>{report.at:%Y-%m-%d %H:%M} UTC,'
        f" {report.took:.0f} s in all, {report.seconds:g} s a measure<br>{at.cores} cores,"
        f" {at.memory:g} GiB, load {at.load:g}, {escape(at.system)},"
        f" Python {escape(at.python)}</p>\n"
    )
    yield _table(report)
    for heading, plot in _plots(report):
        yield f"<h2>{escape(heading)}</h2>\n{plot}\n"


def _table(report: Report) -> str:
    head = "".join(
        f'<th scope="col"{kind}>{name}</th>'
        for name, kind in (("What", ""), ("Target", ' class="number"'),
                           ("Measured", ' class="number"'), ("Verdict", ""))
    )  # fmt: skip
    rows = "".join(map(_row, asked_for(report.figures)))
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _row(figure: Figure) -> str:
    row = figure.row
    why = f"<br><small>{escape(figure.why)}</small>" if figure.why else ""
    return (
        f'<tr><td>{escape(row.what)}{why}</td><td class="number">{escape(target(row))}'
        f'</td><td class="number">{escape(measured(figure))}</td>'
        f'<td class="{figure.verdict}">{WORDS[figure.verdict]}</td></tr>\n'
    )


def _plots(report: Report) -> Iterator[tuple[str, str]]:
    """What there is something to show of."""
    found = report.figures
    if any(map(plots.is_comparable, found)):
        yield "Against the targets: what ends before the line is met", plots.against_targets(found)
    spreads = list(_spreads(found))
    if spreads:
        yield "How long it takes: median, p95, p99", plots.latencies(spreads)
    for each in found:
        if each.row.name == "users.p95" and isinstance(each.result, Measured):
            yield "Requests of all users at once: answered within", _shares(each.result)
    courses = list(_courses(found))
    if courses:
        yield (
            "A collection of the demo archive",
            plots.lines(courses, x="seconds", y="pages", title="Pages over time"),
        )


def _spreads(found: Sequence[Figure]) -> Iterator[tuple[str, Spread]]:
    for each in found:
        if isinstance(each.result, Measured) and each.result.spread:
            what = each.row.what.rpartition(": ")[0] or each.row.what
            yield what, each.result.spread


def _shares(result: Measured) -> str:
    """Up to the 99th percentile: beyond it the plot would show little else."""
    curves = []
    if spread := result.spread:
        points = [(ms, 100 * share) for share, ms in spread.curve if share <= SHOWN]
        curves.append(plots.Curve(f"{number(spread.count)} requests", "one", [(0.0, 0.0), *points]))
    return plots.lines(curves, x="milliseconds", y="% of requests", title="Answered within")


def _courses(found: Sequence[Figure]) -> Iterator[plots.Curve]:
    kinds = {"scrape.pages": ("stored", "one"), "index.pages": ("searchable", "two")}
    for each in found:
        shown = kinds.get(each.row.name)
        if shown and isinstance(each.result, Measured) and each.result.course:
            yield plots.Curve(*shown, each.result.course)
