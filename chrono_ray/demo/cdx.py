"""The CDX server: which rows a query lists, and how they are written.

Follows the source of the Wayback Machine's own server (`CDXServer`,
`JsonWriter`, `PlainTextWriter` of internetarchive/wayback): wildcards only
without a matchType, filters match a field whole, `collapse` sees adjacent rows
only, the resume key follows a blank line or an empty array. One thing is
better than there by default: see `Keys`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final
from urllib.parse import parse_qs, quote_plus, unquote_plus

import orjson

from chrono_ray.demo.reply import Reply, gzipped, text_reply
from chrono_ray.model.capture import Capture
from chrono_ray.model.memento import MatchType
from chrono_ray.model.urls import surt

FIELDS: Final = ("urlkey", "timestamp", "original", "mimetype", "statuscode", "digest", "length")
MAX_ROWS: Final = 150_000
"""Rows in one answer, whatever the limit asked for (the documented maximum)."""
BLOCK_LINES: Final = 3000
"""Rows in an index block, the unit of `page` and `showNumPages`."""

Row = tuple[str, ...]


class Keys(Enum):
    """What a resume key says.

    WAYBACK is what the real server writes after every full page: the last row's
    second plus one, so the rest of that second is never listed, and a listing
    that ends with a full page is followed by an empty one. EXACT differs in
    these two points: no row is lost, and the last page has no key.
    """

    EXACT = "exact"
    WAYBACK = "wayback"


class BadQueryError(ValueError):
    """The query cannot be served: answered with 400."""


@dataclass(frozen=True, slots=True)
class FieldFilter:
    """`[!]field:regex`; the expression must match the whole field."""

    field: int
    pattern: re.Pattern[str]
    wanted: bool

    def passes(self, row: Row) -> bool:
        return (self.pattern.fullmatch(row[self.field]) is not None) is self.wanted


@dataclass(frozen=True, slots=True)
class Collapse:
    """`field[:n]`: of adjacent rows whose first n characters agree, the first is listed."""

    field: int
    length: int | None


@dataclass(frozen=True, slots=True)
class CdxQuery:
    """A query understood. `limit` 0 means as many as allowed, negative the last ones."""

    url: str
    match: MatchType
    start: str = ""
    end: str = ""
    json: bool = False
    gzip: bool = True
    limit: int = 0
    offset: int = 0
    resume: str = ""
    show_key: bool = False
    page: int | None = None
    count_pages: bool = False
    fields: tuple[int, ...] = tuple(range(len(FIELDS)))
    filters: tuple[FieldFilter, ...] = ()
    collapses: tuple[Collapse, ...] = ()


def parse_query(query: str) -> CdxQuery:
    """Understands a query string; raises `BadQueryError`."""
    given = parse_qs(query, keep_blank_values=True)

    def one(name: str, default: str = "") -> str:
        return given.get(name, [default])[-1]

    url, match = _scope(one("url"), one("matchType"))
    page = one("page")
    return CdxQuery(
        url,
        match,
        start=_digits(one("from")),
        end=_digits(one("to")),
        json=one("output") == "json",
        gzip=one("gzip") != "false",
        limit=_number(one("limit", "0")),
        offset=max(_number(one("offset", "0")), 0),
        resume=unquote_plus(one("resumeKey")),
        show_key=one("showResumeKey") == "true",
        page=_number(page) if page else None,
        count_pages=one("showNumPages") == "true",
        fields=_fields(unquote_plus(one("fl"))),
        filters=tuple(_filter(text) for text in given.get("filter", ())),
        collapses=tuple(_collapse(text) for text in given.get("collapse", ())),
    )


def _scope(url: str, match: str) -> tuple[str, MatchType]:
    if not url:
        raise BadQueryError("url is required")
    if match:
        try:
            return url, MatchType(match)
        except ValueError:
            raise BadQueryError(f"no such matchType: {match}") from None
    if url.startswith("*."):
        return url[2:], MatchType.DOMAIN
    if url.endswith("*"):
        return url[:-1], MatchType.PREFIX
    return url, MatchType.EXACT


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadQueryError(f"not a number: {text}") from None


def _digits(text: str) -> str:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 14):
        raise BadQueryError(f"not 1 to 14 digits: {text}")
    return text


def _field(name: str) -> int:
    if name not in FIELDS:
        raise BadQueryError(f"no such field: {name}")
    return FIELDS.index(name)


def _fields(text: str) -> tuple[int, ...]:
    return tuple(_field(name) for name in text.split(",")) if text else tuple(range(len(FIELDS)))


def _filter(text: str) -> FieldFilter:
    wanted = not text.startswith("!")
    name, _, pattern = text.removeprefix("!").partition(":")
    try:
        return FieldFilter(_field(name), re.compile(pattern), wanted)
    except re.error as error:
        raise BadQueryError(f"bad filter: {error}") from None


def _collapse(text: str) -> Collapse:
    name, _, length = text.partition(":")
    return Collapse(_field(name), _number(length) if length else None)


def urlkey_range(url: str, match: MatchType) -> tuple[str, str]:
    """The keys of a scope: the first one, and the first beyond it, in the index's order."""
    key = surt(url)
    match match:
        case MatchType.EXACT:
            return key, key + "\0"
        case MatchType.PREFIX:
            last = url[-1:]
            key += last if last in ("/", "?") and not key.endswith(last) else ""
            return key, key + "\U0010ffff"
        case MatchType.HOST:
            host = key.partition(")")[0]
            return host + ")", host + "*"
        case MatchType.DOMAIN:
            host = key.partition(")")[0]
            return host + ")", host + "-"


