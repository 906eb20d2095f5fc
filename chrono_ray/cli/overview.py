"""Everything that `chrono monitor` and `chrono top` show, seen from this machine.

Nothing is started for a look. A part that cannot be had is named with the
reason, and the others are there all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self, TypeVar

import asyncpg
import httpx2
import orjson
import psutil
from sqlalchemy.exc import SQLAlchemyError

from chrono_ray import wiring
from chrono_ray.cache import server as cache_server
from chrono_ray.cache.server import CacheServer
from chrono_ray.cli.boundary import database_error, login_refused
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.owner import Running, attached, running
from chrono_ray.cluster.sizing import Sizing
from chrono_ray.embedded.folder import FOLDER
from chrono_ray.model.errors import ChronoError, Unavailable
from chrono_ray.observability.log import redacted
from chrono_ray.observability.processes import PartMemory, below, memory, server_in
from chrono_ray.pipeline.overview import Away, RecordView, look
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.demand import Lookout

PART_SECONDS: Final = 5.0
"""No part is waited for longer."""
API_SECONDS: Final = 4.0
PID_FILES: Final = (("postgres/postmaster.pid", "postgres"), ("valkey/valkey.pid", "valkey"))
STATES: Final = ("ok", "degraded", "down")
NOBODY: Final = Away("chrono_ray does not run here. Start it: chrono up")

NONSENSE: Final = (ValueError, LookupError, TypeError, AttributeError)
"""What reading an answer raises that is none of the kind expected."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Home:
    """The process that keeps chrono_ray on this machine; `ephemeral`: only for a `chrono run`."""

    pid: int
    api: str
    dashboard: str
    ephemeral: bool


@dataclass(frozen=True, slots=True)
class ActorView:
    """A worker's last answer to the API; `rss` in bytes."""

    state: str
    done: int
    in_flight: int
    rss: int


@dataclass(frozen=True, slots=True)
class ApiView:
    """What the API says of its parts, and how long it took to; `why` of those that are not well.

    `status` is one of `STATES`. Strangers are told no more than that: then `version` is empty,
    `parts` is, and `actors` is None.
    """

    status: str
    version: str
    milliseconds: float
    parts: Mapping[str, str]
    why: Mapping[str, str]
    actors: Mapping[str, ActorView] | None


@dataclass(frozen=True, slots=True)
class PoolView:
    """Workers of a kind: as many as the backlog asks for, and as many as there are.

    `actual` is None where only the API could tell, and does not.
    """

    wanted: int
    actual: int | None


@dataclass(frozen=True, slots=True)
class Pools:
    scrapers: PoolView
    indexers: PoolView


