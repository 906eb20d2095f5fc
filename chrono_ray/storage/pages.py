"""Pages as somebody reads them: with their captures, their versions, and what stands beside them.

What somebody may not see is not there for them: `NotFound`. Each read is one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

import asyncpg
import orjson

from chrono_ray.model.accounts import Actor
from chrono_ray.model.bounds import BIG_MAX
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.library import Review
from chrono_ray.model.memento import MatchType
from chrono_ray.model.urls import key_beginnings
from chrono_ray.storage.database import Database, statements

LOOKED_AT_MOST: Final = 10_000
"""Pages that one list may pass over for those it is asked for."""
ENDLESS: Final = "\U0010ffff"
"""Behind every key."""
NEAR_MOST: Final = 5
NEAR_AMONG: Final = 2_000
HOST_CHARS_MAX: Final = 300
TEXT_BYTES_MAX: Final = 2_000_000
"""Of a text that is compared."""


class Order(StrEnum):
    """Of a list of pages: by URL as archives sort them, or by when they were first seen."""

    URL = "url"
    OLDEST = "oldest"
    NEWEST = "newest"


COLUMNS: Final = {
    Order.URL: "place, first_seen, id",
    Order.OLDEST: "first_seen, id",
    Order.NEWEST: "first_seen DESC, id DESC",
}


PAGE_COLUMNS: Final = (
    "id", "project_id", "project", "domain", "url", "first_seen", "last_seen", "captures", "title",
    "text", "author", "published", "language", "words", "description", "canonical", "flags",
    "charset", "media_type", "extractor", "replaced", "sha256", "sha1", "size", "tags", "notes",
    "starred",
)  # fmt: skip
"""Of a whole page, as they come."""


class Source(StrEnum):
    """What a list looks through."""

    ALL = "all"
    TAGGED = "tagged"
    STARRED = "starred"
    REVIEWED = "reviewed"


SOURCES: Final = {
    Source.ALL: "pages p",
    Source.TAGGED: "page_tags b JOIN pages p ON p.id = b.page_id"
    " AND b.project_id = $1 AND b.tag = $13",
    Source.STARRED: "starred_items b JOIN pages p ON p.id = b.page_id AND b.user_id = $2",
    Source.REVIEWED: "annotated_pages b JOIN pages p ON p.id = b.page_id"
    " AND b.project_id = $1 AND b.review = $14",
}


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What was last said of a page, when and by whom; all of it None where nothing was."""

    review: Review
    at: datetime | None
    by: int | None
    name: str | None


@dataclass(frozen=True, slots=True)
class CitedCapture:
    """A capture that is shown with its page. `settled_at` is when its bytes came here."""

    id: int
    archive: str
    timestamp: str
    original: str
    locator: str
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a page's bytes came here: from which capture, which may be another URL's of one digest.

    `served` are the 14 digits that the archive really answered with; `check` is a `DigestCheck`.
    """

    capture: CitedCapture
    run_id: int
    served: str
    check: str
    requests: int


@dataclass(frozen=True, slots=True)
class FullPage:
    """A version of a URL's content with all that is known of it."""

    id: int
    project_id: int
    project: str
    domain: str
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    text: str
    author: str
    published: date | None
    language: str
    words: int
    description: str
    canonical: str
    links: list[tuple[str, str]]
    flags: list[str]
    charset: str
    media_type: str
    extractor: str
    replaced: int
    sha256: str
    sha1: str
    size: int
    reviewed: Reviewed
    tags: list[str]
    notes: int
    starred: bool
    cited: list[CitedCapture]
    fetched: Fetched | None


@dataclass(frozen=True, slots=True)
class PageCapture:
    """One of a page's captures; `fetched`: its bytes are those that were replayed."""

    id: int
    ts: str
    impossible: bool
    archive: str
    original: str
    mimetype: str
    statuscode: str
    digest: str
    locator: str
    run_id: int
    fetched: bool
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Captures:
    project_id: int
    title: str
    found: list[PageCapture]


