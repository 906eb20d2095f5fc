"""A run from Common Crawl, from its first listing to its certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from chrono_ray.archives.base import Archive
from chrono_ray.archives.commoncrawl import CommonCrawlArchive
from chrono_ray.demo.record import Origin, Record, Site, record, revisit
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.pipeline.verify import Recount
from chrono_ray.search.tantivy import Role, TantivyIndex
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects
from tests.integration.pipeline.rig import ASKED_WHEN_ILL, Rig, wayback
from tests.support.archive import DemoWayback, HostileArchive
from tests.support.commoncrawl import SLOW_DOWN, CommonCrawlServer, CrawlFiles, Rule, say

HTML = (("Content-Type", "text/html; charset=utf-8"),)
SITE = "quay.example"


def _page(path: str, stamp: str, words: str, *, status: int = 200) -> Record:
    body = f"<html><title>Quay</title><p>{words}</p></html>".encode()
    return record(f"http://{SITE}/{path}", stamp, Origin(status, "text/html", HTML, body))


def _crawls() -> dict[str, list[Record]]:
    """A page that stays the same for years, one that changes, one that goes away."""
    home = [_page("", f"{year}0301000000", "The quay.") for year in (2012, 2023, 2024)]
    return {
        "CC-MAIN-2012": [home[0], _page("fish", "20120302000000", "Herring.")],
        "CC-MAIN-2023-14": [home[1], _page("fish", "20230302000000", "Cod.")],
        "CC-MAIN-2024-10": [
            home[2],
            revisit(home[2], "20240302000000"),
            _page("fish", "20240303000000", "Nothing was found.", status=404),
        ],
    }


@asynccontextmanager
async def rig_with(
    server: CommonCrawlServer, database_url: str, folder: Path, *others: Archive
) -> AsyncIterator[Rig]:
    database = Database(database_url, pool_size=6, name="rig")
    index = TantivyIndex(folder / "index", Role.WRITER)
    archive = CommonCrawlArchive(
        server.collinfo, server.data, "tests", blocks_per_page=2, allowed=server.allowed
    )
    archives = {each.name: each for each in (archive, *others)}
    async with aclosing(database), aclosing(index), aclosing(archive):
        rig = Rig(database, archives, Blobs(str(folder / "payloads")), index)
        await rig.limit()
        await index.configure()
        yield rig


async def start(rig: Rig, archive: str) -> int:
    return await Projects(rig.database).start_run(
        Scope(f"http://{SITE}/", MatchType.DOMAIN), project="p", archive=archive,
        queue_class=QueueClass.SCRAPING,
    )  # fmt: skip


async def listed(rig: Rig) -> Recount:
    """The recount of a run that is listed to its end, and not fetched."""
    run = await start(rig, "commoncrawl")
    async with asyncio.timeout(40), rig.impatient():
        while await rig.database.fetchval("SELECT 1 FROM slices WHERE state = 'pending'"):
            await rig.discoverer.step()
    return await rig.verify(run)


async def collect(rig: Rig, archive: str) -> int:
    run = await start(rig, archive)
    async with rig.impatient(), rig.working():
        await rig.until_done(run)
    return run


async def test_a_run_from_common_crawl_is_complete(database_url: str, tmp_path: Path):
    files = CrawlFiles.make(tmp_path / "crawls", _crawls(), cut=[f"http://{SITE}/fish"])
    async with (
        CommonCrawlServer(files) as server,
        rig_with(server, database_url, tmp_path) as rig,
    ):
        server.behave(
            Rule("CC-MAIN-2023-14-index", say(502), times=2),
            Rule("CC-MAIN-2024-10-index", say(503, SLOW_DOWN), times=1),
            Rule("/data/", say(500, SLOW_DOWN), times=1),
        )
        run = await collect(rig, "commoncrawl")
        await rig.assert_whole(run, 7)
        counters = await rig.counters(run)
        cut = await rig.database.fetch(
            "SELECT 'truncated' = ANY (d.flags) AS cut FROM pages p"
            " JOIN documents d ON d.id = p.document_id ORDER BY p.url"
        )
    assert [row["cut"] for row in cut] == [False, True, True], "the home page is whole"
    assert counters["stored", ""] == 3
    assert counters["unchanged", ""] == 3, "two more visits and a revisit of one page"
    assert counters["skipped", "not_found"] == 1
    assert counters["request", "throttled"] == 2
    assert len(server.asked_for("/data/")) == 4, "one request a digest, and one that was throttled"


async def test_what_another_archive_gave_is_not_asked_for_again(database_url: str, tmp_path: Path):
    crawls = _crawls()
    files = CrawlFiles.make(tmp_path / "crawls", crawls)
    known = Site.of(SITE, [*crawls["CC-MAIN-2012"], *crawls["CC-MAIN-2024-10"]])
    async with (
        HostileArchive(DemoWayback(known)) as other,
        aclosing(wayback(other.url)) as first,
        CommonCrawlServer(files) as server,
        rig_with(server, database_url, tmp_path, first) as rig,
    ):
        await collect(rig, "wayback")
        run = await collect(rig, "commoncrawl")
        await rig.assert_whole(run, 7)
        counters = await rig.counters(run)
    assert counters["stored", ""] == 1
    assert counters["unchanged", ""] == 5
    assert len(server.asked_for("/data/")) == 1, "only what the other did not have"


async def test_ill_indexes_are_not_asked_for_ever_less(database_url: str, tmp_path: Path):
    """Of 1996 there is no crawl: that its month lists nothing does not mean that they are well."""
    files = CrawlFiles.make(tmp_path / "crawls", _crawls())
    async with (
        CommonCrawlServer(files) as server,
        rig_with(server, database_url, tmp_path) as rig,
    ):
        server.behave(Rule("-index", say(502)))
        recount = await listed(rig)
    assert [(hole.start, hole.end) for hole in recount.holes] == [("", "")]
    assert len(server.asked_for("-index")) <= ASKED_WHEN_ILL


async def test_an_index_that_never_answers_is_a_hole_of_its_month(
    database_url: str, tmp_path: Path
):
    files = CrawlFiles.make(tmp_path / "crawls", _crawls())
    async with (
        CommonCrawlServer(files) as server,
        rig_with(server, database_url, tmp_path) as rig,
    ):
        server.behave(Rule("CC-MAIN-2023-14-index", say(504)))
        recount = await listed(rig)
    [hole] = recount.holes
    assert hole.end.startswith("202303")
    assert recount.faults == ["4 captures have not ended yet"]
    assert recount.rows_listed - recount.repeated == 5
