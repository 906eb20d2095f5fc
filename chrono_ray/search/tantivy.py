"""The embedded index: a folder, one process that writes, any number on the host that read.

A commit is durable (files and folder synced) before `upsert` returns, so its
ticket is confirmed at once. Readers never take the lock: before a search they
look at the pointer that says which index answers and at that one's meta file,
which every commit replaces, and follow when either changed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeVar

import tantivy
from tantivy import Occur, Order

from chrono_ray.model.errors import DocumentRejected, SearchError, Unavailable
from chrono_ray.model.query import (
    BARS_MAX,
    Bar,
    Field,
    Hit,
    PageEntry,
    Query,
    Results,
    Sort,
    bars,
)
from chrono_ray.search.base import ID_LEAST, ID_MOST, Confirmation, Confirmed, Forgotten, Held
from chrono_ray.search.highlight import SNIPPET_CHARS, marked, snippet
from chrono_ray.search.tantivy_folder import IndexFolder, Stamp, speaking_of
from chrono_ray.search.tantivy_generations import Generations
from chrono_ray.search.tantivy_query import (
    Wanted,
    best_places,
    filter_query,
    places,
    text_query,
    wanted,
)
from chrono_ray.search.tantivy_schema import analyzer, document, schema, stored
from chrono_ray.search.words import read_query

FACET_VALUES: Final = 100
_HEAP: Final = 64_000_000
_HEAP_BESIDE: Final = 32_000_000
_HELD_AT_ONCE: Final = 10_000
_LOOKS: Final = 5
"""How often in a row a reader follows a pointer that moves while it looks."""
_NEVER: Final = float("-inf")
_ORDERS: Final = {
    Sort.NEWEST: ("last_seen", Order.Desc),
    Sort.OLDEST: ("first_seen", Order.Asc),
}


Answer = TypeVar("Answer")
Change = tuple[int, tantivy.Document | None]
"""A page to put in place of what has its id, or to take out."""


class Role(StrEnum):
    """Who may write: one process on the host; it can search, too."""

    WRITER = "writer"
    READER = "reader"


class TantivyIndex:
    """`SearchIndex` over a folder on this host.

    A reader of a folder without an index finds nothing until a writer makes
    one. `fresh` bounds, in seconds, how often a reader looks for new commits,
    and so how late it may be. At most `threads` searches run at a time.
    """

    def __init__(
        self, folder: Path, role: Role, *, threads: int = 2, heap: int = _HEAP, fresh: float = 0.25
    ) -> None:
        self._generations = Generations(folder)
        self._at = IndexFolder(folder)
        self._role = role
        self._heap = heap
        self._fresh = fresh
        self._words = analyzer()
        self._schema = schema()
        self._searches = ThreadPoolExecutor(threads, thread_name_prefix="tantivy-search")
        self._writes = ThreadPoolExecutor(1, thread_name_prefix="tantivy-write")
        self._lock = threading.Lock()
        self._index: tantivy.Index | None = None
        self._writer: tantivy.IndexWriter | None = None
        self._written = IndexFolder(folder)
        self._held: IO[bytes] | None = None
        self._seen: Stamp | None = None
        self._looked = _NEVER
        self._closed = False

    @property
    def name(self) -> str:
        return "tantivy"

    async def configure(self) -> None:
        """Create the folder (writer), or check that it can be read.

        Raises `SearchError`: locked by another writer, made by another
        version, or damaged.
        """
        if self._role is Role.WRITER:
            await self._write(self._open_writer)
        else:
            await self._search(self._searcher)

    async def upsert(self, entries: Sequence[PageEntry]) -> str:
        """Write a batch in one commit; durable and visible when this returns.

        Raises `DocumentRejected` before anything is written when an entry
        cannot be stored.
        """
        return await self._write(lambda: self._commit([(e.id, _checked(e)) for e in entries]))

    async def delete(self, ids: Sequence[int]) -> str:
        """Remove pages by id in one commit."""
        return await self._write(lambda: self._commit([(id_, None) for id_ in ids]))

    async def confirm(self, ticket: str) -> Confirmation:
        """`Confirmed`, unless the folder is another one or an older copy of it."""
        known = await self._search(lambda: self._generations.current().remembers(ticket))
        return Confirmed() if known else Forgotten()

    async def search(self, query: Query) -> Results:
        """Full text with filters, facets and highlights over the newest commit."""
        return await self._search(lambda: self._find(query))

    async def matching(self, query: Query, after: int, limit: int) -> list[int]:
        """Pages found by words and filters alone, ascending by id."""
        return await self._search(lambda: self._matching(query, after, limit))

    async def held(self, after: int = ID_LEAST, upto: int = ID_MOST) -> AsyncGenerator[Held, None]:
        """Pages with their versions, ascending by id."""
        while chunk := await self._search(partial(self._held_after, after, upto)):
            for each in chunk:
                yield each
            after = chunk[-1].id

    async def ids(self) -> AsyncIterator[int]:
        """Every page id, ascending."""
        async for each in self.held():
            yield each.id

    async def identity(self) -> str:
        """The mark of the index that answers; empty where its mark cannot be read, too."""
        return await self._search(self._identity)

    async def begin(self) -> str:
        """An empty folder beside the current one; raises `SearchError` where another writes."""
        return await self._write(lambda: self._holding().begin())

    async def beside(self, identity: str) -> TantivyIndex | None:
        """A writer of the folder begun under this identity."""
        folder = await self._write(lambda: self._holding().find(identity))
        if folder is None:
            return None
        return TantivyIndex(folder.path, Role.WRITER, threads=1, heap=_HEAP_BESIDE)

    async def swap(self, identity: str) -> None:
        """Point at the other folder; readers follow within `fresh` seconds."""
        await self._write(lambda: self._swap(identity))

    async def tidy(self) -> None:
        """Delete every folder but the current one; who reads one of them still can finish."""
        await self._write(lambda: self._holding().tidy())

    async def aclose(self) -> None:
        """Give back the lock and the threads; what was confirmed stays."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._writes, self._let_go)
            await asyncio.to_thread(self._shut)

    def _let_go(self) -> None:
        self._forget()
        if self._held is not None:
            self._held.close()

    def _shut(self) -> None:
        self._writes.shutdown()
        self._searches.shutdown(cancel_futures=True)

    async def _search(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._searches, call)

    async def _write(self, call: Callable[[], Answer]) -> Answer:
        if self._role is Role.READER:
            raise SearchError("This process may only read the search index", code="search_role")
        return await asyncio.get_running_loop().run_in_executor(self._writes, call)

    def _holding(self) -> Generations:
        """The folder, ours to change."""
        if self._held is None:
            self._held = self._generations.hold()
        return self._generations

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            self._written = self._holding().current()
            self._written.create()
            index = self._written.open()
            with speaking_of(self._written.path):
                self._writer = index.writer(self._heap, 1)
        return self._writer

    def _swap(self, identity: str) -> None:
        generations = self._holding()
        if generations.find(identity) is None:
            raise SearchError(
                "The fresh search index is gone", why=f"there is no {identity}", code="search_gone"
            )
        self._forget()
        generations.point_at(identity)
        self._looked = _NEVER

    def _identity(self) -> str:
        try:
            return self._generations.current().identity()
        except SearchError:
            return ""

    def _commit(self, changes: Sequence[Change]) -> str:
        writer = self._open_writer()
        try:
            with speaking_of(self._written.path):
                for id_, fresh in changes:
                    writer.delete_documents_by_term("id", id_)
                    if fresh is not None:
                        writer.add_document(fresh)
                opstamp = writer.commit()
        except (SearchError, Unavailable):
            # A writer that failed may hold half a batch: a new one starts at the last commit.
            self._forget()
            raise
        self._looked = _NEVER
        return self._written.ticket(opstamp)

    def _forget(self) -> None:
        self._writer = None

    def _searcher(self) -> tantivy.Searcher | None:
        """The newest commit as far as `fresh` allows; None while there is no index."""
        with self._lock:
            if self._index is None or time.monotonic() >= self._looked + self._fresh:
                self._refresh()
            return None if self._index is None else self._index.searcher()

    def _refresh(self) -> None:
        """Follow the pointer. One that moves while we look explains whatever we met."""
        self._looked = time.monotonic()
        for look in range(_LOOKS):
            folder = self._generations.current()
            try:
                self._follow(folder)
            except (SearchError, Unavailable):
                if look == _LOOKS - 1 or self._generations.current() == folder:
                    raise
                continue
            if self._generations.current() == folder:
                return

    def _follow(self, folder: IndexFolder) -> None:
        if folder != self._at:
            self._index, self._seen, self._at = None, None, folder
        stamp = folder.stamp()
        if stamp is None:
            folder.check_empty()
            self._index = None
        elif stamp != self._seen or self._index is None:
            self._index = self._index or folder.open()
            with speaking_of(folder.path):
                self._index.reload()
            self._seen = stamp

    def _find(self, query: Query) -> Results:
        started = time.perf_counter()
        searcher = self._searcher()
        if searcher is None:
            return Results((), 0, {field: {} for field in query.facets}, 0.0)
        wants = self._wanted(query)
        asked = self._asked(query, wants)
        with speaking_of(self._at.path):
            found, total = _ranked(searcher, asked, query)
            hits = tuple(self._hit(stored(searcher.doc(at)), wants) for at in found)
            facets, histogram = _counted(searcher, asked, query)
        took = (time.perf_counter() - started) * 1000
        return Results(hits, total, facets, took, histogram=histogram)

    def _wanted(self, query: Query) -> tuple[Wanted, ...]:
        return wanted(self._words, read_query(query.text), typos=query.typos)

    def _asked(self, query: Query, wants: Sequence[Wanted]) -> tantivy.Query:
        """Words rank, filters only choose."""
        chosen = tantivy.Query.const_score_query(filter_query(self._schema, query.filter), 0.0)
        if not wants:
            return chosen
        ranked = text_query(self._schema, wants)
        return tantivy.Query.boolean_query([(Occur.Must, ranked), (Occur.Must, chosen)])

    def _hit(self, entry: PageEntry, wants: Sequence[Wanted]) -> Hit:
        title = places(self._words, entry.title, wants)
        known = {match.key for match in title}
        near = best_places(self._words, entry.text, wants, size=SNIPPET_CHARS, known=known)
        return Hit(
            id=entry.id,
            project_id=entry.project_id,
            domain=entry.domain,
            url=entry.url,
            host=entry.host,
            language=entry.language,
            type=entry.type,
            first_seen=entry.first_seen,
            last_seen=entry.last_seen,
            captures=entry.captures,
            title=marked(entry.title, title),
            snippet=snippet(entry.text, near),
        )

    def _matching(self, query: Query, after: int, limit: int) -> list[int]:
        searcher = self._searcher()
        if searcher is None:
            return []
        asked = self._asked(query, self._wanted(query))
        both = tantivy.Query.boolean_query(
            [(Occur.Must, asked), (Occur.Must, self._between(after, ID_MOST))]
        )
        with speaking_of(self._at.path):
            found = searcher.search(both, limit, count=False, order_by_field="id", order=Order.Asc)
        return [int(id_) for id_, _ in found.hits]

    def _between(self, after: int, upto: int) -> tantivy.Query:
        return tantivy.Query.range_query(
            self._schema, "id", tantivy.FieldType.Integer, after, upto, include_lower=False
        )

    def _held_after(self, after: int, upto: int) -> list[Held]:
        searcher = self._searcher()
        if searcher is None or after >= upto:
            return []
        with speaking_of(self._at.path):
            found = searcher.search(
                self._between(after, upto), _HELD_AT_ONCE, count=False, order_by_field="id",
                order=Order.Asc,
            )  # fmt: skip
            versions = searcher.fast_field_values("version", [at for _, at in found.hits])
        pairs = zip(found.hits, versions, strict=True)
        return [Held(int(id_), int(version or 0)) for (id_, _), version in pairs]


