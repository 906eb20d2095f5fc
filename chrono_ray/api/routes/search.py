"""Full text over every page."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Query, Request

from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.schemas import Problem, SearchAnswer, SearchRequest

SEARCH_SECONDS: Final = 10.0

router = APIRouter(
    prefix="/search", tags=["search"], responses={422: {"model": Problem}, 503: {"model": Problem}}
)


def _json_only(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415)


@router.get("")
async def search(asked: Annotated[SearchRequest, Query()], parts: OurParts) -> SearchAnswer:
    """Search. A filter may be given several times: any of its values may match."""
    return await _found(asked, parts)


@router.post(
    "",
    dependencies=[Depends(_json_only)],
    responses={n: {"model": Problem} for n in (400, 413, 415)},
)
async def search_by_body(asked: SearchRequest, parts: OurParts) -> SearchAnswer:
    """Search, for filters longer than a URL may be."""
    return await _found(asked, parts)


async def _found(asked: SearchRequest, parts: Parts) -> SearchAnswer:
    query = asked.query()
    async with within(SEARCH_SECONDS, "The search"):
        return SearchAnswer.of(await parts.index.search(query))
