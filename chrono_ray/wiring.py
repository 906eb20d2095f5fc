"""The composition root: settings become parts. Nothing is connected before it is used."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from chrono_ray.archives.base import Archive
from chrono_ray.archives.mementos import Mementos
from chrono_ray.model.errors import ChronoError, InvalidInput, SettingsError, Unavailable
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.observability.own import tell_pool, watch_disks
from chrono_ray.pipeline.discover import Discoverer
from chrono_ray.pipeline.export import ExportParts
from chrono_ray.pipeline.export_kept import KeptExports
from chrono_ray.pipeline.index import Indexing
from chrono_ray.pipeline.kinds import KindParts, open_steps
from chrono_ray.pipeline.measured import begin_at_zero, watch_reader
from chrono_ray.pipeline.prune import PruneParts
from chrono_ray.pipeline.purge import PurgeParts
from chrono_ray.pipeline.rebuild import Rebuilding
from chrono_ray.pipeline.redecide import Redeciding
from chrono_ray.pipeline.rescue import Sweeping
from chrono_ray.pipeline.scrape import Pace, Parts, Scrape
from chrono_ray.pipeline.settle import Batching
from chrono_ray.pipeline.tasks import DRAIN_SECONDS, TaskPace, TaskRunner
from chrono_ray.pipeline.verify import Recount, Verify
from chrono_ray.search.base import SearchIndex
from chrono_ray.search.batch import BatchLimits
from chrono_ray.settings import BY_FILE, Archives, Settings
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.database import RECORD_AWAY, USUAL_FIX, Database
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.deleting import Deleting
from chrono_ray.storage.frontier import Frontier
from chrono_ray.storage.governor import Governor, Kind, Limit, Pauses
from chrono_ray.storage.listings import Listings
from chrono_ray.storage.outbox import Outbox
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.pruning import Pruning
from chrono_ray.storage.rebuilds import Rebuilds
from chrono_ray.storage.restoring import hold_off
from chrono_ray.storage.settling import Settling
from chrono_ray.storage.tasks import Tasks

MIB: Final = 1024 * 1024
OF_PATH: Final = "warc:"


@dataclass(frozen=True, slots=True)
class Scraper:
    """A scraper process: what fetches, and what lists, one for each archive: a silent archive
    keeps no other waiting."""

    scrape: Scrape
    discoverers: tuple[Discoverer, ...]
    tasks: TaskRunner
    redeciding: Redeciding


@dataclass(frozen=True, slots=True)
class Ingester:
    """A process that keeps local files: what lists them, and what reads their payloads."""

    record: Database
    scrape: Scrape
    discoverers: tuple[Discoverer, ...]


def database(settings: Settings, *, pool_size: int, name: str) -> Database:
    """The record. Its URL must be known by now: set by the operator, or the embedded part's."""
    if settings.database_url is None:
        raise SettingsError(
            "There is no database",
            why="CHRONO_DATABASE_URL is not set and no embedded PostgreSQL runs",
            fix="`chrono up` starts one, or set CHRONO_DATABASE_URL",
        )
    return Database(settings.database_url.get_secret_value(), pool_size=pool_size, name=name)


def whole_record(settings: Settings, *, pool_size: int, name: str) -> Database:
    """`database` for who works on it for long: away while a restore brings the record back."""
    record = database(settings, pool_size=pool_size, name=name)
    hold_off(record)
    return record


def unreached(error: Unavailable, settings: Settings) -> ChronoError:
    """What to tell who began something, where a worker waits: a record that does not answer.

    An error that knows a way out of its own keeps it.
    """
    if error.code != RECORD_AWAY or error.fix != USUAL_FIX:
        return error
    chosen = "Is CHRONO_DATABASE_URL right, and does that server run? "
    return Unavailable(
        error.what, why=error.why, code=error.code,
        fix=f"{chosen if settings.database_url else ''}See what is wrong: chrono doctor",
    )  # fmt: skip


def watch_pool(meter: Meter, part: str, record: Database) -> None:
    """Have it told how much of its connections a process of this `part` uses."""

    def tell(meter: Meter) -> None:
        use = record.pool
        tell_pool(meter, part, size=use.size, used=use.used, idle=use.idle)

    meter.watch(tell)


def blobs(settings: Settings) -> Blobs:
    return Blobs(settings.blobs_url or str(settings.data_dir / "payloads"))


def written_to(settings: Settings) -> dict[str, Path]:
    """The folders of this machine whose disks must not fill, by what they are for."""
    payloads = blobs(settings).folder
    return {"data": settings.data_dir, **({"payloads": payloads} if payloads else {})}


