"""Captures, listings and settlements for the tests of the record, and what must always hold."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.decision import decide
from chrono_ray.model.memento import BadRow, DigestCheck, ListingPage, MatchType, Memento, Scope
from chrono_ray.model.outcome import Failed, Gone, Stored
from chrono_ray.model.page import Document
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.retry import Fail, Retry, Snooze
from chrono_ray.model.urls import surt
from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.database import Database
from chrono_ray.storage.frontier import Claimed, FetchLease, Frontier, Nothing
from chrono_ray.storage.governor import Governor, Kind, Limit
from chrono_ray.storage.listings import Decided, Listings, SliceLease
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.settling import Kept, Settlement, Settling

NOTHING_KEPT = bytes(32)
"""Stands for the kept answer where no blob store takes part."""


def digest_of(body: str) -> str:
    return base64.b32encode(hashlib.sha1(body.encode(), usedforsecurity=False).digest()).decode()


def capture(
    url: str = "http://a.example/",
    stamp: str = "20100101000000",
    *,
    body: str | None = None,
    digest: str | None = None,
    mimetype: str = "text/html",
    statuscode: str = "200",
) -> Capture:
    """A listed row; `body` (default: url and stamp) decides its digest."""
    named = digest if digest is not None else digest_of(body or f"{url} {stamp}")
    return Capture(surt(url), Timestamp14(stamp), url, mimetype, statuscode, named, 1000)


def revisit(of: Capture, stamp: str) -> Capture:
    return Capture(of.urlkey, Timestamp14(stamp), of.original, "warc/revisit", "-", of.digest, 400)


def page(
    rows: Sequence[Capture], *, next_key: str = "", bad: Sequence[BadRow] = (), requests: int = 1
) -> ListingPage:
    return ListingPage(tuple(rows), tuple(bad), next_key, b"", requests)


def memento(capture: Capture, body: bytes = b"<p>Hello</p>") -> Memento:
    return Memento(
        body=body, sha1=hashlib.sha1(body, usedforsecurity=False).hexdigest(),
        check=DigestCheck.VERIFIED, served=capture.timestamp, served_url=capture.original,
        status=200, media_type="text/html", charset="utf-8", headers=(), redirects=(), requests=1,
    )  # fmt: skip


def document(text: str = "Hello") -> Document:
    return Document(
        extractor="test/1", media_type="text/html", charset="utf-8", title="A title", text=text,
        author="", published=None, language="en", words=len(text.split()), description="",
        canonical="", links=(), flags=(), replaced=0,
    )  # fmt: skip


def stored(lease: FetchLease, *, body: bytes | None = None, requests: int = 1) -> Settlement:
    whole = body if body is not None else lease.capture.digest.encode()
    got = memento(lease.capture, whole)
    return settlement(
        lease, Fail(Stored(got, document(whole.decode()))), requests=requests,
        kept=Kept(hashlib.sha256(whole).digest(), got),
    )  # fmt: skip


def gone(lease: FetchLease, reason: str = "not_found") -> Settlement:
    return settlement(lease, Fail(Gone(reason, "the archive says 404")))


def failed(lease: FetchLease, reason: str = "encoding") -> Settlement:
    return settlement(lease, Fail(Failed(reason, "it cannot be read")))


def settlement(
    lease: FetchLease,
    verdict: Fail | Retry | Snooze,
    *,
    requests: int = 1,
    kept: Kept | None = None,
    throttled: int = 0,
) -> Settlement:
    return Settlement(
        lease.fetch_id, lease.run_id, lease.capture_id, lease.token, verdict, kept, requests,
        throttled,
    )  # fmt: skip


@dataclass(slots=True)
class Record:
    """Every part of the record over one database, and shortcuts through them."""

    database: Database
    projects: Projects = field(init=False)
    listings: Listings = field(init=False)
    settling: Settling = field(init=False)
    certificate: Certificate = field(init=False)
    governor: Governor = field(init=False)

    def __post_init__(self) -> None:
        self.projects = Projects(self.database)
        self.listings = Listings(self.database)
        self.settling = Settling(self.database)
        self.certificate = Certificate(self.database)
        self.governor = Governor(self.database, egress="here")

    def frontier(self, worker: str = "worker", *, seconds: float = 60) -> Frontier:
        return Frontier(
            self.database,
            worker=worker,
            egress="here",
            archives=("wayback", "pywb", "warc"),
            lease=timedelta(seconds=seconds),
        )

    async def unlimited(self, *archives: str) -> None:
        """Budgets without a limit for these archives."""
        limits = [Limit(archive, kind, 0) for archive in archives for kind in Kind]
        await self.governor.configure(limits)

    async def start(
        self,
        url: str = "a.example",
        *,
        project: str = "p",
        archive: str = "wayback",
        queue_class: QueueClass = QueueClass.SCRAPING,
        match: MatchType = MatchType.DOMAIN,
    ) -> int:
        return await self.projects.start_run(
            Scope(f"http://{url}/", match), project=project, archive=archive,
            queue_class=queue_class,
        )  # fmt: skip

    async def slice_of(self, run_id: int, *, archive: str = "wayback") -> SliceLease:
        """The run's slice, leased; the others that were met on the way go back."""
        lease = await self.listings.claim([archive])
        assert lease is not None
        if lease.run_id == run_id:
            return lease
        found = await self.slice_of(run_id, archive=archive)
        await self.listings.release(lease, delay=0, attempt=False, reason="", detail="")
        return found

    async def keep(
        self, lease: SliceLease, rows: Sequence[Capture], *, next_key: str = "",
        bad: Sequence[BadRow] = (),
    ) -> None:  # fmt: skip
        decided = [Decided(row, decide(row, lease.rules)) for row in rows]
        listed = page(rows, next_key=next_key, bad=bad)
        await self.listings.keep(lease, listed, decided=decided, raw=NOTHING_KEPT)

    async def list_all(
        self, run_id: int, rows: Sequence[Capture], *, archive: str = "wayback"
    ) -> None:
        """The whole listing of a run in one page."""
        await self.keep(await self.slice_of(run_id, archive=archive), rows)

    async def claim(self, wanted: int = 100, *, worker: str = "worker") -> list[FetchLease]:
        """What can be claimed at once; nothing is an empty list."""
        match await self.frontier(worker).claim(wanted, idle=0):
            case Claimed(leases):
                return list(leases)
            case Nothing():
                return []

    async def counters(self, run_id: int) -> dict[tuple[str, str], int]:
        return await self.certificate.counters(run_id)

    async def state_of(self, run_id: int) -> str:
        return (await self.projects.run(run_id)).state.value

    async def faults(self) -> list[str]:
        return await faults(self.database)


