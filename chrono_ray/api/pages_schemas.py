"""Pages over the wire. All text in them is what was archived: hostile, to be shown as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field as Rule
from pydantic import StringConstraints

from chrono_ray.api.cursors import CHARS_MAX
from chrono_ray.api.schemas import Answer, Asked
from chrono_ray.archives.mementos import Mementos
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.citation import Citation
from chrono_ray.model.library import Review, tag_of
from chrono_ray.model.line_diff import Block, Difference
from chrono_ray.model.query import CapturedBetween
from chrono_ray.model.targets import moment
from chrono_ray.model.urls import host_of
from chrono_ray.storage.library import StarredPage
from chrono_ray.storage.pages import (
    CitedCapture,
    ComparedPage,
    Fetched,
    FullPage,
    ListedPage,
    NearPage,
    Order,
    PageCapture,
    PageFilter,
    Reviewed,
    Version,
)

CONTEXT: Final = 3
"""Lines that are the same, shown around those that are not."""


Short = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00]*$")]
DateText = Annotated[str, StringConstraints(max_length=32)]


class PagesAsked(Asked):
    """Which pages of a project, and in which order."""

    project: Annotated[int, Rule(ge=1, le=INT_MAX)]
    host: Annotated[
        Short, Rule(description="A URL's host, with www or without: either finds both")
    ] = ""
    language: Short = ""
    mimetype: Short = ""
    start: Annotated[
        DateText, Rule(alias="from", description="Seen in or after: 2001, 200103, 2001-03-09 ...")
    ] = ""
    end: Annotated[DateText, Rule(alias="to", description="Seen in or before its last second")] = ""
    tag: Short = ""
    review: Review | None = None
    starred: bool | None = None
    sort: Order = Order.URL
    limit: Annotated[int, Rule(ge=1, le=1000)] = 100
    cursor: Annotated[
        str | None, Rule(max_length=CHARS_MAX, description="`next` of the answer before")
    ] = None

    def chosen(self) -> PageFilter:
        """`InvalidInput` for what cannot be asked."""
        span = CapturedBetween(_moment(self.start, late=False), _moment(self.end, late=True))
        return PageFilter(
            self.project, self.host, self.language, self.mimetype, span.start, span.end,
            tag_of(self.tag) if self.tag else "", self.review, self.starred,
        )  # fmt: skip

    @property
    def list_name(self) -> str:
        """The same for every part of one list."""
        return f"pages?{self.model_dump_json(exclude={'limit', 'cursor'})}"


class PersonAnswer(Answer):
    """Somebody by their number and the name they gave themselves."""

    id: int
    name: str


class ReviewAnswer(Answer):
    """What a project thinks of a page. `at` and `by` are None while nothing was said."""

    status: Review
    at: datetime | None
    by: PersonAnswer | None

    @classmethod
    def of(cls, reviewed: Reviewed) -> Self:
        by = None if reviewed.by is None else PersonAnswer(id=reviewed.by, name=reviewed.name or "")
        return cls(status=reviewed.review, at=reviewed.at, by=by)


class LinkAnswer(Answer):
    """A link as it stands in the page: `href` was never resolved, and may be anything."""

    href: str
    text: str


class CitationAnswer(Answer):
    """A capture to be cited, in parts and as one line of `text`.

    `memento` is where the archive shows it; empty where it shows none, then
    `locator` says where the record lies. `retrieved` is when its bytes came here.
    """

    archive: str
    timestamp: str
    url: str
    title: str
    memento: str
    locator: str
    retrieved: datetime | None
    text: str

    @classmethod
    def of(cls, citation: Citation) -> Self:
        return cls(
            archive=citation.archive, timestamp=citation.timestamp.text, url=citation.url,
            title=citation.title, memento=citation.memento, locator=citation.locator,
            retrieved=citation.retrieved, text=str(citation),
        )  # fmt: skip


class FetchAnswer(Answer):
    """How the page's bytes came here: by which run, from which capture, and what was served.

    `url` may be another one, which the archive listed with the same digest. `served` is
    the timestamp that it really answered with; `check` is our own SHA-1 of the bytes
    against the digest that it had listed.
    """

    at: datetime
    run: int
    archive: str
    url: str
    timestamp: str
    served: str
    check: str
    requests: int


class PageAnswer(Answer):
    """A version of a URL's content: one text, seen from `first_seen` to `last_seen`.

    `mementos` are the capture that was fetched, the first and the last. `flags` hold any
    of thin, empty, cut, depth, replaced, truncated; `replaced` counts unreadable characters.
    """

    id: int
    project: int
    project_name: str
    domain: str
    url: str
    host: str
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
    links: list[LinkAnswer]
    flags: list[str]
    charset: str
    mimetype: str
    extractor: str
    replaced: int
    sha256: str
    sha1: str
    size: Annotated[int, Rule(description="Bytes of the payload")]
    mementos: list[CitationAnswer]
    fetched: FetchAnswer | None
    review: ReviewAnswer
    tags: list[str]
    notes: int
    starred: bool

    @classmethod
    def of(cls, page: FullPage, mementos: Mementos) -> Self:
        return cls(
            id=page.id, project=page.project_id, project_name=page.project, domain=page.domain,
            url=page.url, host=host_of(page.url), first_seen=page.first_seen,
            last_seen=page.last_seen, captures=page.captures, title=page.title, text=page.text,
            author=page.author, published=page.published, language=page.language,
            words=page.words, description=page.description, canonical=page.canonical,
            links=[LinkAnswer(href=href, text=text) for href, text in page.links],
            flags=page.flags, charset=page.charset, mimetype=page.media_type,
            extractor=page.extractor, replaced=page.replaced, sha256=page.sha256,
            sha1=page.sha1, size=page.size,
            mementos=[_cited(each, page.title, mementos) for each in page.cited],
            fetched=_fetched(page.fetched) if page.fetched else None,
            review=ReviewAnswer.of(page.reviewed), tags=page.tags, notes=page.notes,
            starred=page.starred,
        )  # fmt: skip


class PageRow(Answer):
    """A page as lists show it."""

    id: int
    project: int
    domain: str
    url: str
    host: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    language: str
    mimetype: str
    words: int
    flags: list[str]
    review: Review
    tags: list[str]
    starred: bool

    @classmethod
    def of(cls, page: ListedPage | StarredPage, project_id: int) -> Self:
        return cls(
            id=page.id, project=project_id, domain=page.domain, url=page.url,
            host=host_of(page.url), first_seen=page.first_seen, last_seen=page.last_seen,
            captures=page.captures, title=page.title, language=page.language,
            mimetype=page.media_type, words=page.words, flags=page.flags, review=page.review,
            tags=page.tags, starred=page.starred,
        )  # fmt: skip


class PagesAnswer(Answer):
    """A part of a project's pages. Only without `next` it is the end.

    A request looks at 10,000 pages at most: there may be fewer items than were
    asked for, even none, and more behind `next`.
    """

    items: list[PageRow]
    next: str | None


class CaptureAnswer(Answer):
    """A capture of the page: `fetched` says that its bytes are those that were replayed."""

    id: int
    archive: str
    timestamp: str
    impossible: Annotated[bool, Rule(description="Its digits name no moment")]
    url: str
    mimetype: str
    statuscode: str
    digest: str
    run: int
    fetched: bool
    citation: CitationAnswer

    @classmethod
    def of(cls, capture: PageCapture, title: str, mementos: Mementos) -> Self:
        cited = CitedCapture(
            capture.id, capture.archive, capture.ts, capture.original, capture.locator,
            capture.settled_at,
        )  # fmt: skip
        citation = _cited(cited, title, mementos)
        return cls(
            id=capture.id, archive=citation.archive, timestamp=capture.ts,
            impossible=capture.impossible, url=capture.original, mimetype=capture.mimetype,
            statuscode=capture.statuscode, digest=capture.digest, run=capture.run_id,
            fetched=capture.fetched, citation=citation,
        )  # fmt: skip


class CapturesAnswer(Answer):
    """A page's captures by time."""

    items: list[CaptureAnswer]
    next: str | None


