"""A pywb collection, e.g. `http://127.0.0.1:8080/coll`.

What differs from Wayback (pywb 2.10, measured): listings are JSON lines in the
order of (urlkey, timestamp), all in one answer, with no resume key and no
`collapse`; a revisit has no status; an unknown URL is an empty 200. A page of
ours is a piece of that answer: the archive's own lines and, where the listing
goes on, one line of ours that says where.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import BinaryIO, Final
from urllib.parse import urlencode

import orjson

from chrono_ray.archives import rows
from chrono_ray.archives.base import Turn
from chrono_ray.archives.http import Answer
from chrono_ray.archives.replay import ReplayArchive
from chrono_ray.model.capture import Capture
from chrono_ray.model.errors import ArchiveError, ArchiveUnavailable, InvalidInput, MementoGone
from chrono_ray.model.memento import BadRow, ListingPage, Scope

LISTING_LIMIT: Final = 8 * 1024**3
LISTING_SECONDS: Final = 600.0
"""A whole listing comes in one answer."""
_LINE_LIMIT: Final = 1024 * 1024
_OPEN_LISTINGS: Final = 8
_RESUME: Final = "resume"


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in a listing: so many lines after the first row of (urlkey, timestamp).

    Unlike a line number it still holds when the archive has grown in between.
    """

    urlkey: str = ""
    timestamp: str = ""
    lines: int = 0

    @classmethod
    def read(cls, key: str) -> _Mark:
        if not key:
            return cls()
        try:
            urlkey, timestamp, lines = orjson.loads(key)
            return cls(str(urlkey), str(timestamp), int(lines))
        except (ValueError, TypeError) as error:
            raise InvalidInput("Not a key of this listing", why=key[:200], code="key") from error

    @property
    def key(self) -> str:
        return orjson.dumps([self.urlkey, self.timestamp, self.lines]).decode("utf-8")

    def after(self, line: bytes) -> _Mark:
        """The place behind one more line."""
        place = _place(line)
        if place is None or place == (self.urlkey, self.timestamp):
            return _Mark(self.urlkey, self.timestamp, self.lines + 1)
        return _Mark(*place, 1)


@dataclass(slots=True)
class _Listing:
    """A whole answer on disk, and how far it was read."""

    file: BinaryIO
    mark: _Mark


class PywbArchive(ReplayArchive):
    """One collection of a pywb server at `base`.

    A listing is downloaded once to a temporary file and cut into pages of
    `rows_per_page`; resumed elsewhere, it is downloaded again.
    """

    _name = "pywb"
    _replays_at = ""
    _bare_503_is_throttling = False

    @cached_property
    def _listings(self) -> OrderedDict[Scope, _Listing]:
        """The listings under way, the least recently asked for first."""
        return OrderedDict()

    async def list_page(self, scope: Scope, key: str, *, turn: Turn) -> ListingPage:
        """At most one request, none while the downloaded listing lasts."""
        mark = _Mark.read(key)
        listing = self._listings.pop(scope, None)
        requests = 0
        if listing is not None and listing.mark != mark:
            listing.file.close()
            listing = None
        if listing is None:
            listing, requests = await self._download(scope, turn)
        with ExitStack() as stack:
            stack.callback(listing.file.close)
            if listing.mark != mark:
                await asyncio.to_thread(_skip, listing, mark)
            page = _parsed(await asyncio.to_thread(_cut, listing, self._rows), requests)
            if page.next_key:
                stack.pop_all()
                self._keep(scope, listing)
        return page

    def parse(self, raw: bytes) -> ListingPage:
        return _parsed(raw, 0)

    async def aclose(self) -> None:
        for listing in self._listings.values():
            listing.file.close()
        self._listings.clear()
        await super().aclose()

    async def _download(self, scope: Scope, turn: Turn) -> tuple[_Listing, int]:
        query = [("url", scope.url), ("matchType", scope.match.value), ("output", "json")]
        dates = (("from", scope.start), ("to", scope.end))
        query += [(name, value) for name, value in dates if value]
        url = f"{self._base}/cdx?{urlencode(query)}"
        with ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile())
            answer = await self._http.save(
                url, file, deadline=LISTING_SECONDS, turn=turn, limit=LISTING_LIMIT
            )
            if answer.status != 200:
                raise self._listing_error(answer, file)
            file.seek(0)
            stack.pop_all()
        return _Listing(file, _Mark()), answer.requests

    def _listing_error(self, answer: Answer, file: BinaryIO) -> ArchiveError:
        file.seek(0)
        why = file.read(200).decode("utf-8", "replace")
        error = self._live_error(answer)
        if isinstance(error, MementoGone):
            what = f"The listing was answered {answer.status}"
            return ArchiveUnavailable(what, why=why, requests=answer.requests)
        return error

    def _keep(self, scope: Scope, listing: _Listing) -> None:
        if (other := self._listings.pop(scope, None)) is not None:
            other.file.close()
        self._listings[scope] = listing
        while len(self._listings) > _OPEN_LISTINGS:
            _, oldest = self._listings.popitem(last=False)
            oldest.file.close()