async def faults(database: Database) -> list[str]:
    """Every breach of what must hold after each transaction, for all runs, in words."""
    found: list[str] = []
    certificate = Certificate(database)
    found += [
        f"fetch {row['id']} is {row['state']} and in {row['places']} places"
        for row in await database.fetch(MISPLACED)
    ]
    found += [
        f"a row of {row['place']} names fetch {row['fetch_id']}, which is not pending"
        for row in await database.fetch(STRANDED)
    ]
    found += [
        f"a row of {row['place']} waits under run {row['run_id']}, which is {row['state']};"
        f" its fetch {row['fetch_id']} is run {row['owner']}'s"
        for row in await database.fetch(NOBODYS)
    ]
    for run in await database.fetch("SELECT id FROM runs ORDER BY id"):
        found += [f"run {run['id']}: {each}" for each in await certificate.wrong_rows(run["id"])]
        found += await _wrong_counters(certificate, run["id"])
    found += [
        f"page {row['id']} counts {row['captures']}, its captures are {row['n']}"
        for row in await database.fetch(PAGE_TOTALS)
    ]
    found += [
        f"domain {row['domain_id']} tells {row['told']} {row['state']}, not {row['counted']}"
        for row in await database.fetch("SELECT * FROM wrong_numbers")
    ]
    found += [
        f"run {row['run_id']} (whole: {row['whole']}) says {row['says']} pages and"
        f" {row['noted']} noted ones, its captures make {row['n']}"
        for row in await database.fetch(RUN_PAGES)
    ]
    return found