def exports_place(settings: Settings) -> str:
    """Where exports that are asked for over HTTP stand: a folder or a URL."""
    return settings.exports_url or str(settings.data_dir / "exports")


def index(settings: Settings, role: Literal["writer", "reader"]) -> SearchIndex:
    """Meilisearch when its URL is set, else tantivy in the data folder."""
    if settings.meilisearch_url and settings.meilisearch_key:
        from chrono_ray.search.meilisearch import MeilisearchIndex

        return MeilisearchIndex(
            settings.meilisearch_url, settings.meilisearch_key.get_secret_value()
        )
    from chrono_ray.search.tantivy import Role, TantivyIndex

    return TantivyIndex(index_folder(settings), Role(role))


def index_folder(settings: Settings) -> Path:
    return settings.data_dir / "index"


def limits(settings: Settings) -> list[Limit]:
    """What each archive allows. Local WARC files have no wire, so no limit."""
    archives = settings.archives
    return [
        Limit("wayback", Kind.LISTING, archives.wayback.cdx_per_minute),
        Limit("wayback", Kind.REPLAY, archives.wayback.replay_per_minute),
        Limit("commoncrawl", Kind.LISTING, archives.commoncrawl.cdx_per_minute),
        Limit("commoncrawl", Kind.REPLAY, archives.commoncrawl.replay_per_minute),
        Limit("pywb", Kind.LISTING, archives.pywb.cdx_per_minute),
        Limit("pywb", Kind.REPLAY, archives.pywb.replay_per_minute),
        Limit("warc", Kind.LISTING, 0),
        Limit("warc", Kind.REPLAY, 0),
    ]


def governor(record: Database, settings: Settings) -> Governor:
    """Leave to send from this process's egress."""
    return Governor(record, egress=settings.egress, pauses=pauses(settings))


def pauses(settings: Settings) -> Pauses:
    chosen = settings.politeness
    return Pauses(
        throttled=chosen.throttled, throttled_most=chosen.throttled_most,
        ban=chosen.ban, ban_most=chosen.ban_most,
        outage=chosen.outage, outage_most=chosen.outage_most,
    )  # fmt: skip


def archives(settings: Settings) -> dict[str, Archive]:
    """The archives that are set up, by name."""
    from chrono_ray.archives.commoncrawl import CommonCrawlArchive
    from chrono_ray.archives.pywb import PywbArchive
    from chrono_ray.archives.warc import WarcArchive
    from chrono_ray.archives.wayback import WaybackArchive

    chosen, agent = settings.archives, settings.user_agent
    found: dict[str, Archive] = {
        "wayback": WaybackArchive(
            chosen.wayback.url, agent, rows_per_page=chosen.wayback.page_rows,
            allowed=frozenset() if chosen.wayback.is_public else _listed(chosen.wayback.url),
        ),
        "commoncrawl": CommonCrawlArchive(
            chosen.commoncrawl.url, chosen.commoncrawl.data_url, agent,
            blocks_per_page=chosen.commoncrawl.page_blocks,
            allowed=frozenset() if chosen.commoncrawl.is_public
            else _listed(chosen.commoncrawl.url) | _listed(chosen.commoncrawl.data_url),
        ),
    }  # fmt: skip
    if chosen.pywb.url:
        found["pywb"] = PywbArchive(
            chosen.pywb.url, agent, rows_per_page=chosen.pywb.page_rows,
            allowed=_listed(chosen.pywb.url),
        )  # fmt: skip
    if chosen.warc.url:
        found["warc"] = WarcArchive(
            Path(chosen.warc.url.removeprefix("file://")), rows_per_page=chosen.warc.page_rows
        )
    return found


def mementos(settings: Settings) -> Mementos:
    """Where people find what the archives keep."""
    chosen = settings.archives
    return Mementos(chosen.wayback.url, chosen.pywb.url, chosen.commoncrawl.data_url)


def archive_of_path(path: Path) -> str:
    """The name of local files as an archive of their own; `archive_named` reads it."""
    return f"{OF_PATH}{path}"


def archive_named(settings: Settings, name: str) -> Mapping[str, Archive]:
    """The archives that are set up, and the one of this name if it is local files."""
    found = archives(settings)
    if name.startswith(OF_PATH):
        found[name] = _files(settings, Path(name.removeprefix(OF_PATH)))
    return found


