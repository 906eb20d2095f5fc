"""Local WARC, ARC and WACZ files as an archive.

A listing reads the files in the order of their names and offsets; its pages
are JSON lines of our own: a capture with its locator, a damaged record, or
where the listing goes on. A revisit is replayed with the payload of a record
in the same folder that has its digest.
"""

from __future__ import annotations

import asyncio
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from chrono_ray.archives import rows
from chrono_ray.archives.base import Turn
from chrono_ray.archives.payloads import (
    EMPTY,
    Payload,
    listed_digest,
    listed_status,
    listed_type,
    memento,
    read_http_head,
    read_payload,
)
from chrono_ray.archives.records import Damaged, Head, Place, Reader, Record
from chrono_ray.archives.replay import base32, sha1_bytes
from chrono_ray.archives.volumes import Volume, volume_named, volumes
from chrono_ray.model.capture import EMPTY_DIGEST, Capture
from chrono_ray.model.errors import ArchiveError, ArchiveUnavailable, InvalidInput, TransferFailed
from chrono_ray.model.memento import BadRow, ListingPage, Memento, Scope
from chrono_ray.model.urls import matches, surt

_LISTED: Final = frozenset({"response", "resource", "revisit"})
_ORIGINALS: Final = frozenset({"response", "resource"})
_RECORDS_PER_PAGE: Final = 50_000
"""A page ends after so many records even when few of them lie in the scope."""


@dataclass(frozen=True, slots=True)
class _Good:
    """A record that was passed over, its row if it is one to list, and the place behind it."""

    head: Head
    row: tuple[str, ...]
    place: Place
    after: Place


@dataclass(frozen=True, slots=True)
class _Bad:
    """A damaged record, and the place behind it."""

    why: str
    place: Place
    after: Place


_Found = _Good | _Bad


class WarcArchive:
    """A file, or a folder and all below it. Nothing is indexed ahead; no request is ever sent.

    A scope whose URL is the path's own (file:///...) is all that lies there, whatever its URLs.
    """

    def __init__(self, path: Path, *, name: str = "warc", rows_per_page: int = 5_000) -> None:
        self._path = path
        self._name = name
        self._rows = rows_per_page
        self._originals: dict[bytes, Place] = {}
        self._indexed: tuple[tuple[str, int], ...] = ()
        self._indexing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    async def list_page(self, scope: Scope, key: str, *, turn: Turn) -> ListingPage:  # noqa: ARG002
        """Rows in the order of the files; `turn` is not needed, for there is no wire."""
        start = _key_place(key)
        try:
            raw = await asyncio.to_thread(self._list, scope, start)
        except OSError as error:
            raise ArchiveUnavailable(
                "The files cannot be read", why=str(error), requests=0
            ) from error
        return _parsed(raw)

    def parse(self, raw: bytes) -> ListingPage:
        return _parsed(raw)

    async def replay(self, capture: Capture, *, deadline: float, turn: Turn) -> Memento:  # noqa: ARG002
        """The record at the capture's locator; raises `TransferFailed` (warc, revisit, ...)."""
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.to_thread(self._replay, capture)
        except ArchiveError as error:
            error.requests = 0
            raise
        except TimeoutError:
            raise TransferFailed("The files are slow", reason="deadline", requests=0) from None
        except (OSError, zipfile.BadZipFile) as error:
            raise _unusable(capture.locator, str(error)) from error

    async def aclose(self) -> None:
        """Nothing stays open between calls."""

    def _list(self, scope: Scope, start: Place) -> bytes:
        lines: list[bytes] = []
        whole = scope.url == self._path.as_uri()
        for count, found in enumerate(_walk(volumes(self._path), start), 1):
            if isinstance(found, _Bad):
                lines.append(orjson.dumps({"bad": found.why, "at": str(found.place)}))
            elif (
                found.row and _in_span(found.row, scope) and (whole or _in_scope(found.row, scope))
            ):
                lines.append(orjson.dumps([*found.row, str(found.place)]))
            if len(lines) >= self._rows or count >= _RECORDS_PER_PAGE:
                lines.append(orjson.dumps({"resume": str(found.after)}))
                break
        return b"".join(line + b"\n" for line in lines)

    def _replay(self, capture: Capture) -> Memento:
        place = _locator_place(capture.locator)
        head, payload = self._load(place)
        if head.url != capture.original or head.date != capture.timestamp.text:
            raise _unusable(capture.locator, "another record is there")
        original = self._original(head) if head.kind == "revisit" else payload
        return memento(capture, head, payload, original, where=str(place), requests=0)

    def _load(self, place: Place) -> tuple[Head, Payload]:
        volume = volume_named(self._path, place.volume)
        if volume is None:
            raise _unusable(str(place), "there is no such file")
        try:
            with volume.open() as file:
                reader = Reader(file, place)
                record = reader.next()
                if record is None or record.place != place:
                    raise _unusable(str(place), "no record starts there")
                payload = read_payload(record)
                reader.finish(record)
                return record.head, payload
        except Damaged as damage:
            raise _unusable(str(place), str(damage)) from damage

    def _original(self, revisit: Head) -> Payload:
        """The payload a revisit stands for: by digest, else by what it says it refers to."""
        digest = sha1_bytes(revisit.payload_digest)
        if base32(digest) == EMPTY_DIGEST:
            return EMPTY
        place = self._by_digest(digest) if digest else self._by_reference(revisit)
        if place is None:
            raise TransferFailed(
                "The revisit's original is not here",
                reason="revisit",
                why=revisit.payload_digest or "no digest",
                fix="Add the file that holds it to the folder",
            )
        return self._load(place)[1]

    def _by_digest(self, digest: bytes) -> Place | None:
        """From an index in memory, made at the first revisit and again when the files changed."""
        with self._indexing:
            if digest not in self._originals:
                self._index()
            return self._originals.get(digest)

    def _index(self) -> None:
        found = volumes(self._path)
        state = tuple((volume.name, volume.path.stat().st_size) for volume in found)
        if state == self._indexed:
            return
        self._originals = {}
        for record in _walk(found, Place("")):
            if isinstance(record, _Good) and record.head.kind in _ORIGINALS and record.row:
                self._originals.setdefault(sha1_bytes(record.row[5]), record.place)
        self._indexed = state

    def _by_reference(self, revisit: Head) -> Place | None:
        for record in _walk(volumes(self._path), Place("")):
            if isinstance(record, _Good) and _refers(revisit, record.head):
                return record.place
        return None