async def _wrong_counters(certificate: Certificate, run_id: int) -> Iterable[str]:
    counters, states = await certificate.counters(run_id), await certificate.states(run_id)
    listed = counters.pop(("discovered", ""), 0)
    beside = {("known", ""), ("repeated", ""), ("skipped", "bad_row")}
    accounted = sum(states.values()) + sum(counters.get(key, 0) for key in beside)
    wrong = []
    if listed != accounted:
        wrong.append(f"run {run_id}: discovered {listed}, accounted for {accounted}")
    for key in counters.keys() | states.keys():
        if key[0] in ("request", "pending") or key in beside:
            continue
        if counters.get(key, 0) != states.get(key, 0):
            wrong.append(
                f"run {run_id}: counter {key} {counters.get(key, 0)}, rows {states.get(key, 0)}"
            )
    return wrong


MISPLACED = """
SELECT f.id, f.state, count(p.fetch_id) AS places
  FROM fetches f
  LEFT JOIN (SELECT fetch_id FROM queue UNION ALL SELECT fetch_id FROM leases
             UNION ALL SELECT fetch_id FROM parked) p ON p.fetch_id = f.id
 GROUP BY f.id, f.state HAVING count(p.fetch_id) <> (f.state = 'pending')::int
"""

STRANDED = """
SELECT p.place, p.fetch_id
  FROM (SELECT 'queue' AS place, fetch_id FROM queue UNION ALL SELECT 'leases', fetch_id FROM leases
        UNION ALL SELECT 'parked', fetch_id FROM parked) p
  LEFT JOIN fetches f ON f.id = p.fetch_id WHERE f.id IS NULL OR f.state <> 'pending'
"""

NOBODYS = """
SELECT p.place, p.run_id, r.state, p.fetch_id, f.run_id AS owner
  FROM (SELECT 'queue' AS place, fetch_id, run_id FROM queue
        UNION ALL SELECT 'leases', fetch_id, run_id FROM leases
        UNION ALL SELECT 'parked', fetch_id, run_id FROM parked) p
  JOIN runs r ON r.id = p.run_id JOIN fetches f ON f.id = p.fetch_id
 WHERE r.state = 'done' OR f.run_id <> p.run_id
"""

PAGE_TOTALS = """
SELECT p.id, p.captures, count(c.id) AS n
  FROM pages p
  LEFT JOIN (fetches f JOIN captures c ON c.fetch_id = f.id)
         ON f.project_id = p.project_id AND f.payload_id = p.payload_id AND f.state = 'stored'
        AND c.url_id = p.url_id
 GROUP BY p.id, p.captures HAVING count(c.id) <> p.captures
"""


RUN_PAGES = """
WITH mine AS (
    SELECT c.url_id, c.fetch_id, c.run_id FROM captures c
    UNION ALL
    SELECT c.url_id, c.fetch_id, a.run_id FROM adoptions a JOIN captures c ON c.id = a.capture_id
), counted AS (
    SELECT k.run_id, k.whole, count(DISTINCT p.id) AS n
      FROM mine m JOIN fetches f ON f.id = m.fetch_id AND f.state = 'stored'
      JOIN pages p ON p.project_id = f.project_id AND p.url_id = m.url_id
       AND p.payload_id = f.payload_id
      JOIN runs r ON r.id = m.run_id
     CROSS JOIN LATERAL (VALUES (r.id, false), (r.together, true)) k (run_id, whole)
     WHERE k.run_id IS NOT NULL GROUP BY 1, 2
), noted AS (
    SELECT run_id, whole, count(*) AS noted FROM run_pages GROUP BY 1, 2
)
SELECT run_id, whole, coalesce(r.n, 0) AS says, coalesce(noted, 0) AS noted, coalesce(c.n, 0) AS n
  FROM counted c FULL JOIN run_page_counts r USING (run_id, whole)
  FULL JOIN noted USING (run_id, whole)
 WHERE coalesce(r.n, 0) <> coalesce(c.n, 0) OR coalesce(noted, 0) <> coalesce(c.n, 0)
"""


async def until(condition, *, seconds: float = 20.0, every: float = 0.02) -> None:
    """Until the (async) condition is true; TimeoutError names it when it never is."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(every)
    except TimeoutError as error:
        raise TimeoutError(f"never true: {getattr(condition, '__name__', condition)}") from error
