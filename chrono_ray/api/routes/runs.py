"""Runs: begun, followed, paused, tried again. What is done to a first is done to its collection."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.collecting import (
    ask,
    begun_answer,
    collected,
    made,
    scope_of_captures,
    tags_of,
    tags_of_touched,
    who,
)
from chrono_ray.api.deps import ActorOnce, Made, Reader, Writer, WriterOnce
from chrono_ray.api.ids import RunId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.runs_schemas import (
    ArchiveName,
    BegunAnswer,
    CertificateAnswer,
    ChangedAnswer,
    ClassAnswer,
    CollectionRequest,
    HoleItem,
    HolesAnswer,
    MovedAnswer,
    PriorityRequest,
    RetriedAnswer,
    RetryRequest,
    RunDetail,
    RunItem,
    RunsAnswer,
    TaskAsked,
)
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import RUNS, run_tag
from chrono_ray.model.accounts import Actor
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.model.errors import NotFound
from chrono_ray.model.priority import CapturePriority, QueueClass
from chrono_ray.model.task import Certify, Prioritise, Retry, Start
from chrono_ray.storage.control import Again
from chrono_ray.storage.database import Connection
from chrono_ray.storage.projects import RunState
from chrono_ray.storage.run_changes import RunChanges
from chrono_ray.storage.visible import RunFilter, Visible

SECONDS: Final = 10.0
COUNT_SECONDS: Final = 20.0
"""Counting what a run would be tried again for walks its captures."""
STARTABLE: Final = (RunState.PLANNED, RunState.ACTIVE, RunState.PAUSED)
"""Again for one that was started changes nothing."""

ProjectQuery = Annotated[int | None, Query(ge=1, le=INT_MAX)]

router = APIRouter(prefix="/runs", tags=["runs"])


@router.get("/", response_model=RunsAnswer, responses=told(404))
async def runs(
    request: Request,
    actor: Reader,
    parts: OurParts,
    project: ProjectQuery = None,
    domain: ProjectQuery = None,
    state: RunState | None = None,
    archive: Annotated[ArchiveName | None, Query()] = None,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Response:
    """Runs, newest first, each alone whatever it stands with; up to a second old."""
    which = RunFilter(project, domain, state, archive)
    of = f"runs?{project}&{domain}&{state}&{archive}"

    async def compute() -> bytes:
        return await _listed(parts, actor, which, of=of, cursor=cursor, limit=limit)

    kept = Kept(f"{of}&{cursor}&{limit} for {who(actor)}", Ttl.GLANCE, tags_of(actor, RUNS))
    async with within(SECONDS, "Reading the runs"):
        return await answered(request, parts, kept, compute)


async def _listed(
    parts: Parts, actor: Actor, which: RunFilter, *, of: str, cursor: str | None, limit: int
) -> bytes:
    position = await behind(parts, cursor, of=of, actor=actor)
    last = int(position[0] or 0) if position else None
    found = await Visible(parts.record).runs(actor, which, before=last, limit=limit + 1)
    shown = found[:limit]
    end = [shown[-1].progress.run_id] if len(found) > limit else None
    answer = RunsAnswer(
        items=[RunItem.of(each) for each in shown],
        next=await onward(parts, end, of=of, actor=actor),
    )
    return answer.model_dump_json(by_alias=True).encode()


@router.post(
    "/", status_code=201, response_model=BegunAnswer,
    responses={200: {"model": BegunAnswer, "description": "Joined"}, **told(404, 409)},
)  # fmt: skip
async def begin(asked: CollectionRequest, by: WriterOnce, parts: OurParts) -> Response:
    """Collect a URL from archives; exactly this under way already is joined."""
    return await begun_answer(collected(asked, by.actor, parts), by, parts)


@router.get("/{run_id}", response_model=RunDetail, responses=told(404))
async def run(request: Request, run_id: RunId, actor: Reader, parts: OurParts) -> Response:
    """One run's progress and its first holes; up to a second old."""

    async def compute() -> bytes:
        seen = await Visible(parts.record).run(run_id, actor)
        return RunDetail.of_seen(seen).model_dump_json(by_alias=True).encode()

    kept = Kept(f"run:{run_id} for {who(actor)}", Ttl.GLANCE, tags_of(actor, run_tag(run_id)))
    async with within(SECONDS, "Reading the run"):
        return await answered(request, parts, kept, compute)


