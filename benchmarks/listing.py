"""A million listed rows into PostgreSQL: the real Wayback adapter, discover, and the record.

    python -m benchmarks.listing [--rows 1000000] [--page-rows 10000 50000] [--json]

The archive is a synthetic listing (every row another URL and digest, all of
them wanted, so each becomes a capture, a fetch and a queue row) served over
loopback by a process of its own. The measured process is the scraper's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks.driver import environment, scraper
from benchmarks.record import Postgres, postgres, scratch, subfolder
from benchmarks.report import Figure, Report, show, versions
from benchmarks.usage import tree_seconds
from benchmarks.worker import Listed
from chrono_ray.perf.catalogue import Target
from chrono_ray.settings import Wayback
from tests.support.archive import ArchiveProcess, archive_process

DOMAIN: Final = "million.example"
RATE_GOAL: Final = Target(10_000, at_least=True)
MEMORY_GOAL: Final = Target(300, at_least=False)
REAL: Final = (
    "Real: HTTP over loopback, the adapter, discover and its decisions, the kept raw answers",
    "(fsync), PostgreSQL with fsync; each page of rows is one transaction. Every row is new.",
    "Not here: the distance to an archive and its limit of listings a minute (there are none).",
)


@dataclass(frozen=True, slots=True)
class Walk:
    """One whole listing; `record_cpu` are PostgreSQL's processor seconds."""

    page_rows: int
    rows: int
    listed: Listed
    record_cpu: float


async def walk(
    server: Postgres, archive: ArchiveProcess, folder: Path, *, page_rows: int, rows: int
) -> Walk:
    name = f"listing_{page_rows}"
    data = subfolder(folder, name)
    url = await server.fresh(name)
    settings = environment(url, archive.url, data, page_rows=page_rows)
    before = tree_seconds(server.pid)
    async with scraper(DOMAIN, settings, folder=data) as worker:
        listed = await worker.listed()
    spent = tree_seconds(server.pid) - before
    await check(url, rows)
    return Walk(page_rows, rows, listed, spent)


async def check(url: str, rows: int) -> None:
    """Every row is a capture and waits to be fetched, and the listing has ended."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM captures) AS captures,"
            " (SELECT count(*) FROM queue) AS queued,"
            " (SELECT bool_and(state = 'listed') FROM slices) AS listed"
        )
    finally:
        await connection.close()
    if (found["captures"], found["queued"], found["listed"]) != (rows, rows, True):
        raise RuntimeError(f"of {rows} rows: {dict(found)}")


async def measure(server: Postgres, folder: Path, *, rows: int, page_rows: Sequence[int]) -> Report:
    with archive_process("--rows", str(rows)) as archive:
        walks = [
            await walk(server, archive, folder, page_rows=size, rows=rows) for size in page_rows
        ]
    return Report(
        f"Listing {rows:,} rows into the record",
        [figure for each in walks for figure in figures(each)],
        REAL,
        versions(postgresql=server.version),
    )


def figures(walk: Walk) -> list[Figure]:
    size = f"{walk.page_rows:,} rows a page"
    return [
        Figure(f"{size}: rate", walk.rows / walk.listed.seconds, "rows/s", RATE_GOAL),
        Figure(f"{size}: peak memory", walk.listed.peak, "MiB", MEMORY_GOAL),
        Figure(f"{size}: seconds", walk.listed.seconds, "s"),
        Figure(f"{size}: lister", walk.listed.cpu / walk.rows * 1e6, "cpu-us/row"),
        Figure(f"{size}: PostgreSQL", walk.record_cpu / walk.rows * 1e6, "cpu-us/row"),
    ]


def whole(rows: int) -> int:
    """The synthetic listing comes in thousands."""
    return -(-rows // 1000) * 1000


def main() -> int:
    default = Wayback().page_rows
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--page-rows", type=int, nargs="+", default=[default, 50_000],
        help=f"rows in one listing page; the product's default is {default}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with scratch() as folder, postgres(folder) as server:
        report = asyncio.run(
            measure(server, folder, rows=whole(options.rows), page_rows=options.page_rows)
        )
    show(report, json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
