"""Whether the API, PostgreSQL, Redis, Meilisearch, the payloads and the archives can be reached,
and how they are set up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson

from chrono_ray import __version__
from chrono_ray.cache import server as cache_server
from chrono_ray.cli.boundary import login_refused
from chrono_ray.cli.doctor.finding import Code, Finding, Seen, problem, warning
from chrono_ray.cli.overview import NONSENSE, ActorView, ApiView
from chrono_ray.cli.words import amount
from chrono_ray.model.budget import SPARE
from chrono_ray.model.errors import NotFound, SettingsError, Unavailable
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.inspecting import Inspecting, ServerFacts
from chrono_ray.storage.migrate import OLDEST_SERVER

OLDEST_REDIS: Final = (7, 0)
ASK_SECONDS: Final = 5.0
SKEW_MOST: Final = 2.0
"""Seconds that this machine's clock may differ from PostgreSQL's: archives' slots last as long."""
LATELY: Final = timedelta(days=1)
SHOWN: Final = 5
SURELY: Final = timedelta(seconds=-60)
"""Older than this is everything, also what was just written."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """PostgreSQL's clock, and ours right before and after it was asked; seconds since 1970."""

    before: float
    server: float
    after: float

    @property
    def skew(self) -> float:
        """At least so much do they differ, in seconds: the answer may have been made at any moment
        between."""
        return max(self.before - self.server, self.server - self.after, 0.0)


PARTS: Final = {
    "redis": "Start Redis, or check CHRONO_REDIS_URL; without it reads are only slower",
    "index": "Start Meilisearch, or look at the index: chrono verify",
    "blobs": "Check CHRONO_BLOBS_URL, its disk, and leave to write there",
    "ray": "Restart the cluster: chrono down, chrono up",
}
"""What to do about a part of the API that is away."""


def api(seen: ApiView, log: Path) -> Iterator[Finding]:
    """What the API says of itself, of its parts and of the workers."""
    if seen.status == "down":
        yield problem(
            Code.API_DOWN, "The API cannot serve",
            why=f"it says that the record is away{_of(seen, 'database')}",
            fix=f"Have PostgreSQL run and be reached; the log: {log}",
        )  # fmt: skip
    ill = [name for name, state in seen.parts.items() if state == "away" and name != "database"]
    for name in ill:
        yield problem(
            Code.API_PART_AWAY, f"The API does not reach a part: {name}",
            why=f"it says that it is away{_of(seen, name)}", fix=PARTS.get(name, f"See {log}"),
        )  # fmt: skip
    if seen.status == "degraded" and not seen.parts:
        yield problem(
            Code.API_PART_AWAY, "The API does not reach one of its parts",
            why="it says that it is degraded, and a stranger is not told more",
            fix="Ask as an admin: GET /api/v1/health",
        )  # fmt: skip
    yield from _of_workers(seen.actors or {}, log)
    if seen.version not in (__version__, ""):
        yield warning(
            Code.API_OTHER_VERSION, "What runs is not what is installed",
            why=f"{seen.version} runs, {__version__} is installed",
            fix="Restart it: chrono down, chrono up",
        )  # fmt: skip


def _of(seen: ApiView, part: str) -> str:
    return f": {seen.why[part]}" if part in seen.why else ""


def _of_workers(actors: Mapping[str, ActorView], log: Path) -> Iterator[Finding]:
    silent = [name for name, each in actors.items() if each.state == "silent"]
    if not silent:
        return
    named = ", ".join(silent[:SHOWN]) + (" ..." if len(silent) > SHOWN else "")
    tell, what = (
        (problem, "No worker answers") if len(silent) == len(actors)
        else (warning, "Some workers do not answer")
    )  # fmt: skip
    yield tell(
        Code.WORKERS_SILENT, what, why=f"{len(silent)} of {len(actors)} are silent: {named}",
        fix=f"Look again in a minute; if it stays so: chrono down, chrono up. The log: {log}",
    )  # fmt: skip


async def postgresql(record: Database, *, connections: int) -> Seen:
    """Whether it lets us in, is new enough, keeps what it confirms, and admits so many of us."""
    try:
        await record.ping()
        before = time.time()
        facts = await Inspecting(record).server()
    except (Unavailable, TimeoutError) as error:
        return Seen("", (_not_reached(error),))
    found = (
        *_of_server(facts, connections), *clock(Clocks(before, _epoch(facts), time.time()))
    )  # fmt: skip
    version = f"{facts.version // 10_000}.{facts.version % 10_000}"
    return Seen(f"PostgreSQL {version}, up to {facts.most} connections, clocks agree", found)


