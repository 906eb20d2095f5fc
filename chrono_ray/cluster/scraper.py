"""The scraper actor: a loop around `pipeline.scrape` and `pipeline.discover`."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import psutil
import ray

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.machine import labelled
from chrono_ray.cluster.metrics import Exporter
from chrono_ray.cluster.work import WorkThread, until_reached, until_stopped
from chrono_ray.observability import log

DRAIN_SECONDS = 28.0


@dataclass(frozen=True, slots=True)
class Status:
    """An actor's answer: who it is, what it has done since it started, how much it holds.

    `done` and `leased` count fetches (pages, of an indexer).
    It is `working` until its work has ended, `draining` as well once it was asked to. `stalled`:
    seconds since its work last took a turn, whoever answers meanwhile.
    """

    pid: int
    done: int
    in_flight: int
    rss: int
    leased: int
    working: bool
    draining: bool
    stalled: float


class Scraper:
    """Fetches and lists until drained."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._settings = chrono_settings.load(labelled(environment))
        log.configure(self._settings.log_level, json=True)
        self._numbers = Exporter("scraper")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._parts: wiring.Scraper | None = None
        self._thread = WorkThread(self._work, name="scraper")
        self._thread.start()
        self._numbers.start()

    async def _work(self, stop: asyncio.Event) -> None:
        await until_stopped(self._until_reached(), stop)
        if stop.is_set():
            return
        async with AsyncExitStack() as stack:
            parts = await wiring.scraper(
                self._settings, stack, worker=wiring.worker_name(), meter=self._numbers.meter
            )
            self._parts = parts
            async with asyncio.TaskGroup() as group:
                for discoverer in parts.discoverers:
                    group.create_task(discoverer.run(stop))
                group.create_task(parts.scrape.run(stop))
                group.create_task(parts.tasks.run(stop))
                group.create_task(parts.redeciding.run(stop))

    async def _until_reached(self) -> None:
        """One that ended for a record that is away would be begun again and again."""
        name = f"chrono scraper {wiring.worker_name()}"
        async with aclosing(wiring.whole_record(self._settings, pool_size=1, name=name)) as record:
            await until_reached(record)

    def status(self) -> Status:
        scrape = self._parts.scrape if self._parts else None
        return Status(
            pid=os.getpid(),
            done=scrape.settle.tally.fetches if scrape else 0,
            in_flight=scrape.in_flight if scrape else 0,
            rss=psutil.Process().memory_info().rss,
            leased=scrape.claimed if scrape else 0,
            working=self._thread.working,
            draining=self._thread.asked,
            stalled=self._thread.stalled_for,
        )

    def retire(self) -> None:
        """Begin to drain, and answer meanwhile: `status` tells when nothing is held any more."""
        self._thread.ask()

    def drain(self) -> bool:
        """Claim no more, end or give back what is in flight; True when nothing is held any more."""
        return self._thread.stop(DRAIN_SECONDS)


ScraperActor: Any = ray.remote(Scraper)
