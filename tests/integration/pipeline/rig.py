"""A whole scraper, lister and indexer in this process, over a real record and a real wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from chrono_ray.archives.base import Archive
from chrono_ray.archives.wayback import WaybackArchive
from chrono_ray.demo.record import Site
from chrono_ray.extraction.extract import extract
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.page import Document
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.retry import ATTEMPTS, LATE_PASSES
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.pipeline.discover import Discoverer
from chrono_ray.pipeline.index import Indexing
from chrono_ray.pipeline.redecide import Redeciding
from chrono_ray.pipeline.scrape import Pace, Parts, Scrape, Understanding
from chrono_ray.pipeline.settle import Batching
from chrono_ray.pipeline.verify import Recount, Verify
from chrono_ray.search.batch import BatchLimits
from chrono_ray.search.tantivy import Role, TantivyIndex
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.database import Database
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.frontier import Frontier
from chrono_ray.storage.governor import Governor, Kind, Limit, Pauses
from chrono_ray.storage.listings import Listings
from chrono_ray.storage.outbox import Outbox
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.rebuilds import Rebuilds
from chrono_ray.storage.settling import Settling
from chrono_ray.storage.stats import Stats
from tests.integration.storage.making import faults, until
from tests.support.archive import HostileArchive
from tests.support.archive import Kind as Asked

PACE = Pace(
    in_flight=16, claim=8, idle=0.05, renew_every=1.0, watch_every=0.2, sweep_every=0.2,
    replay_deadline=10.0, drain=5.0,
)  # fmt: skip
HONEST = ("", "Latency")
ASKED_WHEN_ILL = ATTEMPTS + 3 + len(LATE_PASSES) * (1 + 3)
"""For a listing: the fifth try and each after it asks for three months, too."""
SHORT = Pauses(throttled=0.8, throttled_most=1.6, ban=1.0, ban_most=2.0, outage=0.3, outage_most=1)


class InProcess:
    """The real extraction without its child process; `edit` may spoil or refuse a page."""

    def __init__(self, edit: Callable[[str, Document], Document] | None = None) -> None:
        self._edit = edit

    async def extract(
        self, body: bytes, *, media_type: str, charset: str, url: str, captured: date | None = None
    ) -> Document:
        found = extract(body, media_type=media_type, charset=charset, url=url, captured=captured)
        return found if self._edit is None else self._edit(url, found)


@dataclass(slots=True)
class Rig:
    """What one worker works with; several over one database are several workers."""

    database: Database
    archives: dict[str, Archive]
    blobs: Blobs
    index: TantivyIndex
    understanding: Understanding = field(default_factory=InProcess)
    pace: Pace = PACE
    worker: str = "rig"
    listings: Listings = field(init=False)
    governor: Governor = field(init=False)
    scrape: Scrape = field(init=False)
    indexing: Indexing = field(init=False)

    def __post_init__(self) -> None:
        self.governor = Governor(self.database, egress="here", pauses=SHORT)
        self.listings = Listings(self.database)
        self.scrape = self.new_scrape()
        self.indexing = Indexing(
            Outbox(self.database), Rebuilds(self.database), self.index,
            limits=BatchLimits(50, 10**6, 0.1),
        )  # fmt: skip

    def new_scrape(
        self, *, batching: Batching | None = None, lease: float = 10, meter: Meter = SILENT
    ) -> Scrape:
        settling = Settling(self.database)
        frontier = Frontier(
            self.database, worker=self.worker, egress="here", archives=tuple(self.archives),
            lease=timedelta(seconds=lease),
        )  # fmt: skip
        parts = Parts(
            frontier, settling, self.governor, self.blobs, self.archives, self.understanding
        )
        return Scrape(
            parts, pace=self.pace, batching=batching or Batching(seconds=0.05, retry=0.1),
            meter=meter,
        )  # fmt: skip

    @property
    def discoverer(self) -> Discoverer:
        return Discoverer(self.listings, self.governor, self.blobs, self.archives)

    async def limit(self, *, listing: int = 0, replay: int = 0) -> None:
        await self.governor.configure(
            [
                limit
                for name in self.archives
                for limit in (Limit(name, Kind.LISTING, listing), Limit(name, Kind.REPLAY, replay))
            ]
        )

    async def start(self, domain: str, *, project: str = "p") -> int:
        return await Projects(self.database).start_run(
            Scope(f"http://{domain}/", MatchType.DOMAIN), project=project, archive="wayback",
            queue_class=QueueClass.SCRAPING,
        )  # fmt: skip

    @asynccontextmanager
    async def working(self, *, index: bool = True) -> AsyncIterator[None]:
        """Lists, fetches and indexes while entered, then drains."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.discoverer.run(stop))
            group.create_task(self.scrape.run(stop))
            group.create_task(Redeciding(Deciding(self.database)).run(stop))
            if index:
                group.create_task(self.indexing.run(stop))
            try:
                yield
            finally:
                stop.set()

    async def until_done(self, run: int, *, seconds: float = 40) -> None:
        async def done() -> bool:
            state = await self.database.fetchval("SELECT state FROM runs WHERE id = $1", run)
            waiting = await self.database.fetchval("SELECT count(*) FROM outbox")
            return state == "done" and waiting == 0

        await until(done, seconds=seconds)

    async def collect(self, domain: str, *, project: str = "p", seconds: float = 40) -> int:
        """A whole run, from its start to the last page indexed."""
        run = await self.start(domain, project=project)
        async with self.working():
            await self.until_done(run, seconds=seconds)
        return run

    async def verify(self, run: int) -> Recount:
        certificate = Certificate(self.database)
        return await Verify(certificate, self.blobs, self.archives, self.index).run(run)

    async def counters(self, run: int) -> dict[tuple[str, str], int]:
        return await Certificate(self.database).counters(run)

    async def assert_whole(self, run: int, listed: int) -> None:
        """Every listed row ended, the rows add up, and the index holds every page."""
        progress = await Stats(self.database).progress(run)
        assert progress.captures.discovered == listed
        assert progress.captures.pending == 0
        assert await faults(self.database) == []
        recount = await self.verify(run)
        assert recount.faults == []
        assert recount.rows_listed == listed
        assert recount.pages == recount.pages_indexed + recount.pages_rejected

    @asynccontextmanager
    async def impatient(self) -> AsyncIterator[None]:
        """While entered, whatever waits for its next try is due at once."""

        async def hurry() -> None:
            while True:
                await self.database.fetch("UPDATE slices SET not_before = '-infinity'")
                await self.database.fetch("UPDATE parked SET until = '-infinity'")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(hurry())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def wayback(url: str, *, rows: int = 40) -> WaybackArchive:
    parts = urlsplit(url)
    return WaybackArchive(
        url, "chrono_ray tests (loopback only)", rows_per_page=rows,
        allowed=frozenset({(parts.hostname or "", parts.port or 80)}),
    )  # fmt: skip


