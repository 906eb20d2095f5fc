"""One collection from a Wayback, a pywb and local WARC files that hold the same captures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chrono_ray.archives.pywb import PywbArchive
from chrono_ray.archives.warc import WarcArchive
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.pipeline.follow import follow
from chrono_ray.pipeline.report import RunReport
from chrono_ray.storage.projects import Collection, Projects
from tests.integration.archives.warcs import write_warc
from tests.integration.pipeline.rig import Rig, most_successes, rig_over
from tests.integration.storage.making import faults
from tests.support.archive import (
    DemoWayback,
    HostileArchive,
    Kind,
    Rule,
    Site,
    Status,
    demo_site,
    times_of,
)
from tests.support.pywb import pywb_collection

ORDER = ("wayback", "pywb", "warc")


@pytest.fixture(scope="module")
def small() -> Site:
    return demo_site(60)


@pytest.fixture(scope="module")
def warc(small: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [each for each in small.records if not each.capture.timestamp.impossible]
    return write_warc(tmp_path_factory.mktemp("warc") / "site.warc.gz", records)


@pytest.fixture(scope="module")
def pywb(warc: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pywb_collection(tmp_path_factory.mktemp("pywb"), [warc]) as url:
        yield url


@pytest.fixture
async def wayback(small: Site) -> AsyncIterator[HostileArchive]:
    async with HostileArchive(DemoWayback(small)) as server:
        yield server


@pytest.fixture
async def several(
    wayback: HostileArchive, pywb: str, warc: Path, database_url: str, tmp_path: Path
) -> AsyncIterator[Rig]:
    """One worker that can ask all three."""
    async with rig_over(wayback.url, database_url, tmp_path) as rig:
        port = urlsplit(pywb).port or 80
        rig.archives["pywb"] = PywbArchive(
            pywb, "tests", rows_per_page=40, allowed=frozenset({("127.0.0.1", port)})
        )
        rig.archives["warc"] = WarcArchive(warc, rows_per_page=40)
        rig.scrape = rig.new_scrape()
        await rig.limit()
        yield rig
        for name in ("pywb", "warc"):
            await rig.archives[name].aclose()


async def collect(rig: Rig, domain: str) -> RunReport:
    """To the end of all three runs, followed by the first as a person does."""
    site = Scope(f"http://{domain}/", MatchType.DOMAIN)
    begun = await Projects(rig.database).begin(Collection(site, "p", ORDER))
    async with rig.impatient(), rig.working(), asyncio.timeout(60):
        report = await follow(
            rig.database, begun.run_ids[0], asyncio.Event(), egress="here",
            alive=lambda: True, tell=lambda _: None, every=60,
        )  # fmt: skip
    assert isinstance(report, RunReport)
    assert report.run_ids == begun.run_ids
    return report


async def requests_of(rig: Rig) -> dict[str, int]:
    """Replays by archive."""
    rows = await rig.database.fetch(
        "SELECT r.archive, k.n FROM domain_counters k JOIN runs r ON r.id = k.run_id"
        " WHERE k.state = 'request' AND k.reason = 'replay'"
    )
    return {row["archive"]: row["n"] for row in rows}


async def certify(rig: Rig, report: RunReport) -> None:
    assert report.progress.captures.pending == 0
    assert report.pages.waiting == 0
    assert await faults(rig.database) == []
    for run_id in report.run_ids:
        assert (await rig.verify(run_id)).faults == []


async def test_each_payload_is_had_once_wherever_it_is(
    several: Rig, wayback: HostileArchive, small: Site
):
    report = await collect(several, small.domain)
    await certify(several, report)
    wanted = await several.database.fetchval("SELECT count(*) FROM fetches")
    stored = await several.database.fetchval("SELECT count(*) FROM fetches WHERE state = 'stored'")
    assert report.progress.captures.stored == stored > 10
    explained = await several.database.fetchval("SELECT coalesce(sum(requests), 0) FROM attempts")
    asked = await requests_of(several)
    assert sum(asked.values()) - explained <= wanted, "one good answer a digest, over all archives"
    assert most_successes(wayback, small) == 1
    assert report.progress.captures.unchanged >= stored, "the copies elsewhere are unchanged"


async def test_what_the_preferred_archive_lacks_comes_from_the_next(
    several: Rig, wayback: HostileArchive, small: Site
):
    wayback.behave(Rule(Status(404), kind=Kind.REPLAY))
    report = await collect(several, small.domain)
    await certify(several, report)
    assert report.progress.captures.stored > 10
    assert (await requests_of(several))["pywb"] > 10
    assert len(times_of(list(wayback.log.entries()), Kind.REPLAY)) > 5
