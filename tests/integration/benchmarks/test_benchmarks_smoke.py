"""Every benchmark at a tiny size: it ends, its figures add up, and it leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from benchmarks import claim, listing, peer, scrape, search, statistics
from benchmarks.record import ROOT, Postgres, postgres, subfolder
from benchmarks.report import Report, show

DEADLINE = 60.0

needs_pages = pytest.mark.skipif(
    not any(scrape.PAGES.glob("*.html.gz")), reason=f"the pages are not in {scrape.PAGES}"
)


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """Where benchmarks put their folders: below /tmp, for the server's own account to enter."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-smoke-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(room: Path) -> Iterator[Postgres]:
    shared = subfolder(room, "shared")
    shared.chmod(0o755)
    with postgres(shared) as running:
        yield running


@pytest.fixture
def folder(room: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    yield subfolder(room, request.node.name)
    shutil.rmtree(room / request.node.name)


def start(folder: Path, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def said(report: Report, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """The figures by name, as printed with --json."""
    show(report, json=True)
    whole = orjson.loads(capsys.readouterr().out)
    assert whole["real"]
    assert whole["versions"].keys() & {"postgresql", "tantivy"}
    assert whole["machine"]["cores"] >= 1
    return {figure["name"]: figure["value"] for figure in whole["figures"]}


def left_in(folder: Path) -> list[str]:
    """Files of a benchmark, and processes that speak of its folder."""
    here = str(folder)
    processes = [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if any(here in word for word in process.info["cmdline"] or ())
    ]
    return [*map(str, folder.iterdir()), *processes]


def test_claims_are_measured_beside_bare_ones(
    server: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(claim.measure(server, claim.Size(4000, (1, 2), 0.2)), capsys)
    assert found["1 worker, ours: leases"] > 0
    assert found["2 workers, bare: p99"] >= found["2 workers, bare: p50"] > 0


async def test_ten_thousand_rows_are_listed_in_seconds(
    server: Postgres, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan that compares every row with every other needs a minute for such a page."""
    report = await listing.measure(server, folder, rows=10_000, page_rows=[10_000])
    found = said(report, capsys)
    assert found["10,000 rows a page: seconds"] < 15
    assert found["10,000 rows a page: peak memory"] > 0


async def test_searches_are_measured_by_kind(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(await search.measure(folder, documents=300, times=64), capsys)
    for clients in ("1 client", "8 clients"):
        assert 0 < found[f"{clients}: p50"] <= found[f"{clients}: p95"]
        assert found[f"{clients}, facets and a histogram: p95"] > 0


async def test_totals_are_measured_beside_a_count_that_says_the_same(
    server: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(await statistics.measure(server, statistics.Size(3, 60, 3000, 4, 2)), capsys)
    assert found["projects told otherwise"] == 0
    assert found["naive : ours, in the database"] > 1


@needs_pages
async def test_memory_is_sampled_while_pages_are_scraped(
    server: Postgres, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(await scrape.soak(server, folder, pages=scrape.PAGES, count=60), capsys)
    assert found["scraper, memory at the end"] > 0
    assert found["extraction child, memory at the end"] > 0
    assert found["rate"] > 0


@needs_pages
@pytest.mark.skipif(not peer.installed(), reason="Scrapy's environment is not there")
async def test_scraping_is_measured_beside_scrapy(
    server: Postgres, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await scrape.compare(server, folder, pages=scrape.PAGES, count=24, repeats=1)
    found = said(report, capsys)
    ratio = found["pages/s, chrono_ray : Scrapy"]
    rates = [v for k, v in found.items() if k.endswith(("one scraper process", "with metadata"))]
    assert ratio == pytest.approx(rates[0] / rates[1])


def test_a_benchmark_that_is_told_to_end_cleans_up(folder: Path) -> None:
    folder.chmod(0o755)
    process = start(folder, "claim", "--pending", "1000", "--seconds", "50")
    try:
        until(lambda: any(folder.glob("*/record/*")))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    assert process.returncode
    until(lambda: left_in(folder) == [])


def test_without_pages_it_says_where_it_looked(folder: Path) -> None:
    process = start(folder, "scrape", "--pages", str(folder))
    _, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert str(folder) in complaint.decode()


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.05)