def _epoch(facts: ServerFacts) -> float:
    at: datetime = facts.at
    return at.timestamp()


def _not_reached(error: Unavailable | TimeoutError) -> Finding:
    refused = login_refused(error) if isinstance(error, Unavailable) else None
    if refused is not None:
        return problem(
            Code.POSTGRESQL_LOGIN, refused.what, why=refused.why,
            fix="Check user, password and database in CHRONO_DATABASE_URL",
        )  # fmt: skip
    return problem(
        Code.POSTGRESQL_AWAY, "PostgreSQL does not answer",
        why=error.why if isinstance(error, Unavailable) else "no answer within 2 s",
        fix="Start it, or check host and port in CHRONO_DATABASE_URL",
    )  # fmt: skip


def _of_server(facts: ServerFacts, needed: int) -> Iterator[Finding]:
    if facts.version < OLDEST_SERVER:
        yield problem(
            Code.POSTGRESQL_OLD, "PostgreSQL is too old", why=f"version {facts.version}",
            fix="Use PostgreSQL 15 or newer",
        )  # fmt: skip
    off = [
        name for name, is_off in (
            ("fsync", not facts.fsync), ("full_page_writes", not facts.full_page_writes),
            ("synchronous_commit", facts.synchronous_commit == "off"),
        ) if is_off
    ]  # fmt: skip
    if off:
        sets = "; ".join(f"ALTER SYSTEM SET {name} = on" for name in off)
        yield problem(
            Code.DURABILITY_OFF, "What PostgreSQL confirms may be lost in a crash",
            why=f"{', '.join(off)} off", fix=f"{sets}; SELECT pg_reload_conf()",
        )  # fmt: skip
    if not facts.autovacuum:
        yield problem(
            Code.AUTOVACUUM_OFF, "The queue will grow slow", why="autovacuum is off",
            fix="ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()",
        )  # fmt: skip
    if facts.most < needed:
        yield problem(
            Code.CONNECTIONS_FEW, "PostgreSQL admits too few connections",
            why=f"{facts.most} for us, all parts together hold up to {needed}",
            fix=f"Set max_connections (or the limit of database or user) to {needed + SPARE}",
        )  # fmt: skip


def clock(clocks: Clocks) -> Iterator[Finding]:
    """Whether this machine and PostgreSQL agree on the time."""
    if clocks.skew > SKEW_MOST:
        yield problem(
            Code.CLOCK_SKEW, "This machine and PostgreSQL do not agree on the time",
            why=f"they differ by {clocks.skew:.1f} s or more",
            fix="Keep both by NTP: timedatectl set-ntp true",
        )  # fmt: skip


async def redis(url: str) -> Seen:
    """Whether it lets us in, and is set up as a cache."""
    try:
        facts = await cache_server.asked(url, seconds=ASK_SECONDS)
    except cache_server.LoginRefused as error:
        return Seen("", (problem(
            Code.REDIS_LOGIN, error.what, why=error.why,
            fix="Check the password in CHRONO_REDIS_URL",
        ),))  # fmt: skip
    except Unavailable as error:
        return Seen("", (problem(Code.REDIS_AWAY, error.what, why=error.why, fix=error.fix),))
    most = amount(facts.memory_most) if facts.memory_most else "no limit"
    version, held = facts.version or "unknown", amount(facts.memory)
    return Seen(
        f"version {version}, {facts.keys:,} keys, {held} of {most}", tuple(_of_redis(facts))
    )


