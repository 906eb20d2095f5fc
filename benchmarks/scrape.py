"""One scraper process at its limit, beside Scrapy + trafilatura on the same pages in one run.

    python -m benchmarks.scrape [--pages DIR] [--count 543] [--repeats 3] [--json]
    python -m benchmarks.scrape --soak 5000

Ours fetches over loopback, extracts in its child process, and stores: blobs,
PostgreSQL rows, counters, index outbox. Scrapy fetches and extracts, and
stores nothing. Repeats alternate, each of ours in a fresh database and folder.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import asyncpg
import orjson

from benchmarks import peer
from benchmarks.driver import environment, scraper
from benchmarks.record import ROOT, Postgres, count_files, postgres, scratch, subfolder
from benchmarks.report import Figure, Report, median, show, versions
from benchmarks.usage import slope, tree_seconds
from benchmarks.worker import Scraped, Seen
from chrono_ray.perf.catalogue import Target
from tests.support.archive import ArchiveProcess, archive_process

PAGES: Final = ROOT.parent / "shared/data/pages"
DOMAIN: Final = "pages.example"
PAGE_ROWS: Final = 10_000
CONCURRENCY: Final = 48
"""Requests in flight: the scraper's default, and the same for Scrapy."""
WARM_SHARE: Final = 0.4
"""Of the pages: allocators and caches settle over the first 2,000, and then the curve is flat."""
RATIO_GOAL: Final = Target(2.0, at_least=True)
MEMORY_GOAL: Final = Target(250.0, at_least=False)
SLOPE_GOAL: Final = Target(2.0, at_least=False)


@dataclass(frozen=True, slots=True)
class Ours:
    """One repeat; `record_cpu` are PostgreSQL's processor seconds."""

    scraped: Scraped
    seen: Sequence[Seen]
    record_cpu: float


async def run_ours(
    server: Postgres, archive: ArchiveProcess, folder: Path, *, name: str, count: int
) -> Ours:
    """Everything listed is scraped; raises RuntimeError unless all of it is stored."""
    url = await server.fresh(name)
    data = subfolder(folder, name)
    settings = environment(url, archive.url, data, page_rows=PAGE_ROWS)
    async with scraper(DOMAIN, settings, folder=data, pages=count) as worker:
        await worker.listed()
        before = tree_seconds(server.pid)
        scraped, seen = await worker.scrape()
        spent = tree_seconds(server.pid) - before
    await check(url, data / "payloads", count)
    return Ours(scraped, seen, spent)


