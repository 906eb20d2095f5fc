"""Finished JSON answers in Redis (7 or later) or Valkey, for a while.

Nothing depends on it: a dead, slow or poisoned server costs a few milliseconds
and an entry is a miss.

An answer stands under its key with a stamp of its tags' tokens. Tokens are
random and are read before the answer is computed; a change deletes them. So
what was computed before a change is never taken for an answer after it,
whenever it is stored. One more token, the era's, is in every stamp: it begins
anew when the server was started again (which may have lost what was deleted),
when it was away for longer than a hiccup, and when everything is flushed.
Beside the answer stands, for as long as it is fresh, its digest: a process that
holds that very answer asks for this and the tokens alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from chrono_ray.cache.entry import (
    VALUE_BYTES_MAX,
    Corrupt,
    Found,
    How,
    digest_of,
    name_of,
    packed,
    stamp_of,
    unpacked,
)
from chrono_ray.cache.held import Held, HeldAnswers
from chrono_ray.cache.link import Link
from chrono_ray.cache.owed import EVERYTHING, Owed
from chrono_ray.cache.tags import project_tag, run_tag
from chrono_ray.cache.upkeep import Contents, contents, swept
from chrono_ray.cache.wire import Values, mget

DEADLINE: Final = 0.1
"""Seconds that one call may take before the cache is passed by. It takes 0.2 ms; a machine whose
cores are all busy, some 80."""
LEASE: Final = 1.5
"""Seconds after which a dead process holds up nobody who waits for what it computed."""
WAIT_MOST: Final = 5.0
"""Seconds that anybody waits for another's computation."""
STALE_MOST: Final = 2.0
"""Seconds that an answer is given beyond its time, while somebody computes it anew."""
PROGRESS: Final = 2.0
"""Seconds within which progress is seen, and the least between two ends of answers for it."""
AGAIN: Final = 0.25
"""Seconds between two tries to tell a server that is away of what has changed."""
UPKEEP_SECONDS: Final = 5.0

_TOKEN_MS: Final = 2 * 3600 * 1000
_ERA_MS: Final = 30 * 24 * 3600 * 1000
_POLL: Final = (0.005, 0.05)

Compute = Callable[[], Awaitable[bytes]]


class Ttl(float, Enum):
    """How long an answer may be kept, in seconds."""

    GLANCE = 1.0
    """Progress while somebody watches."""
    SHORT = 5.0
    MEDIUM = 60.0
    STATISTICS = 600.0
    """A project's, which a change ends before."""
    LONG = 3600.0
    """What never changes, as long as it exists."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """What became of the answers asked for so far.

    `corrupt` counts misses whose value was there but no answer of this
    version; `stale` answers given beyond their time; `bypassed` those that
    were computed because the server was away or owes us an invalidation.
    """

    hits: int = 0
    misses: int = 0
    corrupt: int = 0
    bypassed: int = 0
    stale: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer is kept; `tokens` name what ends it, the era first.

    `question` asks for all of it, `proof` whether it is still what it was.
    """

    ttl: Ttl
    tags: tuple[str, ...]
    name: str
    entry: str
    fresh: str
    tokens: tuple[str, ...]
    question: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class _Seen:
    """What stands there now. No `stamp`: a token is missing, so nothing can be valid."""

    found: Found | None
    fresh: bool
    stamp: bytes | None
    corrupt: bool = False

    @property
    def hit(self) -> Found | None:
        """What is there and not old."""
        return self.found if self.fresh else None


