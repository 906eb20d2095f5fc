"""One scraper process as the product makes it, driven by a benchmark.

Its parts come from `wiring.scraper` and its settings from the environment, as
in the cluster's actor; there is no Ray around it. It lists a domain, tells
what that took, waits for a line on its standard input, and then scrapes until
everything listed has ended. It speaks in lines of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Final

import orjson
import uvloop

from benchmarks.usage import children_seconds, peak_rss, rss, rss_of_children
from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.observability import log
from chrono_ray.settings import Settings
from chrono_ray.storage.projects import Projects

LOOK_SECONDS: Final = 0.02
TELL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Listed:
    """The listing is kept. `rss` and `peak` in MiB, `cpu` in seconds of this process."""

    seconds: float
    cpu: float
    rss: float
    peak: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How far scraping is: pages ended, MiB of the scraper and of its extraction child."""

    done: int
    seconds: float
    rss: float
    child_rss: float


@dataclass(frozen=True, slots=True)
class Scraped:
    """All pages have ended. Processor seconds of the scraper and of its extraction child."""

    done: int
    seconds: float
    cpu: float
    child_cpu: float
    bytes: int


def tell(what: Listed | Seen | Scraped) -> None:
    os.write(1, orjson.dumps({type(what).__name__: asdict(what)}) + b"\n")


async def work(settings: Settings, *, domain: str, pages: int) -> None:
    async with AsyncExitStack() as stack:
        parts = await wiring.scraper(settings, stack, worker=wiring.worker_name())
        await _start_run(settings, domain)
        began, spent = time.perf_counter(), time.process_time()
        for discoverer in parts.discoverers:
            while await discoverer.step():
                pass
        seconds = time.perf_counter() - began
        tell(Listed(seconds, time.process_time() - spent, rss(), peak_rss()))
        if pages:
            await _told_to_go()
            await _scrape(parts, pages)


async def _told_to_go() -> None:
    """Our standard input says so; when it ends, nobody waits for us any more."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if not await reader.readline():
        raise SystemExit(1)


async def _start_run(settings: Settings, domain: str) -> None:
    record = wiring.database(settings, pool_size=1, name="benchmark")
    try:
        await Projects(record).start_run(
            Scope(domain, MatchType.DOMAIN), project="benchmark", archive="wayback",
            queue_class=QueueClass.SCRAPING,
        )  # fmt: skip
    finally:
        await record.aclose()


async def _scrape(parts: wiring.Scraper, pages: int) -> None:
    stop = asyncio.Event()
    tally = parts.scrape.settle.tally
    began, spent, children = time.perf_counter(), time.process_time(), children_seconds()
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.scrape.run(stop))
        told = 0.0
        while tally.fetches < pages:
            await asyncio.sleep(LOOK_SECONDS)
            seconds = time.perf_counter() - began
            if seconds - told >= TELL_SECONDS:
                told = seconds
                tell(Seen(tally.fetches, seconds, rss(), rss_of_children()))
        ended = Scraped(
            tally.fetches, time.perf_counter() - began, time.process_time() - spent,
            children_seconds() - children, tally.bytes,
        )  # fmt: skip
        stop.set()
    tell(ended)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain")
    parser.add_argument("--pages", type=int, default=0, help="scrape until so many ended; 0: not")
    options = parser.parse_args()
    settings = chrono_settings.load()
    log.configure(settings.log_level, json=True)
    uvloop.run(work(settings, domain=options.domain, pages=options.pages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
