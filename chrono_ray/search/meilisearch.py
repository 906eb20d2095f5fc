"""Meilisearch: a 202 is a promise, so a batch counts only when its task has succeeded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import httpx2
import orjson
from meilisearch_python_sdk import AsyncClient
from meilisearch_python_sdk.errors import MeilisearchApiError, MeilisearchError
from meilisearch_python_sdk.models.task import TaskInfo, TaskResult

from chrono_ray.model.errors import DocumentRejected, SearchError, Unavailable
from chrono_ray.model.query import Bar, Bucket, Counted, Field, PageEntry, Query, Results, bars
from chrono_ray.search.base import (
    ID_LEAST,
    ID_MOST,
    Confirmation,
    Confirmed,
    Forgotten,
    Held,
    Rejected,
    Working,
)
from chrono_ray.search.meilisearch_query import SORTS, query_text, whole_filter
from chrono_ray.search.meilisearch_schema import (
    COUNTED,
    FACET_VALUES,
    PRIMARY_KEY,
    SHOWN,
    VERSION_MARK,
    FoundId,
    FoundPage,
    Row,
    decode,
    document,
    hit,
    settings,
)

PAYLOAD_BYTES: Final = 4_000_000
"""One request's worth of documents; the server's own limit is 100 MB unless set lower."""
_BESIDE: Final = "_rebuild"
_HELD_AT_ONCE: Final = 1_000
_SWAPS: Final = 3
"""A swap asked for by somebody who died may come in between: it is then swapped back."""
_SETTLE: Final = 0.05
_NOT_FOUND: Final = 404
_UNKNOWN_FIELD: Final = ("invalid_search_filter", "invalid_search_facets", "invalid_search_sort")
"""All that is asked for is built from our own settings: the index has others."""
_SYSTEM: Final = "system"
"""Errors of the server's machine (disk full, too many files): no document is to blame."""


@dataclass(frozen=True, slots=True)
class _TaskMark:
    """One task of a ticket. The moment it was enqueued tells it from a namesake.

    A server whose data was wiped counts its tasks from 0 again.
    """

    uid: int
    enqueued: int

    @classmethod
    def of(cls, task: TaskInfo) -> _TaskMark:
        return cls(task.task_uid, _microseconds(task.enqueued_at))

    def __str__(self) -> str:
        return f"{self.uid}@{self.enqueued}"


