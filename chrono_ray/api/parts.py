"""What the routes work with: opened when the application starts, closed when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from fastapi import Depends, Request

from chrono_ray import wiring
from chrono_ray.api import spent
from chrono_ray.api.cursors import Cursors
from chrono_ray.api.known import KnownPages
from chrono_ray.api.passwords import Passwords
from chrono_ray.api.sessions import Changes, Sessions
from chrono_ray.api.streams import Exports, Gate
from chrono_ray.archives.mementos import Mementos
from chrono_ray.cache.entry import How
from chrono_ray.cache.owed import EVERYTHING
from chrono_ray.cache.redis import JsonCache, Ttl
from chrono_ray.cache.tags import project_tag
from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import Forbidden, NotFound, Unavailable
from chrono_ray.observability.catalogue import CACHE_ANSWERS, CACHE_AWAY, CACHE_CORRUPT
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.pipeline.export_kept import KeptExports
from chrono_ray.search.base import SearchIndex
from chrono_ray.settings import Accounts, Settings
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.instance import secret
from chrono_ray.storage.users import Users

POOL_SIZE: Final = 4
CANCELS: Final = 20
CANCEL_SECONDS: Final = 0.25
CACHE_VERSION: Final = "2"
"""Change it with the shape of any answer that is cached."""


@dataclass(frozen=True, slots=True)
class ActorState:
    """An actor's last answer; `done` since it started, `rss` in bytes."""

    done: int
    in_flight: int
    rss: int


Actors = Callable[[], Awaitable[Mapping[str, ActorState | None]]]
"""Every worker actor's last answer; None for one that gives none. Raises `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in: users, their passwords, and the tokens that this process remembers.

    `changes` is None without Redis.
    """

    users: Users
    passwords: Passwords
    sessions: Sessions
    changes: Changes | None
    chosen: Accounts

    async def changed(self, user_id: int) -> None:
        """A user's rights are others now: nobody is to remember the old ones."""
        self.sessions.forget(user_id)
        if self.changes:
            await self.changes.tell(user_id)


@dataclass(frozen=True, slots=True)
class Changing:
    """What a change under way touches; `users` are those whose rights it changes."""

    tags: set[str]
    users: set[int]


def all_of(actor: Actor) -> tuple[str, ...]:
    """The tags of every project that somebody sees."""
    if actor.is_admin:
        return (EVERYTHING,)
    return tuple(project_tag(each.project_id) for each in actor.grants)


class OwnCursors:
    """The instance's cursors: its secret is read once."""

    def __init__(self, record: Database) -> None:
        self._record = record
        self._cursors: Cursors | None = None

    async def get(self) -> Cursors:
        if self._cursors is None:
            self._cursors = Cursors(await secret(self._record, "cursors"))
        return self._cursors


@dataclass(frozen=True, slots=True)
class Parts:
    """`cache` is None without Redis, `actors` where nobody knows a cluster."""

    record: Database
    cursors: OwnCursors
    index: SearchIndex
    blobs: Blobs
    cache: JsonCache | None
    actors: Actors | None
    doors: Doors
    exports: Exports
    pages: KnownPages
    mementos: Mementos
    comparing: asyncio.Semaphore
    """Texts are compared one pair at a time: it takes up to half a second of the processor."""
    check_archive: Callable[[str], None]
    """`InvalidInput` for an archive that is unknown or not set up."""

    async def invalidate(self, *tags: str) -> None:
        """What these tags name has changed and the change is committed: nobody is told the old.

        See chrono_ray/cache/tags.py. Never raises for what Redis does or is.
        """
        if self.cache:
            await self.cache.invalidate(*tags)

    @asynccontextmanager
    async def changing(self, *tags: str, whose: Actor | None = None) -> AsyncIterator[Changing]:
        """Around a change of what these tags name, and of what is added while it goes on.

        Whatever becomes of it, nobody is told the old afterwards: a change that failed or was
        cancelled may be committed all the same. `whose`: where it failed before it was known
        which project it touches, it may be any of theirs.
        """
        changing = Changing(set(tags), set())
        try:
            yield changing
        except (Forbidden, NotFound):
            raise
        except BaseException:
            if whose and len(changing.tags) == len(set(tags)):
                changing.tags.update(all_of(whose))
            await self._end(changing)
            raise
        else:
            await self._end(changing)

    async def _end(self, changing: Changing) -> None:
        """Sessions first: whoever asks again is asked about with the rights of now."""
        for user_id in changing.users:
            self.doors.sessions.forget(user_id)
        try:
            for user_id in sorted(changing.users):
                await self.doors.changed(user_id)
        finally:  # what is owed is noted before anything is waited for
            await self.invalidate(*sorted(changing.tags))


@asynccontextmanager
async def opened(
    settings: Settings, actors: Actors | None, *, meter: Meter = SILENT, part: str = "api"
) -> AsyncIterator[Parts]:
    """The parts of one process, a `part` of the whole. Nothing is connected before it is used."""
    async with AsyncExitStack() as stack:
        record = wiring.whole_record(settings, pool_size=POOL_SIZE, name="chrono api")
        stack.push_async_callback(record.aclose)
        spent.watch(record)
        wiring.watch_pool(meter, part, record)
        index = wiring.index(settings, "reader")
        stack.push_async_callback(index.aclose)
        cache = None
        if settings.redis_url is not None:
            cache = JsonCache(settings.redis_url.get_secret_value(), version=CACHE_VERSION)
            stack.push_async_callback(cache.aclose)
            await stack.enter_async_context(beside(cache.keep_promises()))
            meter.watch(partial(_tell_cache, cache))
        doors = await _doors(settings, record, stack)
        yield Parts(
            record, OwnCursors(record), index, wiring.blobs(settings), cache, actors, doors,
            Exports(KeptExports(wiring.exports_place(settings)), Gate()),
            KnownPages(), wiring.mementos(settings), asyncio.Semaphore(1),
            partial(wiring.check_archive, settings=settings),
        )  # fmt: skip


def _tell_cache(cache: JsonCache, meter: Meter) -> None:
    for ttl in Ttl:
        counts, lifetime = cache.counts_of(ttl), ttl.name.lower()
        meter.reach(CACHE_ANSWERS, lifetime, How.HIT, total=counts.hits)
        meter.reach(CACHE_ANSWERS, lifetime, How.MISS, total=counts.misses)
        meter.reach(CACHE_ANSWERS, lifetime, How.STALE, total=counts.stale)
        meter.reach(CACHE_ANSWERS, lifetime, How.BYPASS, total=counts.bypassed)
    meter.reach(CACHE_CORRUPT, total=cache.counts.corrupt)
    meter.set(CACHE_AWAY, value=int(cache.in_outage))


async def _doors(settings: Settings, record: Database, stack: AsyncExitStack) -> Doors:
    chosen, users = settings.accounts, Users(record)
    sessions, changes = Sessions(users), None
    passwords = Passwords.of(chosen)
    stack.callback(passwords.aclose)
    if settings.redis_url is not None:
        changes = Changes(settings.redis_url.get_secret_value())
        stack.push_async_callback(changes.aclose)
        await stack.enter_async_context(beside(changes.listen(sessions)))
    return Doors(users, passwords, sessions, changes, chosen)


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


OurParts = Annotated[Parts, Depends(_parts)]


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """`Unavailable` when the block takes longer: no request waits for ever."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable(
            f"{what} takes too long", why=f"over {seconds:g} s", fix="Try again", code="deadline"
        ) from error


@asynccontextmanager
async def beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Endless work for as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        for _ in range(CANCELS):  # redis-py turns one that meets a connection's end into its error
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)
            if task.done():
                break
