"""Common Crawl: an index for each of its crawls, and records read out of its WARC files.

`collinfo.json` names the crawls; each has a pywb index of its own that answers
JSON lines in pages of index blocks, 404 with a message where it knows nothing.
A payload is one gzip member, had by a range request from the data host.

How it says "slow down": 503, at times a 500 that quotes S3's SlowDown, and 403
from the rate rules before its data (status.commoncrawl.org); its index refuses
connections after more than ten requests a minute (commoncrawl/cdx_toolkit,
`tests/test_fail2ban.py`). The list of crawls changes once a month and is not to
be fetched often.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode, urljoin

import orjson

from chrono_ray.archives import rows
from chrono_ray.archives.addresses import Endpoint
from chrono_ray.archives.base import Turn
from chrono_ray.archives.commoncrawl_crawls import Crawl, crawls
from chrono_ray.archives.commoncrawl_records import Locator, read_member
from chrono_ray.archives.encoding import BODY_LIMIT
from chrono_ray.archives.http import LIMITS, Answer, HttpSession, Limits
from chrono_ray.archives.payloads import memento
from chrono_ray.archives.records import Damaged
from chrono_ray.archives.replay import live_error, retry_after
from chrono_ray.model.capture import Capture
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    InvalidInput,
    MementoGone,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.memento import BadRow, ListingPage, Memento, Scope

BLOCKS_LEAST: Final = 2
"""The first block of a query is the one before its first match: alone, it may be an empty page."""
BLOCKS_MOST: Final = 20
LISTING_LIMIT: Final = 64 * 1024 * 1024
LISTING_SECONDS: Final = 120.0
CRAWLS_SECONDS: Final = 24 * 3600.0
"""For so long the list of crawls is believed."""
_FIELDS: Final = "urlkey,timestamp,url,mime,status,digest,length,offset,filename"
_PAGES_MOST: Final = 10_000_000
_ERROR_LIMIT: Final = 64 * 1024
_NOT_A_LISTING: Final = "The listing is not one"
_NOTHING: Final = re.compile(rb"No Captures found", re.IGNORECASE)
_SLOW_DOWN: Final = re.compile(rb"SlowDown|reduce your request rate|slow down", re.IGNORECASE)
_PART: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)", re.ASCII)
_RECORDS: Final = frozenset({"response", "resource"})


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in a listing: a crawl, and the page of its index to be asked for next.

    `pages` (0: not asked yet) of `blocks` index blocks: a crawl's index does not
    change, but the size that was chosen for its pages may.
    """

    crawl: str = ""
    page: int = 0
    pages: int = 0
    blocks: int = 0

    @classmethod
    def read(cls, key: str) -> _Mark:
        if not key:
            return cls()
        try:
            crawl, *numbers = orjson.loads(key)
            page, pages, blocks = (int(number) for number in numbers)
        except (ValueError, TypeError) as error:
            raise InvalidInput("Not a key of this listing", why=key[:200], code="key") from error
        bounds = ((page, _PAGES_MOST), (pages, _PAGES_MOST), (blocks, BLOCKS_MOST))
        bad = any(not 0 <= n <= most for n, most in bounds) or bool(pages) > bool(blocks)
        if bad or type(crawl) is not str or not crawl:
            raise InvalidInput("Not a key of this listing", why=key[:200], code="key")
        return cls(crawl, page, pages, blocks)

    @property
    def key(self) -> str:
        return orjson.dumps([self.crawl, self.page, self.pages, self.blocks]).decode("utf-8")


