"""Who listens to what in this process, and the newest state of everything that is told.

For each listener there is one place a run or task, and the newest state takes
it: nobody's slowness costs more than that, and the last state is never lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import orjson

from chrono_ray.api.live.events import State, states
from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.live import FROM_NOW, Bearer, Live, Sight

log = logging.getLogger(__name__)

EVERYTHING: Final = "me"
KEPT: Final = 10_000
LOOK_GAP: Final = 0.05
LOOK_SECONDS: Final = 20.0
AGAIN_SECONDS: Final = 1.0
RECHECKED: Final = 500
STOP_SECONDS: Final = 3.0
NORMAL: Final = 1000
RESTART: Final = 1012
POLICY: Final = 1008


@dataclass(frozen=True, slots=True)
class End:
    """Why a connection ends, as a WebSocket's close code and reason."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What is newly wanted. `seen` is the last version that was seen of a topic.

    `floor`: every state of before that version was seen, whatever it was of.
    """

    topics: tuple[str, ...]
    seen: Mapping[str, int] = field(default_factory=dict)
    floor: int | None = None

    @property
    def wide(self) -> tuple[str, ...]:
        """The topics that stand for many runs and tasks."""
        return tuple(each for each in self.topics if number(each, "run", "task") is None)

    @property
    def since(self) -> int | None:
        """From which version on changes are to be looked for; None where all are known by id."""
        known = [self.seen.get(each, self.floor or FROM_NOW) for each in self.wide]
        return min(known, default=None)


class Listener:
    """One connection: what it may see, what it wants, what it has not been told yet."""

    def __init__(self, bearer: Bearer, sight: Sight) -> None:
        self.bearer = bearer
        self.sight = sight
        self.topics: set[str] = set()
        self.end: End | None = None
        self._due: dict[str, State] = {}
        self._wake = asyncio.Event()

    def wants(self, state: State) -> bool:
        """Whether it asked for this, and may see it."""
        wide = f"project:{state.project_id}"
        asked = not self.topics.isdisjoint((state.key, wide, EVERYTHING))
        return asked and self._sees(state)

    def offer(self, state: State) -> None:
        """To be told, unless something newer of the same is."""
        before = self._due.get(state.key)
        if before is None or before.version <= state.version:
            self._due[state.key] = state
            self._wake.set()

    def refuse(self, topic: str, code: str) -> None:
        """Say that a topic is not to be had."""
        body = {"type": "refused", "subscription": topic, "code": code}
        self._due[f"refused {topic}"] = State(
            topic, 0, None, 0, "", None, False, False, orjson.dumps(body).decode()
        )
        self._wake.set()

    def stop(self, end: End) -> None:
        """Have the connection end."""
        self.end = self.end or end
        self._wake.set()

    async def due(self) -> None:
        """Until there is something to tell, or it is to end."""
        await self._wake.wait()

    def take(self, most: int) -> list[State]:
        """What is to be told now, oldest first: whoever saw one saw all before it."""
        found = sorted(self._due.items(), key=lambda each: each[1].version)[:most]
        for key, _ in found:
            del self._due[key]
        if not self._due and not self.end:
            self._wake.clear()
        # what it may see may have changed while this waited
        return [each for key, each in found if key != each.key or self._sees(each)]

    def _sees(self, state: State) -> bool:
        return self.sight.sees(state.project_id, state.asked_by)


class Hub:
    """All listeners of this process."""

    def __init__(self, live: Live, *, recheck_every: float) -> None:
        self._live = live
        self._recheck_every = recheck_every
        self._listeners: set[Listener] = set()
        self._by_topic: defaultdict[str, set[Listener]] = defaultdict(set)
        self._newest: OrderedDict[str, State] = OrderedDict()
        self._wishes: list[tuple[Listener, Wish]] = []
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

    def newest(self, key: str) -> State | None:
        """The newest state that this process knows."""
        return self._newest.get(key)

    def join(self, listener: Listener) -> None:
        self._listeners.add(listener)
        self._occupied.set()
        self._empty.clear()

    def leave(self, listener: Listener) -> None:
        self.unfollow(listener, tuple(listener.topics))
        self._listeners.discard(listener)
        if not self._listeners:
            self._occupied.clear()
            self._empty.set()

    def follow(self, listener: Listener, wish: Wish) -> None:
        """Tell what these topics are now, where that is newer than what was seen; then changes."""
        listener.topics.update(wish.topics)
        self._wishes.append((listener, wish))
        self._wished.set()

    def attach(self, listener: Listener, topics: Iterable[str]) -> None:
        """Offer it what changes from here on."""
        for topic in topics:
            if topic in listener.topics:
                self._by_topic[topic].add(listener)

    def unfollow(self, listener: Listener, topics: Collection[str]) -> None:
        for topic in topics:
            listener.topics.discard(topic)
            listeners = self._by_topic.get(topic, set())
            listeners.discard(listener)
            if not listeners:
                self._by_topic.pop(topic, None)

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
            wishes, self._wishes = self._wishes, []
            self._wished.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._answer(wishes)
            except (Unavailable, TimeoutError) as error:
                log.warning("live.look_failed", extra={"why": str(error)})
                self._wishes = wishes + self._wishes
                self._wished.set()
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

    def _keep(self, state: State) -> None:
        self._newest[state.key] = state
        self._newest.move_to_end(state.key)
        while len(self._newest) > KEPT:
            self._newest.popitem(last=False)

    def _tell(self, state: State) -> None:
        for topic in (state.key, f"project:{state.project_id}", EVERYTHING):
            for listener in self._by_topic.get(topic, ()):
                if listener.sight.sees(state.project_id, state.asked_by):
                    listener.offer(state)

    async def _answer(self, wishes: list[tuple[Listener, Wish]]) -> None:
        topics = {topic for _, wish in wishes for topic in wish.topics}
        sinces = [since for _, wish in wishes if (since := wish.since) is not None]
        pulse = await self._live.pulse(
            min(sinces, default=None),
            runs=[n for each in topics if (n := number(each, "run"))],
            tasks=[n for each in topics if (n := number(each, "task"))],
        )
        found = {state.key: state for state in states(pulse, None)}
        self.apply(found.values())
        for listener, wish in wishes:
            if listener in self._listeners:
                self.attach(listener, wish.topics)
                self._grant(listener, wish, found)

    def _grant(self, listener: Listener, wish: Wish, found: Mapping[str, State]) -> None:
        wide = [wish.seen.get(each, wish.floor) for each in wish.wide]
        for key in found if wide else [each for each in wish.topics if each in found]:
            state = self._newest.get(key, found[key])
            if not listener.wants(state):
                continue
            if key in wish.seen and key in wish.topics:
                self._resume(listener, state, found[key], wish.seen[key])
            elif _unseen(state, wide or [wish.floor]):
                listener.offer(state)
        for topic in wish.topics:
            if not self._visible(listener, topic, found):
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

    def _visible(self, listener: Listener, topic: str, found: Mapping[str, State]) -> bool:
        if topic == EVERYTHING:
            return True
        project = number(topic, "project")
        if project is not None:
            return listener.sight.sees(project)
        state = found.get(topic)
        return state is not None and listener.sight.sees(state.project_id, state.asked_by)

    async def _recheck(self, listeners: list[Listener]) -> None:
        bearers = list({each.bearer: None for each in listeners})
        sights = dict(zip(bearers, await self._live.standing(bearers), strict=True))
        for listener in listeners:
            sight = sights[listener.bearer]
            if sight is None:
                listener.stop(End(POLICY, "the login or key has ended"))
            elif sight != listener.sight:
                listener.sight = sight
                self._drop_unseen(listener)

    def _drop_unseen(self, listener: Listener) -> None:
        for topic in tuple(listener.topics):
            if not self._visible(listener, topic, self._newest):
                self.unfollow(listener, (topic,))
                listener.refuse(topic, "not_found")


def number(topic: str, *kinds: str) -> int | None:
    """The id in a topic of one of these kinds."""
    kind, _, text = topic.partition(":")
    return int(text) if kind in kinds else None


def _unseen(state: State, seen: list[int | None]) -> bool:
    known = [each for each in seen if each is not None]
    return len(known) < len(seen) or state.version >= min(known)
