"""Counters, gauges and histograms behind one small interface.

A metric is declared beside its use, as a value, and given to a `Meter`::

    FETCHES = Counter("chrono_fetches", "Fetches ended, by outcome.", ("outcome",))
    meter.add(FETCHES, "stored")

`Registry` keeps the numbers in this process and renders them as Prometheus
text; in the cluster a `Meter` over Ray's metrics takes its place. Names carry
no `_total` and no unit of their own making: the renderers add `_total` to
counters, and durations are in seconds.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SERIES_MAX: Final = 100
"""Label combinations of most metrics; further ones are counted together as `other`."""

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Counter:
    """Only ever grows. At most `series` combinations of labels are told apart."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    series: int = SERIES_MAX


@dataclass(frozen=True, slots=True)
class Gauge:
    """Stands at a value."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    series: int = SERIES_MAX


@dataclass(frozen=True, slots=True)
class Histogram:
    """How observations spread; `buckets` are upper bounds, rising, without infinity."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS
    series: int = SERIES_MAX


Metric = Counter | Gauge | Histogram


class Meter(Protocol):
    """Where parts report. `values` are the label values, in the metric's order.

    Values must come from a small set (an outcome, an archive), never from
    archived content; calls cost microseconds and never fail for load.
    """

    def add(self, metric: Counter, *values: str, amount: float = 1.0) -> None: ...

    def set(self, metric: Gauge, *values: str, value: float) -> None: ...

    def observe(self, metric: Histogram, *values: str, value: float) -> None: ...


@dataclass(slots=True)
class _Spread:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class _Family:
    metric: Metric
    numbers: dict[tuple[str, ...], float] = field(default_factory=dict)
    spreads: dict[tuple[str, ...], _Spread] = field(default_factory=dict)


class Registry:
    """The numbers of this process; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: dict[str, _Family] = {}

    def add(self, metric: Counter, *values: str, amount: float = 1.0) -> None:
        """Count `amount` more; a negative one raises `ValueError`."""
        if amount < 0:
            raise ValueError(f"{metric.name} only grows, not by {amount}")
        with self._lock:
            numbers = self._family(metric).numbers
            key = _series(metric, values, numbers)
            numbers[key] = numbers.get(key, 0.0) + amount

    def set(self, metric: Gauge, *values: str, value: float) -> None:
        with self._lock:
            numbers = self._family(metric).numbers
            numbers[_series(metric, values, numbers)] = value

    def observe(self, metric: Histogram, *values: str, value: float) -> None:
        with self._lock:
            spreads = self._family(metric).spreads
            key = _series(metric, values, spreads)
            spread = spreads.setdefault(key, _Spread([0] * (len(metric.buckets) + 1)))
            spread.counts[bisect_left(metric.buckets, value)] += 1
            spread.total += value

    def render(self) -> str:
        """Everything as Prometheus text, by name, for `CONTENT_TYPE`."""
        with self._lock:
            lines = [
                line for _, family in sorted(self._families.items()) for line in _rendered(family)
            ]
        return "".join(line + "\n" for line in lines)

    def _family(self, metric: Metric) -> _Family:
        """Two declarations of one name must agree: `ValueError` if they do not."""
        family = self._families.setdefault(metric.name, _Family(metric))
        if family.metric != metric:
            raise ValueError(f"{metric.name} is declared twice, differently")
        return family


def _series(
    metric: Metric,
    values: tuple[str, ...],
    known: dict[tuple[str, ...], float] | dict[tuple[str, ...], _Spread],
) -> tuple[str, ...]:
    if len(values) != len(metric.labels):
        raise ValueError(f"{metric.name} takes the labels {metric.labels}, not {values}")
    if values in known or len(known) < metric.series:
        return values
    return (OTHER,) * len(values)


def _rendered(family: _Family) -> Iterator[str]:
    metric = family.metric
    match metric:
        case Counter():
            name, kind = f"{metric.name}_total", "counter"
        case Gauge():
            name, kind = metric.name, "gauge"
        case Histogram():
            name, kind = metric.name, "histogram"
        case _:
            assert_never(metric)
    described = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {described}"
    yield f"# TYPE {name} {kind}"
    for values, number in sorted(family.numbers.items()):
        yield f"{name}{_labels(metric.labels, values)} {number!r}"
    if isinstance(metric, Histogram):
        yield from _spreads(metric, family.spreads)


def _spreads(metric: Histogram, spreads: dict[tuple[str, ...], _Spread]) -> Iterator[str]:
    names = (*metric.labels, "le")
    for values, spread in sorted(spreads.items()):
        seen = 0
        for bound, count in zip((*metric.buckets, None), spread.counts, strict=True):
            seen += count
            limit = "+Inf" if bound is None else repr(float(bound))
            yield f"{metric.name}_bucket{_labels(names, (*values, limit))} {seen}"
        own = _labels(metric.labels, values)
        yield f"{metric.name}_sum{own} {spread.total!r}"
        yield f"{metric.name}_count{own} {seen}"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = ",".join(
        f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)
    )
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    value = value.encode("utf-8", "replace").decode()
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
