"""What a completeness certificate is recounted from: rows, never counters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chrono_ray.model.errors import NotFound
from chrono_ray.storage.database import Database, statements


@dataclass(frozen=True, slots=True)
class SliceFact:
    id: int
    start: str
    end: str
    state: str
    reason: str
    detail: str
    next_key: str
    reached_its_end: bool
    """Whether its last kept page was the listing's last."""
    part_of: int | None
    """The slice that was split into this one and others."""


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A listing page as it was kept; `raw` is the SHA-256 of the archive's answer."""

    id: int
    slice_id: int
    key: str
    next_key: str
    rows: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class PageFact:
    id: int
    index_error: str
    waiting: bool


class Certificate:
    """Reads the rows of one run; keeps what a recount of them said."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("verify")

    async def archive_of(self, run_id: int) -> str:
        """The run's archive; `NotFound` when there is no such run."""
        name = await self._database.fetchval("SELECT archive FROM runs WHERE id = $1", run_id)
        if name is None:
            raise NotFound(f"There is no run {run_id}", fix="`chrono status` lists the runs")
        return str(name)

    async def chosen(self, run_id: int) -> int:
        """How many captures the run was told to fetch by a person: no listing names them."""
        return int(await self._database.fetchval(self._sql["chosen"], run_id))

    async def slices(self, run_id: int) -> list[SliceFact]:
        rows = await self._database.fetch(self._sql["slices"], run_id)
        return [
            SliceFact(
                r["id"], r["start_ts"], r["end_ts"], r["state"], r["reason"], r["detail"],
                r["next_key"], r["reached_its_end"], r["part_of"],
            )
            for r in rows
        ]  # fmt: skip

    async def listing_pages(self, run_id: int) -> list[KeptPage]:
        """In the order they were listed."""
        rows = await self._database.fetch(self._sql["listing_pages"], run_id)
        return [
            KeptPage(r["id"], r["slice_id"], r["key"], r["next_key"], r["rows"], r["raw"])
            for r in rows
        ]

    async def find(self, run_id: int, archive: str, keys: Collection[bytes]) -> dict[bytes, bool]:
        """Which of these captures the run's domain has, and whether they are this run's."""
        rows = await self._database.fetch(self._sql["captures_by_key"], list(keys), run_id, archive)
        return {row["key"]: row["ours"] for row in rows}

    async def count_keys_not_in(self, run_id: int, listed: Collection[bytes]) -> int:
        """How many of the run's captures are none of these."""
        rows = await self._database.fetch(self._sql["capture_keys"], run_id)
        known = set(listed)
        return sum(row["key"] not in known for row in rows)

    async def states(self, run_id: int) -> dict[tuple[str, str], int]:
        """Captures by (state, reason), from the rows."""
        rows = await self._database.fetch(self._sql["states"], run_id)
        return {(row["state"], row["reason"]): row["n"] for row in rows}

    async def counters(self, run_id: int) -> dict[tuple[str, str], int]:
        """The counters, only ever to be compared with the rows."""
        rows = await self._database.fetch(self._sql["counters"], run_id)
        return {(row["state"], row["reason"]): row["n"] for row in rows}

    async def wrong_rows(self, run_id: int) -> list[str]:
        """Faults among pages, fetches and requests, in words."""
        pages = await self._database.fetch(self._sql["wrong_pages"], run_id, 100)
        fetches = await self._database.fetch(self._sql["wrong_fetches"], run_id)
        requests = await self._database.fetch(self._sql["unexplained_requests"], run_id)
        return [
            *(f"page {r['page_id']}: {r['n']} captures, it says {r['captures']}" for r in pages),
            *(f"fetch {r['id']} is {r['state']} and in {r['places']} places" for r in fetches),
            *(f"fetch {r['id']}: {r['requests']} requests, {r['explained']} explained"
              for r in requests),
        ]  # fmt: skip

    async def payloads(self, run_id: int) -> list[tuple[int, bytes]]:
        rows = await self._database.fetch(self._sql["payloads"], run_id)
        return [(row["id"], row["sha256"]) for row in rows]

    async def pages(self, run_id: int) -> list[PageFact]:
        rows = await self._database.fetch(self._sql["pages"], run_id)
        return [PageFact(row["id"], row["index_error"], row["waiting"]) for row in rows]

    async def keep(self, run_id: int, body: str) -> None:
        """What a recount said, as JSON: the last one of a run stays."""
        await self._database.fetch(self._sql["keep"], run_id, body)

    async def known_pages(self, ids: Collection[int]) -> set[int]:
        """Which of these page ids the record has."""
        rows = await self._database.fetch(self._sql["known_pages"], list(ids))
        return {row["id"] for row in rows}
