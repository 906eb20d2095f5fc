"""Exporting: a project's pages and captures in an order that stands still, up to a mark."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import asyncpg

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import NotFound
from chrono_ray.model.task import Export, Subject
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.deleting import BARRIER_TIMEOUT, IdSet
from chrono_ray.storage.named import project_named

PAGES_READ: Final = 500
CAPTURES_READ: Final = 5_000


@dataclass(frozen=True, slots=True)
class PageRow:
    """A version of a URL's content with what was understood of it, as it is exported."""

    id: int
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
    media_type: str
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


class Exporting:
    """Reads what one export holds."""

    def __init__(self, database: Database, task: Export) -> None:
        self._database = database
        self._task = task
        self._sql = statements("export")
        self._run_pages: dict[int, IdSet] = {}

    async def project_id(self) -> int:
        """`NotFound` when there is no such project, or no such run in it."""
        task = self._task
        found = await project_named(self._database, task.project)
        if task.run_id and not await self._database.fetchval(
            "SELECT id FROM runs WHERE id = $1 AND project_id = $2", task.run_id, found
        ):
            raise NotFound(f"Project {task.project!r} has no run {task.run_id}")
        return int(found)

    async def mark(self) -> int | None:
        """The highest row id, when all below it have been committed or never will be.

        None when a writer did not end within two seconds: ask again.
        """
        name = self._task.subject.value

        async def work(connection: Connection) -> int:
            await connection.execute(f"SET LOCAL lock_timeout = '{BARRIER_TIMEOUT}'")
            await connection.execute(self._sql[f"{name}_barrier"])
            return int(await connection.fetchval(self._sql[f"{name}_mark"]))

        try:
            return await self._database.transact(work)
        except asyncpg.LockNotAvailableError:
            return None

    async def domains(self, project_id: int) -> list[Domain]:
        """The domains that are exported, by id."""
        rows = await self._database.fetch(
            self._sql["domains"], project_id, self._task.domain, self._task.run_id
        )
        return [Domain(row["id"], row["url"]) for row in rows]

    async def years(self, domain: Domain, mark: int) -> list[int]:
        """The years that a domain has rows in, ascending."""
        name = f"{self._task.subject.value}_years"
        rows = await self._database.fetch(self._sql[name], domain.id, mark)
        return [row["year"] for row in rows]

    async def rows(self, domain: Domain, year: int, after: Place, mark: int) -> AsyncIterator[Slab]:
        """A partition's rows behind a place, a slab at a time. Year 0 is all years."""
        if self._task.subject is Subject.PAGES:
            async for slab in self._pages(domain, year, after, mark):
                yield slab
        else:
            async for slab in self._captures(domain, year, after, mark):
                yield slab

    async def _pages(
        self, domain: Domain, year: int, after: Place, mark: int
    ) -> AsyncIterator[Slab]:
        task, place = self._task, after
        wanted = await self._pages_of_run(domain) if task.run_id else None
        start = Timestamp14(task.start).instant if task.start else None
        end = Timestamp14(task.end).instant if task.end else None
        while rows := await self._database.fetch(
            self._sql["pages"], domain.id, place.id, mark, year, start, end, PAGES_READ
        ):
            place = Place(rows[-1]["id"])
            found = [
                PageRow(project=task.project, domain=domain.url, **dict(row))
                for row in rows if wanted is None or row["id"] in wanted
            ]  # fmt: skip
            yield Slab(found, place)

    async def _captures(
        self, domain: Domain, year: int, after: Place, mark: int
    ) -> AsyncIterator[Slab]:
        task, place = self._task, after
        while rows := await self._database.fetch(
            self._sql["captures"], domain.id, place.archive, place.key, mark, year, task.start,
            task.end, task.run_id, CAPTURES_READ,
        ):  # fmt: skip
            place = Place(0, rows[-1]["archive"], rows[-1]["key"])
            yield Slab([_capture(row, task.project, domain) for row in rows], place)

    async def _pages_of_run(self, domain: Domain) -> IdSet:
        if domain.id not in self._run_pages:
            found, archive, key = IdSet(), "", b""
            while rows := await self._database.fetch(
                self._sql["run_pages"], domain.id, archive, key, self._task.run_id, CAPTURES_READ
            ):
                found.add([row["id"] for row in rows if row["id"] is not None])
                archive, key = rows[-1]["archive"], rows[-1]["key"]
            self._run_pages = {domain.id: found}
        return self._run_pages[domain.id]


def _capture(row: asyncpg.Record, project: str, domain: Domain) -> CaptureRow:
    fields = {name: value for name, value in row.items() if name != "key"}
    return CaptureRow(project=project, domain=domain.url, **fields)


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
