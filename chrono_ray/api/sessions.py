"""Who brings a token: asked of the record, and remembered for a few seconds.

What is taken away is told to every process at once through Redis; without
Redis nobody remembers for longer than `REMEMBERED`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chrono_ray.cache.link import AWAY
from chrono_ray.model.accounts import Actor
from chrono_ray.storage.users import Claim, ClaimOutcome, Users

log = logging.getLogger(__name__)

REMEMBERED: Final = 5.0
TOKENS_MOST: Final = 10_000
CHANNEL: Final = b"chrono:users:changed"
PUBLISH_SECONDS: Final = 0.25
LISTEN_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """`actor` is None where a token is nobody's."""

    actor: Actor | None
    until: float


class Sessions:
    """What this process remembers of tokens, by their hash."""

    def __init__(self, users: Users, *, remembered: float = REMEMBERED) -> None:
        self._users = users
        self._remembered = remembered
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._changes = 0

    def known(self, token: bytes) -> Actor | None:
        """Whom we know without asking: the same object for as long as their rights are the same."""
        entry = self._entry(token)
        return entry.actor if entry else None

    async def actor(self, token: bytes) -> Actor | None:
        """Who brings this token; None for nobody. At most one query."""
        entry = self._entry(token)
        if entry:
            return entry.actor
        actor, _ = await self.ask(token, None)
        return actor

    async def ask(
        self, token: bytes, claim: Claim | None
    ) -> tuple[Actor | None, ClaimOutcome | None]:
        """The same, asked of the record in any case, with a claim along the way."""
        changes, began = self._changes, time.monotonic()
        found = await self._users.authenticate(token, claim)
        actor = self._same(token, found[0].actor if found else None)
        if changes == self._changes:  # else it may be the answer of before
            seconds = min(self._remembered, found[0].seconds if found else self._remembered)
            self._keep(token, _Entry(actor, began + seconds))
        return (actor, found[1]) if found else (None, None)

    def forget(self, user_id: int) -> None:
        """What is remembered of a user's tokens may not be so any more."""
        self._changes += 1
        for token in [
            token for token, entry in self._entries.items()
            if entry.actor and entry.actor.user_id == user_id
        ]:  # fmt: skip
            del self._entries[token]

    def forget_all(self) -> None:
        self._changes += 1
        self._entries.clear()

    def _entry(self, token: bytes) -> _Entry | None:
        entry = self._entries.get(token)
        return entry if entry and time.monotonic() < entry.until else None

    def _same(self, token: bytes, actor: Actor | None) -> Actor | None:
        """The one that we had, where nothing about them is another now."""
        entry = self._entries.get(token)
        return entry.actor if entry and entry.actor == actor else actor

    def _keep(self, token: bytes, entry: _Entry) -> None:
        self._entries.pop(token, None)
        self._entries[token] = entry
        while len(self._entries) > TOKENS_MOST:
            self._entries.popitem(last=False)


class Changes:
    """Tells every process of a user whose rights changed. Never raises for what Redis does."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=LISTEN_SECONDS,
            socket_connect_timeout=PUBLISH_SECONDS,
        )  # fmt: skip

    async def tell(self, user_id: int) -> None:
        """Without Redis they learn of it when they ask again."""
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._redis.publish(CHANNEL, b"%d" % user_id)
        except AWAY as error:
            log.warning("users.change_untold", extra={"why": type(error).__name__})

    async def listen(self, sessions: Sessions) -> None:
        """Until cancelled. Whatever was missed while Redis was away is forgotten too."""
        while True:
            with contextlib.suppress(*AWAY):
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    await _hear(channel, sessions)
            await asyncio.sleep(AGAIN_SECONDS)

    async def aclose(self) -> None:
        await self._redis.aclose()


async def _hear(channel: PubSub, sessions: Sessions) -> None:
    while True:
        message = await channel.get_message(timeout=LISTEN_SECONDS / 2)
        match message:
            case {"type": "subscribe"}:
                sessions.forget_all()
            case {"type": "message", "data": bytes() as data} if data.isdigit():
                sessions.forget(int(data[:18]))
            case _:
                pass