class JsonCache:
    """JSON answers by key.

    `version` names the shape of the answers: change it when that changes, and
    everything older is a miss. Constructing it opens no connection.
    """

    def __init__(
        self, url: str, *, version: str, prefix: str = "chrono:cache", deadline: float = DEADLINE
    ) -> None:
        self._link = Link(url, deadline=deadline, met=self._meet)
        self._deadline = deadline
        self._version = version
        self._prefix = prefix
        self._base = f"{prefix}:{version}"
        self._era = f"{self._base}:era"
        self._run_id = b""
        self._owed = Owed()
        self._held = HeldAnswers()
        self._outages = 0
        self._making: dict[tuple[str, bytes], asyncio.Future[Found | None]] = {}
        self._counts: Counter[tuple[Ttl, str]] = Counter()

    @property
    def counts(self) -> CacheCounts:
        """Of every class together."""
        return self._summed(*Ttl)

    def counts_of(self, ttl: Ttl) -> CacheCounts:
        return self._summed(ttl)

    async def get_or_compute(
        self, key: str, compute: Compute, *, ttl: Ttl, tags: Sequence[str] = ()
    ) -> bytes:
        """The kept answer, or a computed one, which is then kept. Raises only what `compute` does.

        The key must hold everything the answer depends on, the asking user's
        rights above all; `tags` name what it tells of, for `invalidate`.
        """
        return (await self.answer(key, compute, ttl=ttl, tags=tags)).body

    async def answer(
        self, key: str, compute: Compute, *, ttl: Ttl, tags: Sequence[str] = (), anew: bool = False
    ) -> Found:
        """The same, with where it came from. `anew` computes it in any case.

        Of many who miss at once, in all processes, one computes and the others
        wait for it, or take what was there until a moment ago. Whoever dies
        computing holds up the others for `LEASE` seconds.
        """
        return await self.answer_at(self.place(key, ttl, tags), compute, anew=anew)

    async def answer_at(self, place: Place, compute: Compute, *, anew: bool = False) -> Found:
        """The same for a place that is known already."""
        found = await self._answer(place, compute, anew=anew)
        self._counts[place.ttl, found.how] += 1
        return found

    async def find(self, place: Place) -> Found | None:
        """A kept answer that is neither old nor in doubt; None otherwise, which counts as nothing.

        One question to the server.
        """
        if await self._unbelievable(place.tags):
            return None
        seen = await self._look(place)
        found = seen.hit if seen else None
        if found:
            self._counts[place.ttl, How.HIT] += 1
        return found

    def place(self, key: str, ttl: Ttl, tags: Sequence[str]) -> Place:
        """Where the answer of this key stands, as long as this cache lives."""
        name = name_of(key)
        entry, fresh = f"{self._base}:e:{ttl.name.lower()}:{name}", f"{self._base}:f:{name}"
        tokens = (self._era, *map(self._token_name, tags))
        return Place(
            ttl, tuple(tags), name, entry, fresh, tokens,
            question=mget((entry, fresh, *tokens)), proof=mget((fresh, *tokens)),
        )  # fmt: skip

    async def invalidate(self, *tags: str) -> None:
        """End every answer that carries one of these tags. Never raises for what the cache does.

        When it returns and the server answered, no process gives an answer of
        before any more. While the server cannot be told, this process computes
        such answers itself and goes on trying (`keep_promises`). Another
        process that still reaches the server can give the old answer until
        this one reaches it too: for its lifetime (`Ttl`) at most, should this
        process be killed before that. An outage that any process notices ends
        every answer before that process believes one again.
        """
        if tags:
            await self._tell(self._owed.add(*tags), knocking=True)

    async def progressed(self, run_id: int, project_id: int) -> None:
        """A run went on: its answers and its project's end within `PROGRESS` seconds.

        And not more often than that, however often this is called in however
        many processes. For a run's end there is `invalidate`.
        """

        async def soon(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as wire:
                for tag in (run_tag(run_id), project_tag(project_id)):
                    wire.pexpire(self._token_name(tag), int(PROGRESS * 1000), lt=True)
                await wire.execute(raise_on_error=False)

        await self._link.ask(soon)

    async def keep_promises(self) -> None:
        """Tell the server of what it could not be told, until cancelled."""
        while True:
            await self._owed.late.wait()
            await self._tell(self._owed.all(), knocking=True)
            if self._owed:
                await asyncio.sleep(AGAIN)

    @property
    def owes(self) -> bool:
        """Whether there are changes that the server could not be told of yet."""
        return bool(self._owed)

    @property
    def in_outage(self) -> bool:
        """Whether the server is away for longer than a hiccup."""
        return self._link.in_outage

    async def flush(self) -> int:
        """End every answer, then free what they took: how many keys. Nobody else's are touched.

        `Unavailable` when the server does not answer; it is told later then.
        """
        await self._tell(self._owed.add(EVERYTHING), knocking=True)
        return await self._link.ask_long(
            lambda redis: swept(redis, f"{self._prefix}:*"), seconds=UPKEEP_SECONDS
        )

    async def contents(self) -> Contents:
        """What the server holds. `Unavailable` when it does not answer."""
        return await self._link.ask_long(
            lambda redis: contents(redis, self._base), seconds=UPKEEP_SECONDS
        )

    async def ping(self) -> None:
        """Ask the server, even while resting: `Unavailable` when it does not answer in time."""
        await self._link.ask_long(lambda redis: redis.ping(), seconds=self._deadline)

    async def aclose(self) -> None:
        """What is owed is told once more, if it can be."""
        if self._owed:
            await self._tell(self._owed.all(), knocking=True)
        if self._owed:
            log.warning("cache.untold", extra={"tags": len(self._owed.all())})
        await self._link.aclose()

    async def _answer(self, place: Place, compute: Compute, *, anew: bool) -> Found:
        if await self._unbelievable(place.tags):
            return _computed(await compute(), How.BYPASS)
        seen = await self._look(place)
        if seen is None:
            return _computed(await compute(), How.BYPASS)
        self._counts[place.ttl, "corrupt"] += seen.corrupt
        if seen.hit and not anew:
            return seen.hit
        stamp = seen.stamp or await self._stamp(place)
        if stamp is None:
            return _computed(await compute(), How.BYPASS)
        if anew:
            return await self._compute(place, stamp, compute, lock="")
        return await self._together(place, stamp, seen.found, compute)

    async def _together(
        self, place: Place, stamp: bytes, old: Found | None, compute: Compute
    ) -> Found:
        """One of this process asks the server whose turn it is; the others wait for that one."""
        making = self._making.get((place.name, stamp))
        if making:
            if old:
                return _again(old, How.STALE)
            found = await asyncio.shield(making)
            return _again(found, How.HIT) if found else _computed(await compute(), How.MISS)
        making = self._making[place.name, stamp] = asyncio.get_running_loop().create_future()
        found = None
        try:
            found = await self._in_turn(place, stamp, old, compute)
            return found
        finally:
            del self._making[place.name, stamp]
            making.set_result(found)

    async def _in_turn(
        self, place: Place, stamp: bytes, old: Found | None, compute: Compute
    ) -> Found:
        lock = f"{self._base}:l:{place.name}:{stamp.decode()}"
        ours = await self._link.ask(lambda redis: _locked(redis, lock))
        if ours and (meanwhile := await self._made_meanwhile(place, lock)):
            return meanwhile
        if ours is not False:
            return await self._compute(place, stamp, compute, lock=lock if ours else "")
        if old:
            return _again(old, How.STALE)
        found = await self._awaited(place, lock)
        return found or await self._compute(place, stamp, compute, lock="")

    async def _made_meanwhile(self, place: Place, lock: str) -> Found | None:
        """What another finished between our look and our turn, which is given back then."""
        seen = await self._look(place)
        found = seen.hit if seen else None
        if found:
            await self._link.ask(lambda redis: redis.delete(lock))
        return found

    async def _compute(self, place: Place, stamp: bytes, compute: Compute, *, lock: str) -> Found:
        """And keep it. A lock is held meanwhile, and given back whatever happens."""
        kept = False
        try:
            async with self._renewed(lock):
                found = _computed(await compute(), How.MISS)
            kept = await self._keep(place, stamp, found, lock)
        finally:
            if lock and not kept:
                await self._link.ask(lambda redis: redis.delete(lock))
        return found

    async def _awaited(self, place: Place, lock: str) -> Found | None:
        """What another computes; None when it does not, or not for the tokens of now."""
        until, (pause, longest) = time.monotonic() + WAIT_MOST, _POLL
        question = mget((place.entry, place.fresh, *place.tokens, lock))
        while time.monotonic() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
            values = await self._link.read(question)
            if values is None:
                return None
            seen = self._seen(values[:-1])
            if seen.found or values[-1] is None:
                return seen.found
        return None

    async def _look(self, place: Place) -> _Seen | None:
        """One round trip; another one where what this process holds is so no more."""
        held = self._held.get(place.name)
        if held:
            told = await self._link.read(place.proof)
            if told is None:
                return None
            seen = _proven(held, told)
            if seen:
                return seen
            self._held.drop(place.name)
        values = await self._link.read(place.question)
        if values is None:
            return None
        seen = self._seen(values)
        if seen.hit and seen.stamp:
            self._held.hold(place.name, Held(seen.stamp, seen.hit))
        return seen

    def _seen(self, values: Values) -> _Seen:
        value, fresh, *tokens = values
        known = tuple(token for token in tokens if token is not None)
        if len(known) < len(tokens):
            return _Seen(None, False, None)
        stamp = stamp_of(known)
        try:
            found = None if value is None else unpacked(self._version, stamp, value)
        except Corrupt:
            return _Seen(None, fresh is not None, stamp, corrupt=True)
        return _Seen(found, fresh is not None, stamp)

    async def _stamp(self, place: Place) -> bytes | None:
        """Of the tokens as they are; those that are missing begin now. None when they cannot."""
        new, era = secrets.token_hex(8).encode(), self._new_era()

        async def begin(redis: Redis) -> list[bytes | ResponseError | None]:
            async with redis.pipeline(transaction=False) as wire:
                wire.set(place.tokens[0], era, px=_ERA_MS, nx=True, get=True)
                for name in place.tokens[1:]:
                    wire.set(name, new, px=_TOKEN_MS, nx=True, get=True)
                found: list[bytes | ResponseError | None] = await wire.execute(raise_on_error=False)
                return found

        told = await self._link.ask(begin)
        if told is None:
            return None
        for name, error in zip(place.tokens, told, strict=True):
            if isinstance(error, ResponseError):
                await self._mend(name, error)
                return None
        begun = [era, *(new for _ in place.tokens[1:])]
        found = [each for each in told if not isinstance(each, ResponseError)]
        return stamp_of(tuple(old or own for old, own in zip(found, begun, strict=True)))

    async def _keep(self, place: Place, stamp: bytes, found: Found, lock: str) -> bool:
        """Keep an answer and give the lock back; False when that could not be said."""
        fits = len(found.body) <= VALUE_BYTES_MAX
        lasts = int(place.ttl * 1000 * random.uniform(0.9, 1.0))  # noqa: S311 (not all end at once)
        beyond = int(min(place.ttl / 2, STALE_MOST) * 1000)

        async def write(redis: Redis) -> list[object]:
            async with redis.pipeline(transaction=False) as wire:
                if fits:
                    value = packed(self._version, stamp, found)
                    wire.set(place.entry, value, px=lasts + beyond)
                    wire.set(place.fresh, found.digest, px=lasts)
                if lock:
                    wire.delete(lock)
                told: list[object] = await wire.execute(raise_on_error=False)
                return told

        if not fits and not lock:
            return True
        told = await self._link.ask(write)
        for error in told or ():
            if isinstance(error, ResponseError):
                await self._link.refused(error)
        return told is not None

    async def _mend(self, name: str, error: ResponseError) -> None:
        """A token of another type is somebody's mischief, and would never be one again."""
        log.warning("cache.refused", extra={"why": str(error)[:100]})
        await self._link.refused(error)
        await self._link.ask(lambda redis: redis.unlink(name))

    @asynccontextmanager
    async def _renewed(self, lock: str) -> AsyncIterator[None]:
        if not lock:
            yield
            return
        renewing = asyncio.create_task(self._renew(lock))
        try:
            yield
        finally:
            while not renewing.done():  # redis-py can swallow one cancel
                renewing.cancel()
                await asyncio.wait({renewing}, timeout=self._deadline)

    async def _renew(self, lock: str) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            await self._link.ask(lambda redis: redis.pexpire(lock, int(LEASE * 1000)))

    async def _unbelievable(self, tags: Sequence[str]) -> bool:
        """Whether an answer may be of before a change that the server was not told of."""
        if self._link.outages != self._outages:
            self._outages = self._link.outages
            self._owed.add(EVERYTHING)
        if not self._owed.holds(tags):
            return False
        await self._tell(self._owed.all(), knocking=False)
        return self._owed.holds(tags)

    async def _tell(self, owed: Mapping[str, int], *, knocking: bool) -> None:
        """Delete the tokens of what has changed."""
        if not owed:
            return
        names = [self._token_name(tag) for tag in owed]
        told = None
        try:
            told = await self._link.ask(lambda redis: redis.delete(*names), knocking=knocking)
        finally:  # one that is cancelled is told later too
            if told is None:
                self._owed.failed()
            else:
                self._owed.settle(owed)

    async def _meet(self, connection: AbstractConnection, run_id: bytes) -> None:
        """Answers of before a restart are not believed."""
        self._run_id = run_id
        known = None
        with contextlib.suppress(ResponseError):  # of another type: it is overwritten
            await connection.send_command("GET", self._era)
            known = await connection.read_response()
        if not isinstance(known, bytes) or not known.startswith(run_id):
            await connection.send_command("SET", self._era, self._new_era(), "PX", _ERA_MS)
            await connection.read_response()

    def _new_era(self) -> bytes:
        return self._run_id + secrets.token_hex(8).encode()

    def _token_name(self, tag: str) -> str:
        return self._era if tag == EVERYTHING else f"{self._base}:t:{name_of(tag)}"

    def _summed(self, *classes: Ttl) -> CacheCounts:
        def many(what: str) -> int:
            return sum(self._counts[ttl, what] for ttl in classes)

        return CacheCounts(
            hits=many(How.HIT), misses=many(How.MISS), corrupt=many("corrupt"),
            bypassed=many(How.BYPASS), stale=many(How.STALE),
        )  # fmt: skip


def _proven(held: Held, told: Values) -> _Seen | None:
    """What is held, where the server has it too and nothing has ended it. Nothing: not so.

    Where a token is missing there is no more to be looked for.
    """
    digest, *tokens = told
    known = tuple(token for token in tokens if token is not None)
    if len(known) < len(tokens):
        return _Seen(None, False, None)
    if stamp_of(known) != held.stamp or digest != held.found.digest.encode():
        return None
    return _Seen(held.found, True, held.stamp)


async def _locked(redis: Redis, lock: str) -> bool:
    return bool(await redis.set(lock, b"1", px=int(LEASE * 1000), nx=True))


def _computed(body: bytes, how: How) -> Found:
    return Found(body, digest_of(body), how)


def _again(found: Found, how: How) -> Found:
    return Found(found.body, found.digest, how)