class _Counted:
    """A turn that counts how often it was taken: one call may need several requests."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.taken = 0

    async def __call__(self) -> None:
        await self._turn()
        self.taken += 1


class CommonCrawlArchive:
    """Every crawl that `collinfo` (a URL) names, its files below `data`.

    A listing walks the crawls of the wanted span, oldest first; a page of it is
    one page of one crawl's index, of `blocks_per_page` times 3,000 rows at most.
    Indexes are only asked at `collinfo`'s own host. `allowed` as in `HttpSession`.
    """

    name = "commoncrawl"

    def __init__(
        self,
        collinfo: str,
        data: str,
        user_agent: str,
        *,
        blocks_per_page: int = 5,
        allowed: frozenset[Endpoint] = frozenset(),
        limits: Limits = LIMITS,
    ) -> None:
        self._collinfo = collinfo
        self._data = data.rstrip("/")
        self._blocks = min(max(blocks_per_page, BLOCKS_LEAST), BLOCKS_MOST)
        self._http = HttpSession(user_agent, allowed=allowed, limits=limits)
        self._crawls: tuple[Crawl, ...] = ()
        self._known_at = 0.0

    async def list_page(self, scope: Scope, key: str, *, turn: Turn) -> ListingPage:
        """One page of a crawl's index, or the news that a crawl has nothing: up to three requests.

        Raises `ArchiveUnavailable` for an answer that is not a whole listing.
        """
        mark, counted = _Mark.read(key), _Counted(turn)
        try:
            raw = await self._list(scope, mark, counted)
        except ArchiveError as error:
            error.requests = counted.taken
            raise
        return replace(_parsed(raw), requests=counted.taken)

    def parse(self, raw: bytes) -> ListingPage:
        return _parsed(raw)

    async def replay(self, capture: Capture, *, deadline: float, turn: Turn) -> Memento:
        """The record at the capture's locator; raises `TransferFailed` (warc, revisit, ...)."""
        locator = _locator(capture)
        answer = await self._part(locator, deadline=deadline, turn=turn)
        try:
            head, payload = read_member(answer.body)
        except Damaged as damage:
            raise _unusable(capture, str(damage)) from damage
        if (head.url, head.date) != (capture.original, capture.timestamp.text):
            raise _unusable(capture, "another record is there")
        if head.kind == "revisit":
            raise TransferFailed(
                "The record is a revisit",
                reason="revisit",
                why="its payload lies with another capture",
            )
        if head.kind not in _RECORDS:
            raise _unusable(capture, f"a {head.kind[:50]} record is there")
        where = f"{answer.url}#bytes={locator.bytes.start}-{locator.bytes.stop - 1}"
        return memento(capture, head, payload, payload, where=where, requests=answer.requests)

    async def aclose(self) -> None:
        await self._http.aclose()

    # listing

    async def _list(self, scope: Scope, mark: _Mark, turn: Turn) -> bytes:
        wanted = [crawl for crawl in await self._known(turn) if crawl.overlaps(scope)]
        if not (wanted or mark.crawl):
            return _closed(b"", mark, "")
        place = _place_of(mark.crawl, wanted)
        mark = replace(mark, crawl=wanted[place].name)
        lines = b""
        if not mark.pages:
            mark = replace(mark, blocks=self._blocks)
            pages = await self._count(wanted[place], scope, mark, turn)
            mark = replace(mark, pages=pages)
        if mark.page < mark.pages:
            lines = await self._page(wanted[place], scope, mark, turn)
        return _closed(lines, mark, _next_key(mark, wanted[place + 1 :]))

    async def _known(self, turn: Turn) -> tuple[Crawl, ...]:
        """The crawls, asked for once a day: the list grows by one a month."""
        if not self._crawls or time.monotonic() - self._known_at > CRAWLS_SECONDS:
            answer = await self._ask(self._collinfo, turn)
            if answer.status != 200:
                raise _index_error(answer)
            self._crawls = crawls(answer.body)
            self._known_at = time.monotonic()
        return self._crawls

    async def _count(self, crawl: Crawl, scope: Scope, mark: _Mark, turn: Turn) -> int:
        """How many pages the index has for the scope, its dates aside."""
        answer = await self._index(crawl, scope, [("showNumPages", "true")], mark, turn)
        if _knows_nothing(answer):
            return 0
        match _json(answer.body):
            case {"pages": int(pages)} if 0 <= pages <= _PAGES_MOST:
                return pages
        raise _nonsense(answer.body)

    async def _page(self, crawl: Crawl, scope: Scope, mark: _Mark, turn: Turn) -> bytes:
        query = [("page", str(mark.page)), ("fl", _FIELDS)]
        dates = [] if crawl.lies_in(scope) else [("from", scope.start), ("to", scope.end)]
        query += [(name, value) for name, value in dates if value]
        answer = await self._index(crawl, scope, query, mark, turn)
        if _knows_nothing(answer) or _is_empty_list(answer):
            # the pages were counted without dates; what else is empty was promised to be not
            if dates or (mark.pages == 1 and answer.status == 404):
                return b""
            raise _nonsense(b"")
        _check_lines(answer.body)
        return answer.body

    async def _index(
        self, crawl: Crawl, scope: Scope, query: list[tuple[str, str]], mark: _Mark, turn: Turn
    ) -> Answer:
        common = [
            ("url", scope.url), ("matchType", scope.match.value), ("output", "json"),
            ("pageSize", str(mark.blocks)),
        ]  # fmt: skip
        url = urljoin(self._collinfo, crawl.path)
        answer = await self._ask(f"{url}?{urlencode(common + query)}", turn)
        if answer.status != 200 and not _knows_nothing(answer):
            raise _index_error(answer)
        return answer

    async def _ask(self, url: str, turn: Turn) -> Answer:
        """An answer with its content coding undone."""
        answer = await self._http.listing(
            url, deadline=LISTING_SECONDS, turn=turn, limit=LISTING_LIMIT
        )
        return replace(answer, body=answer.entity(LISTING_LIMIT))

    # replay

    async def _part(self, locator: Locator, *, deadline: float, turn: Turn) -> Answer:
        wanted = locator.bytes
        try:
            answer = await self._http.part(
                f"{self._data}/{locator.file}", wanted,
                deadline=deadline, turn=turn, limit=max(locator.length, _ERROR_LIMIT),
            )  # fmt: skip
        except TransferFailed as error:
            if error.reason == "too_large":
                raise TransferFailed(
                    "More than the part came", why=error.why, requests=error.requests
                ) from error
            raise
        if answer.status != 206:
            raise _data_error(answer, locator)
        found = _PART.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != wanted.start:
            raise TransferFailed(
                "Another part came", why=answer.headers.get("Content-Range", "")[:100]
            )
        if int(found[2]) < wanted.stop - 1:
            raise _past_the_end(locator, f"it ends at byte {found[2]}")
        if len(answer.body) != locator.length:
            raise TransferFailed("Another part came", why=f"{len(answer.body)} bytes")
        return answer