def _files(settings: Settings, path: Path) -> Archive:
    from chrono_ray.archives.warc import WarcArchive

    return WarcArchive(
        path, name=archive_of_path(path), rows_per_page=settings.archives.warc.page_rows
    )


def archive_names(settings: Settings) -> list[str]:
    """The archives a run may name now."""
    chosen = settings.archives
    optional = (("pywb", chosen.pywb.url), ("warc", chosen.warc.url))
    return ["wayback", "commoncrawl", *(name for name, url in optional if url)]


def check_archive(name: str, settings: Settings) -> None:
    """`InvalidInput` when the archive is unknown or not set up."""
    usable = archive_names(settings)
    if name == "warc" and "warc" in usable and not Path(settings.archives.warc.url).exists():
        raise InvalidInput(
            "There are no local WARC files",
            why=f"{settings.archives.warc.url} does not exist",
            fix="Set CHRONO_ARCHIVES__WARC__URL to a WARC, ARC or WACZ file, or a folder of them",
            code="archive",
        )
    if name in usable:
        return
    known = name in Archives.model_fields
    raise InvalidInput(
        f"There is no archive {name!r}",
        why="it is not set up" if known else "",
        fix=f"Set CHRONO_ARCHIVES__{name.upper()}__URL" if known
        else f"Choose one of {', '.join(usable)}",
        code="archive",
    )  # fmt: skip


async def scraper(
    settings: Settings, stack: AsyncExitStack, *, worker: str, meter: Meter = SILENT
) -> Scraper:
    """All of one scraper process; `stack` gives everything back."""
    record = whole_record(settings, pool_size=6, name=f"chrono scraper {worker}")
    stack.push_async_callback(record.aclose)
    found = archives(settings)
    await governor(record, settings).configure(limits(settings))
    watch_pool(meter, "scraper", record)
    watch_disks(meter, written_to(settings))
    begin_at_zero(meter, found)
    scrape = await _scrape(
        settings, stack, record, found, worker=worker, pace=_pace(settings), meter=meter
    )
    return Scraper(
        scrape, _discoverers(settings, record, found, meter=meter),
        task_runner(settings, record, worker=worker, meter=meter), Redeciding(Deciding(record)),
    )  # fmt: skip


async def ingester(
    settings: Settings, stack: AsyncExitStack, paths: Sequence[Path], *, worker: str, drain: float
) -> Ingester:
    """What lists and keeps the records of local files, each path an archive of its own.

    Nobody else works on them: only this process is known to reach these files.
    """
    record = whole_record(settings, pool_size=6, name=f"chrono ingest {worker}")
    stack.push_async_callback(record.aclose)
    found: dict[str, Archive] = {archive_of_path(path): _files(settings, path) for path in paths}
    await governor(record, settings).configure(
        [Limit(name, kind, 0) for name in found for kind in Kind]
    )
    pace = replace(_pace(settings), drain=drain)
    scrape = await _scrape(settings, stack, record, found, worker=worker, pace=pace)
    return Ingester(record, scrape, _discoverers(settings, record, found))


async def _scrape(
    settings: Settings,
    stack: AsyncExitStack,
    record: Database,
    found: Mapping[str, Archive],
    *,
    worker: str,
    pace: Pace,
    meter: Meter = SILENT,
) -> Scrape:
    from chrono_ray.extraction.process import ExtractionProcess

    extraction = ExtractionProcess(
        memory=settings.scraping.page_memory * MIB,
        seconds=settings.scraping.page_seconds,
        cpu_seconds=settings.scraping.page_seconds * 0.75,
    )
    await extraction.start()
    watch_reader(meter, extraction.restarts)
    stack.push_async_callback(extraction.aclose)
    for each in found.values():
        stack.push_async_callback(each.aclose)
    parts = Parts(
        frontier=frontier(settings, record, worker=worker, archives=found),
        settling=Settling(record), governor=governor(record, settings), blobs=blobs(settings),
        archives=found, extraction=extraction,
    )  # fmt: skip
    return Scrape(parts, pace=pace, batching=Batching(), meter=meter)


def _discoverers(
    settings: Settings, record: Database, found: Mapping[str, Archive], *, meter: Meter = SILENT
) -> tuple[Discoverer, ...]:
    listings, leave, payloads = Listings(record), governor(record, settings), blobs(settings)
    return tuple(
        Discoverer(listings, leave, payloads, {name: archive}, meter=meter)
        for name, archive in found.items()
    )


