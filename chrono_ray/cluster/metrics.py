"""A process's numbers, carried to Ray's exporter: one per node, which Prometheus scrapes.

Ray puts `ray_` before a name, and a label `WorkerId` to it. All are told as
gauges, under the names that counters and histograms have: those of Ray 2.60
are not fit for processes that are replaced every few minutes. What its
exporter was told of a counter or a histogram stays there for ever, and grows
with every process there was; a histogram is told by the middle of its buckets,
once for each observation, so that its sum is wrong. A gauge goes when its
process does, as what Prometheus scrapes elsewhere.
"""

from __future__ import annotations

import logging
import threading
from itertools import accumulate
from typing import Final, assert_never

from ray.util.metrics import Gauge

from chrono_ray.observability import log as logs
from chrono_ray.observability.metrics import (
    Counted,
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


class Exporter:
    """The numbers of one process; its `meter` is for everything that counts."""

    def __init__(self, part: str) -> None:
        """`part` names the process's kind: scraper, api ..."""
        self.meter = Registry()
        self._gauges: dict[str, Gauge] = {}
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        watch_process(self.meter, part)
        logs.count(self.meter, part)

    def start(self) -> None:
        """Tell Ray what there is now and every `EVERY` seconds, until the process ends."""
        self._thread.start()

    def flush(self) -> None:
        """Tell Ray now."""
        for reading in self.meter.readings():
            self._tell(reading)

    def _run(self) -> None:
        """The boundary of this thread: what failed once is told the next time."""
        pause = threading.Event()
        while True:
            try:
                self.flush()
            except Exception:
                log.warning("metrics.untold", exc_info=True)
            pause.wait(EVERY)

    def _tell(self, reading: Reading) -> None:
        tags = dict(zip(reading.metric.labels, reading.values, strict=True))
        match reading:
            case Counted(metric, _, total):
                self._gauge(metric, "_total").set(total, tags)
            case Stands(metric, _, value):
                self._gauge(metric).set(value, tags)
            case Spread():
                self._tell_spread(reading, tags)
            case other:
                assert_never(other)

    def _tell_spread(self, reading: Spread, tags: dict[str, str]) -> None:
        metric = reading.metric
        bounds = (*(repr(float(bound)) for bound in metric.buckets), "+Inf")
        below = list(accumulate(reading.counts))
        for bound, count in zip(bounds, below, strict=True):
            self._gauge(metric, "_bucket", BUCKET).set(count, {**tags, BUCKET: bound})
        self._gauge(metric, "_sum").set(reading.total, tags)
        self._gauge(metric, "_count").set(below[-1], tags)

    def _gauge(self, metric: Metric, ending: str = "", *labels: str) -> Gauge:
        name = f"{metric.name}{ending}"
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, metric.help, (*metric.labels, *labels))
        return self._gauges[name]
