"""Claims of 32 from a long queue, by one and by four workers, beside a bare SKIP LOCKED claim.

    python -m benchmarks.claim [--pending 1000000] [--seconds 5] [--old-transaction 600] [--json]

Ours is `Frontier.claim`: budgets, classes by ticket, runs by weight, one fresh
token a batch, queue rows moved to leases. The bare one updates a state column
of as many rows under a partial index. Each worker is a process of its own.

`--old-transaction` then holds a snapshot open for so many seconds while leases
at `--old-rate` leave dead rows that no vacuum may remove, with the sweep that
every worker does, and measures four workers again before it ends. Ten minutes
at 520 a second leave as many as 20 seconds at 15,600.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

import asyncpg
import uvloop

from benchmarks.record import Postgres, postgres, scratch
from benchmarks.report import Figure, Report, show, versions
from benchmarks.usage import tree_seconds
from chrono_ray.perf.catalogue import Target
from chrono_ray.perf.claim import BATCH, EGRESS, Worked, fill, repeat, work
from chrono_ray.storage.database import Database
from chrono_ray.storage.frontier import Claimed, Frontier

RATIO_GOAL: Final = Target(0.6, at_least=True)
P99_GOAL: Final = Target(20, at_least=False)
OLD_P99_GOAL: Final = Target(50, at_least=False)
OLD_RATE: Final = 520
SWEEP_EVERY: Final = 5.0
REAL: Final = (
    "Real: PostgreSQL with fsync, the migrated schema, Frontier.claim over its own pool, each",
    "worker a process of its own. Stands in: queue rows written by SQL, two projects with a run in",
    "each class; nothing is fetched or settled. Workers and PostgreSQL share the cores.",
)

BARE_TABLE: Final = """
CREATE TABLE bare (
    id bigint PRIMARY KEY, order_key bigint NOT NULL, state text NOT NULL DEFAULT 'pending',
    token uuid, leased_until timestamptz, urlkey text NOT NULL, ts text NOT NULL,
    original text NOT NULL, mimetype text NOT NULL, statuscode text NOT NULL, digest text NOT NULL
) WITH (fillfactor = 70)
"""
FILL_BARE: Final = """
INSERT INTO bare (id, order_key, urlkey, ts, original, mimetype, statuscode, digest)
SELECT fetch_id, order_key, urlkey, ts, original, mimetype, statuscode, digest FROM queue
"""
BARE_INDEX: Final = "CREATE INDEX bare_pending ON bare (order_key) WHERE state = 'pending'"
BARE_CLAIM: Final = """
UPDATE bare SET state = 'leased', token = gen_random_uuid(),
       leased_until = clock_timestamp() + interval '60 seconds'
 WHERE id IN (SELECT id FROM bare WHERE state = 'pending' ORDER BY order_key
               LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING *
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How long the queue is, how many workers claim at once, for how many seconds.

    `old`: the age in seconds of a transaction elsewhere, 0 for none, and the
    leases a second meanwhile.
    """

    pending: int
    workers: tuple[int, ...]
    seconds: float
    old: float = 0.0
    old_rate: float = OLD_RATE


async def fill_both(url: str, pending: int) -> None:
    """As many rows for ours as for the bare claim."""
    await fill(url, pending)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(BARE_TABLE)
        await connection.execute(FILL_BARE)
        await connection.execute(BARE_INDEX)
        await connection.execute("VACUUM ANALYZE bare")
    finally:
        await connection.close()


def work_bare(url: str, seconds: float, most: int) -> Worked:
    """One worker of the bare claim, in its process."""
    return uvloop.run(_bare(url, seconds, most))


async def _bare(url: str, seconds: float, most: int) -> Worked:
    connection = await asyncpg.connect(url)

    async def claim() -> int:
        return len(await connection.fetch(BARE_CLAIM, BATCH))

    try:
        return await repeat(claim, seconds, most)
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Round:
    """Workers side by side; `record_cpu` are PostgreSQL's processor seconds meanwhile."""

    worked: Sequence[Worked]
    record_cpu: float


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the queue is, and the processes that claim from it."""

    server: Postgres
    url: str
    pool: ProcessPoolExecutor
    size: Size


def at_once(bench: Bench, *, workers: int, bare: bool) -> Round:
    """So many workers side by side; together they take a tenth of the queue at most."""
    size, before = bench.size, tree_seconds(bench.server.pid)
    most = size.pending // 10 // workers
    worker = work_bare if bare else work
    futures = [bench.pool.submit(worker, bench.url, size.seconds, most) for _ in range(workers)]
    worked = [future.result(timeout=size.seconds + 60) for future in futures]
    return Round(worked, tree_seconds(bench.server.pid) - before)


def figures(label: str, ended: Round, *, goal: Target | None) -> list[Figure]:
    worked = ended.worked
    latencies = sorted(s * 1000 for each in worked for s in each.latencies)
    lasted = max(each.ended for each in worked) - min(each.began for each in worked)
    leases = sum(each.leases for each in worked)
    return [
        Figure(f"{label}: leases", leases / lasted, "leases/s"),
        Figure(f"{label}: p50", statistics.median(latencies), "ms"),
        Figure(f"{label}: p99", latencies[int(len(latencies) * 0.99)], "ms", goal),
        Figure(f"{label}: PostgreSQL", ended.record_cpu / leases * 1e6, "cpu-us/lease"),
    ]  # fmt: skip


def ratios(label: str, ours: Sequence[Figure], bare: Sequence[Figure]) -> Figure:
    ratio = ours[0].value / bare[0].value
    return Figure(f"{label}, leases/s: ours to bare", ratio, "x", RATIO_GOAL)


async def hold(bench: Bench) -> list[Figure]:
    """A transaction as old as asked elsewhere, and what it does to the claims."""
    old = await asyncpg.connect(bench.url)
    record = Database(bench.url, pool_size=1)
    try:
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await old.fetch("SELECT count(*) FROM runs")
        frontier = Frontier(record, worker="benchmark", egress=EGRESS, archives=("wayback",))
        await _burn(frontier, bench.size.old, bench.size.old_rate)
        return await _measured_beside_sweeps(bench, frontier)
    finally:
        await record.aclose()
        await old.close()


async def _burn(frontier: Frontier, seconds: float, rate: float) -> None:
    """Leases at a steady rate, and the sweep, until the transaction is old enough."""
    began = swept = time.monotonic()
    leases = 0
    while (now := time.monotonic()) - began < seconds:
        if now - swept >= SWEEP_EVERY:
            await frontier.sweep()
            swept = now
        if leases > (now - began) * rate:
            await asyncio.sleep(0.01)
            continue
        got = await frontier.claim(BATCH, idle=0)
        leases += len(got.leases) if isinstance(got, Claimed) else 0


async def _measured_beside_sweeps(bench: Bench, frontier: Frontier) -> list[Figure]:
    await frontier.sweep()
    most = max(bench.size.workers)
    ended = asyncio.create_task(asyncio.to_thread(at_once, bench, workers=most, bare=False))
    while not ended.done():
        await asyncio.wait({ended}, timeout=SWEEP_EVERY / most)  # each worker does its own
        await frontier.sweep()
    size = bench.size
    label = f"{most} workers, {size.old * size.old_rate:,.0f} dead rows beside a snapshot"
    return figures(label, ended.result(), goal=OLD_P99_GOAL)


async def leased_twice(url: str, told: int) -> Figure:
    """Leases that workers were told of beyond those that stand in the record: one row a fetch."""
    connection = await asyncpg.connect(url)
    try:
        stand = await connection.fetchval("SELECT count(*) FROM leases")
    finally:
        await connection.close()
    return Figure("leased twice", told - stand, "leases", Target(0, at_least=False))


def measure(server: Postgres, size: Size) -> Report:
    url = asyncio.run(server.fresh("claim"))
    asyncio.run(fill_both(url, size.pending))
    title = f"Claims of {BATCH} at {size.pending:,} pending"
    with ProcessPoolExecutor(max(size.workers), mp_context=get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.2] * max(size.workers)))  # all of them are up
        bench = Bench(server, url, pool, size)
        found = compare(bench)
        if size.old:
            found += asyncio.run(hold(bench))
    return Report(title, found, REAL, versions(postgresql=server.version))


def compare(bench: Bench) -> list[Figure]:
    compared: list[Figure] = []
    told: list[Figure] = []
    held = 0
    for workers in bench.size.workers:
        who = f"{workers} worker{'s' if workers > 1 else ''}"
        ours = at_once(bench, workers=workers, bare=False)
        bare = figures(f"{who}, bare", at_once(bench, workers=workers, bare=True), goal=None)
        held += sum(each.warm + each.leases for each in ours.worked)
        mine = figures(f"{who}, ours", ours, goal=P99_GOAL)
        compared.append(ratios(who, mine, bare))
        told += [*mine, *bare]
    return [*compared, asyncio.run(leased_twice(bench.url, held)), *told]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--old-transaction", type=float, default=0.0, help="its age in seconds")
    parser.add_argument("--old-rate", type=float, default=OLD_RATE, help="leases/s meanwhile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with scratch() as folder, postgres(folder) as server:
        size = Size(
            options.pending,
            tuple(options.workers),
            options.seconds,
            options.old_transaction,
            options.old_rate,
        )
        report = measure(server, size)
    show(report, json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
