"""Runs, as far as they are."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import Response

from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.schemas import Problem, RunAnswer
from chrono_ray.pipeline.report import read_report
from chrono_ray.storage.certificate import Certificate

READ_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 1.0
"""Counting a run's pages walks all its captures: many watchers cost one walk a second."""

RunId = Annotated[int, Path(ge=1, le=2**63 - 1)]

router = APIRouter(prefix="/runs", tags=["runs"])


@router.get(
    "/{run_id}",
    response_model=RunAnswer,
    responses={n: {"model": Problem} for n in (404, 422, 503)},
)
async def run(run_id: RunId, parts: OurParts) -> Response:
    """One run's progress and its holes; up to a second old."""

    async def compute() -> bytes:
        return await _read(run_id, parts)

    async with within(READ_SECONDS, "Reading the run"):
        if parts.cache is None:
            body = await compute()
        else:
            body = await parts.cache.get_or_compute(f"run:{run_id}", compute, ttl=KEPT_SECONDS)
    return Response(body, media_type="application/json")


async def _read(run_id: int, parts: Parts) -> bytes:
    report = await read_report(parts.record, run_id)
    certificate = Certificate(parts.record)
    slices = (
        [s for each in report.run_ids for s in await certificate.slices(each)]
        if report.progress.holes
        else []
    )
    return RunAnswer.of(report, slices).model_dump_json(by_alias=True).encode()