@dataclass(frozen=True, slots=True)
class Memory:
    """Of our processes on this machine, in bytes; `machine` and `free` are all of it."""

    bytes: int
    machine: int
    free: int
    parts: tuple[PartMemory, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """One look. `at` by this machine's clock, `seconds` is what the look took."""

    at: datetime
    seconds: float
    home: Home | Away
    record: RecordView | Away
    pools: Pools | Away
    api: ApiView | Away
    cache: CacheServer | Away
    memory: Memory | Away


class Onlooker:
    """Looks again and again, over the same connections as long as nothing moves."""

    def __init__(self, settings: Settings, *, costly: bool = False) -> None:
        """`costly`: also what took most of PostgreSQL's time."""
        self._settings = settings
        self._costly = costly
        self._record: Database | None = None
        self._http = httpx2.AsyncClient(timeout=API_SECONDS, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()
        await self._move_to(None)

    async def look(self, before: Overview | None = None) -> Overview:
        """Everything now; rates are since `before`."""
        began, at = time.monotonic(), datetime.now(UTC)
        found = running(self._settings.data_dir)
        settings = attached(self._settings, found) if found else self._settings
        async with asyncio.TaskGroup() as group:
            record = group.create_task(self._seen_record(settings, _record_of(before)))
            api = group.create_task(self._seen_api(found))
            cache = group.create_task(_within(_seen_cache(settings)))
            held = group.create_task(_within(asyncio.to_thread(_held, self._settings, found)))
        seen, backlog = record.result()
        return Overview(
            at=at, seconds=time.monotonic() - began, home=_home(found), record=seen,
            pools=_pools(seen, backlog, api.result(), alone=settings.meilisearch_url is None),
            api=api.result(), cache=cache.result(), memory=held.result(),
        )  # fmt: skip

    async def _seen_record(
        self, settings: Settings, before: RecordView | None
    ) -> tuple[RecordView | Away, tuple[int, ...]]:
        """The record, and how many workers of each pool its backlog asks for."""
        if settings.database_url is None:
            await self._move_to(None)
            return NOBODY, ()
        seen = await _within(self._moved(settings, before))
        return (seen, ()) if isinstance(seen, Away) else seen

    async def _moved(
        self, settings: Settings, before: RecordView | None
    ) -> tuple[RecordView, tuple[int, ...]]:
        await self._move_to(settings)
        assert self._record is not None  # noqa: S101 (there is a URL)
        return await _both(self._record, settings, before, costly=self._costly)

    async def _seen_api(self, found: Running | None) -> ApiView | Away:
        if found is None:
            return NOBODY
        if not found.api:
            return Away(found.api_error or "it was started without one")
        return await _within(_asked_api(self._http, found.api))

    async def _move_to(self, settings: Settings | None) -> None:
        """The pool of these settings' record; another one's is closed."""
        url = settings and settings.database_url and settings.database_url.get_secret_value()
        if self._record is not None and self._record.url != url:
            await self._record.aclose()
            self._record = None
        if settings is not None and self._record is None:
            self._record = wiring.whole_record(settings, pool_size=1, name="chrono top")


async def _both(
    record: Database, settings: Settings, before: RecordView | None, *, costly: bool
) -> tuple[RecordView, tuple[int, ...]]:
    seen = await look(record, before, costly=costly)
    sizing = Sizing(settings, budget_here())
    async with record.connection() as connection:
        backlog = await sizing.backlog(Lookout(connection))
    return seen, sizing.next_sizes(backlog, (0, 0), now=0.0)


def _pools(
    seen: RecordView | Away, wanted: tuple[int, ...], api: ApiView | Away, *, alone: bool
) -> Pools | Away:
    """`alone`: there is never more than one indexer."""
    if isinstance(seen, Away):
        return seen
    if not isinstance(api, Away) and api.actors and api.parts.get("ray") == "ok":
        indexers: int | None = sum(name.startswith("indexer-") for name in api.actors)
    elif alone or not seen.indexer_connections:
        indexers = min(seen.indexer_connections, 1)
    else:
        indexers = None
    return Pools(PoolView(wanted[0], seen.scrapers), PoolView(wanted[1], indexers))


def _record_of(before: Overview | None) -> RecordView | None:
    return None if before is None or isinstance(before.record, Away) else before.record


def _home(found: Running | None) -> Home | Away:
    if found is None:
        return NOBODY
    return Home(found.pid, found.api, found.dashboard, found.ephemeral)


async def _seen_cache(settings: Settings) -> CacheServer:
    if settings.redis_url is None:
        raise Unavailable(NOBODY.away)
    return await cache_server.asked(settings.redis_url.get_secret_value(), seconds=PART_SECONDS)


async def api_view(url: str) -> ApiView:
    """What the API at this address says of its parts now. Raises `Unavailable`."""
    async with httpx2.AsyncClient(timeout=API_SECONDS, trust_env=False) as http:
        return await _asked_api(http, url)


async def _asked_api(http: httpx2.AsyncClient, url: str) -> ApiView:
    began = time.monotonic()
    try:
        got = await http.get(f"{url}/api/v1/health")
        milliseconds = round((time.monotonic() - began) * 1000, 1)
        return _api_told(orjson.loads(got.content), got.status_code, milliseconds)
    except (httpx2.HTTPError, httpx2.InvalidURL, *NONSENSE) as error:
        raise _no_api(f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _api_told(told: object, code: int, milliseconds: float) -> ApiView:
    """Also what a proxy says that has nobody behind it is JSON with a `status`."""
    if not isinstance(told, dict) or told.get("status") not in STATES:
        raise _no_api(f"what answers there is none of chrono_ray's: HTTP {code}")
    parts, actors = told.get("parts") or {}, told.get("actors")
    return ApiView(
        status=str(told["status"]), version=told.get("version") or "", milliseconds=milliseconds,
        parts={name: each["state"] for name, each in parts.items()},
        why={name: each["detail"] for name, each in parts.items() if each.get("detail")},
        actors=None if actors is None else {
            name: ActorView(each["state"], each["done"], each["in_flight"], each["rss"])
            for name, each in actors.items()
        },
    )  # fmt: skip


def _no_api(why: str) -> Unavailable:
    return Unavailable("The API does not answer", why=why)


def _held(settings: Settings, found: Running | None) -> Memory:
    """Also of servers that a dead owner left behind."""
    folder = settings.data_dir / FOLDER
    left = [server_in(folder / name, program) for name, program in PID_FILES]
    roots = {*([found.pid] if found else []), *(pid for pid in left if pid)}
    if not roots:
        raise Unavailable(NOBODY.away)
    parts, machine = memory(below(roots)), psutil.virtual_memory()
    return Memory(sum(each.bytes for each in parts), machine.total, machine.available, parts)


async def _within(asked: Awaitable[T]) -> T | Away:
    """The answer, or why there is none within `PART_SECONDS`; the other parts go on."""
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await asked
    except TimeoutError:
        return Away(f"no answer within {PART_SECONDS:g} s")
    except ChronoError as error:
        refused = login_refused(error) if isinstance(error, Unavailable) else None
        return Away(redacted(str(refused or error)))
    except (asyncpg.PostgresError, SQLAlchemyError) as error:
        return Away(redacted(str(database_error(error) or error)))  # it is not migrated, above all
    except Exception as error:  # noqa: BLE001 (servers of another make say anything)
        return Away(redacted(f"{type(error).__name__}: {error}"))
