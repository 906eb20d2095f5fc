"""What people add to pages: stars, tags, notes, reviews; and the searches they keep.

Everything is one statement. What somebody may not see is not there for them
(`NotFound`); what they see and may not write to is `Forbidden`. Who writes
learns which project it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from chrono_ray.model.accounts import Actor, ProjectRole
from chrono_ray.model.errors import Conflict, Forbidden, NotFound
from chrono_ray.model.library import SEARCHES_MOST, TAGS_MOST, Review
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.projects import check_writes


@dataclass(frozen=True, slots=True)
class StarredPage:
    """A page that a user starred."""

    starred_at: datetime
    id: int
    project_id: int
    project: str
    domain: str
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    language: str
    media_type: str
    words: int
    flags: list[str]
    review: Review
    starred: bool
    tags: list[str]


@dataclass(frozen=True, slots=True)
class Tagged:
    """A page's tags, sorted."""

    project_id: int
    tags: list[str]


@dataclass(frozen=True, slots=True)
class TagCount:
    tag: str
    pages: int


@dataclass(frozen=True, slots=True)
class Note:
    id: int
    page_id: int
    author_id: int
    author: str
    text: str
    written_at: datetime
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Notes:
    project_id: int
    found: list[Note]


@dataclass(frozen=True, slots=True)
class WrittenNote:
    """A note that was just written, and where."""

    project_id: int
    id: int
    written_at: datetime


@dataclass(frozen=True, slots=True)
class ReviewedPage:
    """A page's review as it is now."""

    project_id: int
    review: Review
    at: datetime | None
    by: int | None
    name: str | None


@dataclass(frozen=True, slots=True)
class ReviewChange:
    """One change of a page's review; who made it is None once there is no such user any more."""

    id: int
    review: Review
    reviewer_id: int | None
    reviewer: str | None
    reviewed_at: datetime


