"""Counters, gauges and histograms behind one small interface.

A metric is declared beside its use, as a value, and given to a `Meter`::

    FETCHES = Counter("chrono_fetches", "Fetches ended, by outcome.", ("outcome",))
    meter.add(FETCHES, "stored")

`Registry` keeps the numbers in this process: it renders them as Prometheus
text, or says where they stand to whoever carries them on, as cluster/metrics.py
does to Ray. Names carry no `_total`: that is added to counters where they are
told. Durations are in seconds. Every metric there is: catalogue.py.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SERIES_MAX: Final = 100
"""Label combinations of most metrics; in further ones what is `wide` is counted as `other`."""

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Counter:
    """Only ever grows. At most `series` combinations of labels are told apart.

    Of a further one the labels in `wide` are `other`, or all of them where none is named; the rest
    must have few values.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    series: int = SERIES_MAX
    wide: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """Stands at a value."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    series: int = SERIES_MAX
    wide: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Histogram:
    """How observations spread; `buckets` are upper bounds, rising, without infinity."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS
    series: int = SERIES_MAX
    wide: tuple[str, ...] = ()


Metric = Counter | Gauge | Histogram


class Meter(Protocol):
    """Where parts report. `values` are the label values, in the metric's order.

    Values must come from a small set (an outcome, an archive), never from
    archived content; calls cost microseconds and never fail for load.
    """

    def add(self, metric: Counter, *values: str, amount: float = 1.0) -> None: ...

    def set(self, metric: Gauge, *values: str, value: float) -> None: ...

    def observe(self, metric: Histogram, *values: str, value: float) -> None: ...

    def reach(self, metric: Counter, *values: str, total: float) -> None:
        """Count up to what somebody else has counted since the process began."""
        ...

    def clear(self, metric: Gauge) -> None:
        """None of its values stands any more."""
        ...

    def watch(self, tell: Callable[[Meter], None]) -> None:
        """Have `tell` called whenever the numbers are read, in the reader's thread."""
        ...


class Silent:
    """Where nobody reads: commands, jobs, tests."""

    def add(self, metric: Counter, *values: str, amount: float = 1.0) -> None:
        pass

    def set(self, metric: Gauge, *values: str, value: float) -> None:
        pass

    def observe(self, metric: Histogram, *values: str, value: float) -> None:
        pass

    def reach(self, metric: Counter, *values: str, total: float) -> None:
        pass

    def clear(self, metric: Gauge) -> None:
        pass

    def watch(self, tell: Callable[[Meter], None]) -> None:
        pass


SILENT: Final[Meter] = Silent()


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter has counted since the process began."""

    metric: Counter
    values: tuple[str, ...]
    total: float


@dataclass(frozen=True, slots=True)
class Stands:
    """Where a gauge stands."""

    metric: Gauge
    values: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Spread:
    """What was observed: how many between one bound and the next (the last: beyond), their sum.

    All since the process began.
    """

    metric: Histogram
    values: tuple[str, ...]
    counts: tuple[int, ...]
    total: float


Reading = Counted | Stands | Spread


@dataclass(slots=True)
class _Spread:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class _Family:
    metric: Metric
    numbers: dict[tuple[str, ...], float] = field(default_factory=dict)
    reached: dict[tuple[str, ...], float] = field(default_factory=dict)
    spreads: dict[tuple[str, ...], _Spread] = field(default_factory=dict)


class Registry:
    """The numbers of this process; safe to use from several threads.

    What a collection of garbage may run must not report here: it may start while a number is read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: dict[str, _Family] = {}
        self._watched: list[Callable[[Meter], None]] = []

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
            spread = spreads.get(key)
            if spread is None:
                spread = spreads[key] = _Spread([0] * (len(metric.buckets) + 1))
            spread.counts[bisect_left(metric.buckets, value)] += 1
            spread.total += value

    def reach(self, metric: Counter, *values: str, total: float) -> None:
        """Count up to `total`; one that is less than before has begun anew."""
        with self._lock:
            family = self._family(metric)
            before = family.reached.get(values, 0.0)
            family.reached[values] = total
            key = _series(metric, values, family.numbers)
            grown = total - before if total >= before else total
            family.numbers[key] = family.numbers.get(key, 0.0) + grown

    def clear(self, metric: Gauge) -> None:
        with self._lock:
            self._family(metric).numbers.clear()

    def watch(self, tell: Callable[[Meter], None]) -> None:
        self._watched.append(tell)

    def readings(self) -> list[Reading]:
        """Where everything stands."""
        self._ask()
        with self._lock:
            return [each for family in self._families.values() for each in _read(family)]

    def render(self) -> str:
        """Everything as Prometheus text, by name, for `CONTENT_TYPE`."""
        self._ask()
        with self._lock:
            lines = [
                line for _, family in sorted(self._families.items()) for line in _rendered(family)
            ]
        return "".join(line + "\n" for line in lines)

    def _ask(self) -> None:
        for tell in self._watched:
            try:
                tell(self)
            except Exception:  # a boundary: what one cannot tell silences none of the others
                log.warning("metrics.untold", exc_info=True)

    def _family(self, metric: Metric) -> _Family:
        """Two declarations of one name must agree: `ValueError` if they do not."""
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = _Family(metric)
        if family.metric is not metric and family.metric != metric:
            raise ValueError(f"{metric.name} is declared twice, differently")
        return family


def _series(
    metric: Metric,
    values: tuple[str, ...],
    known: dict[tuple[str, ...], float] | dict[tuple[str, ...], _Spread],
) -> tuple[str, ...]:
    if values in known:
        return values
    if len(values) != len(metric.labels):
        raise ValueError(f"{metric.name} takes the labels {metric.labels}, not {values}")
    if len(known) < metric.series:
        return values
    wide = metric.wide or metric.labels
    return tuple(
        OTHER if name in wide else value for name, value in zip(metric.labels, values, strict=True)
    )


def _read(family: _Family) -> Iterator[Reading]:
    metric = family.metric
    match metric:
        case Counter():
            for values, total in family.numbers.items():
                yield Counted(metric, values, total)
        case Gauge():
            for values, value in family.numbers.items():
                yield Stands(metric, values, value)
        case Histogram():
            for values, spread in family.spreads.items():
                yield Spread(metric, values, tuple(spread.counts), spread.total)
        case _:
            assert_never(metric)


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