async def check(url: str, payloads: Path, count: int) -> None:
    """Nothing is counted that was not done."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM fetches WHERE state = 'stored') AS stored,"
            " (SELECT count(*) FROM documents WHERE words > 0) AS documents,"
            " (SELECT count(*) FROM outbox) AS outbox,"
            " (SELECT sum(n) FROM domain_counters WHERE state = 'stored')::bigint AS counted"
        )
    finally:
        await connection.close()
    found = {**dict(rows), "blobs": count_files(payloads, "**/*.zst")}
    # a listing page is a blob, too; a few of the real pages hold no words
    if found["stored"] != count or found["outbox"] != count or found["counted"] != count:
        raise RuntimeError(f"of {count} pages: {found}")
    if found["documents"] < count * 0.95 or found["blobs"] <= count:
        raise RuntimeError(f"of {count} pages: {found}")


def replay_urls(archive: ArchiveProcess) -> list[str]:
    """What Scrapy is given: the same captures at their replay addresses."""
    query = f"{archive.url}/cdx/search/cdx?url={DOMAIN}&matchType=domain&output=json&gzip=false"
    with urlopen(query, timeout=60) as answer:
        rows = orjson.loads(answer.read())[1:]
    return [f"{archive.url}/web/{row[1]}id_/{row[2]}" for row in rows]


async def compare(
    server: Postgres, folder: Path, *, pages: Path, count: int, repeats: int
) -> Report:
    """Ours and Scrapy in turns. Raises `PeerMissing` where Scrapy cannot be had."""
    python = await asyncio.to_thread(peer.scrapy_python)
    ours: list[Ours] = []
    theirs: list[peer.Crawled] = []
    with archive_process("--pages", str(pages), "--captures", str(count)) as archive:
        urls = replay_urls(archive)
        for number in range(repeats):
            ours.append(
                await run_ours(server, archive, folder, name=f"scrape_{number}", count=count)
            )
            theirs.append(
                await asyncio.to_thread(
                    peer.crawl, python, urls, folder=folder, concurrency=CONCURRENCY
                )
            )
    return Report(
        f"Scraping {count} captures of {count_files(pages, '*.html.gz')} real pages,"
        f" {repeats} alternating repeats",
        comparison(ours, theirs, count),
        REAL,
        versions(scrapy=peer.SCRAPY, postgresql=server.version),
    )


REAL: Final = (
    "Real: the pages, HTTP over loopback, the scraper of wiring.scraper() in a process of its own",
    "with its extraction child, PostgreSQL with fsync, blobs with fsync, counters, index outbox.",
    "Not here: Ray around the scraper, the index itself, TLS and distance. The archive and",
    "PostgreSQL share the machine's cores with both sides; limits are off. Scrapy stores nothing.",
    "cpu-ms of ours: the scraper and its extraction child; PostgreSQL is told apart.",
)


def comparison(ours: Sequence[Ours], theirs: Sequence[peer.Crawled], count: int) -> list[Figure]:
    """Ratios are of neighbouring repeats, which met the same load."""
    rates = [each.scraped.done / each.scraped.seconds for each in ours]
    scrapy = [each.pages / each.seconds for each in theirs]
    cpu = [(each.scraped.cpu + each.scraped.child_cpu) / count * 1000 for each in ours]
    scrapy_cpu = [each.cpu / count * 1000 for each in theirs]
    return [
        median(
            "pages/s, chrono_ray : Scrapy",
            [a / b for a, b in zip(rates, scrapy, strict=True)], "x", RATIO_GOAL,
        ),
        median(
            "cpu-ms a page, Scrapy : chrono_ray",
            [b / a for a, b in zip(cpu, scrapy_cpu, strict=True)], "x",
        ),
        median("chrono_ray, one scraper process", rates, "pages/s"),
        median("Scrapy + trafilatura fast, with metadata", scrapy, "pages/s"),
        median("chrono_ray", cpu, "cpu-ms/page"),
        median("  of it the scraper", [e.scraped.cpu / count * 1000 for e in ours], "cpu-ms/page"),
        median(
            "  of it its extraction child", [e.scraped.child_cpu / count * 1000 for e in ours],
            "cpu-ms/page",
        ),
        median(
            "  beside it PostgreSQL", [e.record_cpu / count * 1000 for e in ours], "cpu-ms/page"
        ),
        median("Scrapy", scrapy_cpu, "cpu-ms/page"),
        median("scraper, most memory seen", [max(s.rss for s in e.seen) for e in ours], "MiB"),
        median("Scrapy, most memory", [each.peak for each in theirs], "MiB"),
    ]  # fmt: skip


async def soak(server: Postgres, folder: Path, *, pages: Path, count: int) -> Report:
    with archive_process("--pages", str(pages), "--captures", str(count)) as archive:
        ran = await run_ours(server, archive, folder, name="soak", count=count)
    return Report(
        f"Memory of one scraper process over {count} pages", memory(ran), REAL,
        versions(postgresql=server.version),
    )  # fmt: skip


def memory(ran: Ours) -> list[Figure]:
    warm = [s for s in ran.seen if s.done >= ran.scraped.done * WARM_SHARE] or list(ran.seen)
    last = warm[-max(len(warm) // 10, 1) :]
    return [
        Figure("scraper, memory at the end", statistics.median(s.rss for s in last), "MiB",
               MEMORY_GOAL),
        Figure("scraper, rise after warm-up", slope([(s.done / 1000, s.rss) for s in warm]),
               "MiB/1000 pages", SLOPE_GOAL),
        Figure("scraper, most memory seen", max(s.rss for s in ran.seen), "MiB"),
        Figure("extraction child, memory at the end", statistics.median(s.child_rss for s in last),
               "MiB"),
        Figure("extraction child, rise after warm-up",
               slope([(s.done / 1000, s.child_rss) for s in warm]), "MiB/1000 pages"),
        Figure("extraction child, most memory seen", max(s.child_rss for s in ran.seen), "MiB"),
        Figure("rate", ran.scraped.done / ran.scraped.seconds, "pages/s"),
        Figure("samples", len(ran.seen), ""),
    ]  # fmt: skip


async def measure(server: Postgres, folder: Path, options: argparse.Namespace) -> Report:
    if options.soak:
        return await soak(server, folder, pages=options.pages, count=options.soak)
    return await compare(
        server, folder, pages=options.pages, count=options.count, repeats=options.repeats
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, default=PAGES, help="folder of *.html.gz")
    parser.add_argument("--count", type=int, default=543, help="captures in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--soak", type=int, default=0, help="measure memory over so many pages")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not any(options.pages.glob("*.html.gz")):
        sys.stderr.write(f"There are no *.html.gz in {options.pages}; say where: --pages DIR\n")
        return 2
    try:
        with scratch() as folder, postgres(folder) as server:
            report = asyncio.run(measure(server, folder, options))
    except peer.PeerMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    show(report, json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
