"""The Internet Archive's Wayback Machine, and whatever speaks its dialect.

Listings are JSON arrays from `{base}/cdx/search/cdx`, walked by resume key;
mementos come raw from `{base}/web/<14 digits>id_/<url>`.

Facts from the Wayback CDX server's README and the edgi `wayback` client: an
overloaded server answers 200 with an empty body or an HTML page, while "no
captures" is `[]`; the resume key follows an empty row.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Final
from urllib.parse import quote_plus, unquote_plus, urlencode

import orjson

from chrono_ray.archives import rows
from chrono_ray.archives.base import Turn
from chrono_ray.archives.http import Answer
from chrono_ray.archives.replay import ReplayArchive
from chrono_ray.model.errors import ArchiveError, ArchiveUnavailable, MementoGone
from chrono_ray.model.memento import ListingPage, Scope

FIELDS: Final = ("urlkey", "timestamp", "original", "mimetype", "statuscode", "digest", "length")
ROWS_MAX: Final = 150_000
"""What the Wayback CDX server gives at most in one answer."""
LISTING_LIMIT: Final = 32 * 1024 * 1024
LISTING_SECONDS: Final = 120.0
"""A busy Wayback takes a minute for a listing."""
_NOT_A_LISTING: Final = "The listing is not one"


class WaybackArchive(ReplayArchive):
    """A Wayback-compatible archive at `base`, e.g. `https://web.archive.org`."""

    _name = "wayback"
    _replays_at = "/web"
    _bare_503_is_throttling = True

    async def list_page(self, scope: Scope, key: str, *, turn: Turn) -> ListingPage:
        """Raises `ArchiveUnavailable` for an answer that is not a whole listing."""
        limit, requests = self._rows, 0
        while True:
            try:
                page = await self._ask(scope, key, limit, turn)
            except ArchiveError as error:
                error.requests += requests
                raise
            requests += page.requests
            if page.captures or page.bad_rows or not page.next_key:
                return replace(page, requests=requests)
            # One second holds more rows than the page: see `_whole_seconds`.
            if limit > ROWS_MAX:
                raise _nonsense(page.raw, requests)
            limit *= 8

    def parse(self, raw: bytes) -> ListingPage:
        return _parsed(raw, 0)

    async def _ask(self, scope: Scope, key: str, limit: int, turn: Turn) -> ListingPage:
        answer = await self._http.listing(
            f"{self._base}/cdx/search/cdx?{urlencode(self._query(scope, key, limit))}",
            deadline=LISTING_SECONDS,
            turn=turn,
            limit=LISTING_LIMIT,
        )
        if answer.status != 200:
            raise self._listing_error(answer)
        return _parsed(answer.entity(LISTING_LIMIT), answer.requests)

    def _query(self, scope: Scope, key: str, limit: int) -> list[tuple[str, str]]:
        query = [
            ("url", scope.url),
            ("matchType", scope.match.value),
            ("output", "json"),
            ("fl", ",".join(FIELDS)),
            ("gzip", "false"),
            ("limit", str(limit)),
            ("showResumeKey", "true"),
        ]
        optional = (("from", scope.start), ("to", scope.end), ("resumeKey", key))
        return query + [(name, value) for name, value in optional if value]

    def _listing_error(self, answer: Answer) -> ArchiveError:
        text = answer.body[:2000].decode("utf-8", "replace")
        what = f"The listing was answered {answer.status}"
        if answer.status == 403 and ("AccessControl" in text or "Blocked" in text):
            return MementoGone(what, reason="blocked", why=text[:200], requests=answer.requests)
        error = self._live_error(answer)
        if isinstance(error, MementoGone):  # a listing's 404 is a wrong address, not a lost capture
            return ArchiveUnavailable(what, why=text[:200], requests=answer.requests)
        return error


def _parsed(raw: bytes, requests: int) -> ListingPage:
    """A whole answer as a page; raises `ArchiveUnavailable` when it is cut or no listing."""
    try:
        table = orjson.loads(raw)
    except orjson.JSONDecodeError:
        table = _line_by_line(raw, requests)
    if not isinstance(table, list):
        raise _nonsense(raw, requests)
    if not table:
        return ListingPage((), (), "", raw, requests)
    pick = rows.picker(table[0], FIELDS)
    if pick is None:
        raise _nonsense(raw, requests)
    next_key = _resume_key(table)
    end = len(table)
    if next_key:
        next_key, end = _whole_seconds(table, next_key, end - 2)
    captures, bad = rows.captures(islice(table, 1, end), pick, first_line=1)
    return ListingPage(captures, bad, next_key, raw, requests)


def _resume_key(table: list[rows.Row]) -> str:
    """The last row, where an empty one announces it."""
    if len(table) < 3 or table[-2] != []:
        return ""
    last = table[-1]
    return last[0] if isinstance(last, list) and len(last) == 1 and type(last[0]) is str else ""


def _whole_seconds(table: list[rows.Row], key: str, end: int) -> tuple[str, int]:
    """The key to go on with, and where this page ends, so that no row is lost between pages.

    Wayback's key is the last row's urlkey and its timestamp plus one (`CDXServer`), so the
    rows of that second which did not fit are never listed. Such a second is left to the
    next page, which is asked to begin with it. Keys of another shape are left alone.
    """
    place = _place(table[end - 1])
    if place is None:
        return key, end
    urlkey, stamp = place
    if unquote_plus(key) != f"{urlkey} {stamp[:-1]}{chr(ord(stamp[-1]) + 1)}":
        return key, end
    while end > 1 and _place(table[end - 1]) == place:
        end -= 1
    return quote_plus(f"{urlkey} {stamp}"), end


def _place(row: rows.Row) -> tuple[str, str] | None:
    """urlkey and timestamp, which lead every row that was asked for with `FIELDS`."""
    if not isinstance(row, list) or len(row) < len(FIELDS):
        return None
    urlkey, stamp = row[:2]
    return (urlkey, stamp) if type(urlkey) is str and type(stamp) is str and stamp else None


def _line_by_line(raw: bytes, requests: int) -> list[rows.Row]:
    """The rows of a listing with bad ones in it: text where a line is no JSON.

    A listing that was cut is no listing: its rest would be lost silently.
    """
    body = raw.strip()
    if not (body.startswith(b"[[") and body.endswith(b"]]")):
        raise _nonsense(raw, requests)
    table = [_row(line) for line in body[1:-1].split(b"\n")]
    last = table[-1]
    if isinstance(last, str) and last.replace('\\"', "").count('"') % 2:
        raise _nonsense(raw, requests)
    return table


def _row(line: bytes) -> rows.Row:
    line = line.strip().removesuffix(b",")
    try:
        row: rows.Row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line.decode("utf-8", "replace")
    return row


def _nonsense(raw: bytes, requests: int) -> ArchiveUnavailable:
    why = raw[:120].decode("utf-8", "replace") if raw.strip() else "an empty body"
    return ArchiveUnavailable(_NOT_A_LISTING, why=why, requests=requests)
