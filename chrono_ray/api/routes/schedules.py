"""Schedules: collections that begin by themselves, again and again."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.collecting import collected, tags_of, who
from chrono_ray.api.deps import Made, Reader, Writer, WriterOnce
from chrono_ray.api.ids import ScheduleId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import OurParts, within
from chrono_ray.api.problems import told
from chrono_ray.api.runs_schemas import (
    ScheduleAnswer,
    ScheduleMade,
    SchedulePatch,
    ScheduleRequest,
    SchedulesAnswer,
)
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import SCHEDULES, project_tag
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.storage.database import Connection
from chrono_ray.storage.schedules import Changes, Schedules

SECONDS: Final = 10.0

router = APIRouter(prefix="/schedules", tags=["schedules"])


@router.get("/", response_model=SchedulesAnswer, responses=told(404))
async def schedules(
    request: Request,
    actor: Reader,
    parts: OurParts,
    project: Annotated[int | None, Query(ge=1, le=INT_MAX)] = None,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Response:
    """Schedules, oldest first."""
    of = f"schedules?{project}"

    async def compute() -> bytes:
        position = await behind(parts, cursor, of=of, actor=actor)
        after = int(position[0] or 0) if position else 0
        found = await Schedules(parts.record).seen(
            actor, project_id=project, after=after, limit=limit + 1
        )
        end = [found[limit - 1].id] if len(found) > limit else None
        answer = SchedulesAnswer(
            items=[ScheduleAnswer.of(each) for each in found[:limit]],
            next=await onward(parts, end, of=of, actor=actor),
        )
        return answer.model_dump_json(by_alias=True).encode()

    kept = Kept(f"{of}&{cursor}&{limit} for {who(actor)}", Ttl.SHORT, tags_of(actor, SCHEDULES))
    async with within(SECONDS, "Reading the schedules"):
        return await answered(request, parts, kept, compute)


@router.post("/", status_code=201, response_model=ScheduleMade, responses=told(404, 409))
async def add(asked: ScheduleRequest, by: WriterOnce, parts: OurParts) -> Response:
    """Collect again and again, the first time at once; what was missed is one run."""
    wanted = collected(asked, by.actor, parts)

    async def work(connection: Connection) -> Made:
        made = await Schedules(parts.record).add_on(
            connection, wanted, every=timedelta(seconds=asked.every), by=by.actor
        )
        answer = ScheduleMade(schedule=made.id, project=made.project_id, next_at=made.next_at)
        return Made(201, answer)

    async with parts.changing(SCHEDULES, project_tag(asked.project)):
        return await by.once.answer(work)


@router.get("/{schedule_id}", response_model=ScheduleAnswer, responses=told(404))
async def schedule(
    request: Request, schedule_id: ScheduleId, actor: Reader, parts: OurParts
) -> Response:
    """One schedule."""

    async def compute() -> bytes:
        found = await Schedules(parts.record).seen_one(schedule_id, actor)
        return ScheduleAnswer.of(found).model_dump_json(by_alias=True).encode()

    kept = Kept(f"schedule:{schedule_id} for {who(actor)}", Ttl.SHORT, tags_of(actor, SCHEDULES))
    async with within(SECONDS, "Reading the schedule"):
        return await answered(request, parts, kept, compute)


@router.patch("/{schedule_id}", responses=told(404))
async def change(
    schedule_id: ScheduleId, asked: SchedulePatch, actor: Writer, parts: OurParts
) -> ScheduleAnswer:
    """Another interval or class; let it begin runs, or none: those under way go on."""
    every = None if asked.every is None else timedelta(seconds=asked.every)
    changes = Changes(every, asked.enabled, asked.queue_class)
    stored = Schedules(parts.record)
    async with parts.changing(SCHEDULES, whose=actor) as changing, within(SECONDS, "The change"):
        changed = await stored.change(schedule_id, actor, changes)
        changing.tags.add(project_tag(changed.project_id))
    return ScheduleAnswer.of(changed)


@router.delete("/{schedule_id}", status_code=204, responses=told(404))
async def remove(schedule_id: ScheduleId, actor: Writer, parts: OurParts) -> None:
    """Forget it; its runs stay."""
    stored = Schedules(parts.record)
    async with parts.changing(SCHEDULES, whose=actor) as changing, within(SECONDS, "The change"):
        changing.tags.add(project_tag(await stored.drop(schedule_id, actor)))