@asynccontextmanager
async def rig_over(
    url: str, database_url: str, folder: Path, *, rows: int = 40,
    understanding: Understanding | None = None, pace: Pace = PACE, blobs: Blobs | None = None,
) -> AsyncIterator[Rig]:  # fmt: skip
    database = Database(database_url, pool_size=6, name="rig")
    archive = wayback(url, rows=rows)
    index = TantivyIndex(folder / "index", Role.WRITER)
    rig = Rig(
        database, {"wayback": archive}, blobs or Blobs(str(folder / "payloads")), index,
        understanding or InProcess(), pace,
    )  # fmt: skip
    try:
        await rig.limit()
        await index.configure()
        yield rig
    finally:
        await archive.aclose()
        await index.aclose()
        await database.aclose()


def most_successes(server: HostileArchive, site: Site) -> int:
    """By the archive's own log: the most whole, honest replays that one payload ever got.

    Rows of one second and URL share their address: such an address stands for each of its
    payloads in turn.
    """
    payloads: dict[str, list[str]] = {}
    for row in {
        (r.capture.timestamp.text, r.capture.original, r.capture.digest) for r in site.records
    }:
        payloads.setdefault(f"/web/{row[0]}id_/{row[1]}", []).append(row[2])
    asked: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for entry in server.log.entries():
        if entry.kind is Asked.REPLAY and entry.status == 200 and entry.behaviour in HONEST:
            here = payloads[entry.target]
            found[here[asked[entry.target] % len(here)]] += 1
            asked[entry.target] += 1
    return max(found.values())


def spoiled(document: Document) -> Document:
    """What PostgreSQL does not take."""
    return replace(document, text=document.text + "\0")