def task_runner(
    settings: Settings,
    record: Database,
    *,
    worker: str,
    drain: float = DRAIN_SECONDS,
    meter: Meter = SILENT,
) -> TaskRunner:
    """What works on tasks; `drain` seconds are left to each when it is to stop."""
    tasks, projects = Tasks(record), Projects(record)
    parts = KindParts(
        purge=PurgeParts(
            Deleting(record), projects, tasks, blobs(settings),
            KeptExports(exports_place(settings)),
        ),
        export=ExportParts(record, tasks), projects=projects, rebuilds=Rebuilds(record),
        record=record, recounting=partial(recounted, settings, record),
    )  # fmt: skip
    chosen = settings.tasks
    pace = TaskPace(slots=chosen.slots, soft=chosen.soft, hard=chosen.hard, drain=drain)
    return TaskRunner(tasks, partial(open_steps, parts), worker=worker, pace=pace, meter=meter)


async def recounted(settings: Settings, record: Database, run_id: int) -> Recount:
    """A run's certificate, made now; `NotFound` when there is no such run."""
    certificate = Certificate(record)
    found = archive_named(settings, await certificate.archive_of(run_id))
    async with AsyncExitStack() as stack:
        for each in found.values():
            stack.push_async_callback(each.aclose)
        target = index(settings, "reader")
        stack.push_async_callback(target.aclose)
        return await Verify(certificate, blobs(settings), found, target).run(run_id)


def frontier(
    settings: Settings, record: Database, *, worker: str, archives: Collection[str]
) -> Frontier:
    """The queue as a worker that can ask these archives sees it."""
    return Frontier(
        record, worker=worker, egress=settings.egress, archives=archives,
        lease=timedelta(seconds=settings.scraping.lease),
    )  # fmt: skip


def sweeping(settings: Settings, record: Database) -> Sweeping:
    """What rescues the work of others, where nothing is fetched."""
    pace = _pace(settings)
    return Sweeping(
        frontier(settings, record, worker=worker_name(), archives=()), Settling(record),
        renewal=pace.renewal, every=pace.sweep_every,
    )  # fmt: skip


def indexing(
    settings: Settings, record: Database, target: SearchIndex, *, meter: Meter = SILENT
) -> Indexing:
    chosen = settings.indexing
    lease = timedelta(seconds=chosen.lease)
    return Indexing(
        Outbox(record, lease=lease), Rebuilds(record, lease=lease), target,
        limits=BatchLimits(chosen.documents, chosen.bytes, chosen.seconds), meter=meter,
    )  # fmt: skip


def rebuilding(settings: Settings, record: Database, target: SearchIndex) -> Rebuilding:
    """What builds a fresh index where no indexer runs."""
    chosen = settings.indexing
    limits = BatchLimits(chosen.documents, chosen.bytes, chosen.seconds)
    lease = timedelta(seconds=chosen.lease)
    return Rebuilding(Rebuilds(record, lease=lease), target, limits=limits)


def pruning(settings: Settings, record: Database) -> PruneParts:
    """What is kept for a while only."""
    return PruneParts(
        Pruning(record), Deleting(record), blobs(settings), KeptExports(exports_place(settings))
    )


def worker_name() -> str:
    """Says where a lease is held: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def child_environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """`base` with every chosen setting spelled out, for processes that must see the same tree.

    What came from files too: another machine need not have them.
    """
    environment = {name: value for name, value in base.items() if name not in BY_FILE}
    key, token = settings.meilisearch_key, settings.token
    urls = {
        "CHRONO_DATABASE_URL": settings.database_url and settings.database_url.get_secret_value(),
        "CHRONO_REDIS_URL": settings.redis_url and settings.redis_url.get_secret_value(),
        "CHRONO_MEILISEARCH_KEY": key and key.get_secret_value(),
        "CHRONO_TOKEN": token and token.get_secret_value(),
        "CHRONO_DATA_DIR": str(settings.data_dir),
    }
    environment.update({name: value for name, value in urls.items() if value})
    return environment


def _pace(settings: Settings) -> Pace:
    chosen = settings.scraping
    return Pace(
        in_flight=chosen.in_flight, renew_every=chosen.lease / 4, sweep_every=chosen.sweep,
        replay_deadline=chosen.replay_deadline, late_deadline=chosen.late_deadline,
    )  # fmt: skip


def _listed(url: str) -> frozenset[tuple[str, int]]:
    """The archive's own address, which the operator configured: exactly this host and port."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            "An archive's URL cannot be used", why=url, fix="Write http://host:port/ or https://..."
        )
    return frozenset({(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))})