@dataclass(frozen=True, slots=True)
class Change:
    """What a version did to the one before it; `bytes_more` of its payload."""

    text: bool
    title: bool
    words_more: int
    bytes_more: int


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a URL. `came_back`: seen again when the next one had been seen already."""

    id: int
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    came_back: bool
    title: str
    words: int
    sha256: str
    size: int
    change: Change | None


@dataclass(frozen=True, slots=True)
class Versions:
    project_id: int
    found: list[Version]


@dataclass(frozen=True, slots=True)
class NearPage:
    """A page beside another; `kind` is before, after (versions), earlier or later (same host)."""

    kind: str
    id: int
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    language: str
    media_type: str
    words: int


@dataclass(frozen=True, slots=True)
class Neighbours:
    project_id: int
    found: list[NearPage]


@dataclass(frozen=True, slots=True)
class ComparedPage:
    """A page that is compared. `text` is None where it is too long, `bytes`."""

    id: int
    project_id: int
    url: str
    first_seen: datetime
    title: str
    words: int
    bytes: int
    text: str | None


@dataclass(frozen=True, slots=True)
class PagePayload:
    project_id: int
    sha256: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class ListedPage:
    """A page as lists show it; `place` is where it stands in the order by URL."""

    id: int
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    place: str
    domain: str
    title: str
    language: str
    media_type: str
    words: int
    flags: list[str]
    review: Review
    tags: list[str]
    starred: bool


@dataclass(frozen=True, slots=True)
class PageFilter:
    """Which pages of a project; empty and None: whichever. Seen between `start` and `end`."""

    project_id: int
    host: str = ""
    language: str = ""
    media_type: str = ""
    start: datetime | None = None
    end: datetime | None = None
    tag: str = ""
    review: Review | None = None
    starred: bool | None = None


@dataclass(frozen=True, slots=True)
class PagePlace:
    """Behind which page a list goes on; `place` is only looked at in the order by URL."""

    place: str
    first_seen: datetime
    id: int


@dataclass(frozen=True, slots=True)
class PageList:
    """`next` is where it goes on, None at its end: there may be fewer pages than asked for."""

    found: list[ListedPage]
    next: PagePlace | None


class Pages:
    """Reads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("pages")

    async def page(self, page_id: int, actor: Actor) -> FullPage:
        """One with its text and everything else."""
        [row] = await self._rows("page", page_id, actor)
        reviewed = Reviewed(
            Review(row["review"]), row["reviewed_at"], row["reviewer_id"], row["reviewer"]
        )
        links = [(href, text) for href, text in orjson.loads(row["links"])]
        return FullPage(
            **{name: row[name] for name in PAGE_COLUMNS}, reviewed=reviewed, links=links,
            cited=_cited(row), fetched=_fetched(row),
        )  # fmt: skip

    async def captures(
        self, page_id: int, actor: Actor, *, after: tuple[str, int], limit: int
    ) -> Captures:
        """Its captures by time, behind a timestamp and an id."""
        rows = await self._rows("captures", page_id, actor, *after, limit)
        found = [PageCapture(**_without(row, "project_id", "title")) for row in _filled(rows)]
        return Captures(rows[0]["project_id"], rows[0]["title"], found)

    async def versions(
        self, page_id: int, actor: Actor, *, after: tuple[datetime | None, int], limit: int
    ) -> Versions:
        """All of its URL's in its project by time, behind one's first sight and id."""
        rows = await self._rows("versions", page_id, actor, *after, limit)
        return Versions(rows[0]["project_id"], [_version(row) for row in _filled(rows)])

    async def neighbours(self, page_id: int, actor: Actor) -> Neighbours:
        """The versions before and after, and the pages of its host nearest to it in time."""
        rows = await self._rows("neighbours", page_id, actor, NEAR_MOST, NEAR_AMONG)
        found = [NearPage(**_without(row, "project_id")) for row in _filled(rows)]
        return Neighbours(rows[0]["project_id"], found)

    async def compared(
        self, one: int, other: int, actor: Actor
    ) -> tuple[ComparedPage, ComparedPage]:
        """Both, in the order they are named."""
        rows = await self._database.fetch(
            self._sql["texts"], [one, other], actor.user_id, actor.is_admin, TEXT_BYTES_MAX
        )
        found = {row["id"]: ComparedPage(**dict(row)) for row in rows}
        if one not in found or other not in found:
            raise no_page(other if one in found else one)
        return found[one], found[other]

    async def payload(self, page_id: int, actor: Actor) -> PagePayload:
        """What its bytes are called."""
        return PagePayload(**dict((await self._rows("payload", page_id, actor))[0]))

    async def listed(
        self, wanted: PageFilter, actor: Actor, *, order: Order, after: PagePlace | None, limit: int
    ) -> PageList:
        """A project's pages. Looks at so many of them that are not wanted, and no more."""
        least, most = _host_range(wanted.host)
        begin = BIG_MAX if order is Order.NEWEST else 0
        is_narrow = _source(wanted) is not Source.ALL
        rows = await self._database.fetch(
            self.statement(wanted, order), wanted.project_id, actor.user_id, actor.is_admin,
            after.place if after else least, after.first_seen if after else None,
            after.id if after else begin, least, most, wanted.start, wanted.end, wanted.language,
            wanted.media_type, wanted.tag, wanted.review or "", wanted.starred, limit + 1,
            BIG_MAX if is_narrow else max(LOOKED_AT_MOST, limit + 1),
        )  # fmt: skip
        if not rows:
            raise NotFound(f"There is no project {wanted.project_id}")
        return _page_list(rows, limit)

    def statement(self, wanted: PageFilter, order: Order) -> str:
        """What `listed` asks, for whoever looks at its plan."""
        return (
            self._sql["list"]
            .replace("{behind}", self._sql[f"behind_{order}"])
            .replace("{source}", SOURCES[_source(wanted)])
            .replace("{order}", COLUMNS[order])
        )

    async def _rows(
        self, name: str, page_id: int, actor: Actor, *more: object
    ) -> list[asyncpg.Record]:
        rows = await self._database.fetch(
            self._sql[name], page_id, actor.user_id, actor.is_admin, *more
        )
        if not rows:
            raise no_page(page_id)
        return rows