class ChangeAnswer(Answer):
    """What a version changed. The payload is another one always; the text may be the same."""

    text: bool
    title: bool
    words: Annotated[int, Rule(description="So many more; negative: fewer")]
    bytes: Annotated[int, Rule(description="So many more of the payload")]


class VersionAnswer(Answer):
    """A version of a URL; `change` is against the one before it, None for the first.

    `came_back`: it was seen again when the next one had been seen already.
    """

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
    change: ChangeAnswer | None

    @classmethod
    def of(cls, version: Version) -> Self:
        change = None
        if version.change:
            change = ChangeAnswer(
                text=version.change.text, title=version.change.title,
                words=version.change.words_more, bytes=version.change.bytes_more,
            )  # fmt: skip
        return cls(
            id=version.id, url=version.url, first_seen=version.first_seen,
            last_seen=version.last_seen, captures=version.captures, came_back=version.came_back,
            title=version.title, words=version.words, sha256=version.sha256, size=version.size,
            change=change,
        )  # fmt: skip


class VersionsAnswer(Answer):
    """All versions of a page's URL in its project, by when each was first seen."""

    items: list[VersionAnswer]
    next: str | None


class NearAnswer(Answer):
    """A page beside another."""

    id: int
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    language: str
    mimetype: str
    words: int

    @classmethod
    def of(cls, page: NearPage) -> Self:
        return cls(
            id=page.id, url=page.url, first_seen=page.first_seen, last_seen=page.last_seen,
            captures=page.captures, title=page.title, language=page.language,
            mimetype=page.media_type, words=page.words,
        )  # fmt: skip