@dataclass(frozen=True, slots=True)
class Reviews:
    project_id: int
    found: list[ReviewChange]


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A search that a user keeps; `request` is JSON as it was asked."""

    id: int
    name: str
    request: str
    saved_at: datetime
    changed_at: datetime | None


class Library:
    """Reads and writes what belongs to pages."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("library")

    async def star(self, page_id: int, actor: Actor) -> int:
        """Whoever sees a page may star it. Again is the same; the project."""
        return _project(page_id, await self._row("star", page_id, actor))

    async def unstar(self, page_id: int, actor: Actor) -> int:
        """Where there is no star, nothing changes."""
        return _project(page_id, await self._row("unstar", page_id, actor))

    async def stars(
        self, actor: Actor, *, after: tuple[datetime | None, int], limit: int
    ) -> list[StarredPage]:
        """A user's starred pages that they still may see, the last starred first."""
        rows = await self._database.fetch(
            self._sql["stars"], actor.user_id, actor.is_admin, *after, limit
        )
        return [StarredPage(**{**dict(row), "review": Review(row["review"])}) for row in rows]

    async def tag(self, page_id: int, actor: Actor, tag: str) -> Tagged:
        """Add a tag of `model.library.tag_of`. `Conflict` where the page has too many others."""
        row = _writable(page_id, await self._row("tag", page_id, actor, tag, TAGS_MOST))
        if row["tags"] is None:
            raise Conflict(
                "The page has too many tags", why=f"at most {TAGS_MOST}",
                fix="Take one away that nobody needs", code="too_many_tags",
            )  # fmt: skip
        return Tagged(row["project_id"], row["tags"])

    async def untag(self, page_id: int, actor: Actor, tag: str) -> int:
        """Where there is no such tag, nothing changes; the project."""
        row = _writable(page_id, await self._row("untag", page_id, actor, tag))
        return int(row["project_id"])

    async def tags(
        self, project_id: int, actor: Actor, *, after: str, limit: int
    ) -> list[TagCount]:
        """A project's tags in the order of their code points, with how many pages have each."""
        rows = await self._database.fetch(
            self._sql["tags"], project_id, actor.user_id, actor.is_admin, after, limit
        )
        if not rows:
            raise NotFound(f"There is no project {project_id}")
        return [TagCount(**dict(row)) for row in rows if row["tag"] is not None]

    async def write_note(
        self, connection: Connection, page_id: int, actor: Actor, text: str
    ) -> WrittenNote:
        """In a transaction of the caller's."""
        row = _writable(page_id, await connection.fetchrow(
            self._sql["note"], page_id, actor.user_id, actor.is_admin, text
        ))  # fmt: skip
        return WrittenNote(row["project_id"], row["id"], row["written_at"])

    async def notes(self, page_id: int, actor: Actor, *, after: int, limit: int) -> Notes:
        """A page's notes, oldest first, behind one."""
        rows = await self._rows("notes", page_id, actor, after, limit)
        found = [_note(row) for row in rows if row["id"] is not None]
        return Notes(rows[0]["project_id"], found)

    async def change_note(self, note_id: int, actor: Actor, text: str) -> tuple[int, Note]:
        """By its author, or the project's owner; the project, and the note as it is now."""
        row = _own(note_id, await self._row("change_note", note_id, actor, text), actor)
        return row["project_id"], _note(row)

    async def end_note(self, note_id: int, actor: Actor) -> int:
        """By its author, or the project's owner; the project."""
        return int(_own(note_id, await self._row("end_note", note_id, actor), actor)["project_id"])

    async def review(self, page_id: int, actor: Actor, review: Review) -> ReviewedPage:
        """What the project thinks of a page now. Saying it again changes nothing."""
        row = _writable(page_id, await self._row("review", page_id, actor, review))
        return ReviewedPage(
            row["project_id"], review, row["reviewed_at"], row["reviewer_id"], row["reviewer"]
        )

    async def reviews(self, page_id: int, actor: Actor, *, before: int, limit: int) -> Reviews:
        """Every change of a page's review, the last first, before one."""
        rows = await self._rows("reviews", page_id, actor, before, limit)
        found = [_review(row) for row in rows if row["id"] is not None]
        return Reviews(rows[0]["project_id"], found)

    async def save_search(
        self, connection: Connection, actor: Actor, name: str, request: str
    ) -> SavedSearch:
        """In a transaction of the caller's. `Conflict` for a name that is taken, and too many."""
        row = await connection.fetchrow(
            self._sql["save_search"], actor.user_id, name, request, SEARCHES_MOST
        )
        if row["is_full"]:
            raise Conflict(
                "There are too many saved searches", why=f"at most {SEARCHES_MOST} a user",
                fix="Delete one that is not used", code="too_many_searches",
            )  # fmt: skip
        if row["id"] is None:
            raise _name_taken(name)
        return SavedSearch(**{key: value for key, value in row.items() if key != "is_full"})

    async def saved_searches(self, actor: Actor, *, after: str, limit: int) -> list[SavedSearch]:
        """A user's own, by name, behind one."""
        rows = await self._database.fetch(self._sql["saved_searches"], actor.user_id, after, limit)
        return [SavedSearch(**dict(row)) for row in rows]

    async def saved_search(self, search_id: int, actor: Actor) -> SavedSearch:
        """One of their own."""
        return _search(search_id, await self._database.fetchrow(
            self._sql["saved_search"], actor.user_id, search_id
        ))  # fmt: skip

    async def change_search(
        self, search_id: int, actor: Actor, *, name: str | None, request: str | None
    ) -> SavedSearch:
        """What is None stays. `Conflict` for a name that is taken."""
        try:
            row = await self._database.fetchrow(
                self._sql["change_search"], actor.user_id, search_id, name, request
            )
        except asyncpg.UniqueViolationError as error:
            raise _name_taken(name or "") from error
        return _search(search_id, row)

    async def end_search(self, search_id: int, actor: Actor) -> None:
        """Delete one of their own."""
        if not await self._database.fetch(self._sql["end_search"], actor.user_id, search_id):
            raise _no_search(search_id)

    async def _row(
        self, name: str, what: int, actor: Actor, *more: object
    ) -> asyncpg.Record | None:
        return await self._database.fetchrow(
            self._sql[name], what, actor.user_id, actor.is_admin, *more
        )

    async def _rows(
        self, name: str, page_id: int, actor: Actor, *more: object
    ) -> list[asyncpg.Record]:
        rows = await self._database.fetch(
            self._sql[name], page_id, actor.user_id, actor.is_admin, *more
        )
        if not rows:
            raise NotFound(f"There is no page {page_id}")
        return rows


def _project(page_id: int, row: asyncpg.Record | None) -> int:
    if row is None:
        raise NotFound(f"There is no page {page_id}")
    return int(row["project_id"])


def _writable(page_id: int, row: asyncpg.Record | None) -> asyncpg.Record:
    if row is None:
        raise NotFound(f"There is no page {page_id}")
    check_writes(row["role"])
    return row


def _own(note_id: int, row: asyncpg.Record | None, actor: Actor) -> asyncpg.Record:
    """A note that was changed; whoever may not is told why."""
    if row is None:
        raise NotFound(f"There is no note {note_id}")
    if row["id"] is not None:
        return row
    check_writes(row["role"])
    if row["role"] == ProjectRole.WRITE and row["author_id"] != actor.user_id:
        raise Forbidden(
            "The note is somebody else's", why="its author and the project's owner may change it",
            code="note_author",
        )  # fmt: skip
    raise NotFound(f"There is no note {note_id}")  # deleted at this moment


def _note(row: asyncpg.Record) -> Note:
    return Note(
        row["id"], row["page_id"], row["author_id"], row["author"], row["text"],
        row["written_at"], row["changed_at"],
    )  # fmt: skip


def _review(row: asyncpg.Record) -> ReviewChange:
    return ReviewChange(
        row["id"], Review(row["review"]), row["reviewer_id"], row["reviewer"], row["reviewed_at"]
    )


def _search(search_id: int, row: asyncpg.Record | None) -> SavedSearch:
    if row is None:
        raise _no_search(search_id)
    return SavedSearch(**dict(row))


def _no_search(search_id: int) -> NotFound:
    return NotFound(f"There is no saved search {search_id}")


def _name_taken(name: str) -> Conflict:
    return Conflict(f"You have a saved search {name!r} already", code="search_name_taken")