def _skip(listing: _Listing, mark: _Mark) -> None:
    """Reads on to the mark; where its row is gone, to the first row behind it."""
    anchor = (mark.urlkey, mark.timestamp)
    position = listing.file.tell()
    found = anchor == ("", "")
    while not found and (line := listing.file.readline(_LINE_LIMIT)):
        place = _place(line)
        if place is not None and place >= anchor:
            listing.file.seek(position)
            found = place == anchor
            break
        position = listing.file.tell()
    if found:
        for _ in islice(_lines(listing.file), mark.lines):
            pass
    listing.mark = mark


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LINE_LIMIT):
        yield line


def _cut(listing: _Listing, count: int) -> bytes:
    """The next lines, and a last line that says where it goes on, if it does."""
    lines = list(islice(_lines(listing.file), count))
    mark = listing.mark
    for line in lines:
        last, mark = mark, mark.after(line)
        if (mark.urlkey, mark.timestamp) < (last.urlkey, last.timestamp):
            raise ArchiveUnavailable("The listing is not in order", why=line[:200].decode("utf-8"))
    listing.mark = mark
    position = listing.file.tell()
    goes_on = bool(listing.file.readline(_LINE_LIMIT))
    listing.file.seek(position)
    if goes_on:
        lines.append(orjson.dumps({_RESUME: mark.key}) + b"\n")
    return b"".join(lines)


def _parsed(raw: bytes, requests: int) -> ListingPage:
    """Raises `ArchiveUnavailable` when this is no listing or ends inside a line."""
    if raw and not (raw.lstrip().startswith(b"{") and raw.endswith(b"\n")):
        why = raw[:120].decode("utf-8", "replace")
        raise ArchiveUnavailable("The listing is not one", why=why, requests=requests)
    captures: list[Capture] = []
    bad: list[BadRow] = []
    next_key = ""
    for number, line in enumerate(raw.splitlines(), 1):
        match _row(number, line):
            case Capture() as capture:
                captures.append(capture)
            case BadRow() as row:
                bad.append(row)
            case key:
                next_key = key
    return ListingPage(tuple(captures), tuple(bad), next_key, raw, requests)


def _row(number: int, line: bytes) -> Capture | BadRow | str:
    """A line: a capture, a bad row, or our own word on where the listing goes on."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return BadRow(number, "not JSON", line[: rows.SHOWN].decode("utf-8", "replace"))
    if isinstance(entry, dict) and set(entry) == {_RESUME}:
        return str(entry[_RESUME])
    try:
        return rows.capture(rows.fields(entry))
    except (ValueError, TypeError, LookupError) as error:
        return rows.bad_row(number, entry, error)


def _place(line: bytes) -> tuple[str, str] | None:
    try:
        entry = orjson.loads(line)
        urlkey, timestamp = entry["urlkey"], entry["timestamp"]
    except (orjson.JSONDecodeError, TypeError, LookupError):
        return None
    return (urlkey, timestamp) if type(urlkey) is str and type(timestamp) is str else None