def no_page(page_id: int) -> NotFound:
    """For whoever may not see it, as for everybody where there is none."""
    return NotFound(f"There is no page {page_id}")


def _source(wanted: PageFilter) -> Source:
    """What to look through: the pages that somebody marked are few beside all of them."""
    if wanted.starred:
        return Source.STARRED
    if wanted.tag:
        return Source.TAGGED
    if wanted.review not in (None, Review.UNREVIEWED):
        return Source.REVIEWED
    return Source.ALL


def _host_range(host: str) -> tuple[str, str]:
    """From where to where the keys of a host's pages lie; `InvalidInput` for no host."""
    if not host:
        return "", ENDLESS
    begin = key_beginnings(f"http://{host}/", MatchType.HOST)[0]
    if len(begin) > HOST_CHARS_MAX or any(each in host for each in "/?#@\\ \t\r\n\0"):
        raise InvalidInput("That is no host", fix="Write a host's name, such as example.org",
                           code="host")  # fmt: skip
    return begin, begin[:-1] + chr(ord(begin[-1]) + 1)


def _page_list(rows: Sequence[asyncpg.Record], limit: int) -> PageList:
    first = rows[0]
    ends = ("looked_place", "looked_at", "looked_id")
    found = [
        ListedPage(**{**_without(row, *ends), "review": Review(row["review"])})
        for row in _filled(rows[:limit])
    ]
    if len(rows) > limit:
        end = found[-1]
        return PageList(found, PagePlace(end.place, end.first_seen, end.id))
    if first["looked_id"] is None:
        return PageList(found, None)
    return PageList(found, PagePlace(*(first[each] for each in ends)))


def _version(row: asyncpg.Record) -> Version:
    more = ("has_before", "text_changed", "title_changed", "words_more", "bytes_more")
    change = None
    if row["has_before"]:
        change = Change(*(row[each] for each in more[1:]))
    return Version(**_without(row, "project_id", *more), change=change)


def _cited(row: asyncpg.Record) -> list[CitedCapture]:
    """The first, the last, and the one that was fetched where it is this URL's, by time."""
    first, last, fetched = _captures(row)
    shown = [first, last, fetched if row["is_own"] else None]
    found = {each.id: each for each in shown if each}
    return sorted(found.values(), key=lambda each: (each.timestamp, each.id))


def _fetched(row: asyncpg.Record) -> Fetched | None:
    capture = _captures(row)[2]
    if capture is None:
        return None
    return Fetched(capture, row["run_id"], row["served_ts"], row["digest_check"], row["requests"])


def _captures(row: asyncpg.Record) -> list[CitedCapture | None]:
    columns = [
        row[f"cited_{name}"] for name in ("id", "archive", "ts", "original", "locator", "at")
    ]
    return [CitedCapture(*each) if each[0] else None for each in zip(*columns, strict=True)]


def _filled(rows: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
    """Without the one row that only says that the page or project is there."""
    return rows if rows and rows[0]["id"] is not None else ()


def _without(row: asyncpg.Record, *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