def _place_of(name: str, wanted: Sequence[Crawl]) -> int:
    """Where the walk stands. A crawl that vanished is an error: its captures would go unlisted."""
    for place, crawl in enumerate(wanted):
        if name in ("", crawl.name):
            return place
    raise ArchiveUnavailable(f"The crawl {name[:100]} is not in the list any more")


def _next_key(mark: _Mark, later: Sequence[Crawl]) -> str:
    if mark.page + 1 < mark.pages:
        return replace(mark, page=mark.page + 1).key
    return _Mark(later[0].name).key if later else ""


def _closed(lines: bytes, mark: _Mark, next_key: str) -> bytes:
    """The archive's lines, and a last one of ours: what was asked, and where it goes on."""
    own = {"crawl": mark.crawl, "page": mark.page, "pages": mark.pages, "resume": next_key}
    return lines + orjson.dumps(own) + b"\n"


def _parsed(raw: bytes) -> ListingPage:
    """Raises `ArchiveUnavailable` for what was not kept by us, or not whole."""
    *lines, own = raw.splitlines() or [b""]
    match _json(own):
        case {"crawl": str(), "resume": str(next_key)} if raw.endswith(b"\n"):
            pass
        case _:
            raise _nonsense(raw)
    captures: list[Capture] = []
    bad: list[BadRow] = []
    for number, line in enumerate(lines, 1):
        match _row(number, line):
            case Capture() as capture:
                captures.append(capture)
            case row:
                bad.append(row)
    return ListingPage(tuple(captures), tuple(bad), next_key, raw, 0)