def _refers(revisit: Head, other: Head) -> bool:
    if other.kind not in _ORIGINALS:
        return False
    if revisit.refers_to and revisit.refers_to == other.record_id:
        return True
    named = (revisit.refers_to_url, revisit.refers_to_date)
    return all(named) and named == (other.url, other.date)


def _walk(found: tuple[Volume, ...], start: Place) -> Iterator[_Found]:
    """Every record from a place on, in the order of names and offsets."""
    for volume in found:
        if volume.name < start.volume:
            continue
        place = start if volume.name == start.volume else Place(volume.name)
        try:
            with volume.open() as file:
                yield from _walk_file(Reader(file, place))
        except zipfile.BadZipFile as error:
            if not place.offset:  # else it was said on the page before
                yield _Bad(str(error), place, Place(volume.name, 1))


def _walk_file(reader: Reader) -> Iterator[_Found]:
    while True:
        try:
            record = reader.next()
            if record is None:
                return
            yield _pass(reader, record)
        except Damaged as damage:
            place = reader.place
            reader.resync()
            yield _Bad(str(damage), place, reader.place)


def _pass(reader: Reader, record: Record) -> _Good:
    head = record.head
    if head.kind not in _LISTED or head.url[:4].lower() != "http":
        reader.finish(record)
        return _Good(head, (), record.place, reader.place)
    http = read_http_head(record)
    digest = listed_digest(record)
    length = reader.finish(record)
    row = (
        surt(head.url),
        head.date,
        head.url,
        listed_type(record, http),
        listed_status(record, http),
        digest,
        "" if length is None else str(length),
    )
    return _Good(head, row, record.place, reader.place)


def _in_scope(row: tuple[str, ...], scope: Scope) -> bool:
    return matches(scope.url, scope.match, row[0])


def _in_span(row: tuple[str, ...], scope: Scope) -> bool:
    """A row whose date is none is in scope: it is the listing's to say that it is bad."""
    stamp = row[1]
    late = bool(scope.start) and stamp < scope.start
    early = bool(scope.end) and stamp[: len(scope.end)] > scope.end
    return not (late or early)


def _key_place(key: str) -> Place:
    try:
        return Place.read(key) if key else Place("")
    except ValueError as error:
        raise InvalidInput("Not a key of this listing", why=key[:200], code="key") from error


def _locator_place(locator: str) -> Place:
    try:
        return Place.read(locator)
    except ValueError:
        raise _unusable(locator, "not a locator") from None


def _parsed(raw: bytes) -> ListingPage:
    captures: list[Capture] = []
    bad: list[BadRow] = []
    next_key = ""
    for number, line in enumerate(raw.splitlines(), 1):
        match orjson.loads(line):
            case {"resume": key}:
                next_key = key
            case {"bad": why, "at": place}:
                bad.append(BadRow(number, why, place))
            case [*row, locator]:
                try:
                    captures.append(rows.capture(row, locator))
                except ValueError as error:
                    bad.append(BadRow(number, f"{error}", locator))
    return ListingPage(tuple(captures), tuple(bad), next_key, raw, 0)


def _unusable(place: str, why: str) -> TransferFailed:
    what = f"The record at {place[:200]} cannot be used"
    return TransferFailed(what, reason="warc", why=why, requests=0)
