"""Runs, as far as they are."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import Response

from chrono_ray.api.deps import Reader
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.schemas import RunAnswer
from chrono_ray.model.accounts import Actor
from chrono_ray.pipeline.report import RunReport
from chrono_ray.storage.stats import Stats, summed
from chrono_ray.storage.visible import Visible

READ_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 1.0
"""Counting a run's pages walks all its captures: many watchers cost one walk a second."""

RunId = Annotated[int, Path(ge=1, le=2**63 - 1)]

router = APIRouter(prefix="/runs", tags=["runs"])


@router.get("/{run_id}", response_model=RunAnswer, responses=told(404))
async def run(run_id: RunId, actor: Reader, parts: OurParts) -> Response:
    """One run's progress and its holes; up to a second old."""

    async def compute() -> bytes:
        return await _read(run_id, actor, parts)

    asker = "admin" if actor.is_admin else actor.user_id
    async with within(READ_SECONDS, "Reading the run"):
        if parts.cache is None:
            body = await compute()
        else:
            key = f"run:{run_id}:{asker}"
            body = await parts.cache.get_or_compute(key, compute, ttl=KEPT_SECONDS)
    return Response(body, media_type="application/json")


async def _read(run_id: int, actor: Actor, parts: Parts) -> bytes:
    seen = await Visible(parts.record).run(run_id, actor)
    pages = await Stats(parts.record).pages(*(each.run_id for each in seen.parts))
    report = RunReport(summed(seen.parts), pages, seen.parts if len(seen.parts) > 1 else ())
    return RunAnswer.of(report, seen.holes).model_dump_json(by_alias=True).encode()
