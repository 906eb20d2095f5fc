"""What people add to pages, over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, StringConstraints, ValidationError
from pydantic import Field as Rule

from chrono_ray.api.pages_schemas import PageRow, PersonAnswer, ReviewAnswer
from chrono_ray.api.schemas import Answer, Asked
from chrono_ray.api.search_schemas import SearchRequest
from chrono_ray.model.library import NOTE_CHARS_MAX, TAG_CHARS_MAX, Review
from chrono_ray.storage.library import (
    Note,
    ReviewChange,
    ReviewedPage,
    SavedSearch,
    StarredPage,
    TagCount,
    WrittenNote,
)
from chrono_ray.storage.pages import Reviewed

_RAW_TAG_MAX: Final = 4 * TAG_CHARS_MAX
"""What may become a tag once it is normalised."""


def _keepable(search: SearchRequest) -> SearchRequest:
    """JSON in PostgreSQL knows no NUL."""
    texts = [search.query, *search.domain, *search.host, *search.language, *search.mimetype]
    if any("\0" in each for each in texts):
        raise ValueError("no NUL character")
    return search


TagText = Annotated[str, StringConstraints(max_length=_RAW_TAG_MAX)]
NoteText = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=NOTE_CHARS_MAX, pattern=r"^[^\x00]*$"
    ),
]
SearchName = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]
KeptSearch = Annotated[SearchRequest, AfterValidator(_keepable)]


class StarAnswer(PageRow):
    """A page that the asker starred."""

    starred_at: datetime
    project_name: str

    @classmethod
    def of_star(cls, star: StarredPage) -> Self:
        row = PageRow.of(star, star.project_id)
        return cls(**row.model_dump(), starred_at=star.starred_at, project_name=star.project)


class StarsAnswer(Answer):
    """The asker's starred pages, the last starred first."""

    items: list[StarAnswer]
    next: str | None


class PageTags(Answer):
    """A page's tags, sorted."""

    page: int
    tags: list[str]


class TagAnswer(Answer):
    """A tag of a project, and how many of its pages have it."""

    tag: str
    pages: int

    @classmethod
    def of(cls, count: TagCount) -> Self:
        return cls(tag=count.tag, pages=count.pages)


class TagsAnswer(Answer):
    """A project's tags, sorted."""

    items: list[TagAnswer]
    next: str | None


class NoteRequest(Asked):
    """A note to be, or what it says now. Plain text, to be shown as text."""

    text: NoteText


class NoteAnswer(Answer):
    """A note; `changed_at` is None while nobody changed it."""

    id: int
    page: int
    author: PersonAnswer
    text: str
    written_at: datetime
    changed_at: datetime | None

    @classmethod
    def of(cls, note: Note) -> Self:
        return cls(
            id=note.id, page=note.page_id, text=note.text,
            author=PersonAnswer(id=note.author_id, name=note.author),
            written_at=note.written_at, changed_at=note.changed_at,
        )  # fmt: skip


class NewNote(Answer):
    """A note that was just written."""

    id: int
    page: int
    text: str
    written_at: datetime

    @classmethod
    def of(cls, note: WrittenNote, page_id: int, text: str) -> Self:
        return cls(id=note.id, page=page_id, text=text, written_at=note.written_at)


class NotesAnswer(Answer):
    """A page's notes, oldest first."""

    items: list[NoteAnswer]
    next: str | None


class ReviewRequest(Asked):
    """What the project thinks of a page."""

    status: Review


class ReviewChangeAnswer(ReviewAnswer):
    """One change of a page's review."""

    id: int

    @classmethod
    def of_change(cls, change: ReviewChange) -> Self:
        reviewed = Reviewed(change.review, change.reviewed_at, change.reviewer_id, change.reviewer)
        return cls(**ReviewAnswer.of(reviewed).model_dump(), id=change.id)


class ReviewsAnswer(Answer):
    """Every change of a page's review, the last first."""

    items: list[ReviewChangeAnswer]
    next: str | None


def review_answer(page: ReviewedPage) -> ReviewAnswer:
    """A page's review as it is now."""
    return ReviewAnswer.of(Reviewed(page.review, page.at, page.by, page.name))


class SavedSearchRequest(Asked):
    """A search to be kept: what POST /search/ takes, under a name."""

    name: SearchName
    search: KeptSearch


class SavedSearchPatch(Asked):
    """What is to be another: a name, a search, or both."""

    name: Annotated[SearchName, Rule(default="")]
    search: Annotated[KeptSearch, Rule(default_factory=SearchRequest)]


class SavedSearchAnswer(Answer):
    """A search that the asker keeps. `changed_at` is None while it is as it was saved.

    `search` is None where it was saved by a version that asked otherwise.
    """

    id: int
    name: str
    search: SearchRequest | None
    saved_at: datetime
    changed_at: datetime | None

    @classmethod
    def of(cls, saved: SavedSearch) -> Self:
        return cls(
            id=saved.id, name=saved.name, search=search_of(saved), saved_at=saved.saved_at,
            changed_at=saved.changed_at,
        )  # fmt: skip


class SavedSearchesAnswer(Answer):
    """The asker's saved searches, by name."""

    items: list[SavedSearchAnswer]
    next: str | None


def search_of(saved: SavedSearch) -> SearchRequest | None:
    """What was saved, where it can still be asked."""
    try:
        return SearchRequest.model_validate_json(saved.request)
    except ValidationError:
        return None


def json_of(search: SearchRequest) -> str:
    """As it was asked, to be kept."""
    return search.model_dump_json(by_alias=True, exclude_unset=True)
