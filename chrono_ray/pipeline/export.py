"""Export: a project's pages or captures as files, part by part.

The first thing an export does is take its mark: rows added later are out,
rows before it in. Its rows come by domain and then in an order that stands
still, so what was stopped goes on behind its last closed part, wherever.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, ParamSpec, TypeVar
from urllib.parse import quote

import orjson

from chrono_ray import __version__
from chrono_ray.model.errors import Unavailable
from chrono_ray.model.retry import backoff
from chrono_ray.model.task import Export, Finished, Form, Part, Progress, Subject
from chrono_ray.pipeline.export_files import (
    OpenPart,
    Target,
    check_free,
    write_manifest,
)
from chrono_ray.storage.database import Database
from chrono_ray.storage.exporting import (
    CaptureRow,
    Domain,
    Exporting,
    PageRow,
    Place,
    Slab,
    wanted_of,
)
from chrono_ray.storage.tasks import TaskLease, Tasks

MANIFEST: Final = "manifest.json"
MARK_TRIES: Final = 6
P = ParamSpec("P")
T = TypeVar("T")
LABEL: Final = 120
"""Characters of a domain's URL in a folder's name; a longer one ends in a hash."""


@dataclass(frozen=True, slots=True)
class ExportParts:
    """What exporting works with."""

    database: Database
    tasks: Tasks


@dataclass(frozen=True, slots=True)
class Position:
    """How far an export is. `domain` 0: nothing of it is read yet. `year` 0: all years."""

    mark: int
    domain: int = 0
    year: int = 0
    place: Place = field(default_factory=Place)
    parts: int = 0
    rows: int = 0

    def text(self) -> str:
        place = self.place
        values = [self.mark, self.domain, self.year, self.parts, self.rows, place.id,
                  place.archive, place.key.hex()]  # fmt: skip
        return orjson.dumps(values).decode()

    @classmethod
    def read(cls, text: str) -> Position:
        mark, domain, year, parts, rows, after, archive, key = orjson.loads(text)
        return cls(mark, domain, year, Place(after, archive, bytes.fromhex(key)), parts, rows)


async def export(
    parts: ExportParts, lease: TaskLease, task: Export
) -> AsyncGenerator[Progress | Finished, None]:
    """Every row up to the mark, then the manifest."""
    reading = Exporting(parts.database, await wanted_of(parts.database, task))
    writing = _Writing(parts, task, reading)
    position = await writing.begin(lease.position)
    yield Progress(position.rows, lease.total, position.text())
    async for step in writing.steps(position):
        position = step.position
        yield Progress(position.rows, 0, position.text(), step.part)
    yield await writing.finish(lease.id, position)


@dataclass(frozen=True, slots=True)
class _Step:
    position: Position
    part: Part


class _Writing:
    def __init__(self, parts: ExportParts, task: Export, reading: Exporting) -> None:
        self._tasks = parts.tasks
        self._task = task
        self._reading = reading
        self._target = Target(task.to)

    async def begin(self, position: str) -> Position:
        """Where it goes on; a new one is checked and marked first."""
        if position:
            return Position.read(position)
        await asyncio.to_thread(check_free, self._target, MANIFEST)
        for attempt in range(1, MARK_TRIES + 1):
            if (mark := await self._reading.mark()) is not None:
                return Position(mark)
            await asyncio.sleep(backoff(attempt, random.random()))  # noqa: S311 - jitter
        raise Unavailable("Rows are written without a pause", fix="It is tried again")

    async def steps(self, position: Position) -> AsyncIterator[_Step]:
        """One for every part that was closed."""
        async for domain, year in self._partitions(position):
            if (domain.id, year) != (position.domain, position.year):
                position = replace(position, domain=domain.id, year=year, place=Place())
            async for step in self._partition(domain, position):
                position = step.position
                yield step

    async def finish(self, task_id: int, position: Position) -> Finished:
        parts = [part async for part in self._tasks.parts(task_id)]
        task = self._task
        head: dict[str, str | int] = {
            "project": task.project, "subject": task.subject.value, "form": task.form.value,
            "run": task.run_id, "domain": task.domain, "from": task.start, "to": task.end,
            "mark": position.mark, "task": task_id, "chrono_ray": __version__,
        }  # fmt: skip
        await asyncio.to_thread(write_manifest, self._target, MANIFEST, head, parts)
        size = sum(part.size for part in parts)
        # whoever asked over HTTP reads the files there: where they stand is not theirs to know
        to: dict[str, int | str] = {} if task.project_id else {"to": task.to}
        return Finished({**to, "parts": len(parts), "rows": position.rows, "bytes": size})

    async def _partitions(self, position: Position) -> AsyncIterator[tuple[Domain, int]]:
        """From the position on, in order. Only Parquet is divided by year."""
        for domain in await self._reading.domains():
            if domain.id < position.domain:
                continue
            if self._task.form is not Form.PARQUET:
                yield domain, 0
                continue
            for year in await self._reading.years(domain, position.mark):
                if domain.id > position.domain or year >= position.year:
                    yield domain, year

    async def _partition(self, domain: Domain, position: Position) -> AsyncIterator[_Step]:
        """A part is cut after so many rows, and at the partition's end."""
        part: OpenPart | None = None
        try:
            async for slab in self._slabs(domain, position):
                if slab.rows and part is None:
                    part = await self._open(domain, position)
                if part is None:
                    continue
                await _to_its_end(part.write, slab.rows)
                position = replace(position, place=slab.after)
                if part.rows >= self._task.rows_per_part:
                    step = await _close(part, position)
                    part, position = None, step.position
                    yield step
            if part is not None:
                step = await _close(part, position)
                part = None
                yield step
        finally:
            if part is not None:
                await asyncio.shield(asyncio.to_thread(part.abandon))

    def _slabs(self, domain: Domain, position: Position) -> AsyncIterator[Slab]:
        return self._reading.rows(domain, position.year, position.place, position.mark)

    async def _open(self, domain: Domain, position: Position) -> OpenPart:
        kind = PageRow if self._task.subject is Subject.PAGES else CaptureRow
        name = _name(self._task, domain, position)
        return await _to_its_end(OpenPart.begin, self._target, name, self._task.form, kind)


async def _close(part: OpenPart, position: Position) -> _Step:
    closed = await _to_its_end(part.finish)
    after = replace(position, parts=position.parts + 1, rows=position.rows + closed.rows)
    return _Step(after, closed)


async def _to_its_end(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """In a thread that is waited for even when we are cancelled: nobody else touches its file."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


def _name(task: Export, domain: Domain, position: Position) -> str:
    """Numbered through the whole export: no two parts share a name."""
    file = f"part-{position.parts + 1:06}.{task.form.value}"
    if task.form is not Form.PARQUET:
        return f"{task.subject.value}/{file}"
    return f"{task.subject.value}/domain={_label(domain.url)}/year={position.year:04}/{file}"


def _label(url: str) -> str:
    """A domain as a folder's name: as Hive escapes it, shortened where it must be."""
    whole = quote(url.partition("://")[2].rstrip("/"), safe="")
    if len(whole) <= LABEL:
        return whole
    return f"{whole[:LABEL].rpartition('%')[0]}~{sha256(url.encode()).hexdigest()[:16]}"
