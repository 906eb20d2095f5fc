"""What people add to pages: stars, tags, notes, reviews; and the searches they keep.

A star is its user's own, and whoever sees a page may set one. The rest is the
project's: all its members read it, and those who may write there write it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, cast

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.deps import Made, Reader, Writer, WriterOnce
from chrono_ray.api.ids import NoteId, PageId, ProjectId, SearchId
from chrono_ray.api.library_schemas import (
    NewNote,
    NoteAnswer,
    NoteRequest,
    NotesAnswer,
    PageTags,
    ReviewChangeAnswer,
    ReviewRequest,
    ReviewsAnswer,
    SavedSearchAnswer,
    SavedSearchesAnswer,
    SavedSearchPatch,
    SavedSearchRequest,
    StarAnswer,
    StarsAnswer,
    TagAnswer,
    TagsAnswer,
    TagText,
    json_of,
    review_answer,
    search_of,
)
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.page_answers import (
    READ_SECONDS,
    Asking,
    Told,
    about_pages,
    sees,
    tags_of,
)
from chrono_ray.api.pages_schemas import ReviewAnswer
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.routes.search import among_of, search_by_body
from chrono_ray.api.search_schemas import SearchAnswer, SearchRequest
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag, user_tag
from chrono_ray.model.accounts import Actor
from chrono_ray.model.bounds import BIG_MAX
from chrono_ray.model.errors import Conflict, NotFound
from chrono_ray.model.library import tag_of
from chrono_ray.model.query import LIMIT_MAX, OFFSET_MAX
from chrono_ray.storage.database import Connection
from chrono_ray.storage.library import Library
from chrono_ray.storage.searching import ProjectNames

WRITE_SECONDS: Final = 10.0
Tag = Annotated[TagText, Path()]

router = APIRouter(tags=["library"])


@router.put("/pages/{page_id}/star", status_code=204, responses=told(404))
async def star(page_id: PageId, actor: Writer, parts: OurParts) -> None:
    """Star a page, for oneself. Again is the same."""
    async with parts.changing(user_tag(actor.user_id)), within(WRITE_SECONDS, "The star"):
        parts.pages.learn([page_id], await Library(parts.record).star(page_id, actor))


@router.delete("/pages/{page_id}/star", status_code=204, responses=told(404))
async def unstar(page_id: PageId, actor: Writer, parts: OurParts) -> None:
    """Take one's star from a page; where there is none, nothing changes."""
    async with parts.changing(user_tag(actor.user_id)), within(WRITE_SECONDS, "The change"):
        await Library(parts.record).unstar(page_id, actor)


@router.get("/stars/", response_model=StarsAnswer, responses=told(404))
async def stars(
    request: Request, actor: Reader, parts: OurParts, cursor: CursorText = None, limit: Limit = 100
) -> Response:
    """One's starred pages that one still may see, the last starred first."""
    position = await behind(parts, cursor, of="stars", actor=actor)

    async def compute() -> bytes:
        after: tuple[datetime | None, int] = (None, BIG_MAX)
        if position:
            starred_at, last_id = cast("tuple[str, int]", tuple(position))
            after = (datetime.fromisoformat(starred_at), last_id)
        async with within(READ_SECONDS, "Reading the stars"):
            found = await Library(parts.record).stars(actor, after=after, limit=limit + 1)
        shown = found[:limit]
        end = (shown[-1].starred_at.isoformat(), shown[-1].id) if found[limit:] else None
        answer = StarsAnswer(
            items=[StarAnswer.of_star(each) for each in shown],
            next=await onward(parts, end, of="stars", actor=actor),
        )
        return answer.model_dump_json().encode()

    rights = "admin" if actor.is_admin else "user"
    key = f"stars:u{actor.user_id}:{rights}:{limit}:{position}"
    kept = Kept(key, Ttl.SHORT, (user_tag(actor.user_id),))
    return await answered(request, parts, kept, compute)


@router.put("/pages/{page_id}/tags/{tag:path}", responses=told(404, 409))
async def tag_page(page_id: PageId, tag: Tag, actor: Writer, parts: OurParts) -> PageTags:
    """Tag a page; again is the same. The tag is kept in NFC, without blanks around it."""
    async with parts.changing(whose=actor) as changing, within(WRITE_SECONDS, "The tag"):
        tagged = await Library(parts.record).tag(page_id, actor, tag_of(tag))
        changing.tags.add(project_tag(tagged.project_id))
    parts.pages.learn([page_id], tagged.project_id)
    return PageTags(page=page_id, tags=tagged.tags)


@router.delete("/pages/{page_id}/tags/{tag:path}", status_code=204, responses=told(404))
async def untag_page(page_id: PageId, tag: Tag, actor: Writer, parts: OurParts) -> None:
    """Take a tag from a page; where there is none, nothing changes."""
    async with parts.changing(whose=actor) as changing, within(WRITE_SECONDS, "The change"):
        project_id = await Library(parts.record).untag(page_id, actor, tag_of(tag))
        changing.tags.add(project_tag(project_id))


