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
from typing import Any

import orjson
import psutil
import pytest

from benchmarks import peer
from benchmarks.record import ROOT
from benchmarks.scrape import PAGES

DEADLINE = 60.0

needs_pages = pytest.mark.skipif(
    not any(PAGES.glob("*.html.gz")), reason=f"the pages are not in {PAGES}"
)


@pytest.fixture
def room() -> Iterator[Path]:
    """Where a benchmark puts its folders: below /tmp, for the server's own account to enter."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-smoke-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(room: Path, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(room)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(room: Path, module: str, *arguments: str) -> dict[str, Any]:
    """The figures by name."""
    process = start(room, module, *arguments, "--json")
    out, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, complaint.decode()
    whole = orjson.loads(out)
    assert whole["real"]
    assert whole["versions"]["postgresql"]
    assert whole["machine"]["cores"] >= 1
    return {figure["name"]: figure["value"] for figure in whole["figures"]}


def left_in(room: Path) -> list[str]:
    """Files of a benchmark, and processes that speak of its folder."""
    here = str(room)
    processes = [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if any(here in word for word in process.info["cmdline"] or ())
    ]
    return [*map(str, room.iterdir()), *processes]


def test_claims_are_measured_beside_bare_ones(room: Path) -> None:
    found = run(room, "claim", "--pending", "4000", "--seconds", "0.2", "--workers", "1", "2")
    assert found["1 worker, ours: leases"] > 0
    assert found["2 workers, bare: p99"] >= found["2 workers, bare: p50"] > 0
    assert left_in(room) == []


def test_ten_thousand_rows_are_listed_in_seconds(room: Path) -> None:
    """A plan that compares every row with every other needs a minute for such a page."""
    found = run(room, "listing", "--rows", "10000", "--page-rows", "10000")
    assert found["10,000 rows a page: seconds"] < 15
    assert found["10,000 rows a page: peak memory"] > 0
    assert left_in(room) == []


@needs_pages
def test_memory_is_sampled_while_pages_are_scraped(room: Path) -> None:
    found = run(room, "scrape", "--soak", "60")
    assert found["scraper, memory at the end"] > 0
    assert found["extraction child, memory at the end"] > 0
    assert found["rate"] > 0
    assert left_in(room) == []


@needs_pages
@pytest.mark.skipif(not peer.installed(), reason="Scrapy's environment is not there")
def test_scraping_is_measured_beside_scrapy(room: Path) -> None:
    found = run(room, "scrape", "--count", "24", "--repeats", "1")
    ratio = found["pages/s, chrono_ray : Scrapy"]
    rates = [v for k, v in found.items() if k.endswith(("one scraper process", "with metadata"))]
    assert ratio == pytest.approx(rates[0] / rates[1])
    assert left_in(room) == []


def test_a_benchmark_that_is_told_to_end_cleans_up(room: Path) -> None:
    process = start(room, "claim", "--pending", "1000", "--seconds", "50")
    try:
        until(lambda: any(room.glob("*/record/*")))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    assert process.returncode
    until(lambda: left_in(room) == [])


def test_without_pages_it_says_where_it_looked(room: Path) -> None:
    process = start(room, "scrape", "--pages", str(room))
    _, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert str(room) in complaint.decode()


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.05)
