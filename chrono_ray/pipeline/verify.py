"""Verify: a run recounted from what the archive said and from every row, never from counters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from chrono_ray.archives.base import Archive
from chrono_ray.model.errors import ArchiveError, ChronoError, NotFound
from chrono_ray.model.memento import ListingPage
from chrono_ray.search.base import SearchIndex
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.certificate import Certificate, KeptPage, SliceFact


@dataclass(frozen=True, slots=True)
class Hole:
    """A part of the listing that could not be had: a fact, retryable, not an error of counting."""

    slice_id: int
    start: str
    end: str
    reason: str
    detail: str


@dataclass(slots=True)
class Recount:
    """What was found. `faults` is empty when everything adds up."""

    run_id: int
    slices: int = 0
    splits: int = 0
    pages_kept: int = 0
    rows_listed: int = 0
    chosen: int = 0
    bad_rows: int = 0
    known: int = 0
    repeated: int = 0
    states: dict[str, dict[str, int]] = field(default_factory=dict)
    holes: list[Hole] = field(default_factory=list)
    pages: int = 0
    pages_indexed: int = 0
    pages_rejected: int = 0
    payloads: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.faults


class Verify:
    """Reads everything, changes nothing. Safe while the run goes on, but then not clean."""

    def __init__(
        self,
        certificate: Certificate,
        blobs: Blobs,
        archives: Mapping[str, Archive],
        index: SearchIndex,
    ) -> None:
        self._certificate = certificate
        self._blobs = blobs
        self._archives = archives
        self._index = index

    async def run(self, run_id: int) -> Recount:
        """The whole recount. Raises `NotFound` for an unknown run."""
        recount = Recount(run_id)
        archive = await self._certificate.archive_of(run_id)
        recount.chosen = await self._certificate.chosen(run_id)
        await self._slices(recount)
        await self._listings(recount, archive)
        await self._states(recount)
        await self._rows(recount)
        await self._payloads(recount)
        await self._pages(recount)
        return recount

    async def _slices(self, recount: Recount) -> None:
        slices = await self._certificate.slices(recount.run_id)
        for each in slices:
            recount.slices += 1
            if each.state == "split":
                recount.splits += 1
                if not _span(each, [part for part in slices if part.part_of == each.id]):
                    recount.faults.append(
                        f"slice {each.id} says split, but parts of it are missing"
                    )
            elif each.state == "hole":
                recount.holes.append(Hole(each.id, each.start, each.end, each.reason, each.detail))
            elif each.state == "pending":
                recount.faults.append(f"slice {each.id} is not listed to its end")
            elif each.state == "listed" and (each.next_key or not each.reached_its_end):
                recount.faults.append(f"slice {each.id} says listed, but its last page goes on")

    async def _listings(self, recount: Recount, archive_name: str) -> None:
        """Every kept page is read again; each row it holds must be a row of ours."""
        archive = self._archives.get(archive_name)
        if archive is None:
            recount.faults.append(f"the archive {archive_name} is not set up here: set its URL")
            return
        seen: set[bytes] = set()
        follows: dict[int, str] = {}
        async for page, raw in self._kept_pages(recount):
            try:
                parsed = archive.parse(raw)
            except ArchiveError as error:
                recount.faults.append(
                    f"listing page {page.id} cannot be read as a listing: {error}"
                )
                continue
            keys = [capture.key for capture in parsed.captures]
            self._check_page(recount, page, parsed)
            recount.bad_rows += len(parsed.bad_rows)
            if follows.get(page.slice_id, "") != page.key:
                recount.faults.append(f"listing page {page.id} does not follow the one before it")
            follows[page.slice_id] = page.next_key
            found = await self._certificate.find(recount.run_id, archive_name, keys)
            _tally(recount, keys, found, seen)
            missing = set(keys) - set(found)
            if missing:
                recount.faults.append(f"listing page {page.id}: {len(missing)} rows were not kept")
        invented = await self._certificate.count_keys_not_in(recount.run_id, seen)
        invented -= recount.chosen
        if invented:
            recount.faults.append(f"{invented} captures stand in no kept listing page")

    def _check_page(self, recount: Recount, page: KeptPage, parsed: ListingPage) -> None:
        rows = len(parsed.captures) + len(parsed.bad_rows)
        recount.pages_kept += 1
        recount.rows_listed += rows
        if parsed.next_key != page.next_key:
            recount.faults.append(
                f"listing page {page.id}: the archive's answer goes on elsewhere than the row says"
            )
        if rows != page.rows:
            recount.faults.append(f"listing page {page.id}: {page.rows} rows kept, {rows} read")

    async def _kept_pages(self, recount: Recount) -> AsyncIterator[tuple[KeptPage, bytes]]:
        for page in await self._certificate.listing_pages(recount.run_id):
            try:
                raw = await self._blobs.get(page.raw)
            except NotFound as error:
                recount.faults.append(f"listing page {page.id}: {error}")
                continue
            yield page, raw

    async def _states(self, recount: Recount) -> None:
        """States from the rows; the counters must say the same."""
        states = await self._certificate.states(recount.run_id)
        for key, n in (
            (("known", ""), recount.known),
            (("repeated", ""), recount.repeated),
            (("skipped", "bad_row"), recount.bad_rows),
        ):
            if n:
                states[key] = n
        for (state, reason), n in states.items():
            recount.states.setdefault(state, {})[reason] = n
        if "pending" in recount.states:
            waiting = sum(recount.states["pending"].values())
            recount.faults.append(f"{waiting} captures have not ended yet")
        if "lost" in recount.states:
            recount.faults.append("captures point at fetches that do not exist")
        discovered = recount.rows_listed + recount.chosen
        if sum(states.values()) != discovered:
            recount.faults.append(f"{discovered} rows listed, {sum(states.values())} accounted for")
        states["discovered", ""] = discovered
        await self._compare_counters(recount, states)

    async def _compare_counters(
        self, recount: Recount, states: Mapping[tuple[str, str], int]
    ) -> None:
        counters = await self._certificate.counters(recount.run_id)
        for key in sorted(counters.keys() | states.keys()):
            counted, rows = counters.get(key, 0), states.get(key, 0)
            if counted != rows and key[0] not in ("pending", "request"):
                name = "/".join(filter(None, key))
                recount.faults.append(f"counter {name} says {counted}, the rows say {rows}")

    async def _rows(self, recount: Recount) -> None:
        for fault in await self._certificate.wrong_rows(recount.run_id):
            recount.faults.append(fault)

    async def _payloads(self, recount: Recount) -> None:
        """Every payload's bytes are there and hash to their name."""
        for payload_id, sha256 in await self._certificate.payloads(recount.run_id):
            recount.payloads += 1
            try:
                await self._blobs.get(sha256)
            except NotFound as error:
                recount.faults.append(f"payload {payload_id}: {error}")

    async def _pages(self, recount: Recount) -> None:
        """The index against the record, both ways."""
        pages = await self._certificate.pages(recount.run_id)
        recount.pages = len(pages)
        try:
            indexed = {page_id async for page_id in self._index.ids()}
        except ChronoError as error:
            recount.faults.append(f"the index cannot be read: {error}")
            return
        for page in pages:
            if page.index_error:
                recount.pages_rejected += 1
            elif page.id in indexed:
                recount.pages_indexed += 1
            elif page.waiting:
                recount.faults.append(f"page {page.id} waits to be indexed")
            else:
                recount.faults.append(f"page {page.id} is not in the index")
        strangers = indexed - await self._certificate.known_pages(indexed)
        if strangers:
            recount.faults.append(f"{len(strangers)} pages in the index are not in the record")


def _span(whole: SliceFact, parts: list[SliceFact]) -> bool:
    """Whether the parts of a split slice span it without a gap."""
    parts = sorted(parts, key=lambda part: part.start)
    if len(parts) < 2 or (parts[0].start, parts[-1].end) != (whole.start, whole.end):
        return False
    return all(part.end and part.end >= later.start for part, later in pairwise(parts))


def _tally(
    recount: Recount, keys: list[bytes], found: Mapping[bytes, bool], seen: set[bytes]
) -> None:
    """Rows that are no new capture: known from an earlier run, or repeated in this listing."""
    here: set[bytes] = set()
    for key in keys:
        if key in here or (found.get(key) and key in seen):
            recount.repeated += 1
        elif found.get(key) is False:
            recount.known += 1
        here.add(key)
    seen.update(here)
