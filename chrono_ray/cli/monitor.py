"""`chrono monitor`: how it is doing, once or every few seconds, for people and scripts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray.cli.following import interrupted
from chrono_ray.cli.overview import Onlooker, Overview
from chrono_ray.cli.remote import only_here
from chrono_ray.cli.words import amount, duration
from chrono_ray.observability.log import printable
from chrono_ray.pipeline.overview import Away, RecordView, RunView


def watch(every: float, *, once: bool, json: bool) -> int:
    """0; 1 when the last look found no record. Ends with Ctrl+C, or after one look."""
    settings = chrono_settings.load()
    only_here(settings)

    async def work() -> Overview:
        stop = interrupted()
        async with Onlooker(settings, costly=json) as onlooker:
            seen = await onlooker.look()
            _tell(seen, json=json)
            while not (once or await _stopped(stop, every)):
                seen = await onlooker.look(seen)
                _tell(seen, json=json)
        return seen

    return 1 if isinstance(asyncio.run(work()).record, Away) else 0


def line(seen: Overview) -> str:
    """One look on one line."""
    record = [f"record: {seen.record.away}"] if isinstance(seen.record, Away) else _of(seen.record)
    return printable(f"{seen.at:%H:%M:%S} " + " · ".join([*record, *_parts(seen)]))


def _of(record: RecordView) -> Iterator[str]:
    active = [each for each in record.runs if each.state == "active"]
    yield f"{len(active)} active" + (f" ({', '.join(map(_run, active))})" if active else "")
    classes = record.queues.classes
    waiting = ", ".join(f"{each.queue} {each.queued:,}" for each in classes if each.queued)
    yield f"queued {waiting or 0}, leased {sum(each.leased for each in classes):,}"
    if record.queues.pages:
        yield f"index behind by {record.queues.pages:,} pages, {duration(record.queues.lag)}"
    if record.pages_per_minute is not None:
        yield f"{record.pages_per_minute:,.0f} pages/min"
    elif record.rates:
        yield f"{record.rates.pages:,} pages/min"
    for each in record.budgets:
        if each.paused_until:
            yield f"{each.archive} silent for {duration(each.wait)} ({each.reason})"
    yield f"{record.connections_used} of {record.connections.most} connections"
    if record.slow:
        yield f"{len(record.slow)} slow, {duration(record.slow[0].seconds)}"


def _run(run: RunView) -> str:
    left = f", about {duration(run.left)} left" if run.left is not None else ""
    return f"{run.run}: {run.ended:,}/{run.listed:,}, {run.rate:.1f}/s{left}"


def _parts(seen: Overview) -> Iterator[str]:
    if not isinstance(seen.pools, Away):
        scrapers = seen.pools.scrapers
        yield f"{scrapers.actual} of {scrapers.wanted} scrapers"
    if not isinstance(seen.memory, Away):
        yield f"{amount(seen.memory.bytes)} held"
    if isinstance(seen.cache, Away):
        yield "no cache"
    elif seen.cache.hit_rate is not None:
        yield f"cache hits {seen.cache.hit_rate:.0%}"
    yield "no API" if isinstance(seen.api, Away) else f"API {seen.api.status}"


def _tell(seen: Overview, *, json: bool) -> None:
    text = orjson.dumps(seen, option=orjson.OPT_UTC_Z).decode() if json else line(seen)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
