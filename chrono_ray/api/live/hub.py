"""Who listens to what in this process, and the newest state of everything that is told.

For each listener there is one place a run or task, and the newest state takes
it: nobody's slowness costs more than that, and the last state is never lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final

from chrono_ray.api.live.audience import Audience, Found
from chrono_ray.api.live.events import State, states
from chrono_ray.api.live.listener import (
    EVERYTHING,
    POLICY,
    RESTART,
    End,
    Kind,
    Listener,
    Wish,
    number,
)
from chrono_ray.model.errors import Unavailable
from chrono_ray.observability.catalogue import LIVE_CONNECTIONS, LIVE_MESSAGES
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.storage.live import Live

log = logging.getLogger(__name__)

KEPT: Final = 10_000
LOOK_GAP: Final = 0.05
AT_ONCE: Final = 100
LOOK_SECONDS: Final = 20.0
AGAIN_SECONDS: Final = 1.0
RECHECKED: Final = 500
STOP_SECONDS: Final = 3.0


class Hub:
    """All listeners of this process."""

    def __init__(self, live: Live, *, recheck_every: float, meter: Meter = SILENT) -> None:
        self._live = live
        self._meter = meter
        self._open = dict.fromkeys(Kind, 0)
        meter.watch(self._count)
        self._recheck_every = recheck_every
        self._listeners: set[Listener] = set()
        self._audience = Audience()
        self._newest: OrderedDict[str, State] = OrderedDict()
        self._wishes: dict[Listener, Wish] = {}
        self._wished = asyncio.Event()
        self._occupied = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.closing = False

    @property
    def occupied(self) -> bool:
        """Whether anybody listens."""
        return self._occupied.is_set()

    async def wait_occupied(self) -> None:
        await self._occupied.wait()

    def told(self, kind: Kind) -> None:
        """A listener of this kind was sent something."""
        self._meter.add(LIVE_MESSAGES, kind)

    def join(self, listener: Listener) -> None:
        self._listeners.add(listener)
        self._open[listener.kind] += 1
        self._occupied.set()
        self._empty.clear()

    def leave(self, listener: Listener) -> None:
        self.unfollow(listener, tuple(listener.topics))
        self._wishes.pop(listener, None)
        if listener in self._listeners:
            self._listeners.remove(listener)
            self._open[listener.kind] -= 1
        if not self._listeners:
            self._occupied.clear()
            self._empty.set()

    def follow(self, listener: Listener, wish: Wish) -> None:
        """Tell what these topics are now, where that is newer than what was seen; then changes."""
        listener.topics.update(wish.topics)
        earlier = self._wishes.get(listener)
        self._wishes[listener] = earlier.with_later(wish, listener.topics) if earlier else wish
        self._wished.set()

    def attach(self, listener: Listener, topics: Iterable[str]) -> None:
        """Offer it what changes from here on."""
        for topic in topics:
            if topic in listener.topics:
                self._audience.add(listener, topic)

    def unfollow(self, listener: Listener, topics: Collection[str]) -> None:
        for topic in topics:
            listener.topics.discard(topic)
            self._audience.discard(listener, topic)

    def apply(self, found: Iterable[State]) -> list[State]:
        """Take what was looked at or heard; what is news is offered to whom it concerns."""
        news = []
        for state in found:
            before = self._newest.get(state.key)
            if before is None or state.tells(before):
                self._keep(state)
                self._tell(state)
                news.append(state)
        return news

    async def stop(self) -> None:
        """End every connection: their clients come again elsewhere, not all at once."""
        self.closing = True
        for listener in self._listeners:
            listener.stop(End(RESTART, f"retry_after={1 + 4 * random.random():.1f}"))  # noqa: S311
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._empty.wait()

    async def answer_wishes(self) -> None:
        """What newcomers asked for, from the record: one look for all who wait. Until cancelled."""
        while True:
            await self._wished.wait()
            wishes, self._wishes = self._wishes, {}
            self._wished.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._answer(wishes)
            except (Unavailable, TimeoutError) as error:
                log.warning("live.look_failed", extra={"why": str(error)})
                self._put_back(wishes)
                await asyncio.sleep(AGAIN_SECONDS)
            await asyncio.sleep(LOOK_GAP)

    async def recheck(self) -> None:
        """Who may not listen any more is told so within seconds. Until cancelled."""
        while True:
            await self.wait_occupied()
            listeners = list(self._listeners)
            try:
                for begin in range(0, len(listeners), RECHECKED):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._recheck(listeners[begin : begin + RECHECKED])
            except (Unavailable, TimeoutError) as error:
                log.warning("live.recheck_failed", extra={"why": str(error)})
            await asyncio.sleep(self._recheck_every)

    def _put_back(self, wishes: Mapping[Listener, Wish]) -> None:
        """What could not be answered, before what was wished since: one wish for each who waits."""
        later, self._wishes = (
            self._wishes,
            {listener: wish for listener, wish in wishes.items() if listener in self._listeners},
        )
        for listener, wish in later.items():
            self.follow(listener, wish)
        self._wished.set()

    def _count(self, meter: Meter) -> None:
        for kind, count in self._open.items():
            meter.set(LIVE_CONNECTIONS, kind, value=count)

    def _keep(self, state: State) -> None:
        self._newest[state.key] = state
        self._newest.move_to_end(state.key)
        while len(self._newest) > KEPT:
            self._newest.popitem(last=False)

    def _tell(self, state: State) -> None:
        for listener in self._audience.of(state):
            if listener.sees(state):
                listener.offer(state)

    async def _answer(self, wishes: Mapping[Listener, Wish]) -> None:
        topics = {topic for wish in wishes.values() for topic in wish.topics}
        sinces = [since for wish in wishes.values() if (since := wish.since) is not None]
        pulse = await self._live.pulse(
            min(sinces, default=None),
            runs=[n for each in topics if (n := number(each, "run"))],
            tasks=[n for each in topics if (n := number(each, "task"))],
        )
        found = Found(states(pulse, None))
        self.apply(found.by_key.values())
        for n, (listener, wish) in enumerate(wishes.items()):
            if listener in self._listeners:
                self.attach(listener, wish.topics)
                self._grant(listener, wish, found)
            if n % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)  # a thousand come at once when a process has died

    def _grant(self, listener: Listener, wish: Wish, found: Found) -> None:
        wide = [wish.seen.get(each, wish.floor) for each in wish.wide]
        for looked in found.asked(listener, wish):
            state = self._newest.get(looked.key, looked)
            if not listener.wants(state):
                continue
            if looked.key in wish.seen and looked.key in wish.topics:
                self._resume(listener, state, looked, wish.seen[looked.key])
            elif _unseen(state, wide or [wish.floor]):
                listener.offer(state)
        for topic in wish.topics:
            if topic in listener.topics and not _visible(listener, topic, found.by_key.get(topic)):
                self.unfollow(listener, (topic,))
                listener.refuse(topic, "not_found")

    def _resume(self, listener: Listener, state: State, looked: State, seen: int) -> None:
        """Another process may have told of this at another version: only the same one is known."""
        if state.version == seen:
            return
        if state.version < seen < looked.version:
            self._keep(looked)
            state = looked
        listener.offer(state)

    async def _recheck(self, listeners: list[Listener]) -> None:
        bearers = list({each.bearer: None for each in listeners})
        sights = dict(zip(bearers, await self._live.standing(bearers), strict=True))
        for listener in listeners:
            sight = sights[listener.bearer]
            if sight is None:
                listener.stop(End(POLICY, "the login or key has ended"))
            elif sight != listener.sight:
                self._audience.moved(listener, sight)
                self._drop_unseen(listener)

    def _drop_unseen(self, listener: Listener) -> None:
        """A task is looked at again: of a project that is gone, who asked for it still sees it."""
        for topic in tuple(listener.topics):
            state = self._newest.get(topic)
            known = state is not None or number(topic, "run", "task") is None
            if not known or _visible(listener, topic, state):
                continue
            if state is not None and number(topic, "task"):
                self.follow(listener, Wish((topic,), {topic: state.version}))
            else:
                self.unfollow(listener, (topic,))
                listener.refuse(topic, "not_found")


def _visible(listener: Listener, topic: str, state: State | None) -> bool:
    """Whether it may follow a topic, which is this state where it is one run or task."""
    if topic == EVERYTHING:
        return True
    project = number(topic, "project")
    if project is not None:
        return listener.sight.sees(project)
    return state is not None and listener.sees(state)


def _unseen(state: State, seen: list[int | None]) -> bool:
    known = [each for each in seen if each is not None]
    return len(known) < len(seen) or state.version >= min(known)
