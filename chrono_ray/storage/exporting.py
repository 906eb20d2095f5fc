"""Exporting: a project's pages and captures in an order that stands still, up to a mark.

What a search has found is read here too: its pages by number, a slab at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import asyncpg

from chrono_ray.model.accounts import Actor
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.task import Export, Subject
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.deleting import BARRIER_TIMEOUT
from chrono_ray.storage.named import project_named

PAGES_READ: Final = 500
CAPTURES_READ: Final = 5_000
TEXT_BYTES: Final = 8 * 1024 * 1024
"""Texts of one slab; a longer one comes alone."""
URL_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class PageRow:
    """A version of a URL's content with what was understood of it, as it is exported."""

    id: int
    project_id: int
    project: str
    domain: str
    url: str
    urlkey: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    text: str
    author: str
    published: date | None
    language: str
    words: int
    description: str
    canonical: str
    mimetype: str
    charset: str
    flags: list[str]
    extractor: str
    sha256: str
    sha1: str
    size: int


@dataclass(frozen=True, slots=True)
class CaptureRow:
    """A listed capture with what became of it, as it is exported. `sha256` names its payload."""

    id: int
    project_id: int
    project: str
    domain: str
    run: int
    archive: str
    timestamp: str
    impossible: bool
    url: str
    urlkey: str
    mimetype: str
    statuscode: str
    digest: str
    length: int | None
    locator: str
    state: str
    reason: str
    rule: str
    confidence: float
    sha256: str


@dataclass(frozen=True, slots=True)
class Domain:
    id: int
    url: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a partition is read on: behind a page's id, or behind a capture's archive and key."""

    id: int = 0
    archive: str = ""
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Slab:
    """Rows of one partition that were read together, and the place behind the last one read."""

    rows: list[PageRow] | list[CaptureRow]
    after: Place


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of a project. `run_id` 0 is all runs, an empty `domain` all that it collects;
    `start` and `end` have 14 digits or none. Without `texts` those of the pages stay unread."""

    project_id: int
    project: str
    subject: Subject
    run_id: int = 0
    domain: str = ""
    start: str = ""
    end: str = ""
    texts: bool = True


@dataclass(frozen=True, slots=True)
class Begin:
    """A project as somebody sees it, how far its rows reach now, and where reading begins: at
    this place of the first of the domains."""

    project: str
    mark: int
    domains: tuple[Domain, ...]
    place: Place


async def wanted_of(database: Database, task: Export) -> Wanted:
    """`NotFound` when there is no such project, or no such run in it."""
    found = task.project_id or await project_named(database, task.project)
    name = await database.fetchval("SELECT name FROM projects WHERE id = $1", found)
    if name is None:
        raise NotFound(f"There is no project {task.project!r} any more")
    if task.run_id and not await database.fetchval(
        "SELECT id FROM runs WHERE id = $1 AND project_id = $2", task.run_id, found
    ):
        raise NotFound(f"Project {task.project!r} has no run {task.run_id}")
    return Wanted(found, task.project, task.subject, task.run_id, task.domain, task.start, task.end)


class Exporting:
    """Reads what one export holds."""

    def __init__(self, database: Database, wanted: Wanted) -> None:
        self._database = database
        self._wanted = wanted
        self._sql = statements("export")

    async def mark(self) -> int | None:
        """The highest row id, when all below it have been committed or never will be.

        None when a writer did not end within two seconds: ask again.
        """
        name = self._wanted.subject.value

        async def work(connection: Connection) -> int:
            await connection.execute(f"SET LOCAL lock_timeout = '{BARRIER_TIMEOUT}'")
            await connection.execute(self._sql[f"{name}_barrier"])
            return int(await connection.fetchval(self._sql[f"{name}_mark"]))

        try:
            return await self._database.transact(work)
        except asyncpg.LockNotAvailableError:
            return None

    async def domains(self) -> list[Domain]:
        """The domains that are exported, by id."""
        wanted = self._wanted
        rows = await self._database.fetch(
            self._sql["domains"], wanted.project_id, wanted.domain, wanted.run_id
        )
        return [Domain(row["id"], row["url"]) for row in rows]

    async def years(self, domain: Domain, mark: int) -> list[int]:
        """The years that a domain has rows in, ascending."""
        name = f"{self._wanted.subject.value}_years"
        rows = await self._database.fetch(self._sql[name], domain.id, mark)
        return [row["year"] for row in rows]

    async def rows(self, domain: Domain, year: int, after: Place, mark: int) -> AsyncIterator[Slab]:
        """A partition's rows behind a place, a slab at a time. Year 0 is all years."""
        if self._wanted.subject is Subject.PAGES:
            async for slab in self._pages(domain, year, after, mark):
                yield slab
        else:
            async for slab in self._captures(domain, year, after, mark):
                yield slab

    async def _pages(
        self, domain: Domain, year: int, after: Place, mark: int
    ) -> AsyncIterator[Slab]:
        wanted, place = self._wanted, after
        start = Timestamp14(wanted.start).instant if wanted.start else None
        end = Timestamp14(wanted.end).instant if wanted.end else None
        while rows := await self._database.fetch(
            self._sql["pages"], domain.id, place.id, mark, year, start, end, PAGES_READ,
            wanted.texts, TEXT_BYTES, wanted.run_id,
        ):  # fmt: skip
            place = Place(rows[-1]["id"])
            found = [_page(row, wanted.project_id, wanted.project, domain.url) for row in rows]
            yield Slab(found, place)
            if rows[-1]["n"] == rows[-1]["here"] < PAGES_READ:
                return

    async def _captures(
        self, domain: Domain, year: int, after: Place, mark: int
    ) -> AsyncIterator[Slab]:
        wanted, place = self._wanted, after
        while rows := await self._database.fetch(
            self._sql["captures"], domain.id, place.archive, place.key, mark, year, wanted.start,
            wanted.end, wanted.run_id, CAPTURES_READ,
        ):  # fmt: skip
            place = Place(0, rows[-1]["archive"], rows[-1]["key"])
            yield Slab([_capture(row, wanted, domain) for row in rows], place)
            if len(rows) < CAPTURES_READ:
                return