def row_of(capture: Capture) -> Row:
    """The seven public fields, as text."""
    length = "-" if capture.length is None else str(capture.length)
    return (
        capture.urlkey,
        capture.timestamp.text,
        capture.original,
        capture.mimetype,
        capture.statuscode,
        capture.digest,
        length,
    )


class CdxIndex:
    """Rows in the order of urlkey and timestamp, and the queries over them."""

    def __init__(self, captures: Sequence[Capture]) -> None:
        self._rows = [row_of(capture) for capture in captures]
        self._places = [(row[0], row[1]) for row in self._rows]

    def answer(self, query: str, accept_encoding: str, *, keys: Keys = Keys.EXACT) -> Reply:
        """The listing for a query string, gzipped when both sides agree to it."""
        try:
            asked = parse_query(query)
        except BadQueryError as error:
            return text_reply(400, f"Bad Request: {error}\n")
        if asked.count_pages:
            return text_reply(200, f"{self._pages(asked)}\n", "text/plain;charset=UTF-8")
        rows, key = self.select(asked, keys=keys)
        body = write_rows(rows, asked, key)
        return listing_reply(body, asked, accept_encoding)

    def select(self, asked: CdxQuery, *, keys: Keys = Keys.EXACT) -> tuple[list[Row], str]:
        """The rows to list, all fields, and the key to go on with (empty: none)."""
        limit = min(abs(asked.limit) or MAX_ROWS, MAX_ROWS)
        found = self._matching(asked)
        if asked.limit < 0:
            return [self._rows[place] for place in list(found)[-limit:]], ""
        places = list(islice(found, limit))
        rows = [self._rows[place] for place in places]
        if not asked.show_key or len(places) < limit:
            return rows, ""
        return rows, self._key(places[-1], next(found, None), keys)

    def _matching(self, asked: CdxQuery) -> Iterator[int]:
        """Positions of the rows that pass, in order."""
        start, stop = self._bounds(asked)
        kept: tuple[str, ...] | None = None
        for place in range(min(start + asked.offset, stop), stop):
            row = self._rows[place]
            if not _in_time(asked, row[1]):
                continue
            if not all(rule.passes(row) for rule in asked.filters):
                continue
            if asked.collapses:
                group = tuple(row[rule.field][: rule.length] for rule in asked.collapses)
                if group == kept:
                    continue
                kept = group
            yield place

    def _bounds(self, asked: CdxQuery) -> tuple[int, int]:
        first, beyond = urlkey_range(asked.url, asked.match)
        start = bisect_left(self._places, (first, ""))
        stop = bisect_left(self._places, (beyond, ""))
        if asked.resume:
            urlkey, _, rest = asked.resume.partition(" ")
            stamp, _, skip = rest.partition(" ")
            start = max(start, bisect_left(self._places, (urlkey, stamp)))
            start += int(skip) if skip.isdecimal() else 0
        if asked.page is not None:
            start = min(start + asked.page * BLOCK_LINES, stop)
            stop = min(start + BLOCK_LINES, stop)
        return start, stop

    def _pages(self, asked: CdxQuery) -> int:
        start, stop = self._bounds(asked)
        return max(-(-(stop - start) // BLOCK_LINES), 1)

    def _key(self, last: int, following: int | None, keys: Keys) -> str:
        """The key after the row at `last`, when `following` is the next row that would match."""
        urlkey, stamp = self._places[last]
        if keys is Keys.EXACT:
            if following is None:
                return ""
            if self._places[following] == self._places[last]:
                given = last + 1 - bisect_left(self._places, (urlkey, stamp))
                return quote_plus(f"{urlkey} {stamp} {given}")
        return quote_plus(f"{urlkey} {stamp[:-1]}{chr(ord(stamp[-1]) + 1)}")


def _in_time(asked: CdxQuery, stamp: str) -> bool:
    """`to` is inclusive for all the time it names: to=2005 takes the whole year."""
    if stamp < asked.start:
        return False
    return not asked.end or stamp <= asked.end or stamp.startswith(asked.end)


def write_rows(rows: Sequence[Row], asked: CdxQuery, key: str) -> bytes:
    """The body of a listing in the form that was asked for."""
    if asked.fields != tuple(range(len(FIELDS))):
        rows = [tuple(row[field] for field in asked.fields) for row in rows]
    if not asked.json:
        tail = f"\n{key}\n" if key else ""
        return ("".join(" ".join(row) + "\n" for row in rows) + tail).encode()
    if not rows:
        return b"[]\n"
    lines: list[Row] = [tuple(FIELDS[field] for field in asked.fields), *rows]
    lines += [(), (key,)] if key else []
    return b"[" + b",\n".join(map(orjson.dumps, lines)) + b"]\n"


def listing_reply(body: bytes, asked: CdxQuery, accept_encoding: str) -> Reply:
    """A listing with the headers of the real server."""
    content_type = "application/json" if asked.json else "text/plain;charset=UTF-8"
    headers = (("Content-Type", content_type), ("x-app-server", "wwwb-app1"), ("x-ts", "200"))
    if asked.gzip and "gzip" in accept_encoding:
        return Reply(200, (*headers, ("Content-Encoding", "gzip")), gzipped(body))
    return Reply(200, headers, body)
