"""The indexer actor: a loop around `pipeline.index`. With tantivy there is exactly one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import psutil
import ray

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.machine import labelled
from chrono_ray.cluster.metrics import Exporter
from chrono_ray.cluster.scraper import DRAIN_SECONDS, Status
from chrono_ray.cluster.work import WorkThread
from chrono_ray.observability import log
from chrono_ray.pipeline.index import Indexing


class Indexer:
    """Delivers the outbox until drained."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._settings = chrono_settings.load(labelled(environment))
        log.configure(self._settings.log_level, json=True)
        self._numbers = Exporter("indexer")
        self._indexing: Indexing | None = None
        self._thread = WorkThread(self._work, name="indexer")
        self._thread.start()
        self._numbers.start()

    async def _work(self, stop: asyncio.Event) -> None:
        record = wiring.whole_record(self._settings, pool_size=4, name="chrono indexer")
        index = wiring.index(self._settings, "writer")
        try:
            meter = self._numbers.meter
            wiring.watch_pool(meter, "indexer", record)
            self._indexing = wiring.indexing(self._settings, record, index, meter=meter)
            await self._indexing.run(stop)
        finally:
            await index.aclose()
            await record.aclose()

    def status(self) -> Status:
        return Status(
            pid=os.getpid(),
            done=self._indexing.indexed if self._indexing else 0,
            in_flight=0,
            rss=psutil.Process().memory_info().rss,
            leased=0,
            working=self._thread.working,
            draining=self._thread.asked,
            stalled=self._thread.stalled_for,
        )

    def retire(self) -> None:
        """Begin to drain, and answer meanwhile: `status` tells when nothing is held any more."""
        self._thread.ask()

    def drain(self) -> bool:
        """Finish or give back the batch under way; True when nothing is held any more."""
        return self._thread.stop(DRAIN_SECONDS)


IndexerActor: Any = ray.remote(Indexer)
