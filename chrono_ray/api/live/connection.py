"""One connection: what is due is written in step, whatever its client does.

A client that does not read is cut off after `slow` seconds; one that talks too
much, or too long at once, is told so and closed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from chrono_ray.api.live.events import State
from chrono_ray.api.live.hub import Hub
from chrono_ray.api.live.listener import EVERYTHING, POLICY, End, Listener, Wish
from chrono_ray.model.bounds import BIG_MAX

TOO_BIG: Final = 1009
TEXT_ONLY: Final = 1003
CLOSE_SECONDS: Final = 1.0
GRACE: Final = 0.1
"""A client that asks for topics at once is not told of everything first."""

Topic = Annotated[
    str, StringConstraints(pattern=r"^(me|(run|task):[1-9][0-9]{0,17}|project:[1-9][0-9]{0,8})$")
]
Version = Annotated[int, Field(ge=0, le=BIG_MAX)]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost; times in seconds. `events` go in one message at most."""

    connections: int = 5
    topics: int = 200
    events: int = 100
    message_bytes: int = 64 * 1024
    messages: int = 10
    gap: float = 0.1
    slow: float = 5.0
    heartbeat: float = 20.0
    recheck: float = 3.0


class Asked(BaseModel):
    """What a client says. `seen`: the last version of a topic that it was told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subscribe: Annotated[list[Topic], Field(max_length=1000)] = []
    unsubscribe: Annotated[list[Topic], Field(max_length=1000)] = []
    seen: Annotated[dict[Topic, Version], Field(max_length=1000)] = {}


class Over(Exception):
    """The connection ends; `cut` when its client cannot be told."""

    def __init__(self, end: End | None, *, cut: bool = False) -> None:
        super().__init__(end)
        self.end = end
        self.cut = cut


async def write(
    listener: Listener,
    limits: Limits,
    send: Callable[[list[State]], Awaitable[None]],
) -> None:
    """Send what is due, no faster than `gap`, and nothing as a heartbeat. Ends by `Over`."""
    while True:
        try:
            async with asyncio.timeout(limits.heartbeat):
                await listener.due()
        except TimeoutError:
            pass  # nothing is due: a heartbeat
        told = listener.take(limits.events)
        if told or not listener.end:
            try:
                async with asyncio.timeout(limits.slow):
                    await send(told)
            except TimeoutError:
                raise Over(None, cut=True) from None
        if listener.end and not told:
            raise Over(listener.end)
        await asyncio.sleep(limits.gap)


class Socket:
    """A WebSocket that was accepted."""

    def __init__(self, websocket: WebSocket, listener: Listener, hub: Hub, limits: Limits) -> None:
        self._websocket = websocket
        self._listener = listener
        self._hub = hub
        self._limits = limits
        self._said: deque[float] = deque(maxlen=limits.messages)
        self._chose = False

    async def run(self, wish: Wish) -> bool:
        """Until it ends; False when its client does not read and must be cut off."""
        over = Over(None)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(write(self._listener, self._limits, self._tell))
                await self._read(wish)
        except* Over as ended:
            over = first(ended)
        except* (WebSocketDisconnect, OSError):
            pass  # the client has left
        return await self._close(over)

    async def _read(self, wish: Wish) -> None:
        if wish.topics:
            self._choose(wish)
        else:
            await self._wait_for_choice()
        while True:
            self._hear(await self._websocket.receive())

    async def _wait_for_choice(self) -> None:
        """Everything, unless the client says at once what it wants."""
        asking = asyncio.ensure_future(self._websocket.receive())
        try:
            await asyncio.wait({asking}, timeout=GRACE)
            if not asking.done():
                self._hub.follow(self._listener, Wish((EVERYTHING,)))
            self._hear(await asking)
        finally:
            asking.cancel()
        if not self._listener.topics and not self._chose:
            self._hub.follow(self._listener, Wish((EVERYTHING,)))

    def _choose(self, wish: Wish) -> None:
        """The first choice takes the place of everything."""
        if not self._chose:
            self._chose = True
            self._hub.unfollow(self._listener, (EVERYTHING,))
        new = self._listener.topics.union(wish.topics)
        if len(new) > self._limits.topics:
            raise Over(End(POLICY, f"more than {self._limits.topics} subscriptions"))
        self._hub.follow(self._listener, wish)

    def _hear(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect":
            raise Over(None)
        text = message.get("text")
        if text is None:
            raise Over(End(TEXT_ONLY, "messages are JSON in text frames"))
        limits = self._limits
        if len(text) > limits.message_bytes or len(text.encode()) > limits.message_bytes:
            raise Over(End(TOO_BIG, f"more than {limits.message_bytes} bytes"))
        now = time.monotonic()
        if len(self._said) == limits.messages and now - self._said[0] < 1:
            raise Over(End(POLICY, f"more than {limits.messages} messages a second"))
        self._said.append(now)
        self._do(text)

    def _do(self, text: str) -> None:
        try:
            asked = Asked.model_validate_json(text)
        except ValidationError:
            self._listener.refuse("", "invalid_message")
            return
        self._hub.unfollow(self._listener, asked.unsubscribe)
        if asked.unsubscribe:
            self._chose = True
        if asked.subscribe:
            topics = tuple(dict.fromkeys(asked.subscribe))
            self._choose(Wish(topics, asked.seen))

    async def _tell(self, told: list[State]) -> None:
        await self._websocket.send_text(message_of(told))
        self._hub.told(self._listener.kind)

    async def _close(self, over: Over) -> bool:
        if over.end is None:
            return not over.cut
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._websocket.close(over.end.code, over.end.reason)
        except TimeoutError:
            return False
        except WebSocketDisconnect:
            pass  # the client was first
        return True


def message_of(told: list[State]) -> str:
    """One state as it is, several in one message; none is a heartbeat."""
    if not told:
        return '{"type":"heartbeat"}'
    if len(told) == 1:
        return told[0].body
    return f'{{"type":"events","events":[{",".join(each.body for each in told)}]}}'


def first(over: BaseExceptionGroup[Over]) -> Over:
    """Why a connection ended, of what its tasks raised."""
    found = over.exceptions[0]
    return found if isinstance(found, Over) else first(found)