class NeighboursAnswer(Answer):
    """The URL's versions before and after a page, and what else of its host was seen then.

    `host` are up to five pages on each side that were first seen nearest to this
    one, of the 2,000 of the project nearest in time.
    """

    before: NearAnswer | None
    after: NearAnswer | None
    host: list[NearAnswer]

    @classmethod
    def of(cls, found: Sequence[NearPage]) -> Self:
        versions = {each.kind: NearAnswer.of(each) for each in found}
        near = [NearAnswer.of(each) for each in found if each.kind in ("earlier", "later")]
        return cls(before=versions.get("before"), after=versions.get("after"), host=near)


class ComparedAnswer(Answer):
    """A page that is compared."""

    id: int
    url: str
    first_seen: datetime
    title: str
    words: int

    @classmethod
    def of(cls, page: ComparedPage) -> Self:
        return cls(
            id=page.id, url=page.url, first_seen=page.first_seen, title=page.title,
            words=page.words,
        )  # fmt: skip


class DiffLine(Answer):
    """A line that is the same in both texts, was removed, or was added."""

    change: Literal["same", "removed", "added"]
    text: str


class Hunk(Answer):
    """A place where texts differ, with three lines around it; lines count from 1."""

    before: int
    after: int
    lines: list[DiffLine]


class DiffAnswer(Answer):
    """How one text became the other, line by line.

    `shortest`: no shorter account of it is there; else the texts differ in more than a
    thousand lines, and the middle of them is told as removed and added whole.
    """

    before: ComparedAnswer
    after: ComparedAnswer
    removed: int
    added: int
    shortest: bool
    hunks: list[Hunk]

    @classmethod
    def of(cls, one: ComparedPage, other: ComparedPage, found: Difference,
           texts: tuple[list[str], list[str]]) -> Self:  # fmt: skip
        return cls(
            before=ComparedAnswer.of(one), after=ComparedAnswer.of(other),
            removed=sum(len(each.before) for each in found.blocks),
            added=sum(len(each.after) for each in found.blocks), shortest=found.shortest,
            hunks=[_hunk(group, *texts) for group in _groups(found.blocks)],
        )  # fmt: skip


def _groups(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks so near to each other that what is shown around them would meet."""
    group: list[Block] = []
    for block in blocks:
        if group and block.before.start - group[-1].before.stop > 2 * CONTEXT:
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _hunk(group: Sequence[Block], before: Sequence[str], after: Sequence[str]) -> Hunk:
    first, last = group[0], group[-1]
    start = max(first.before.start - CONTEXT, 0)
    lines: list[DiffLine] = []
    place = start
    for block in group:
        lines += [DiffLine(change="same", text=each) for each in before[place : block.before.start]]
        removed = before[block.before.start : block.before.stop]
        added = after[block.after.start : block.after.stop]
        lines += [DiffLine(change="removed", text=each) for each in removed]
        lines += [DiffLine(change="added", text=each) for each in added]
        place = block.before.stop
    rest = before[last.before.stop : last.before.stop + CONTEXT]
    lines += [DiffLine(change="same", text=each) for each in rest]
    shown_before = first.before.start - start
    return Hunk(before=start + 1, after=first.after.start - shown_before + 1, lines=lines)


def _cited(capture: CitedCapture, title: str, mementos: Mementos) -> CitationAnswer:
    """Of local files the kind alone is told: where they lie is the operator's."""
    memento = mementos.address(
        capture.archive, timestamp=capture.timestamp, original=capture.original,
        locator=capture.locator,
    )  # fmt: skip
    return CitationAnswer.of(
        Citation(
            title, capture.original, _kind(capture.archive), Timestamp14(capture.timestamp),
            memento, capture.locator, capture.settled_at,
        )
    )  # fmt: skip


def _fetched(fetched: Fetched) -> FetchAnswer:
    capture = fetched.capture
    return FetchAnswer(
        at=capture.settled_at, run=fetched.run_id, archive=_kind(capture.archive),
        url=capture.original, timestamp=capture.timestamp, served=fetched.served,
        check=fetched.check, requests=fetched.requests,
    )  # fmt: skip


def _kind(archive: str) -> str:
    return archive.partition(":")[0]


def _moment(text: str, *, late: bool) -> datetime | None:
    digits = moment(text, Timestamp14.of(datetime.now(UTC)), late=late)
    return Timestamp14(digits).instant if digits else None
