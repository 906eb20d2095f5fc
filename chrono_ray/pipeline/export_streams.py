"""Exports as streams: a project's rows, or all that a search finds, a slab at a time.

Nothing is held open between two slabs, neither a snapshot nor a connection:
rows that come and go meanwhile may be in it or not, each at most once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chrono_ray.model.query import Query
from chrono_ray.model.task import Form, Subject
from chrono_ray.pipeline.export_rows import (
    Row,
    columns_of,
    csv_head,
    csv_lines,
    json_end,
    json_lines,
)
from chrono_ray.search.base import SearchIndex
from chrono_ray.storage.exporting import Begin, CaptureRow, Exporting, PageRow, Place, Seen

FOUND_AT_ONCE: Final = 10_000
"""Numbers of pages that the index tells at a time: it looks at the whole result for each."""
READ_AT_ONCE: Final = 500

Watch = Callable[[], Awaitable[None]]
"""Raises when whoever reads may not read on."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are written: as JSONL, which says at its end that it is whole, or as CSV."""

    form: Form
    subject: Subject
    texts: bool = False
    bom: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        kind = PageRow if self.subject is Subject.PAGES else CaptureRow
        return columns_of(kind, texts=self.texts)

    @property
    def head(self) -> bytes:
        return csv_head(self.columns, bom=self.bom) if self.form is Form.CSV else b""

    def end(self, rows: int) -> bytes:
        return b"" if self.form is Form.CSV else json_end(rows)

    def lines(self, rows: Sequence[Row]) -> bytes:
        write = csv_lines if self.form is Form.CSV else json_lines
        return write(rows, self.columns)


async def of_project(
    reading: Exporting, begin: Begin, shape: Shape, watch: Watch
) -> AsyncGenerator[bytes, None]:
    """A project's rows from where it begins up to its mark, by domain."""
    async for chunk in _written(_of_project(reading, begin), shape, watch):
        yield chunk


async def of_search(
    index: SearchIndex, seen: Seen, query: Query, shape: Shape, watch: Watch, *, after: int
) -> AsyncGenerator[bytes, None]:
    """All pages above `after` that a query finds, by their numbers."""
    rows = _of_search(index, seen, query, after, texts=shape.texts)
    async for chunk in _written(rows, shape, watch):
        yield chunk


async def _written(
    slabs: AsyncIterator[Sequence[Row]], shape: Shape, watch: Watch
) -> AsyncGenerator[bytes, None]:
    count, head = 0, shape.head
    if head:
        yield head
    async for rows in slabs:
        await watch()
        count += len(rows)
        if rows:
            yield await asyncio.to_thread(shape.lines, rows)
    if end := shape.end(count):
        yield end


async def _of_project(reading: Exporting, begin: Begin) -> AsyncIterator[Sequence[Row]]:
    place = begin.place
    for domain in begin.domains:
        async for slab in reading.rows(domain, 0, place, begin.mark):
            yield slab.rows
        place = Place()


async def _of_search(
    index: SearchIndex, seen: Seen, query: Query, after: int, *, texts: bool
) -> AsyncIterator[Sequence[Row]]:
    while ids := await index.matching(query, after, FOUND_AT_ONCE):
        for start in range(0, len(ids), READ_AT_ONCE):
            async for rows in seen.pages(ids[start : start + READ_AT_ONCE], texts=texts):
                yield rows
        if len(ids) < FOUND_AT_ONCE:
            return
        after = ids[-1]
