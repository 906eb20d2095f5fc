"""Plans: what a run would fetch, told before anything is, and the word that starts it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.collecting import ask, begun_answer, collected, tags_of, who
from chrono_ray.api.deps import Reader, WriterOnce
from chrono_ray.api.ids import RunId
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.routes.runs import STARTABLE
from chrono_ray.api.runs_schemas import (
    BegunAnswer,
    CollectionRequest,
    EstimateAnswer,
    PlanAnswer,
    TaskAsked,
    report_of,
)
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag, run_tag
from chrono_ray.model.task import Start
from chrono_ray.pipeline.plan import Plan
from chrono_ray.storage.planning import Planning
from chrono_ray.storage.projects import Goal
from chrono_ray.storage.visible import SeenRun, Visible

SECONDS: Final = 30.0
"""An estimate walks all captures of a plan three times."""

router = APIRouter(prefix="/plans", tags=["plans"])


@router.post(
    "/", status_code=201, response_model=BegunAnswer,
    responses={200: {"model": BegunAnswer, "description": "Joined"}, **told(404, 409)},
)  # fmt: skip
async def plan(asked: CollectionRequest, by: WriterOnce, parts: OurParts) -> Response:
    """List what a collection would fetch, and fetch nothing; `GET /plans/{run}` tells it."""
    wanted = collected(asked, by.actor, parts)
    return await begun_answer(replace(wanted, goal=Goal.PLAN), by, parts)


@router.get("/{run_id}", response_model=PlanAnswer, responses=told(404))
async def planned(request: Request, run_id: RunId, actor: Reader, parts: OurParts) -> Response:
    """What a plan would fetch, skip and take; of a run that was started, what it still would."""

    async def compute() -> bytes:
        seen = await Visible(parts.record).run(run_id, actor)
        answer = PlanAnswer.of(seen, await _estimate(run_id, seen, parts))
        return answer.model_dump_json(by_alias=True).encode()

    kept = Kept(f"plan:{run_id} for {who(actor)}", Ttl.SHORT, tags_of(actor, run_tag(run_id)))
    async with within(SECONDS, "Reading the plan"):
        return await answered(request, parts, kept, compute)


async def _estimate(run_id: int, seen: SeenRun, parts: Parts) -> EstimateAnswer | None:
    """Once a minute for everybody who may see the plan: it is the same for all of them."""
    report = report_of(seen)
    progress = report.progress
    if progress.listing or (seen.place.goal is Goal.PLAN and progress.state == "active"):
        return None

    async def compute() -> bytes:
        found = Plan(report, await Planning(parts.record).estimate(report.run_ids))
        return EstimateAnswer.of(found).model_dump_json().encode()

    if parts.cache is None:
        return EstimateAnswer.model_validate_json(await compute())
    key = f"estimate:{run_id} {progress.state} {seen.place.goal} {progress.captures.discovered}"
    tags = (run_tag(run_id), project_tag(seen.place.project_id))
    body = await parts.cache.get_or_compute(key, compute, ttl=Ttl.MEDIUM, tags=tags)
    return EstimateAnswer.model_validate_json(body)


@router.post("/{run_id}/start", status_code=202, response_model=TaskAsked, responses=told(404, 409))
async def start(run_id: RunId, by: WriterOnce, parts: OurParts) -> Response:
    """Fetch what was planned: a task does it, at once where somebody works."""
    return await ask(Start(run_id), by, parts, states=STARTABLE)