class MeilisearchIndex:
    """`SearchIndex` over one index of a Meilisearch server (1.16 or newer).

    `deadline` in seconds bounds every single request.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        uid: str = "pages",
        deadline: float = 10.0,
        payload: int = PAYLOAD_BYTES,
    ) -> None:
        self._key = key
        self._client = AsyncClient(url, key, timeout=max(1, int(deadline)))
        self._index = self._client.index(uid, hits_type=FoundPage)
        self._uid = uid
        self._url = url
        self._deadline = deadline
        self._payload = payload

    @property
    def name(self) -> str:
        return "meilisearch"

    async def configure(self) -> None:
        """Create the index and bring its settings up to date; returns when both are in force.

        Raises `SearchError` for an index of another version. Waits as long as
        the server says that it works on it, so a caller that cannot wait for a
        large index to be rebuilt sets its own timeout.
        """
        await self._create_missing()
        async with self._asking():
            known = await self._index.get_filterable_attributes() or []
        if known and VERSION_MARK not in known:
            raise _other_version(f"{self._uid} lacks {VERSION_MARK}")
        async with self._asking():
            task = await self._index.update_settings(settings())
        await self._settled(task, set())

    async def upsert(self, entries: Sequence[PageEntry]) -> str:
        """Send a batch, cut into payloads; the ticket names the task of each.

        Raises `DocumentRejected` before anything is sent when Meilisearch
        would lose a part of an entry.
        """
        # Cutting long texts takes a while; a thread lets the loop breathe.
        batches = await asyncio.to_thread(_written, tuple(entries), self._payload)
        marks = []
        for batch in batches:
            async with self._asking(batch):
                task = await self._index.add_documents(batch, PRIMARY_KEY)
            marks.append(_TaskMark.of(task))
        return ",".join(map(str, marks))

    async def delete(self, ids: Sequence[int]) -> str:
        """Remove pages by id; the ticket names the task."""
        if not ids:
            return ""
        async with self._asking():
            task = await self._index.delete_documents([str(id_) for id_ in ids])
        return str(_TaskMark.of(task))

    async def confirm(self, ticket: str) -> Confirmation:
        """What became of the ticket's tasks, all of them together."""
        verdicts = [await self._verdict(mark) for mark in _marks(ticket)]
        for kind in (Forgotten, Rejected, Working):
            for verdict in verdicts:
                if isinstance(verdict, kind):
                    return verdict
        return Confirmed()

    async def search(self, query: Query) -> Results:
        """All words must be found; only the first ten words and phrases are looked for."""
        async with self._asking():
            found = await self._index.search(
                query_text(query.text, typos=query.typos),
                offset=query.offset,
                limit=query.limit,
                filter=whole_filter(query.filter),
                facets=[*query.facets, *([query.histogram] if query.histogram else [])] or None,
                sort=SORTS[query.sort],
                attributes_to_retrieve=SHOWN,
                show_matches_position=True,
                matching_strategy="all",
            )
            counted, total = found.facet_distribution or {}, found.estimated_total_hits or 0
            return Results(
                hits=tuple(hit(page) for page in found.hits),
                total=total,
                facets=_facets(counted, query.facets),
                milliseconds=float(found.processing_time_ms),
                counted=Counted.ESTIMATE if total < COUNTED else Counted.AT_LEAST,
                histogram=_histogram(counted, query.histogram),
            )

    async def matching(self, query: Query, after: int, limit: int) -> list[int]:
        """Pages found by words and filters alone, ascending by id."""
        async with self._asking():
            found = await self._client.index(self._uid, hits_type=FoundId).search(
                query_text(query.text, typos=query.typos),
                limit=limit,
                filter=whole_filter(query.filter, after=after),
                sort=[f"{PRIMARY_KEY}:asc"],
                attributes_to_retrieve=[PRIMARY_KEY],
                matching_strategy="all",
            )
            ids = [page.id for page in found.hits]
        if ids != sorted(ids):  # it had no time to sort, and tells so by this alone
            raise Unavailable("Meilisearch takes too long", why="its answer is not in order")
        return ids

    async def held(self, after: int = ID_LEAST, upto: int = ID_MOST) -> AsyncGenerator[Held, None]:
        """Pages with their versions, ascending by id; in a configured index only."""
        while chunk := await self._held_after(after, upto):
            for each in chunk:
                yield each
            after = chunk[-1].id
            if len(chunk) < _HELD_AT_ONCE:
                return

    async def ids(self) -> AsyncIterator[int]:
        """Every page id, ascending."""
        async for each in self.held():
            yield each.id

    async def identity(self) -> str:
        """When the index was created, which a swap leaves with what the index holds."""
        try:
            async with self._asking():
                created = (await self._index.fetch_info()).created_at
                return "" if created is None else str(_microseconds(created))
        except SearchError as error:
            if error.code == "index_not_found":
                return ""
            raise

    async def begin(self) -> str:
        """An empty index `<name>_rebuild` with our settings."""
        await self.tidy()
        beside = self._beside()
        try:
            await beside.configure()
            return await beside.identity()
        finally:
            await beside.aclose()

    async def beside(self, identity: str) -> MeilisearchIndex | None:
        """`<name>_rebuild`, when it is the one begun under this identity."""
        beside = self._beside()
        try:
            if await beside.identity() == identity:
                return beside
        except BaseException:
            await beside.aclose()
            raise
        await beside.aclose()
        return None

    async def swap(self, identity: str) -> None:
        """Exchange the two indexes' names in one task; returns when it is done.

        Somebody who died may have asked for the same: what is asked already is
        waited for first.
        """
        await self._create_missing()  # a swap needs both
        for _ in range(_SWAPS):
            await self._no_swap_waits()
            if await self.identity() == identity:
                return
            async with self._asking():
                task = await self._client.swap_indexes([(self._uid, self._uid + _BESIDE)])
            await self._settled(task, set())
        if await self.identity() != identity:
            raise SearchError(
                "The fresh search index is gone", why=f"{self._uid}{_BESIDE} is another one",
                code="search_gone",
            )  # fmt: skip

    async def tidy(self) -> None:
        """Delete `<name>_rebuild`; returns when it is gone."""
        async with self._asking():
            answer = await self._client.http_client.delete(f"indexes/{self._uid}{_BESIDE}")
            if answer.status_code == _NOT_FOUND:
                return
            answer.raise_for_status()
            task = TaskInfo.model_validate_json(answer.content)
        await self._settled(task, {"index_not_found"})

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._client.aclose()

    def _beside(self) -> MeilisearchIndex:
        return MeilisearchIndex(
            self._url, self._key, uid=self._uid + _BESIDE, deadline=self._deadline,
            payload=self._payload,
        )  # fmt: skip

    async def _held_after(self, after: int, upto: int) -> list[Held]:
        ask = {
            "filter": f"{PRIMARY_KEY} > {after} AND {PRIMARY_KEY} <= {upto}",
            "sort": [f"{PRIMARY_KEY}:asc"],
            "fields": [PRIMARY_KEY, "version"],
            "limit": _HELD_AT_ONCE,
        }
        async with self._asking():
            answer = await self._client.http_client.post(
                f"indexes/{self._uid}/documents/fetch", json=ask
            )
            answer.raise_for_status()
            rows = orjson.loads(answer.content)["results"]
            return [Held(int(row[PRIMARY_KEY]), int(row.get("version", 0))) for row in rows]

    async def _no_swap_waits(self) -> None:
        while True:
            async with self._asking():
                found = await self._client.get_tasks(
                    types=["indexSwap"], statuses=["enqueued", "processing"]
                )
            if not found.results:
                return
            await asyncio.sleep(_SETTLE)

    async def _create_missing(self) -> None:
        if not await self.identity():
            await self._settled(await self._create(), {"index_already_exists"})

    async def _create(self) -> TaskInfo:
        async with self._asking():
            answer = await self._client.http_client.post(
                "indexes", json={"uid": self._uid, "primaryKey": PRIMARY_KEY}
            )
            answer.raise_for_status()
            return TaskInfo.model_validate_json(answer.content)

    async def _settled(self, info: TaskInfo, harmless: set[str]) -> None:
        while True:
            async with self._asking():
                task = await self._client.get_task(info.task_uid)
            code = _error(task)["code"]
            if task.status == "succeeded" or code in harmless:
                return
            if task.status not in ("enqueued", "processing"):
                raise SearchError(
                    "Meilisearch did not take the index settings",
                    why=f"{code or task.status}: {_error(task)['message']}",
                    fix="Use Meilisearch 1.16 or newer",
                )
            await asyncio.sleep(_SETTLE)

    async def _verdict(self, mark: _TaskMark) -> Confirmation:
        try:
            async with self._asking():
                task = await self._client.get_task(mark.uid)
        except SearchError as error:
            if error.code == "task_not_found":
                return Forgotten()
            raise
        if _microseconds(task.enqueued_at) != mark.enqueued or task.index_uid != self._uid:
            return Forgotten()
        return _judged(task)

    @asynccontextmanager
    async def _asking(self, batch: Sequence[Row] = ()) -> AsyncIterator[None]:
        """Every request goes out under this: a deadline, and errors in our words."""
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except MeilisearchApiError as error:
            raise self._refusal(error, batch) from error
        except httpx2.HTTPStatusError as error:
            raise self._status(error.response.status_code, str(error)) from error
        except (MeilisearchError, httpx2.HTTPError, TimeoutError) as error:
            raise Unavailable(
                "Meilisearch does not answer", why=f"{self._url}: {error or 'too late'}"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise SearchError(
                "Meilisearch answered nonsense", why=f"{self._url}: {str(error)[:300]}"
            ) from error

    def _refusal(
        self, error: MeilisearchApiError, batch: Sequence[Row]
    ) -> SearchError | Unavailable:
        if error.status_code == 413 and len(batch) == 1:
            return DocumentRejected(
                "The page is too large for Meilisearch",
                page_id=int(batch[0][PRIMARY_KEY]),
                why="larger than the server's payload limit",
            )
        return self._status(error.status_code, error.message, error.code)

    def _status(self, status: int, why: str, code: str = "") -> SearchError | Unavailable:
        if status in (401, 403):
            return SearchError(
                "Meilisearch refuses the key",
                why=f"{self._url}: {why}",
                fix="Set the key to one with all rights on the index",
                code="search_key",
            )
        if status >= 500 or status in (408, 429):
            return Unavailable("Meilisearch is away", why=f"{self._url}: {status} {why}")
        if code in _UNKNOWN_FIELD:
            return _other_version(why)
        return SearchError("Meilisearch refuses the request", why=f"{status} {why}", code=code)


def _judged(task: TaskResult) -> Confirmation:
    error = _error(task)
    match task.status:
        case "succeeded":
            return Confirmed()
        case "enqueued" | "processing":
            return Working()
        case "canceled":
            return Forgotten()
        case "failed" if error["type"] == _SYSTEM:
            raise Unavailable("Meilisearch cannot write", why=error["message"])
        case "failed" if error["code"] == "index_not_found":
            raise SearchError("The index is gone", why=error["message"], code=error["code"])
        case "failed":
            return Rejected(error["code"], error["message"])
        case status:
            raise SearchError("Meilisearch answered nonsense", why=f"task status {status!r}")


def _error(task: TaskResult) -> dict[str, str]:
    given = task.error or {}
    return {name: str(given.get(name, "")) for name in ("code", "type", "message")}


def _written(entries: Sequence[PageEntry], limit: int) -> list[list[Row]]:
    return list(_payloads([document(entry) for entry in entries], limit))


def _payloads(rows: Sequence[Row], limit: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        weight = len(orjson.dumps(row))
        if batch and size + weight > limit:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch


def _marks(ticket: str) -> list[_TaskMark]:
    pairs = [one.split("@") for one in ticket.split(",") if one]
    return [_TaskMark(int(uid), int(enqueued)) for uid, enqueued in pairs]


def _microseconds(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1_000_000)


def _facets(
    counted: dict[str, dict[str, int]], fields: Sequence[Field]
) -> dict[Field, dict[str, int]]:
    return {
        field: {
            decode(key): count
            for key, count in islice(counted.get(field.value, {}).items(), FACET_VALUES)
        }
        for field in fields
    }


def _histogram(counted: dict[str, dict[str, int]], bucket: Bucket | None) -> tuple[Bar, ...]:
    return bars(counted.get(bucket.value, {}).items(), bucket) if bucket else ()


def _other_version(why: str) -> SearchError:
    return SearchError(
        "The search index is of another version", why=why,
        fix="Run `chrono reindex`: it is built anew from the record, which has everything",
        code="search_schema",
    )  # fmt: skip