class Seen:
    """Reads what somebody may see, as long as they may see it."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor
        self._sql = statements("export")

    async def begin(self, wanted: Wanted, *, after: int) -> Begin:
        """Where to read a project from: from its beginning, or behind the row `after`.

        `NotFound` for a project that is not theirs, and for a run or a domain that is not the
        project's, `InvalidInput` for a row that is not there.
        """
        actor = self._actor
        row = await self._database.fetchrow(
            self._sql[f"begin_{wanted.subject.value}"], wanted.project_id, actor.user_id,
            actor.is_admin, after, wanted.domain, wanted.run_id,
        )  # fmt: skip
        if row is None:
            raise NotFound(f"There is no project {wanted.project_id}")
        if not row["has_run"]:
            raise NotFound(f"Project {wanted.project_id} has no run {wanted.run_id}")
        if not row["has_domain"]:
            raise NotFound(f"Project {wanted.project_id} has no domain {wanted.domain[:URL_SHOWN]}")
        if after and row["domain_id"] is None:
            raise InvalidInput(
                "There is no such row to go on behind", why=f"{after} is not, or no more, there",
                fix="Go on behind the line before it", code="export_after",
            )  # fmt: skip
        domains = tuple(map(Domain, row["ids"] or (), row["urls"] or ()))
        inside = bool(domains) and domains[0].id == row["domain_id"]
        place = Place(after, row["archive"], row["key"]) if inside else Place()
        return Begin(row["name"], row["mark"], domains, place)

    async def pages(self, ids: Sequence[int], *, texts: bool) -> AsyncIterator[list[PageRow]]:
        """These pages as they are now, by their numbers, without those that are gone."""
        actor, left = self._actor, list(ids)
        while left:
            rows = await self._database.fetch(
                self._sql["found"], left, actor.user_id, actor.is_admin, texts, TEXT_BYTES
            )
            yield [_page(row, row["project_id"], row["project"], row["domain"]) for row in rows]
            if not rows or rows[-1]["n"] == rows[-1]["here"]:
                return
            left = [each for each in left if each > rows[-1]["id"]]

    async def still_sees(self, project_ids: Collection[int] | None) -> bool:
        """Whether they may still see these projects, or as an admin all of them (None).

        Not when their login or key has ended.
        """
        actor = self._actor
        ids = None if project_ids is None else list(project_ids)
        asked = (actor.user_id, actor.is_admin, actor.token_id, ids, actor.family)
        return bool(await self._database.fetchval(self._sql["still_sees"], *asked))


_COUNTS: Final = ("n", "here")
_OF_PROJECT: Final = ("project_id", "project", "domain")


def _page(row: asyncpg.Record, project_id: int, project: str, domain: str) -> PageRow:
    fields = {k: v for k, v in row.items() if k not in _COUNTS and k not in _OF_PROJECT}
    return PageRow(project_id=project_id, project=project, domain=domain, **fields)


def _capture(row: asyncpg.Record, wanted: Wanted, domain: Domain) -> CaptureRow:
    fields = {name: value for name, value in row.items() if name != "key"}
    return CaptureRow(
        project_id=wanted.project_id, project=wanted.project, domain=domain.url, **fields
    )


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A listed row that is no capture; of local files `place` is the file and the offset."""

    place: str
    reason: str


async def bad_records(database: Database, *, project: str, archive: str) -> list[BadRecord]:
    """What a project's listings of one archive could not use, each once, in their order."""
    project_id = await project_named(database, project)
    rows = await database.fetch(statements("export")["bad_records"], project_id, archive)
    return list(dict.fromkeys(BadRecord(row["place"], row["reason"]) for row in rows))
