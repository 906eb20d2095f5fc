"""Full text over every page."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from chrono_ray.api.deps import Reader
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.schemas import SearchAnswer, SearchRequest
from chrono_ray.model.accounts import Actor
from chrono_ray.model.query import Results

SEARCH_SECONDS: Final = 10.0

router = APIRouter(prefix="/search", tags=["search"])


@router.get("")
async def search(
    asked: Annotated[SearchRequest, Query()], actor: Reader, parts: OurParts
) -> SearchAnswer:
    """Search. A filter may be given several times: any of its values may match."""
    return await _found(asked, actor, parts)


@router.post("")
async def search_by_body(asked: SearchRequest, actor: Reader, parts: OurParts) -> SearchAnswer:
    """Search, for filters longer than a URL may be."""
    return await _found(asked, actor, parts)


async def _found(asked: SearchRequest, actor: Actor, parts: Parts) -> SearchAnswer:
    query = asked.query()
    if not actor.is_admin:
        seen = {grant.project for grant in actor.grants}
        among = seen.intersection(asked.project) if asked.project else seen
        if not among:
            return SearchAnswer.of(Results((), 0, {field: {} for field in query.facets}, 0.0))
        query = asked.query(among)
    async with within(SEARCH_SECONDS, "The search"):
        return SearchAnswer.of(await parts.index.search(query))
