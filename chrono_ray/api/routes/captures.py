"""Captures: what an archive listed, where each stands, and what people decide about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, cast

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered, tagged
from chrono_ray.api.captures_schemas import (
    BulkAnswer,
    BulkRequest,
    CapturesAsked,
    FetchedNowAnswer,
    ListedCaptureAnswer,
    ListedCapturesAnswer,
    WholeCaptureAnswer,
)
from chrono_ray.api.collecting import who
from chrono_ray.api.cursors import Place as Position
from chrono_ray.api.deps import Made, Reader, WriterOnce
from chrono_ray.api.ids import CaptureId
from chrono_ray.api.lists import behind, onward
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag
from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.selection import EVERY_CAPTURE, Selection
from chrono_ray.storage.capture_query import Place
from chrono_ray.storage.captures import Captures
from chrono_ray.storage.choosing import Change, Choosing, Chosen
from chrono_ray.storage.database import Connection

SECONDS: Final = 10.0
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

router = APIRouter(prefix="/captures", tags=["captures"])


@router.get("/", response_model=ListedCapturesAnswer, responses=told(404))
async def captures(
    asked: Annotated[CapturesAsked, Query()], request: Request, actor: Reader, parts: OurParts
) -> Response:
    """The captures of a project, or of a run or domain, by time or as they were listed."""
    selection = asked.selection()
    _check_scope(asked, actor)
    position = await behind(parts, asked.cursor, of=asked.list_name, actor=actor)

    async def compute() -> bytes:
        async with within(SECONDS, "Reading the captures"):
            return await _listed(asked, selection, position, actor, parts)

    if asked.project is None:  # of which project it tells is not known before it is read
        return tagged(request, await compute())
    key = f"captures:{who(actor)}:{asked.limit}:{position}:{asked.list_name}"
    kept = Kept(key, Ttl.SHORT, (project_tag(asked.project),))
    return await answered(request, parts, kept, compute)


def _check_scope(asked: CapturesAsked, actor: Actor) -> None:
    if asked.project is None and asked.run is None and asked.domain is None:
        raise InvalidInput(
            "Whose captures are meant is not said", fix="Give a project, a run or a domain",
            code="capture_scope",
        )  # fmt: skip
    seen = actor.is_admin or asked.project in {None, *(each.project_id for each in actor.grants)}
    if not seen:
        raise NotFound("There is no such project, run or domain")


async def _listed(
    asked: CapturesAsked,
    selection: Selection,
    position: list[Position] | None,
    actor: Actor,
    parts: Parts,
) -> bytes:
    stored = Captures(parts.record)
    page = await stored.page(
        actor, asked.project, selection,
        sort=asked.sort, after=_place(position), limit=asked.limit,
    )  # fmt: skip
    nothing = not page.rows and page.last is None and position is None
    if nothing and asked.reason and not await stored.knows(asked.reason, page.project_id):
        raise InvalidInput(
            "No capture has, or had, this reason", why=", ".join(asked.reason)[:200],
            fix="A run's figures name the reasons that there are", code="capture_reason",
        )  # fmt: skip
    after = None if page.last is None else _position(page.last)
    answer = ListedCapturesAnswer(
        items=[ListedCaptureAnswer.of(row, parts.mementos) for row in page.rows],
        next=await onward(parts, after, of=asked.list_name, actor=actor),
    )
    return answer.model_dump_json().encode()


def _position(place: Place) -> tuple[int, int]:
    """Archives know no less than seconds."""
    return (place.instant - EPOCH) // timedelta(seconds=1), place.capture_id


def _place(position: list[Position] | None) -> Place | None:
    if position is None:
        return None
    seconds, capture_id = cast("list[int]", position)
    return Place(EPOCH + timedelta(seconds=seconds), capture_id)


@router.get("/{capture_id}", response_model=WholeCaptureAnswer, responses=told(404))
async def capture(
    capture_id: CaptureId, request: Request, actor: Reader, parts: OurParts
) -> Response:
    """One capture: why it stands where it does, and every request for it that brought nothing."""
    async with within(SECONDS, "Reading the capture"):
        found = await Captures(parts.record).capture(capture_id, actor)
    answer = WholeCaptureAnswer.of(found, parts.mementos)
    return tagged(request, answer.model_dump_json().encode())


@router.post(
    "/bulk", response_model=BulkAnswer,
    responses={202: {"model": BulkAnswer}, **told(404, 409)},
)  # fmt: skip
async def change_many(asked: BulkRequest, by: WriterOnce, parts: OurParts) -> Response:
    """Skip, approve, retry or move captures; with `dry_run` say what that would be.

    Few are changed at once; many by a task: then it is answered 202.
    """
    selection = asked.filter.selection() if asked.filter else EVERY_CAPTURE
    chosen = Chosen(asked.project, selection, tuple(sorted(set(asked.ids or ()))))
    priority = CapturePriority[(asked.priority or "normal").upper()]
    change = Change(asked.action, by.actor.user_id, priority)
    choosing = Choosing(parts.record)

    async def work(connection: Connection) -> Made:
        does = choosing.count if asked.dry_run else choosing.change
        done = await does(connection, chosen, change, by.actor)
        return Made(200 if done.task is None else 202, BulkAnswer.of(asked, done))

    async with parts.changing(*(() if asked.dry_run else (project_tag(asked.project),))):
        return await by.once.answer(work)


@router.post(
    "/{capture_id}/fetch", response_model=FetchedNowAnswer,
    responses={202: {"model": FetchedNowAnswer}, **told(404, 409)},
)  # fmt: skip
async def fetch(capture_id: CaptureId, by: WriterOnce, parts: OurParts) -> Response:
    """Have one capture fetched before all else: skipped ones too, and what had ended again."""
    choosing = Choosing(parts.record)

    async def work(connection: Connection) -> Made:
        fetching = await choosing.fetch_now(connection, capture_id, by.actor)
        changing.tags.add(project_tag(fetching.project_id))
        status = 200 if fetching.run_id is None else 202
        return Made(status, FetchedNowAnswer.of(capture_id, fetching))

    async with parts.changing(whose=by.actor) as changing:
        return await by.once.answer(work)