def _row(number: int, line: bytes) -> Capture | BadRow:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return BadRow(number, "not JSON", line[: rows.SHOWN].decode("utf-8", "replace"))
    try:
        locator = Locator.of(entry["filename"], entry["offset"], entry["length"])
        return rows.capture(rows.fields(entry), str(locator))
    except (ValueError, TypeError, LookupError) as error:
        return rows.bad_row(number, entry, error)


def _check_lines(lines: bytes) -> None:
    """A page of an index is whole lines of JSON. An empty one is none: it would have said so."""
    if not (lines.lstrip().startswith(b"{") and lines.endswith(b"\n")):
        raise _nonsense(lines)
    first = _json(lines.partition(b"\n")[0])
    if isinstance(first, dict) and "urlkey" not in first and {"message", "error"} & first.keys():
        raise _nonsense(lines)


def _json(text: bytes) -> object:
    """What the text says; None when it is no JSON."""
    try:
        found: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found


def _is_empty_list(answer: Answer) -> bool:
    """pywb's own word for nothing, where Common Crawl's indexes say 404; no proxy's empty page."""
    declared = answer.headers.get("Content-Type", "")
    return answer.status == 200 and not answer.body.strip() and declared.startswith("text/x-ndjson")


def _knows_nothing(answer: Answer) -> bool:
    return answer.status == 404 and _NOTHING.search(answer.body) is not None


def _index_error(answer: Answer) -> ArchiveError:
    """What an index's answer means that is no listing; 403 comes from its rate rules."""
    error = _live_error(answer)
    if not isinstance(error, MementoGone):
        return error
    what = f"The listing was answered {answer.status}"
    if answer.status == 403:
        return Throttled(what, retry_after=None, why=_text(answer), requests=answer.requests)
    return ArchiveUnavailable(what, why=_text(answer), requests=answer.requests)


def _data_error(answer: Answer, locator: Locator) -> ArchiveError:
    """What the data host's answer means that is no part of a file; 403 comes from its rate rules,

    but for S3's AccessDenied, which is said of a file and may be a mistake of theirs.
    """
    if answer.status == 416:
        return _past_the_end(locator, "416")
    error = _live_error(answer)
    if answer.status != 403 or isinstance(error, Throttled):
        return error
    if b"AccessDenied" in answer.body:
        return ArchiveUnavailable(error.what, why=_text(answer), requests=answer.requests)
    return Throttled(error.what, retry_after=None, why=_text(answer), requests=answer.requests)


def _live_error(answer: Answer) -> ArchiveError:
    if answer.status >= 500 and _SLOW_DOWN.search(answer.body):
        pause = retry_after(answer.headers)
        what = f"The archive answered {answer.status}"
        return Throttled(what, retry_after=pause, why=_text(answer), requests=answer.requests)
    error = live_error(answer, bare_503_is_throttling=True)
    if isinstance(error, ArchiveUnavailable):
        error.why = _text(answer)
    return error


def _text(answer: Answer) -> str:
    return answer.body[:200].decode("utf-8", "replace")


def _nonsense(raw: bytes) -> ArchiveUnavailable:
    why = raw[:120].decode("utf-8", "replace") if raw.strip() else "an empty body"
    return ArchiveUnavailable(_NOT_A_LISTING, why=why)


def _locator(capture: Capture) -> Locator:
    try:
        locator = Locator.read(capture.locator)
    except ValueError as error:
        raise _unusable(capture, str(error), requests=0) from None
    if locator.length > BODY_LIMIT:
        why = f"{locator.length} bytes, over {BODY_LIMIT}"
        raise TransferFailed("The record is too large", reason="too_large", why=why, requests=0)
    return locator


def _unusable(capture: Capture, why: str, *, requests: int = 1) -> TransferFailed:
    what = f"The record at {capture.locator[:200]} cannot be used"
    return TransferFailed(what, reason="warc", why=why, requests=requests)


def _past_the_end(locator: Locator, why: str) -> TransferFailed:
    what = f"The record at {locator} lies past the end of its file"
    return TransferFailed(what, reason="warc", why=why)
