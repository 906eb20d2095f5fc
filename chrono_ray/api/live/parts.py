"""What live progress works with: opened beside the application's own parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from fastapi import Depends, Request

from chrono_ray.api.live.channel import Channel
from chrono_ray.api.live.connection import Limits
from chrono_ray.api.live.events import State
from chrono_ray.api.live.hub import Hub
from chrono_ray.api.live.seats import Seats
from chrono_ray.api.live.source import Source
from chrono_ray.api.live.tickets import Origins, Tickets
from chrono_ray.api.parts import Parts, beside
from chrono_ray.cache.tags import RUNS, TASKS, project_tag, run_tag
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.settings import Settings
from chrono_ray.storage.live import Live

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class LiveParts:
    """Who listens, who may, and what one of them may cost."""

    live: Live
    hub: Hub
    tickets: Tickets
    origins: Origins
    seats: Seats
    limits: Limits


@asynccontextmanager
async def opened(
    settings: Settings,
    parts: Parts,
    *,
    limits: Limits | None = None,
    steady: bool = False,
    meter: Meter = SILENT,
) -> AsyncIterator[LiveParts]:
    """Live progress of one process; connections that are open at the end are ended in order.

    `steady` ones look also while nobody listens: for the cache, and for
    throughput over time.
    """
    url = settings.redis_url.get_secret_value() if settings.redis_url else None
    live, limits = Live(parts.record), limits or Limits()
    hub = Hub(live, recheck_every=limits.recheck, meter=meter)
    async with AsyncExitStack() as stack:
        channel = Channel(url) if url else None
        if channel:
            stack.push_async_callback(channel.aclose)
        seats = Seats(url, most=limits.connections)
        stack.push_async_callback(seats.aclose)
        source = Source(hub, live, channel, changed=partial(_changed, parts), steady=steady)
        works = [source.look, source.listen, hub.answer_wishes, hub.recheck, seats.say_alive]
        for work in [*works, *([source.take_samples] if steady else [])]:
            await stack.enter_async_context(beside(_endless(work)))
        stack.push_async_callback(source.resign)
        stack.push_async_callback(hub.stop)
        origins = Origins(settings.live.origins.split(","))
        yield LiveParts(live, hub, Tickets(live), origins, seats, limits)


async def _endless(work: Callable[[], Awaitable[None]]) -> None:
    """Whatever it meets, it begins again: without it nobody would be told anything."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("live.loop_failed")
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return


async def _changed(parts: Parts, news: Sequence[State], decided: Collection[int]) -> None:
    """Cached answers about a run at work end as often as the cache allows; at its end at once.

    So do those about the project of a task that has ended, or of which a domain was `decided`
    again: who worked tells no cache.
    """
    tags = {project_tag(each) for each in decided}
    for each in news:
        if not each.final:
            continue
        kind, _, number = each.key.partition(":")
        tags |= {project_tag(each.project_id), RUNS, TASKS}
        if kind == "run":
            tags.add(run_tag(int(number)))
    if tags:
        await parts.invalidate(*sorted(tags))
    if parts.cache:
        for each in news:
            if each.key.startswith("run:") and not each.final:
                await parts.cache.progressed(int(each.key[4:]), each.project_id)


async def _live(request: Request) -> LiveParts:
    found: LiveParts = request.app.state.live
    return found


OurLive = Annotated[LiveParts, Depends(_live)]
