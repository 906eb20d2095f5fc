"""The supervisor actor: the pools at size, their actors alive and not too large.

It holds no state: a restarted supervisor adopts what it finds by name. The
work goes on while it is dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from chrono_ray import settings as chrono_settings
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.pools import Member, members
from chrono_ray.cluster.scraper import DRAIN_SECONDS, Status
from chrono_ray.cluster.work import WorkThread
from chrono_ray.observability import log as logs

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 2.0
RSS_LIMIT: Final = 400 * 1024 * 1024
ANSWER_SECONDS: Final = 10.0


class Supervisor:
    """Keeps the worker actors."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        settings = chrono_settings.load(environment)
        logs.configure(settings.log_level, json=True)
        self._members = members(settings, budget_here(), environment)
        self._seen: dict[str, Status | None] = {member.name: None for member in self._members}
        self._draining = False
        self._thread = WorkThread(self._work, name="supervisor")
        self._thread.start()

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.gather(*(self._look(member) for member in self._members))
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _look(self, member: Member) -> None:
        """Make it where it is missing, ask how it is, recycle it when it has grown too large."""
        actor = await asyncio.to_thread(member.get)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status: Status = await asyncio.wrap_future(actor.status.remote().future())
        except (RayActorError, GetTimeoutError, TimeoutError) as error:
            # restarting, or waiting for room on a node: Ray sees to both
            self._seen[member.name] = None
            log.warning("actor.silent", extra={"actor": member.name, "error": type(error).__name__})
            return
        self._seen[member.name] = status
        # one that was drained and never killed (its supervisor died in between) would idle for ever
        if (status.rss > RSS_LIMIT or not status.working) and not self._draining:
            await self._recycle(member, actor, status)

    async def _recycle(self, member: Member, actor: Any, status: Status) -> None:
        log.info("actor.recycled", extra={"actor": member.name, "rss": status.rss})
        if status.working:
            await _drain(actor)
        await asyncio.to_thread(ray.kill, actor, no_restart=False)

    def status(self) -> dict[str, Status | None]:
        """Each actor's last answer; None while it gives none."""
        return dict(self._seen)

    def drain(self) -> bool:
        """Stop looking after the actors, and drain them all; True when nothing is leased."""
        self._draining = True
        self._thread.stop(ANSWER_SECONDS)
        actors = [member.get() for member in self._members]
        refs = [actor.drain.remote() for actor in actors]
        ready, late = ray.wait(refs, num_returns=len(refs), timeout=DRAIN_SECONDS + 2)
        return not late and all(_drained(ref) for ref in ready)


async def _drain(actor: Any) -> bool:
    try:
        async with asyncio.timeout(DRAIN_SECONDS + 2):
            return bool(await asyncio.wrap_future(actor.drain.remote().future()))
    except (RayActorError, TimeoutError):
        return False


def _drained(ref: Any) -> bool:
    try:
        return bool(ray.get(ref, timeout=ANSWER_SECONDS))
    except (RayActorError, GetTimeoutError):
        return False


SupervisorActor: Any = ray.remote(Supervisor)
