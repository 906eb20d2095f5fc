"""Is it there? Each part asked at once, none for longer than its deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Final, Literal

from fastapi import APIRouter, Request, Response

from chrono_ray import __version__
from chrono_ray.api.deps import Known, allowed
from chrono_ray.api.parts import Actors, ActorState, OurParts
from chrono_ray.api.problems import RETRY_SECONDS
from chrono_ray.api.routes.metrics import is_near
from chrono_ray.api.schemas import ActorHealth, HealthAnswer, PartState
from chrono_ray.model.accounts import Scope
from chrono_ray.model.errors import ChronoError, NotFound
from chrono_ray.model.query import Query
from chrono_ray.search.base import SearchIndex
from chrono_ray.storage.blobs import Blobs

PART_SECONDS: Final = 2.5
NOBODYS: Final = sha256(b"chrono_ray: no payload has this digest").digest()

router = APIRouter(tags=["health"])
_admin: Final = Known(partial(allowed, scope=Scope.ADMIN))


@router.get("/health", response_model_exclude_none=True, responses={503: {"model": HealthAnswer}})
async def health(request: Request, parts: OurParts, answer: Response) -> HealthAnswer:
    """Say how it is. 503 when the record is away: then nothing can be promised.

    Admins, and whoever may read the metrics, are told of each part and each actor.
    """
    async with asyncio.TaskGroup() as group:
        may_know = group.create_task(_may_know(request))
        record = group.create_task(_asked(parts.record.ping))
        redis = group.create_task(_asked(parts.cache.ping if parts.cache else None))
        index = group.create_task(_asked(lambda: _search(parts.index)))
        blobs = group.create_task(_asked(lambda: _look(parts.blobs)))
        actors = group.create_task(_actors(parts.actors))
    ray, each = actors.result()
    states = {
        "database": record.result(), "redis": redis.result(), "index": index.result(),
        "blobs": blobs.result(), "ray": ray,
    }  # fmt: skip
    status = _status(states, each)
    found = (
        HealthAnswer(status=status, version=__version__, parts=states, actors=each)
        if may_know.result() else HealthAnswer(status=status)
    )  # fmt: skip
    if found.status == "down":
        answer.status_code = 503
        answer.headers["Retry-After"] = str(RETRY_SECONDS)
    return found


async def _may_know(request: Request) -> bool:
    """Whether they are told more than how it is. Who cannot be looked up now is a stranger."""
    if is_near(request, request.app.state.metrics_readers):
        return True
    if "authorization" not in request.headers:
        return False
    try:
        async with asyncio.timeout(PART_SECONDS):
            await _admin(request)
    except (TimeoutError, ChronoError):
        return False
    return True


def _status(
    states: Mapping[str, PartState], actors: Mapping[str, ActorHealth]
) -> Literal["ok", "degraded", "down"]:
    if states["database"].state != "ok":
        return "down"
    ill = any(part.state == "away" for part in states.values())
    silent = any(actor.state == "silent" for actor in actors.values())
    return "degraded" if ill or silent else "ok"


async def _asked(probe: Callable[[], Awaitable[object]] | None) -> PartState:
    if probe is None:
        return PartState(state="unused")
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PART_SECONDS):
            await probe()
    except TimeoutError:
        return PartState(state="away", detail=f"no answer within {PART_SECONDS:g} s")
    except ChronoError as error:
        return PartState(state="away", detail=error.what)
    return PartState(state="ok", milliseconds=round((time.perf_counter() - began) * 1000, 2))


async def _search(index: SearchIndex) -> None:
    await index.search(Query("", limit=1))


async def _look(blobs: Blobs) -> None:
    try:
        await blobs.get(NOBODYS)
    except NotFound:
        return


async def _actors(actors: Actors | None) -> tuple[PartState, dict[str, ActorHealth]]:
    if actors is None:
        return PartState(state="unknown", detail="this process knows no cluster"), {}
    found: dict[str, ActorState | None] = {}

    async def ask() -> None:
        found.update(await actors())

    state = await _asked(ask)
    return state, {name: actor_health(each) for name, each in sorted(found.items())}


def actor_health(state: ActorState | None) -> ActorHealth:
    """An actor's last answer as it is told."""
    if state is None:
        return ActorHealth(state="silent")
    return ActorHealth(state="ok", done=state.done, in_flight=state.in_flight, rss=state.rss)