@router.get("/{run_id}/holes", response_model=HolesAnswer, responses=told(404))
async def holes(
    request: Request,
    run_id: RunId,
    actor: Reader,
    parts: OurParts,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Response:
    """Parts of the listing that could not be had, and why; of a collection by its first run."""
    of = f"holes of {run_id}"

    async def compute() -> bytes:
        position = await behind(parts, cursor, of=of, actor=actor)
        after = int(position[0] or 0) if position else 0
        found = await Visible(parts.record).holes(run_id, actor, after=after, limit=limit + 1)
        end = [found[limit - 1].hole.slice_id] if len(found) > limit else None
        answer = HolesAnswer(
            items=[HoleItem.of_archive(each) for each in found[:limit]],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return answer.model_dump_json(by_alias=True).encode()

    kept = Kept(
        f"{of}&{cursor}&{limit} for {who(actor)}", Ttl.SHORT, tags_of(actor, run_tag(run_id))
    )
    async with within(SECONDS, "Reading the holes"):
        return await answered(request, parts, kept, compute)


@router.get("/{run_id}/certificate", response_model=CertificateAnswer, responses=told(404))
async def certificate(request: Request, run_id: RunId, actor: Reader, parts: OurParts) -> Response:
    """What the last recount of a run said: whether everything that the archive listed is there."""

    async def compute() -> bytes:
        found = await Visible(parts.record).certificate(run_id, actor)
        if found is None:
            raise NotFound(
                f"Run {run_id} has no certificate", why="it was not recounted yet",
                fix=f"POST /api/v1/runs/{run_id}/certificate", code="no_certificate",
            )  # fmt: skip
        return CertificateAnswer.of(found).model_dump_json(by_alias=True).encode()

    kept = Kept(
        f"certificate:{run_id} for {who(actor)}", Ttl.SHORT, tags_of(actor, run_tag(run_id))
    )
    async with within(SECONDS, "Reading the certificate"):
        return await answered(request, parts, kept, compute)


@router.post(
    "/{run_id}/certificate", status_code=202, response_model=TaskAsked, responses=told(404, 409)
)
async def certify(run_id: RunId, by: WriterOnce, parts: OurParts) -> Response:
    """Have a run recounted from what the archive said and from every row: a task does it."""
    return await ask(Certify(run_id), by, parts)


@router.post("/{run_id}/pause", responses=told(404, 409))
async def pause(run_id: RunId, actor: Writer, parts: OurParts) -> ChangedAnswer:
    """No request is sent for it from now on, later than 3 s never."""
    return await _become(run_id, RunState.PAUSED, actor, parts)


@router.post("/{run_id}/resume", responses=told(404, 409))
async def resume(run_id: RunId, actor: Writer, parts: OurParts) -> ChangedAnswer:
    """A paused run goes on where it stopped."""
    return await _become(run_id, RunState.ACTIVE, actor, parts)


@router.post("/{run_id}/cancel", responses=told(404, 409))
async def cancel(run_id: RunId, actor: Writer, parts: OurParts) -> ChangedAnswer:
    """It ends; what it has stored stays."""
    return await _become(run_id, RunState.CANCELLED, actor, parts)


async def _become(run_id: int, state: RunState, actor: Actor, parts: Parts) -> ChangedAnswer:
    tags, changes = (RUNS, run_tag(run_id)), RunChanges(parts.record)
    async with parts.changing(*tags, whose=actor) as changing, within(SECONDS, "The change"):
        touched = await changes.become(run_id, state, actor)
        changing.tags.update(tags_of_touched(touched))
    return ChangedAnswer(run=run_id, runs=list(touched.run_ids), state=touched.state)


@router.post("/{run_id}/start", status_code=202, response_model=TaskAsked, responses=told(404, 409))
async def start(run_id: RunId, by: WriterOnce, parts: OurParts) -> Response:
    """Fetch what was planned: a task does it, at once where somebody works."""
    return await ask(Start(run_id), by, parts, states=STARTABLE)


@router.post(
    "/{run_id}/retry", status_code=202, response_model=TaskAsked,
    responses={200: {"model": RetriedAnswer, "description": "A dry run"}, **told(404, 409)},
)  # fmt: skip
async def retry(run_id: RunId, asked: RetryRequest, by: WriterOnce, parts: OurParts) -> Response:
    """Try again what ended without a page; a cancelled run gets back what its cancelling ended."""
    if not asked.dry_run:
        states = ",".join(sorted(set(asked.states)))
        reasons = ",".join(sorted(set(asked.reasons)))
        return await ask(Retry(run_id, states, reasons, asked.force), by, parts)
    again = Again(frozenset(asked.states), frozenset(asked.reasons), asked.force)
    async with within(COUNT_SECONDS, "Counting what would be tried again"):
        counted = await Visible(parts.record).count_retry(run_id, by.actor, again)
    return await by.once.answer(made(RetriedAnswer.of(run_id, counted)))


@router.post(
    "/{run_id}/priority", status_code=202, response_model=TaskAsked,
    responses={200: {"model": ClassAnswer | MovedAnswer, "description": "Done, or a dry run"},
               **told(404, 409)},
)  # fmt: skip
async def priority(
    run_id: RunId, asked: PriorityRequest, by: WriterOnce, parts: OurParts
) -> Response:
    """The queue class of a run, at once; or a place for captures that wait in it, by a task."""
    if asked.queue_class is not None:
        return await _classed(run_id, asked.queue_class, by, parts)
    where, place = scope_of_captures(asked), str(asked.captures)
    if not asked.dry_run:
        task = Prioritise(run_id, place, where.url, where.match.value, where.start, where.end)
        return await ask(task, by, parts)
    async with within(COUNT_SECONDS, "Counting what would move"):
        moved = await Visible(parts.record).count_matching(
            run_id, by.actor, where, CapturePriority[place.upper()]
        )
    return await by.once.answer(made(MovedAnswer(run=run_id, moved=moved)))


async def _classed(run_id: int, queue_class: QueueClass, by: ActorOnce, parts: Parts) -> Response:
    async def work(connection: Connection) -> Made:
        changes = RunChanges(parts.record)
        touched = await changes.set_class(connection, run_id, queue_class, by.actor)
        changing.tags.update(tags_of_touched(touched))
        answer = ClassAnswer(run=run_id, runs=list(touched.run_ids), queue_class=queue_class)
        return Made(200, answer)

    async with parts.changing(whose=by.actor) as changing:
        return await by.once.answer(work)
