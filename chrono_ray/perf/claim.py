"""Claims of 32 from a long queue, in a database made for it, each worker a process of its own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import uvloop

from chrono_ray.model.errors import Unavailable
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.perf.figures import Measured, Result, Spread
from chrono_ray.storage.database import Database
from chrono_ray.storage.frontier import Claimed, Frontier
from chrono_ray.storage.governor import Governor, Kind, Limit
from chrono_ray.storage.guests import LASTS
from chrono_ray.storage.migrate import migrate
from chrono_ray.storage.projects import Projects

BATCH: Final = 32
WORKERS: Final = 4
PENDING: Final = 100_000
SHARE: Final = 2
"""Of the queue at most a half is claimed: it stays long."""
EGRESS: Final = "benchmark"
WARM_CLAIMS: Final = 5
END_SECONDS: Final = 60.0

# As wide as rows of a real listing, in claim order, over the runs.
_FILL: Final = """
INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original,
                   mimetype, statuscode, digest, locator)
SELECT n, ($2::bigint[])[1 + n % cardinality($2::bigint[])], n, n, 'wayback',
       'com,example)/path/to/an/archived/page/' || n || '.html', '20040303120000',
       'http://www.example.com/path/to/an/archived/page/' || n || '.html', 'text/html', '200',
       upper(left(md5(n::text), 32)), ''
  FROM generate_series(1, $1::bigint) n
"""

_LEFT: Final = """
SELECT datname FROM pg_database
 WHERE datname ~ '^chrono_performance_[0-9]+_[0-9a-f]+$'
   AND to_timestamp(split_part(datname, '_', 3)::bigint) < clock_timestamp() - $1::interval
"""

Claim = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Worked:
    """One worker's claims: seconds of each, leases got, first began and last ended.

    `warm` leases were got before the clock began.
    """

    latencies: tuple[float, ...]
    warm: int
    leases: int
    began: float
    ended: float


async def claim(database_url: str, *, seconds: float) -> dict[str, Result]:
    """In a scratch database beside the record, which is dropped."""
    async with _scratch(database_url) as url:
        await fill(url, PENDING)
        with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
            loop = asyncio.get_running_loop()
            most = PENDING // SHARE // WORKERS
            async with asyncio.timeout(seconds + END_SECONDS):
                await asyncio.gather(
                    *(loop.run_in_executor(pool, time.sleep, 0.2) for _ in range(WORKERS))
                )  # all of them are up
                worked = await asyncio.gather(
                    *(loop.run_in_executor(pool, work, url, seconds, most) for _ in range(WORKERS))
                )
    return told(worked)


def told(worked: Sequence[Worked]) -> dict[str, Result]:
    """What workers side by side did. Raises `Unavailable` when they got nothing."""
    spread = Spread.of(1000 * each for one in worked for each in one.latencies)
    lasted = max(each.ended for each in worked) - min(each.began for each in worked)
    leases = sum(each.leases for each in worked)
    if spread is None or lasted <= 0 or not leases:
        raise Unavailable("Nothing could be claimed", code="nothing_claimed")
    return {
        "claim.p99": Measured(spread.p99, spread),
        "claim.rate": Measured(leases / lasted),
    }


async def fill(url: str, pending: int) -> None:
    """So many fetches wait, in two projects with a run of each class; no archive has a limit."""
    record = Database(url, pool_size=1, name="chrono perf")
    try:
        limits = [Limit("wayback", kind, 0) for kind in Kind]
        await Governor(record, egress=EGRESS).configure(limits)
        runs = [
            await Projects(record).start_run(
                Scope(f"{name}.example", MatchType.DOMAIN), project=name, archive="wayback",
                queue_class=queue_class,
            )
            for name in ("one", "two") for queue_class in QueueClass
        ]  # fmt: skip
        async with record.connection() as connection:
            await connection.execute(_FILL, pending, runs)
            await connection.execute("UPDATE runs SET ready = true, floor_key = 1")
            await connection.execute("VACUUM ANALYZE queue")
    finally:
        await record.aclose()


def work(url: str, seconds: float, most: int) -> Worked:
    """One worker, in its process: claim until the time is up or `most` leases are held."""
    return uvloop.run(_work(url, seconds, most))


async def _work(url: str, seconds: float, most: int) -> Worked:
    record = Database(url, pool_size=1, name="chrono perf")
    frontier = Frontier(record, worker="benchmark", egress=EGRESS, archives=("wayback",))

    async def one() -> int:
        got = await frontier.claim(BATCH, idle=0)
        return len(got.leases) if isinstance(got, Claimed) else 0

    try:
        return await repeat(one, seconds, most)
    finally:
        await record.aclose()


async def repeat(claim: Claim, seconds: float, most: int) -> Worked:
    """Claim after claim, as long as there is something to claim."""
    warm = 0
    for _ in range(WARM_CLAIMS):
        warm += await claim()
    latencies: list[float] = []
    leases = 0
    began = now = time.monotonic()
    while now - began < seconds and leases < most:
        got = await claim()
        then, now = now, time.monotonic()
        latencies.append(now - then)
        leases += got
        if not got:
            break
    return Worked(tuple(latencies), warm, leases, began, now)


@asynccontextmanager
async def _scratch(database_url: str) -> AsyncIterator[str]:
    """A database with the schema in it, on the record's server; dropped with the block.

    Those that a killed measurement left an hour ago or more are dropped, too.
    """
    server = Database(database_url, pool_size=1, name="chrono perf")
    try:
        for left in await server.fetch(_LEFT, LASTS):
            await server.fetch(f"DROP DATABASE IF EXISTS {left['datname']} WITH (FORCE)")
        born = await server.fetchval("SELECT extract(epoch FROM clock_timestamp())::bigint")
        name = f"chrono_performance_{born}_{secrets.token_hex(6)}"
        await server.fetch(f"CREATE DATABASE {name}")
        try:
            url = urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))
            await _migrate(url)
            yield url
        finally:
            await server.fetch(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await server.aclose()


async def _migrate(url: str) -> None:
    record = Database(url, pool_size=1, name="chrono perf")
    try:
        await migrate(record)
    finally:
        await record.aclose()