def _of_redis(facts: cache_server.CacheServer) -> Iterator[Finding]:
    """What it does not tell is nobody's fault."""
    version = tuple(int(part) for part in facts.version.split(".")[:2] if part.isdecimal())
    if version and version < OLDEST_REDIS:
        yield warning(
            Code.REDIS_OLD, "Redis is too old", why=f"version {facts.version}",
            fix="Use Redis 7, or Valkey 8, or newer",
        )  # fmt: skip
    if facts.role not in ("master", ""):
        yield problem(
            Code.REDIS_COPY, "This Redis copies another one and takes no writes",
            why=f"its role is {facts.role}", fix="Set CHRONO_REDIS_URL to the one it copies",
        )  # fmt: skip
    if facts.policy and (facts.memory_most == 0 or facts.policy == "noeviction"):
        limit = "maxmemory is not set" if facts.memory_most == 0 else "its policy is noeviction"
        yield warning(
            Code.REDIS_KEEPS_ALL, "Redis keeps everything until its memory is full", why=limit,
            fix="CONFIG SET maxmemory 256mb; CONFIG SET maxmemory-policy allkeys-lru",
        )  # fmt: skip


async def meilisearch(url: str, key: str) -> Seen:
    """Whether it takes our key, and whether it failed at something."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with httpx2.AsyncClient(
            base_url=url, timeout=ASK_SECONDS, trust_env=False, headers=headers
        ) as http:
            version = await http.get("/version")
            failed = await http.get("/tasks", params=_lately_failed())
        if {version.status_code, failed.status_code} & {401, 403}:
            return Seen("", (problem(
                Code.MEILISEARCH_LOGIN, "Meilisearch refuses our key",
                why=f"it answers {version.status_code}", fix="Check CHRONO_MEILISEARCH_KEY",
            ),))  # fmt: skip
        return _of_meilisearch(_body(version), _body(failed))
    except (httpx2.HTTPError, httpx2.InvalidURL, *NONSENSE) as error:
        return Seen("", (problem(
            Code.MEILISEARCH_AWAY, "Meilisearch does not answer",
            why=f"{type(error).__name__}: {error}".rstrip(": "),
            fix="Start it, or check CHRONO_MEILISEARCH_URL; pages wait for it meanwhile",
        ),))  # fmt: skip


def _lately_failed() -> dict[str, str]:
    """What an indexer asked for. Creating what is there already fails, too, and is no fault."""
    since = datetime.now(UTC) - LATELY
    kinds = "documentAdditionOrUpdate,documentDeletion,settingsUpdate"
    return {
        "statuses": "failed", "types": kinds, "limit": "1", "afterEnqueuedAt": since.isoformat()
    }  # fmt: skip


def _body(answer: httpx2.Response) -> dict[str, Any]:
    answer.raise_for_status()
    found: dict[str, Any] = orjson.loads(answer.content)
    if not isinstance(found, dict):
        raise TypeError("it answers no object")
    return found


def _of_meilisearch(version: dict[str, Any], failed: dict[str, Any]) -> Seen:
    told = f"Meilisearch {version['pkgVersion']}"
    if not failed["results"]:
        return Seen(told)
    last = failed["results"][0]
    return Seen(told, (warning(
        Code.MEILISEARCH_TASKS_FAILED, "Meilisearch could not do something it was asked to",
        why=f"task {last['uid']}: {(last.get('error') or {}).get('message', 'it does not say')}",
        fix="Compare it with the record: chrono reconcile",
    ),))  # fmt: skip


async def blobs(url: str) -> Seen:
    """Write, read and delete a payload of our own."""
    body = os.urandom(64)
    try:
        store = Blobs(url)
        [digest] = await store.put([body])
        try:
            await store.get(digest)
        finally:
            await store.remove([digest], age=SURELY)
    except (Unavailable, SettingsError, NotFound) as error:
        return Seen("", (problem(
            Code.BLOBS_AWAY, "Payloads cannot be kept", why=f"{error.what}: {error.why}",
            fix="Check CHRONO_BLOBS_URL, its disk, and leave to write there",
        ),))  # fmt: skip
    return Seen(f"written, read and deleted a payload in {url}")


async def archive(name: str, url: str, agent: str) -> Seen:
    """One HEAD, by whoever has leave to send it. Any answer will do."""
    try:
        async with httpx2.AsyncClient(timeout=ASK_SECONDS, headers={"User-Agent": agent}) as http:
            answer = await http.head(url)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Seen("", (warning(
            Code.ARCHIVE_AWAY, f"The archive {name} does not answer",
            why=f"{type(error).__name__}: {error}".rstrip(": "),
            fix=f"Check CHRONO_ARCHIVES__{name.upper()}__URL and this machine's network",
        ),))  # fmt: skip
    return Seen(f"{name} answers {answer.status_code}")