def _checked(entry: PageEntry) -> tantivy.Document:
    try:
        return document(entry)
    except (ValueError, OverflowError, TypeError) as error:
        raise DocumentRejected(
            "The page cannot be indexed", page_id=entry.id, why=str(error)
        ) from error


def _ranked(
    searcher: tantivy.Searcher, asked: tantivy.Query, query: Query
) -> tuple[list[tantivy.DocAddress], int]:
    field, order = _ORDERS.get(query.sort, (None, Order.Desc))
    found = searcher.search(
        asked, query.limit, order_by_field=field, offset=query.offset, order=order
    )
    total: int = found.count  # type: ignore[attr-defined]  # missing in the stub only
    return [address for _, address in found.hits], total


def _counted(
    searcher: tantivy.Searcher, asked: tantivy.Query, query: Query
) -> tuple[dict[Field, dict[str, int]], tuple[Bar, ...]]:
    """The facets and the histogram, in one walk of what matches."""
    wish = {field.value: _terms(field.value, FACET_VALUES) for field in query.facets}
    if query.histogram:
        wish[query.histogram.value] = _terms(query.histogram.value, BARS_MAX)
    if not wish:
        return {}, ()
    buckets = searcher.aggregate(asked, wish)
    counts = {
        name: {one["key"]: int(one["doc_count"]) for one in buckets[name]["buckets"]}
        for name in wish
    }
    facets = {field: counts[field.value] for field in query.facets}
    if query.histogram is None:
        return facets, ()
    return facets, bars(counts[query.histogram.value].items(), query.histogram)


def _terms(field: str, most: int) -> dict[str, dict[str, str | int]]:
    return {"terms": {"field": field, "size": most, "segment_size": BARS_MAX}}
