"""One connection's side: what it may see, what it wants, what it has not been told yet."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import orjson

from chrono_ray.api.live.events import State
from chrono_ray.storage.live import FROM_NOW, Bearer, Sight

EVERYTHING: Final = "me"
"""The topic that is whatever the listener may see."""
NORMAL: Final = 1000
POLICY: Final = 1008
RESTART: Final = 1012
REFUSED: Final = 400
"""Refusals that may wait to be read: twice the topics that a connection may have."""


class Kind(StrEnum):
    """How it is told: over a WebSocket, or by server-sent events."""

    WEBSOCKET = "websocket"
    EVENTS = "events"


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

    def with_later(self, later: Wish, wanted: Collection[str]) -> Wish:
        """Both in one, of what is still `wanted`; where they differ, more is told, never less."""
        topics = tuple(dict.fromkeys((*(t for t in self.topics if t in wanted), *later.topics)))
        before = {t: n for t, n in self.seen.items() if t in topics and t not in later.topics}
        floors = [each for each in (self.floor, later.floor) if each is not None]
        return Wish(topics, {**before, **later.seen}, min(floors) if len(floors) == 2 else None)


class Listener:
    """For each run or task one place: the newest state takes it, and the last is never lost."""

    def __init__(self, bearer: Bearer, sight: Sight, *, kind: Kind = Kind.EVENTS) -> None:
        self.kind = kind
        self.bearer = bearer
        self.sight = sight
        self.topics: set[str] = set()
        self.end: End | None = None
        self._due: dict[str, State] = {}
        self._refused: dict[str, State] = {}
        self._wake = asyncio.Event()

    def wants(self, state: State) -> bool:
        """Whether it asked for this, and may see it."""
        wide = f"project:{state.project_id}"
        asked = not self.topics.isdisjoint((state.key, wide, EVERYTHING))
        return asked and self.sees(state)

    def offer(self, state: State) -> None:
        """To be told, unless something newer of the same is."""
        before = self._due.get(state.key)
        if before is None or before.version <= state.version:
            self._due[state.key] = state
            self._wake.set()

    def refuse(self, topic: str, code: str) -> None:
        """Say that a topic is not to be had. Where too many of that are unread, it is the end."""
        if len(self._refused) >= REFUSED and topic not in self._refused:
            self.stop(End(POLICY, f"more than {REFUSED} refusals unread"))
        if self.end:
            return
        body = {"type": "refused", "subscription": topic, "code": code}
        self._refused[topic] = State(
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
        refused = [self._refused.pop(each) for each in list(self._refused)[:most]]
        found = sorted(self._due.values(), key=lambda each: each.version)[: most - len(refused)]
        for each in found:
            del self._due[each.key]
        if not self._due and not self._refused and not self.end:
            self._wake.clear()
        # what it may see may have changed while this waited
        return refused + [each for each in found if self.sees(each)]

    def sees(self, state: State) -> bool:
        """Whether it is theirs to see."""
        return self.sight.sees(state.project_id, state.asked_by)


def number(topic: str, *kinds: str) -> int | None:
    """The id in a topic of one of these kinds."""
    kind, _, text = topic.partition(":")
    return int(text) if kind in kinds else None
