"""A listing of a million rows that costs no memory, and real pages under listed rows.

Both answer like `DemoWayback`, so that `HostileArchive` can serve them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote_plus

from chrono_ray.demo.cdx import (
    BLOCK_LINES,
    FIELDS,
    MAX_ROWS,
    BadQueryError,
    CdxIndex,
    CdxQuery,
    Keys,
    listing_reply,
    parse_query,
)
from chrono_ray.demo.record import Origin, Record
from chrono_ray.demo.replay import memento_headers, never_archived
from chrono_ray.demo.reply import Reply, text_reply
from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.memento import MatchType
from chrono_ray.model.urls import surt

_BLOCK: Final = 1000
_NUMBER: Final = "@@@@@@"
_LETTERS: Final = "######"
_TO_LETTERS: Final = str.maketrans("0123456789", "ABCDEFGHIJ")
_REPLAY: Final = re.compile(r"/web/(\d{14})([a-z]{2}_)?/(.+)", re.DOTALL)


def _listing_query(target: str) -> str | None:
    path, _, query = target.partition("?")
    return query if path.rstrip("/") == "/cdx/search/cdx" else None


class SyntheticWayback:
    """`rows` captures (rounded up to whole thousands) of `domain`, one URL each.

    Rows come in blocks of a thousand that differ only in the block's number, so
    a page is written by replacing two marks in ready bytes. Answers url,
    matchType, from, to, limit, output and resume keys; filters, collapse and fl
    are refused with 400. Replays are small pages whose digest does not match.
    """

    def __init__(
        self, rows: int, *, domain: str = "million.example", max_rows: int = MAX_ROWS
    ) -> None:
        self.rows = -(-rows // _BLOCK) * _BLOCK
        self.domain = domain
        self._max_rows = max_rows
        self._urlkey = surt(f"http://{domain}/")

    def answer(
        self, target: str, host: str, accept_encoding: str = "", *, keys: Keys = Keys.EXACT
    ) -> Reply:
        query = _listing_query(target)
        if query is None:
            return self._replay(target, host)
        try:
            asked = parse_query(query)
        except BadQueryError as error:
            return text_reply(400, f"Bad Request: {error}\n")
        if asked.filters or asked.collapses or asked.fields != tuple(range(len(FIELDS))):
            return text_reply(400, "Bad Request: not with a synthetic listing\n")
        if asked.count_pages:
            return text_reply(200, f"{-(-self.rows // BLOCK_LINES)}\n")
        return listing_reply(self._body(asked, keys), asked, accept_encoding)

    def _body(self, asked: CdxQuery, keys: Keys) -> bytes:
        rows = self._templates(asked.start, asked.end, json=asked.json)
        total = 0 if self._out_of_scope(asked) else len(rows) * (self.rows // _BLOCK)
        start = self._resumed(asked, rows) + asked.offset
        stop = min(start + min(asked.limit or self._max_rows, self._max_rows), total)
        more = stop < total or (keys is Keys.WAYBACK and stop > start)
        key = self._key(stop - 1, rows) if asked.show_key and more else ""
        between = b",\n" if asked.json else b"\n"
        body = between.join(self._slices(rows, start, stop, between))
        if not asked.json:
            return body + b"\n" * bool(body) + (f"\n{key}\n".encode() if key else b"")
        if not body:
            return b"[]\n"
        names = b'[["' + '","'.join(FIELDS).encode() + b'"],\n'
        return names + body + (f',\n[],\n["{key}"]'.encode() if key else b"") + b"]\n"

    def _out_of_scope(self, asked: CdxQuery) -> bool:
        if asked.match is MatchType.EXACT:
            return True
        return surt(asked.url).rstrip("/") not in (self._urlkey, self._urlkey.rstrip("/"))

    @lru_cache(maxsize=64)  # noqa: B019 - an archive lives as long as its tests
    def _templates(self, start: str, end: str, *, json: bool) -> tuple[tuple[int, str, bytes], ...]:
        """The rows of a block within a span of time: place in block, timestamp, bytes."""
        found = []
        for place in range(_BLOCK):
            stamp = _stamp(place)
            if stamp >= start and (not end or stamp <= end or stamp.startswith(end)):
                found.append((place, stamp, self._row(place, stamp, json=json)))
        return tuple(found)

    def _row(self, place: int, stamp: str, *, json: bool) -> bytes:
        path = f"/{_NUMBER}/{place:03}.html"
        digest = _LETTERS + f"{place:03}".translate(_TO_LETTERS) + "Q" * 23
        url = f"http://{self.domain}{path}"
        urlkey = self._urlkey.removesuffix("/") + path
        fields = (urlkey, stamp, url, "text/html", "200", digest, "1234")
        return ('["' + '","'.join(fields) + '"]' if json else " ".join(fields)).encode()

    def _slices(
        self, rows: tuple[tuple[int, str, bytes], ...], start: int, stop: int, between: bytes
    ) -> list[bytes]:
        texts = [text for _, _, text in rows]
        whole, slices, at = between.join(texts), [], start
        while at < stop:
            block, first = divmod(at, len(rows))
            last = min(len(rows), first + stop - at)
            text = whole if last - first == len(rows) else between.join(texts[first:last])
            number = f"{block:06}"
            text = text.replace(_NUMBER.encode(), number.encode())
            slices.append(text.replace(_LETTERS.encode(), number.translate(_TO_LETTERS).encode()))
            at += last - first
        return slices

    def _key(self, position: int, rows: tuple[tuple[int, str, bytes], ...]) -> str:
        block, index = divmod(position, len(rows))
        place, stamp, _ = rows[index]
        urlkey = f"{self._urlkey.removesuffix('/')}/{block:06}/{place:03}.html"
        return quote_plus(f"{urlkey} {stamp[:-1]}{chr(ord(stamp[-1]) + 1)}")

    def _resumed(self, asked: CdxQuery, rows: tuple[tuple[int, str, bytes], ...]) -> int:
        found = re.search(r"/(\d{6})/(\d{3})\.html (\S+)", asked.resume)
        if found is None:
            return 0
        block, at, stamp = int(found[1]), int(found[2]), found[3]
        return block * len(rows) + sum((place, of) < (at, stamp) for place, of, _ in rows)

    def _replay(self, target: str, host: str) -> Reply:
        found = _REPLAY.fullmatch(target)
        if found is None:
            return text_reply(404, "Not Found\n")
        stamp, modifier, url = found[1], found[2] or "", found[3]
        body = f"<html><title>{url}</title><p>Page {url} of a million.</p></html>".encode()
        origin = Origin(200, "text/html", (("Content-Type", "text/html"),), body)
        capture = Capture(surt(url), Timestamp14(stamp), url, "text/html", "200", "-")
        return Reply(200, memento_headers(Record(capture, origin), host, modifier), body)


def _stamp(place: int, *, first: int = 1996, years: int = 25) -> str:
    """A timestamp for each place in a block, over so many years."""
    return f"{first + place % years:04}{1 + place % 12:02}{1 + place % 28:02}{place % 24:02}0000"


@dataclass(frozen=True, slots=True)
class _Page:
    """A page, whole and packed up to (not with) its end."""

    body: bytes
    packed: bytes
    sha1: hashlib._Hash
    checksum: int


class PagesWayback:
    """Real pages under `captures` rows, each made a payload of its own by a final comment."""

    def __init__(self, pages: list[bytes], *, captures: int, domain: str = "pages.example") -> None:
        self.domain = domain
        self._pages = [_pack(page) for page in pages]
        rows = [self._capture(number) for number in range(captures)]
        self._numbers = {row.original: number for number, row in enumerate(rows)}
        self.captures = tuple(sorted(rows, key=lambda row: (row.urlkey, row.timestamp)))
        self.cdx = CdxIndex(self.captures)
        self._rows = rows

    def answer(
        self, target: str, host: str, accept_encoding: str = "", *, keys: Keys = Keys.EXACT
    ) -> Reply:
        query = _listing_query(target)
        if query is not None:
            return self.cdx.answer(query, accept_encoding, keys=keys)
        found = _REPLAY.fullmatch(target)
        number = self._numbers.get(found[3]) if found else None
        if found is None or number is None:
            return never_archived(target)
        page, tail = self._pages[number % len(self._pages)], _tail(number)
        origin = Origin(200, "text/html", (("Content-Type", "text/html"),), b"")
        headers = memento_headers(Record(self._rows[number], origin), host, found[2] or "")
        if "gzip" not in accept_encoding:
            return Reply(200, headers, page.body + tail)
        return Reply(200, (*headers, ("Content-Encoding", "gzip")), _packed(page, tail))

    def _capture(self, number: int) -> Capture:
        page = self._pages[number % len(self._pages)]
        sha1 = page.sha1.copy()
        sha1.update(_tail(number))
        url = f"http://h{number % 8}.{self.domain}/{number // 8:06}.html"
        return Capture(
            surt(url),
            # after the pages were published: a page from the future takes longer to date
            Timestamp14(_stamp(number % _BLOCK, first=2020, years=5)),
            url,
            "text/html",
            "200",
            base64.b32encode(sha1.digest()).decode(),
            len(page.packed),
        )


def _tail(number: int) -> bytes:
    return b"\n<!-- capture %08d -->\n" % number


def _pack(body: bytes) -> _Page:
    """Deflated up to a flush, so that any tail can be added without packing it all again."""
    coder = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = coder.compress(body) + coder.flush(zlib.Z_FULL_FLUSH)
    return _Page(body, packed, hashlib.sha1(body, usedforsecurity=False), zlib.crc32(body))


def _packed(page: _Page, tail: bytes) -> bytes:
    coder = zlib.compressobj(1, zlib.DEFLATED, -15)
    end = coder.compress(tail) + coder.flush()
    checksum = zlib.crc32(tail, page.checksum).to_bytes(4, "little")
    size = (len(page.body) + len(tail)).to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + page.packed + end + checksum + size


def site_from_pages(folder: Path, *, captures: int) -> PagesWayback:
    """Serves the `*.html.gz` of a folder; raises FileNotFoundError when there are none."""
    pages = [gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*.html.gz"))]
    if not pages:
        raise FileNotFoundError(f"no *.html.gz in {folder}")
    return PagesWayback(pages, captures=captures)
