"""A whole collection in this process, by the parts as they are composed, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.demo.record import Origin, Record, Site, record
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.pipeline.discover import Discoverer
from chrono_ray.pipeline.verify import Recount, Verify
from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Governor
from chrono_ray.storage.listings import Listings
from chrono_ray.storage.projects import Projects
from tests.support.archive import Behaviour, DemoWayback, HostileArchive, Kind, Rule

DOMAIN = "inputs.example"
SENTENCE = "The harbour was rebuilt after the storm, and the old pier was never used again. "
HTML = (("Content-Type", "text/html; charset=utf-8"),)
STAMP = "20050102030405"

HURRY = (
    "UPDATE parked SET until = clock_timestamp() WHERE until > clock_timestamp()",
    "UPDATE slices SET not_before = '-infinity' WHERE state = 'pending'",
    "UPDATE archive_budgets SET paused_until = '-infinity' WHERE paused_until > clock_timestamp()",
)
"""Time passes: whoever waits for the next try, or for a silent archive, has waited enough."""

CAPTURES = """
SELECT c.original, c.ts, c.statuscode, c.mimetype,
       CASE WHEN c.fetch_id IS NULL THEN 'skipped'
            WHEN f.state = 'stored' AND f.capture_id <> c.id THEN 'unchanged'
            ELSE f.state END AS state,
       CASE WHEN c.fetch_id IS NULL THEN c.reason ELSE f.reason END AS reason,
       coalesce(f.detail, '') AS detail, coalesce(f.requests, 0) AS requests,
       coalesce(f.digest_check, '') AS digest_check, p.size, d.media_type, d.charset,
       d.title, d.text, d.flags, d.replaced,
       (SELECT array_agg(a.reason ORDER BY a.id) FROM attempts a WHERE a.fetch_id = f.id)
           AS attempts
  FROM captures c
  LEFT JOIN fetches f ON f.id = c.fetch_id
  LEFT JOIN payloads p ON p.id = f.payload_id
  LEFT JOIN documents d ON d.id = f.document_id
 WHERE c.run_id = $1
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one capture, as the record says it."""

    state: str
    reason: str
    detail: str
    requests: int
    digest_check: str
    size: int | None
    media_type: str
    charset: str
    title: str
    text: str
    flags: tuple[str, ...]
    replaced: int
    attempts: tuple[str, ...]

    @property
    def fate(self) -> tuple[str, str]:
        return self.state, self.reason


@dataclass(frozen=True, slots=True)
class Collected:
    """A run at its end. `captures` are by the last part of their URL's path, without `.html`."""

    run_id: int
    state: str
    captures: dict[str, Ended]
    recount: Recount

    @property
    def fates(self) -> dict[str, tuple[str, str]]:
        return {name: ended.fate for name, ended in self.captures.items()}

    @property
    def holes(self) -> list[str]:
        return [hole.reason for hole in self.recount.holes]


def page(name: str) -> bytes:
    """A page of its own: unlike any other, and long enough not to be thin."""
    return f"<html><title>{name}</title><p>{SENTENCE * 8}</p><p>This is {name}.</p>".encode()


def address(name: str) -> str:
    return f"http://{DOMAIN}/{name}.html"


def listed(name: str, body: bytes | None = None, *, headers=HTML, mimetype="text/html") -> Record:
    return record(
        address(name), STAMP, Origin(200, mimetype, headers, page(name) if body is None else body)
    )


NEIGHBOURS = tuple(f"neighbour-{number}" for number in range(5))


def served(records: Iterable[Record] = ()) -> HostileArchive:
    """An archive of these captures and their good neighbours."""
    site = Site.of(DOMAIN, [*records, *(listed(name) for name in NEIGHBOURS)])
    return HostileArchive(DemoWayback(site))


def at(name: str, behaviour: Behaviour, **when: int) -> Rule:
    """Do this to the replays of that capture alone."""
    return Rule(behaviour, kind=Kind.REPLAY, contains=f"/{name}.html", **when)


