"""Where news comes from: one process looks at the record and tells the others through Redis.

Without Redis, and while nobody is heard to lead, a process in which somebody
listens looks for itself. Whatever the change, it looks from the version on up
to which it has heard everything, so that no last state is lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from chrono_ray.api.live.channel import Channel, Lead
from chrono_ray.api.live.events import Rates, State, packed, states, unpacked
from chrono_ray.api.live.hub import Hub
from chrono_ray.cache.link import AWAY
from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.live import FROM_NOW, Decided, Live

log = logging.getLogger(__name__)

EVERY: Final = 0.5
IDLE: Final = 2.0
"""Between looks of the one that leads while nobody listens anywhere: the cache is told."""
SHARE: Final = 4.0
"""Looking takes a fifth of the time, however much there is to see, but for what `IDLE` bounds."""
LOOK_SECONDS: Final = 20.0
SILENCE: Final = 3.0
"""Longer than any pause of the one that leads."""
REST: Final = 1.0
SAMPLE_SECONDS: Final = 20.0
SAMPLE_DEADLINE: Final = 30.0

Changed = Callable[[Sequence[State], Collection[int]], Awaitable[None]]
"""Told of news, and of projects that were decided again, by the process that looks, before
anybody else is. Never raises."""


class Source:
    """Feeds a hub. `steady`: it looks also while nobody listens, for `changed`."""

    def __init__(
        self, hub: Hub, live: Live, channel: Channel | None, *, changed: Changed, steady: bool
    ) -> None:
        self._hub = hub
        self._live = live
        self._channel = channel
        self._changed = changed
        self._steady = steady and channel is not None
        self._rates = Rates()
        self._heard: int | None = None
        self._heard_at = 0.0
        self._resting_until = 0.0
        self._leads = False
        self._told: dict[str, State] = {}
        self._open: list[int] = []
        self._decided: frozenset[Decided] = frozenset()
        self._decided_told: frozenset[Decided] = frozenset()
        self._away = False

    async def look(self) -> None:
        """Look again and again, where it is for this process to do. Until cancelled."""
        while True:
            if not (self._steady or self._hub.occupied):
                await self.resign()
                await self._hub.wait_occupied()
                self._heard = None
            began = time.monotonic()
            pause = await self._turn()
            took = time.monotonic() - began
            await asyncio.sleep(max(pause, min(took * SHARE, IDLE)))

    async def listen(self) -> None:
        """Hear what another process saw, while anybody here listens. Until cancelled.

        What was missed before is looked for first. Redis going away is waited out.
        """
        while self._channel:
            await self._hub.wait_occupied()
            try:
                await self._channel.listen(
                    self._catch_up, self._hear, wanted=lambda: self._hub.occupied
                )
            except AWAY as error:
                log.debug("live.not_heard", extra={"why": type(error).__name__})
                self._heard_at = 0.0
                await asyncio.sleep(REST)

    async def take_samples(self) -> None:
        """Keep the counters of every minute, whoever else does too. Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(SAMPLE_DEADLINE):
                    await self._live.sample()
            except (Unavailable, TimeoutError) as error:
                log.warning("live.no_sample", extra={"why": str(error)})
            await asyncio.sleep(SAMPLE_SECONDS)

    async def resign(self) -> None:
        """Let another lead at once."""
        if self._channel and self._leads:
            self._leads = False
            try:
                await self._channel.resign()
            except AWAY as error:
                log.debug("live.not_resigned", extra={"why": type(error).__name__})

    async def _turn(self) -> float:
        try:
            if await self._is_leader():
                return await self._lead()
            if not self._hub.occupied:
                self._heard = None  # newcomers are told of before by themselves
            elif time.monotonic() - self._heard_at > SILENCE:
                await self._look()
            self._away = False
        except (Unavailable, TimeoutError) as error:
            self._fell("live.record_away", error)
        return EVERY if self._hub.occupied else IDLE

    async def _is_leader(self) -> bool:
        """A Redis that fails is asked again after a while, not by every turn."""
        if self._channel is None or time.monotonic() < self._resting_until:
            return False
        try:
            lead = await self._channel.lead()
        except AWAY as error:
            self._rest(error)
            return False
        if lead is Lead.ANEW:
            log.info("live.leads")
            self._told, self._decided_told = {}, frozenset()
        self._leads = lead is not Lead.ANOTHER
        return self._leads

    async def _lead(self) -> float:
        version, found = await self._seen()
        news = [
            each for each in found
            if each.key not in self._told or each.tells(self._told[each.key])
        ]  # fmt: skip
        self._told = {each.key: self._told.get(each.key, each) for each in found}
        self._told.update({each.key: each for each in news})
        await self._tell(news)
        self._hub.apply(found)
        listeners = await self._publish(version, news)
        return EVERY if listeners or self._hub.occupied else IDLE

    async def _publish(self, version: int, news: Sequence[State]) -> int:
        assert self._channel is not None  # noqa: S101 (only a leader comes here)
        try:
            heard = await self._channel.publish(packed(version, news))
        except AWAY as error:
            self._rest(error)
            heard = None
        if heard is None:
            self._leads = False
        return heard or 0

    async def _look(self) -> None:
        _, found = await self._seen()
        await self._tell(self._hub.apply(found))

    async def _tell(self, news: Sequence[State]) -> None:
        decided = self._decided
        await self._changed(news, {each.project_id for each in decided - self._decided_told})
        self._decided_told = decided

    async def _seen(self) -> tuple[int, list[State]]:
        """Everything at work or changed since we last heard all of it."""
        async with asyncio.timeout(LOOK_SECONDS):
            since = FROM_NOW if self._heard is None else self._heard
            pulse = await self._live.pulse(since, runs=self._open)
        found = states(pulse, self._rates)
        self._heard, self._decided = pulse.version, pulse.decided
        self._open = [int(each.key[4:]) for each in found if each.unsettled]
        return pulse.version, found

    async def _catch_up(self) -> None:
        try:
            await self._look()
        except Unavailable as error:
            raise ConnectionError from error  # what is heard from here on would hide the gap

    def _hear(self, message: bytes) -> None:
        read = unpacked(message)
        if read is None:
            log.warning("live.not_understood", extra={"bytes": len(message)})
            raise ConnectionError("not understood")  # it may have been news: it is looked for
        version, news = read
        self._hub.apply(news)
        self._heard = max(version, self._heard or 0)
        self._heard_at = time.monotonic()

    def _rest(self, error: Exception) -> None:
        self._leads = False
        self._heard_at = 0.0
        self._resting_until = time.monotonic() + REST
        log.debug("live.redis_away", extra={"why": type(error).__name__})

    def _fell(self, event: str, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning(event, extra={"why": str(error)})
