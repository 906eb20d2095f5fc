"""PromQL made of catalogued metrics: a name or a label that does not exist cannot be asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from chrono_ray.observability.catalogue import UP, Source, exported, source_of
from chrono_ray.observability.metrics import Counter, Gauge, Histogram, Metric
from dashboards.rays import RAYS

INTERVAL: Final = "$__rate_interval"
"""Grafana puts in what fits the scrape interval and the panel's width."""
MATCHER: Final = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')


def series(metric: Gauge | Counter, where: str = "") -> str:
    """The bare selector."""
    _check(metric, (), where)
    [name] = names(metric)
    return _selected(name, where)


def told(metric: Gauge, by: Sequence[str] = (), where: str = "") -> str:
    """A gauge as it stands, summed over all labels but `by`.

    What the record tells is the same whoever is asked, so several answers are one; what processes
    tell of themselves adds up.
    """
    _check(metric, by, where)
    inner = series(metric, where)
    if metric in RAYS or source_of(metric) is Source.ACTOR:
        return _grouped("sum", by, inner)
    if set(by) == set(metric.labels):
        return _grouped("max", by, inner)
    return _grouped("sum", by, _grouped("max", metric.labels, inner))


def most(metric: Gauge, by: Sequence[str] = (), where: str = "") -> str:
    """The highest value of a gauge."""
    _check(metric, by, where)
    return _grouped("max", by, series(metric, where))


def least(metric: Gauge, by: Sequence[str] = (), where: str = "") -> str:
    """The lowest value of a gauge."""
    _check(metric, by, where)
    return _grouped("min", by, series(metric, where))


def rate(metric: Counter, by: Sequence[str] = (), where: str = "", *, over: str = INTERVAL) -> str:
    """A second's increase of a counter."""
    _check(metric, by, where)
    if metric not in RAYS and source_of(metric) is Source.RECORD:
        inner = _grouped("max", metric.labels, f"rate({series(metric, where)}[{over}])")
        return inner if set(by) == set(metric.labels) else _grouped("sum", by, inner)
    return _grouped("sum", by, f"rate({series(metric, where)}[{over}])")


def per_minute(metric: Counter, by: Sequence[str] = (), where: str = "") -> str:
    return f"60 * {rate(metric, by, where)}"


def increase(metric: Counter, by: Sequence[str] = (), where: str = "", *, over: str) -> str:
    """How much a counter grew in a window."""
    _check(metric, by, where)
    return _grouped("sum", by, f"increase({series(metric, where)}[{over}])")


def happened(metric: Counter, by: Sequence[str] = (), where: str = "", *, over: str) -> str:
    """`increase` of what is rare: what a process's series began with in the window counts too.

    Unless Prometheus had not looked before: then nobody knows when it happened.
    """
    _check(metric, by, where)
    found = series(metric, where)
    grown = f"increase({found}[{over}])"
    first = f"min_over_time({found}[{over}]) unless {found} offset {over}"
    seen = f"and on () {series(UP)} offset {over}"
    return _grouped("sum", by, f"{grown} + (({first} {seen}) or 0 * {grown})")


def observed(
    metric: Histogram, by: Sequence[str] = (), where: str = "", *, over: str = INTERVAL
) -> str:
    """Observations a second."""
    _check(metric, by, where)
    return _grouped("sum", by, f"rate({_selected(names(metric)[2], where)}[{over}])")


def quantile(
    share: float,
    metric: Histogram,
    by: Sequence[str] = (),
    where: str = "",
    *,
    over: str = INTERVAL,
) -> str:
    """What that share of the observations stayed below."""
    _check(metric, by, where)
    buckets = f"rate({_selected(names(metric)[0], where)}[{over}])"
    return f"histogram_quantile({share:g}, {_grouped('sum', ('le', *by), buckets)})"


def mean(metric: Histogram, by: Sequence[str] = (), where: str = "") -> str:
    """The observations' average; nothing while there are none."""
    _check(metric, by, where)
    _, total, count = (_selected(name, where) for name in names(metric))
    over, under = (
        _grouped("sum", by, f"rate({each}[{INTERVAL}])") for each in (total, count)
    )  # fmt: skip
    return f"{over} / ({under} > 0)"


def share(part: str, whole: str) -> str:
    """One rate over another; nothing while the other is zero."""
    return f"{part} / ({whole} > 0)"


def names(metric: Metric) -> tuple[str, ...]:
    """What Prometheus calls it."""
    return (metric.name,) if metric in RAYS else exported(metric)


def _selected(name: str, where: str) -> str:
    return f"{name}{{{where}}}" if where else name


def _grouped(how: str, by: Sequence[str], inner: str) -> str:
    return f"{how} by ({', '.join(by)}) ({inner})" if by else f"{how}({inner})"


def _check(metric: Metric, by: Sequence[str], where: str) -> None:
    unknown = {*by, *MATCHER.findall(where)} - set(metric.labels)
    if unknown:
        raise ValueError(f"{metric.name} has no label {', '.join(sorted(unknown))}")
