"""Pages: one version of a URL's content each, with its captures, its kin and its bytes.

Archived text is hostile: it leaves as JSON, its bytes as a file that no browser opens by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from chrono_ray.api.answers import CACHE_CONTROL, Kept, answered, is_known
from chrono_ray.api.deps import Reader
from chrono_ray.api.ids import PageId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.page_answers import (
    READ_SECONDS,
    Asking,
    Told,
    about_pages,
    body_about_pages,
    sees,
    tags_of,
)
from chrono_ray.api.pages_schemas import (
    CaptureAnswer,
    CapturesAnswer,
    DiffAnswer,
    NeighboursAnswer,
    PageAnswer,
    PageRow,
    PagesAnswer,
    PagesAsked,
    VersionAnswer,
    VersionsAnswer,
)
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.ranges import part_of
from chrono_ray.api.streams import Stream
from chrono_ray.cache.redis import Ttl
from chrono_ray.model.accounts import Actor
from chrono_ray.model.bounds import BIG_MAX
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.line_diff import difference
from chrono_ray.storage.pages import (
    TEXT_BYTES_MAX,
    ComparedPage,
    PagePayload,
    PagePlace,
    Pages,
)

ENDINGS: Final[Mapping[str, str]] = {
    "text/html": "html", "application/xhtml+xml": "html", "text/plain": "txt",
    "application/pdf": "pdf",
}  # fmt: skip
"""Of a payload's file; whatever else it is says `bin`."""
OCTETS: Final = "application/octet-stream"
BYTES: Final = {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
KNOWN: Final = {"description": "Not Modified"}
PART: Final = {"description": "Partial Content", **BYTES}
RAW: Final[dict[int | str, dict[str, Any]]] = {200: BYTES, 206: PART, 304: KNOWN}
HEAD: Final[dict[int | str, dict[str, Any]]] = {200: BYTES, 304: KNOWN}
PAYLOAD: Final = TypeAdapter(PagePayload)

router = APIRouter(prefix="/pages", tags=["pages"])


@router.get("/", response_model=PagesAnswer, responses=told(404))
async def pages(
    asked: Annotated[PagesAsked, Query()], request: Request, actor: Reader, parts: OurParts
) -> Response:
    """A project's pages by URL or by time."""
    wanted = asked.chosen()
    if not sees(actor, wanted.project_id):
        raise NotFound(f"There is no project {wanted.project_id}")
    position = await behind(parts, asked.cursor, of=asked.list_name, actor=actor)
    after = _place(position) if position else None

    async def compute() -> bytes:
        async with within(READ_SECONDS, "Reading the pages"):
            return (await _listed(asked, after, actor, parts)).encode()

    key = f"pages:u{actor.user_id}:{asked.limit}:{position}:{asked.list_name}"
    kept = Kept(key, Ttl.MEDIUM, tags_of(actor, wanted.project_id))
    return await answered(request, parts, kept, compute)


async def _listed(asked: PagesAsked, after: PagePlace | None, actor: Actor, parts: Parts) -> str:
    wanted = asked.chosen()
    found = await Pages(parts.record).listed(
        wanted, actor, order=asked.sort, after=after, limit=asked.limit
    )
    parts.pages.learn([each.id for each in found.found], wanted.project_id)
    end = found.next
    position = None if end is None else (end.place, end.first_seen.isoformat(), end.id)
    return PagesAnswer(
        items=[PageRow.of(each, wanted.project_id) for each in found.found],
        next=await onward(parts, position, of=asked.list_name, actor=actor),
    ).model_dump_json()


def _place(position: list[int | str | None]) -> PagePlace:
    place, first_seen, page_id = cast("tuple[str, str, int]", position)
    return PagePlace(place, datetime.fromisoformat(first_seen), page_id)


@router.get("/{page_id}", response_model=PageAnswer, responses=told(404))
async def page(page_id: PageId, request: Request, actor: Reader, parts: OurParts) -> Response:
    """A page with its text, what is known of it, and how it is cited."""

    async def compute() -> Told:
        found = await Pages(parts.record).page(page_id, actor)
        answer = await asyncio.to_thread(PageAnswer.of, found, parts.mementos)
        return Told((found.project_id,), answer.model_dump_json().encode())

    return await about_pages(Asking(request, parts, actor, (page_id,), "page"), compute)


@router.get("/{page_id}/captures", response_model=CapturesAnswer, responses=told(404))
async def captures(
    page_id: PageId, request: Request, actor: Reader, parts: OurParts,
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """The captures that showed this very content, by time, each to be cited."""
    of = f"pages/{page_id}/captures"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = cast("tuple[str, int]", tuple(position)) if position else ("", 0)

    async def compute() -> Told:
        found = await Pages(parts.record).captures(page_id, actor, after=after, limit=limit + 1)
        shown = found.found[:limit]
        end = (shown[-1].ts, shown[-1].id) if len(found.found) > limit else None
        answer = CapturesAnswer(
            items=[CaptureAnswer.of(each, found.title, parts.mementos) for each in shown],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return Told((found.project_id,), answer.model_dump_json().encode())

    asking = Asking(request, parts, actor, (page_id,), f"captures:{limit}:{after}")
    return await about_pages(asking, compute)


@router.get("/{page_id}/versions", response_model=VersionsAnswer, responses=told(404))
async def versions(
    page_id: PageId, request: Request, actor: Reader, parts: OurParts,
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """Every content that this URL ever showed in the project, and what each changed."""
    of = f"pages/{page_id}/versions"
    position = await behind(parts, cursor, of=of, actor=actor)

    async def compute() -> Told:
        after: tuple[datetime | None, int] = (None, 0)
        if position:
            first_seen, last_id = cast("tuple[str, int]", tuple(position))
            after = (datetime.fromisoformat(first_seen), last_id)
        found = await Pages(parts.record).versions(page_id, actor, after=after, limit=limit + 1)
        shown = found.found[:limit]
        end = (shown[-1].first_seen.isoformat(), shown[-1].id) if found.found[limit:] else None
        answer = VersionsAnswer(
            items=[VersionAnswer.of(each) for each in shown],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return Told((found.project_id,), answer.model_dump_json().encode())

    asking = Asking(request, parts, actor, (page_id,), f"versions:{limit}:{position}")
    return await about_pages(asking, compute)


@router.get("/{page_id}/neighbours", response_model=NeighboursAnswer, responses=told(404))
async def neighbours(page_id: PageId, request: Request, actor: Reader, parts: OurParts) -> Response:
    """The versions before and after, and what else of its host was seen at that time."""

    async def compute() -> Told:
        found = await Pages(parts.record).neighbours(page_id, actor)
        answer = NeighboursAnswer.of(found.found)
        return Told((found.project_id,), answer.model_dump_json().encode())

    return await about_pages(Asking(request, parts, actor, (page_id,), "neighbours"), compute)


@router.get("/{page_id}/diff", response_model=DiffAnswer, responses=told(404))
async def diff(
    page_id: PageId, request: Request, actor: Reader, parts: OurParts,
    other: Annotated[int, Query(alias="with", ge=1, le=BIG_MAX, description="A page's id")],
) -> Response:  # fmt: skip
    """How this page's text became another's, line by line. Texts up to 2 MB."""

    async def compute() -> Told:
        one, two = await Pages(parts.record).compared(page_id, other, actor)
        async with parts.comparing:
            answer = await asyncio.to_thread(_compared, one, two)
        return Told((one.project_id, two.project_id), answer.encode())

    return await about_pages(Asking(request, parts, actor, (page_id, other), "diff"), compute)


def _compared(one: ComparedPage, other: ComparedPage) -> str:
    texts = _lines(one), _lines(other)
    return DiffAnswer.of(one, other, difference(*texts), texts).model_dump_json()


def _lines(page: ComparedPage) -> list[str]:
    if page.text is None:
        raise InvalidInput(
            "The text is too long to be compared", why=f"page {page.id} has {page.bytes} bytes",
            fix=f"Compare texts of up to {TEXT_BYTES_MAX}", code="diff_size",
        )  # fmt: skip
    return page.text.split("\n")


@router.get("/{page_id}/raw", responses={**RAW, **told(404, 416)}, response_class=Response)
async def raw(page_id: PageId, request: Request, actor: Reader, parts: OurParts) -> Response:
    """The archived bytes as a file: whole, or one range of them."""
    payload = await _payload(page_id, request, actor, parts)
    headers = _headers(page_id, payload)
    if is_known(headers["ETag"], request.headers.get("if-none-match", "")):
        return Response(None, 304, headers)
    part = None
    if request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        part = part_of(request.headers.get("range", ""), payload.size)
    whole = range(payload.size)
    async with within(READ_SECONDS, "Reading the payload"):
        pieces = await parts.blobs.pieces(bytes.fromhex(payload.sha256), part or whole)
    stream = Stream(pieces, OCTETS, filename=_file_name(page_id, payload))
    stream.headers.update({**headers, "Content-Length": str(len(part or whole))})
    if part is not None:
        stream.status_code = 206
        stream.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{payload.size}"
    return stream


@router.head("/{page_id}/raw", responses={**HEAD, **told(404)}, response_class=Response)
async def raw_head(page_id: PageId, request: Request, actor: Reader, parts: OurParts) -> Response:
    """How large the archived bytes are, and whether they are known."""
    payload = await _payload(page_id, request, actor, parts)
    headers = _headers(page_id, payload)
    if is_known(headers["ETag"], request.headers.get("if-none-match", "")):
        return Response(None, 304, headers)
    return Response(None, 200, {**headers, "Content-Length": str(payload.size)}, OCTETS)


async def _payload(page_id: int, request: Request, actor: Actor, parts: Parts) -> PagePayload:
    """Kept as other answers are: whoever has the bytes already costs the record nothing."""

    async def compute() -> Told:
        found = await Pages(parts.record).payload(page_id, actor)
        return Told((found.project_id,), PAYLOAD.dump_json(found))

    asking = Asking(request, parts, actor, (page_id,), "payload")
    return PAYLOAD.validate_json(await body_about_pages(asking, compute))


def _headers(page_id: int, payload: PagePayload) -> dict[str, str]:
    return {
        "ETag": f'"{payload.sha256}"',
        "Cache-Control": f"{CACHE_CONTROL}, no-transform",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{_file_name(page_id, payload)}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _file_name(page_id: int, payload: PagePayload) -> str:
    return f"page-{page_id}.{ENDINGS.get(payload.media_type, 'bin')}"