@router.get("/projects/{project_id}/tags/", response_model=TagsAnswer, responses=told(404))
async def tags(
    project_id: ProjectId, request: Request, actor: Reader, parts: OurParts,
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """A project's tags with how many of its pages have each."""
    if not sees(actor, project_id):
        raise NotFound(f"There is no project {project_id}")
    of = f"projects/{project_id}/tags"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = str(position[0]) if position else ""

    async def compute() -> bytes:
        async with within(READ_SECONDS, "Reading the tags"):
            found = await Library(parts.record).tags(
                project_id, actor, after=after, limit=limit + 1
            )
        shown = found[:limit]
        end = (shown[-1].tag,) if found[limit:] else None
        answer = TagsAnswer(
            items=[TagAnswer.of(each) for each in shown],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return answer.model_dump_json().encode()

    key = f"tags:{project_id}:u{actor.user_id}:{limit}:{after}"
    return await answered(
        request, parts, Kept(key, Ttl.MEDIUM, tags_of(actor, project_id)), compute
    )


@router.get("/pages/{page_id}/notes/", response_model=NotesAnswer, responses=told(404))
async def notes(
    page_id: PageId, request: Request, actor: Reader, parts: OurParts,
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """A page's notes, oldest first."""
    of = f"pages/{page_id}/notes"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = cast("int", position[0]) if position else 0

    async def compute() -> Told:
        found = await Library(parts.record).notes(page_id, actor, after=after, limit=limit + 1)
        shown = found.found[:limit]
        end = (shown[-1].id,) if found.found[limit:] else None
        answer = NotesAnswer(
            items=[NoteAnswer.of(each) for each in shown],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return Told((found.project_id,), answer.model_dump_json().encode())

    asking = Asking(request, parts, actor, (page_id,), f"notes:{limit}:{after}")
    return await about_pages(asking, compute)


@router.post(
    "/pages/{page_id}/notes/", status_code=201, response_model=NewNote, responses=told(404, 409)
)
async def write_note(
    page_id: PageId, asked: NoteRequest, by: WriterOnce, parts: OurParts
) -> Response:
    """Write a note to a page."""

    async def work(connection: Connection) -> Made:
        library = Library(parts.record)
        note = await library.write_note(connection, page_id, by.actor, asked.text)
        parts.pages.learn([page_id], note.project_id)
        changing.tags.add(project_tag(note.project_id))
        return Made(201, NewNote.of(note, page_id, asked.text))

    async with parts.changing(whose=by.actor) as changing:
        return await by.once.answer(work)


@router.patch("/notes/{note_id}", responses=told(404))
async def change_note(
    note_id: NoteId, asked: NoteRequest, actor: Writer, parts: OurParts
) -> NoteAnswer:
    """Another text for a note, by its author or the project's owner."""
    async with parts.changing(whose=actor) as changing, within(WRITE_SECONDS, "The change"):
        project_id, note = await Library(parts.record).change_note(note_id, actor, asked.text)
        changing.tags.add(project_tag(project_id))
    return NoteAnswer.of(note)


@router.delete("/notes/{note_id}", status_code=204, responses=told(404))
async def end_note(note_id: NoteId, actor: Writer, parts: OurParts) -> None:
    """Delete a note, by its author or the project's owner."""
    async with parts.changing(whose=actor) as changing, within(WRITE_SECONDS, "The change"):
        project_id = await Library(parts.record).end_note(note_id, actor)
        changing.tags.add(project_tag(project_id))


@router.put("/pages/{page_id}/review", responses=told(404))
async def review(
    page_id: PageId, asked: ReviewRequest, actor: Writer, parts: OurParts
) -> ReviewAnswer:
    """Say what the project thinks of a page. Saying it again changes nothing."""
    async with parts.changing(whose=actor) as changing, within(WRITE_SECONDS, "The review"):
        reviewed = await Library(parts.record).review(page_id, actor, asked.status)
        changing.tags.add(project_tag(reviewed.project_id))
    parts.pages.learn([page_id], reviewed.project_id)
    return review_answer(reviewed)


@router.get("/pages/{page_id}/reviews/", response_model=ReviewsAnswer, responses=told(404))
async def reviews(
    page_id: PageId, request: Request, actor: Reader, parts: OurParts,
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """Who said what of a page and when, the last first."""
    of = f"pages/{page_id}/reviews"
    position = await behind(parts, cursor, of=of, actor=actor)
    before = cast("int", position[0]) if position else BIG_MAX

    async def compute() -> Told:
        found = await Library(parts.record).reviews(page_id, actor, before=before, limit=limit + 1)
        shown = found.found[:limit]
        end = (shown[-1].id,) if found.found[limit:] else None
        answer = ReviewsAnswer(
            items=[ReviewChangeAnswer.of_change(each) for each in shown],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return Told((found.project_id,), answer.model_dump_json().encode())

    asking = Asking(request, parts, actor, (page_id,), f"reviews:{limit}:{before}")
    return await about_pages(asking, compute)


@router.post(
    "/saved-searches/",
    status_code=201,
    response_model=SavedSearchAnswer,
    responses=told(404, 409),
)
async def save_search(asked: SavedSearchRequest, by: WriterOnce, parts: OurParts) -> Response:
    """Keep a search under a name, for oneself."""
    asked.search.asked()  # one that cannot be asked is not kept
    await _check_named(asked.search, by.actor, parts)

    async def work(connection: Connection) -> Made:
        library, request = Library(parts.record), json_of(asked.search)
        saved = await library.save_search(connection, by.actor, asked.name, request)
        return Made(201, SavedSearchAnswer.of(saved))

    async with parts.changing(user_tag(by.actor.user_id)):
        return await by.once.answer(work)


@router.get("/saved-searches/", response_model=SavedSearchesAnswer, responses=told(404))
async def saved_searches(
    request: Request, actor: Reader, parts: OurParts, cursor: CursorText = None, limit: Limit = 100
) -> Response:
    """One's saved searches, by name."""
    of = "saved-searches"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = str(position[0]) if position else ""

    async def compute() -> bytes:
        async with within(READ_SECONDS, "Reading the saved searches"):
            found = await Library(parts.record).saved_searches(actor, after=after, limit=limit + 1)
        end = (found[limit - 1].name,) if found[limit:] else None
        answer = SavedSearchesAnswer(
            items=[SavedSearchAnswer.of(each) for each in found[:limit]],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return answer.model_dump_json(by_alias=True).encode()

    key = f"saved-searches:u{actor.user_id}:{limit}:{after}"
    return await answered(request, parts, Kept(key, Ttl.MEDIUM, tags_of(actor)), compute)


@router.get("/saved-searches/{search_id}", response_model=SavedSearchAnswer, responses=told(404))
async def saved_search(
    search_id: SearchId, request: Request, actor: Reader, parts: OurParts
) -> Response:
    """One of one's own saved searches."""

    async def compute() -> bytes:
        async with within(READ_SECONDS, "Reading the saved search"):
            saved = await Library(parts.record).saved_search(search_id, actor)
        return SavedSearchAnswer.of(saved).model_dump_json(by_alias=True).encode()

    key = f"saved-search:{search_id}:u{actor.user_id}"
    return await answered(request, parts, Kept(key, Ttl.MEDIUM, tags_of(actor)), compute)


@router.get(
    "/saved-searches/{search_id}/results", response_model=SearchAnswer, responses=told(404, 409)
)
async def search_again(
    search_id: SearchId, request: Request, actor: Reader, parts: OurParts,
    offset: Annotated[int | None, Query(ge=0, le=OFFSET_MAX)] = None,
    limit: Annotated[int | None, Query(ge=1, le=LIMIT_MAX)] = None,
) -> Response:  # fmt: skip
    """What a saved search finds now; `offset` and `limit` instead of those that were saved."""
    async with within(READ_SECONDS, "Reading the saved search"):
        search = search_of(await Library(parts.record).saved_search(search_id, actor))
    if search is None:
        raise Conflict(
            "This search cannot be asked any more", why="it was saved by another version",
            fix="Save it anew", code="search_outdated",
        )  # fmt: skip
    other = {"offset": offset, "limit": limit}
    chosen = {name: value for name, value in other.items() if value is not None}
    return await search_by_body(search.model_copy(update=chosen), request, actor, parts)


@router.patch("/saved-searches/{search_id}", responses=told(404, 409))
async def change_search(
    search_id: SearchId, asked: SavedSearchPatch, actor: Writer, parts: OurParts
) -> SavedSearchAnswer:
    """Another name or another search; what is not given stays."""
    given = asked.model_fields_set
    if "search" in given:
        asked.search.asked()
        await _check_named(asked.search, actor, parts)
    async with parts.changing(user_tag(actor.user_id)), within(WRITE_SECONDS, "The change"):
        saved = await Library(parts.record).change_search(
            search_id, actor, name=asked.name if "name" in given else None,
            request=json_of(asked.search) if "search" in given else None,
        )  # fmt: skip
    return SavedSearchAnswer.of(saved)


async def _check_named(search: SearchRequest, actor: Actor, parts: Parts) -> None:
    """`NotFound` for a project or domain that is not there for them."""
    async with within(READ_SECONDS, "Looking up what is to be searched"):
        await among_of(search, actor, ProjectNames(parts.record))


@router.delete("/saved-searches/{search_id}", status_code=204, responses=told(404))
async def end_search(search_id: SearchId, actor: Writer, parts: OurParts) -> None:
    """Delete one of one's own saved searches."""
    async with parts.changing(user_tag(actor.user_id)), within(WRITE_SECONDS, "The change"):
        await Library(parts.record).end_search(search_id, actor)
