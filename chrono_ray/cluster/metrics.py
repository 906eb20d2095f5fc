"""A process's numbers, carried to Ray's exporter: one per node, which Prometheus scrapes.

Ray puts `ray_` before a name, `_total` behind a counter's, and a label
`WorkerId` to it. What its exporter was told stays there when the process ends.

Ray 2.60's own histogram tells its exporter the middle of each bucket, once for
each observation: sums are wrong and a scrape's worth of work is done twice.
Buckets, sum and count are told here as sums instead, under the same names.
"""

from __future__ import annotations

import logging
import threading
from itertools import accumulate
from typing import Any, Final, assert_never

from ray._raylet import Sum  # type: ignore[attr-defined]  # no public class keeps its name
from ray.util import metrics

from chrono_ray.observability import log as logs
from chrono_ray.observability.metrics import (
    Counter,
    Gauge,
    Grown,
    Histogram,
    Metric,
    Reading,
    Registry,
    Spread,
    Stands,
)
from chrono_ray.observability.own import watch_process

log = logging.getLogger(__name__)

EVERY: Final = 5.0
"""Seconds: Ray asks each process every ten, and forgets a gauge that was not set meanwhile."""
BUCKET: Final = "le"


class _Sum(metrics.Metric):
    """Grows by what it is told, also after the process that told it."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        super().__init__(name, description, tag_keys)
        self._metric = Sum(name, description, tag_keys)

    def grow(self, value: float, tags: dict[str, str]) -> None:
        self._record(value, tags=tags)


class Exporter:
    """The numbers of one process; its `meter` is for everything that counts."""

    def __init__(self, part: str) -> None:
        """`part` names the process's kind: scraper, api ..."""
        self.meter = Registry()
        self._instruments: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        watch_process(self.meter, part)
        logs.count(self.meter, part)

    def start(self) -> None:
        """Tell Ray what there is every `EVERY` seconds, until the process ends."""
        self._thread.start()

    def flush(self) -> None:
        """Tell Ray now."""
        for reading in self.meter.drain():
            self._tell(reading)

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY):
            self.flush()

    def _tell(self, reading: Reading) -> None:
        tags = dict(zip(reading.metric.labels, reading.values, strict=True))
        match reading:
            case Grown(metric, _, amount):
                self._instrument(metric).inc(amount, tags)
            case Stands(metric, _, value):
                self._instrument(metric).set(value, tags)
            case Spread(metric):
                self._spread(metric, reading, tags)
            case other:
                assert_never(other)

    def _spread(self, metric: Histogram, reading: Spread, tags: dict[str, str]) -> None:
        bounds = (*(repr(float(bound)) for bound in metric.buckets), "+Inf")
        below = list(accumulate(reading.counts))
        for bound, count in zip(bounds, below, strict=True):
            # one that did not grow is told too: a histogram has all its buckets
            self._sum(metric, "_bucket", BUCKET).grow(count, {**tags, BUCKET: bound})
        self._sum(metric, "_sum").grow(reading.total, tags)
        self._sum(metric, "_count").grow(below[-1], tags)

    def _instrument(self, metric: Counter | Gauge) -> Any:
        kind = metrics.Counter if isinstance(metric, Counter) else metrics.Gauge
        if metric.name not in self._instruments:
            self._instruments[metric.name] = kind(metric.name, metric.help, metric.labels)
        return self._instruments[metric.name]

    def _sum(self, metric: Metric, ending: str, *labels: str) -> Any:
        name = f"{metric.name}{ending}"
        if name not in self._instruments:
            self._instruments[name] = _Sum(name, metric.help, (*metric.labels, *labels))
        return self._instruments[name]