class Collecting:
    """Everything a cluster does for one run, in this process, over a database of the test's own.

    `chosen` are settings beside the usual ones: no limits, short times.
    """

    def __init__(self, database: Database, url: str, folder: Path, chosen: dict[str, str]) -> None:
        self.database = database
        self.settings = chrono_settings.load(
            {
                "CHRONO_DATABASE_URL": url,
                "CHRONO_DATA_DIR": str(folder),
                "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
                "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "0",
                "CHRONO_SCRAPING__SWEEP": "0.1",
                "CHRONO_SCRAPING__REPLAY_DEADLINE": "15",
                "CHRONO_INDEXING__SECONDS": "0.1",
                **chosen,
            }
        )

    async def start(self, *, archive: str = "wayback") -> int:
        return await Projects(self.database).start_run(
            Scope(f"http://{DOMAIN}/", MatchType.DOMAIN), project="inputs", archive=archive,
            queue_class=QueueClass.SCRAPING,
        )  # fmt: skip

    async def list_only(self, run_id: int) -> None:
        """Walk the listing to its end and fetch nothing yet."""
        archives = wiring.archives(self.settings)
        lister = Discoverer(
            Listings(self.database), Governor(self.database, egress=self.settings.egress),
            wiring.blobs(self.settings), archives,
        )  # fmt: skip
        async with asyncio.timeout(60):
            while await self._pending_slices(run_id):
                await lister.step()
        for each in archives.values():
            await each.aclose()

    async def to_its_end(self, run_id: int, *, seconds: float = 100.0) -> Collected:
        """List, fetch, understand, store and index until nothing is left to do."""
        stop = asyncio.Event()
        target = wiring.index(self.settings, "writer")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(target.aclose)
            parts = await wiring.scraper(self.settings, stack, worker="one")
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for each in parts.discoverers:
                    group.create_task(each.run(stop))
                group.create_task(parts.scrape.run(stop))
                group.create_task(parts.redeciding.run(stop))
                indexing = wiring.indexing(self.settings, self.database, target)
                group.create_task(indexing.run(stop))
                while await self._unfinished(run_id):
                    await self._hurry()
                    await asyncio.sleep(0.05)
                stop.set()
            blobs = wiring.blobs(self.settings)
            archives = wiring.archives(self.settings)
            for each in archives.values():
                stack.push_async_callback(each.aclose)
            verify = Verify(Certificate(self.database), blobs, archives, target)
            recount = await verify.run(run_id)
        state = (await Projects(self.database).run(run_id)).state.value
        return Collected(run_id, state, await self._captures(run_id), recount)

    async def _captures(self, run_id: int) -> dict[str, Ended]:
        found = {}
        for row in await self.database.fetch(CAPTURES, run_id):
            name = row["original"].rpartition("/")[2].removesuffix(".html")
            if name in found:
                name = f"{name} {row['ts']}"
            found[name] = Ended(
                row["state"], row["reason"], row["detail"], row["requests"], row["digest_check"],
                row["size"], row["media_type"] or "", row["charset"] or "", row["title"] or "",
                row["text"] or "", tuple(row["flags"] or ()), row["replaced"] or 0,
                tuple(row["attempts"] or ()),
            )  # fmt: skip
        return found

    async def _unfinished(self, run_id: int) -> bool:
        [row] = await self.database.fetch(
            "SELECT state = 'active' OR EXISTS (SELECT 1 FROM outbox) AS busy"
            "  FROM runs WHERE id = $1",
            run_id,
        )
        return bool(row["busy"])

    async def _pending_slices(self, run_id: int) -> bool:
        return bool(
            await self.database.fetch(
                "SELECT 1 FROM slices WHERE run_id = $1 AND state = 'pending'", run_id
            )
        )

    async def _hurry(self) -> None:
        for statement in HURRY:
            await self.database.fetch(statement)


def assert_whole(collected: Collected, *, bad: Sequence[str] = ()) -> None:
    """Every neighbour is stored, nothing is open, nothing is unaccounted for."""
    assert {name: collected.fates[name] for name in NEIGHBOURS} == dict.fromkeys(
        NEIGHBOURS, ("stored", "")
    )
    assert collected.state == "done"
    assert collected.recount.faults == list(bad)
