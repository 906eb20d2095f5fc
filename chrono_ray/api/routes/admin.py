"""What operators see and do: queues, budgets, actors, connections, the cache."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from sqlalchemy.pool import QueuePool

from chrono_ray.api.admin_schemas import (
    ActorsAnswer,
    BudgetAnswer,
    BudgetsAnswer,
    CacheAnswer,
    CacheContentsAnswer,
    CacheCountsAnswer,
    FlushedAnswer,
    FlushRequest,
    HolderAnswer,
    PausedAnswer,
    PauseRequest,
    PoolAnswer,
    PoolsAnswer,
    QueueDepthAnswer,
    QueueDepthsAnswer,
    ResumedAnswer,
    Tag,
)
from chrono_ray.api.deps import Admin
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.routes.health import actor_health
from chrono_ray.cache.redis import CacheCounts, JsonCache, Ttl
from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.admin import Operating
from chrono_ray.storage.governor import Governor

SECONDS: Final = 10.0
NO_EGRESS: Final = ""
"""Pauses are every egress's."""
ArchiveName = Annotated[str, Path(pattern=r"^[\x21-\x7e]{1,100}$")]


async def _admins_only(_actor: Admin) -> None:
    pass


router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(_admins_only)])


@router.get("/queues")
async def queues(parts: OurParts) -> QueueDepthsAnswer:
    """What waits, by class, in all projects; and how far the index is behind."""
    async with within(SECONDS, "Reading the queues"):
        found = await Operating(parts.record).queues()
    return QueueDepthsAnswer(
        classes=[QueueDepthAnswer.model_validate(asdict(each)) for each in found.classes],
        pages=found.pages, sending=found.sending, lag=round(found.lag, 3),
    )  # fmt: skip


@router.get("/budgets")
async def budgets(parts: OurParts) -> BudgetsAnswer:
    """What each archive allows, what of it is left, and until when and why it is paused."""
    async with within(SECONDS, "Reading the budgets"):
        found = await Operating(parts.record).budgets()
    return BudgetsAnswer(budgets=[BudgetAnswer.model_validate(asdict(each)) for each in found])


@router.post("/archives/{name}/pause", responses=told(404))
async def pause(name: ArchiveName, asked: PauseRequest, parts: OurParts) -> PausedAnswer:
    """Leave an archive alone for a while, for everybody. A longer pause of its own stays."""
    async with within(SECONDS, "The pause"):
        until = await Governor(parts.record, egress=NO_EGRESS).pause(name, asked.seconds)
    return PausedAnswer(archive=name, paused_until=until)


@router.post("/archives/{name}/resume", responses=told(404))
async def resume(name: ArchiveName, parts: OurParts) -> ResumedAnswer:
    """End an archive's pause now, whatever it was for. It begins slowly."""
    async with within(SECONDS, "The end of the pause"):
        was_paused = await Governor(parts.record, egress=NO_EGRESS).resume(name)
    return ResumedAnswer(archive=name, was_paused=was_paused)


@router.get("/actors")
async def actors(parts: OurParts) -> ActorsAnswer:
    """The workers' last answers; 503 where this process knows no cluster."""
    if parts.actors is None:
        raise Unavailable("This process knows no cluster", fix="`chrono up` starts one")
    async with within(SECONDS, "Asking the workers"):
        found = await parts.actors()
    return ActorsAnswer(actors={name: actor_health(each) for name, each in sorted(found.items())})


@router.get("/pools")
async def pools(parts: OurParts) -> PoolsAnswer:
    """Connections to PostgreSQL: who holds how many, and how many there may be."""
    async with within(SECONDS, "Reading the connections"):
        found = await Operating(parts.record).connections()
    return PoolsAnswer(
        most=found.most, used=1 + sum(each.total for each in found.holders), here=_here(parts),
        holders=[HolderAnswer.model_validate(asdict(each)) for each in found.holders],
    )  # fmt: skip


@router.get("/cache")
async def cache(parts: OurParts) -> CacheAnswer:
    """What the cache was asked in this process, and what it holds."""
    if parts.cache is None:
        return CacheAnswer(
            state="off", owes=False, counts=_counts(CacheCounts()), classes={}, contents=None
        )
    return CacheAnswer(
        state="on" if (contents := await _contents(parts.cache)) else "away",
        owes=parts.cache.owes, counts=_counts(parts.cache.counts),
        classes={each.name.lower(): _counts(parts.cache.counts_of(each)) for each in Ttl},
        contents=contents,
    )  # fmt: skip


@router.post("/cache/flush")
async def flush(asked: FlushRequest, parts: OurParts) -> FlushedAnswer:
    """End all answers, or those of some tags, at once and for everybody."""
    if parts.cache is None:
        return FlushedAnswer(freed=0)
    if asked.tags is None:
        return FlushedAnswer(freed=await parts.cache.flush())
    await _ended(parts.cache, *asked.tags)
    return FlushedAnswer(freed=0)


@router.delete("/cache/tags/{tag}", status_code=204)
async def end_tag(tag: Tag, parts: OurParts) -> None:
    """End the answers of one tag: `project:7`, `run:9`, `user:3`."""
    if parts.cache:
        await _ended(parts.cache, tag)


async def _ended(cache: JsonCache, *tags: str) -> None:
    await cache.invalidate(*tags)
    if cache.owes:
        raise Unavailable("The cache does not answer", fix="It is told as soon as it does")


async def _contents(cache: JsonCache) -> CacheContentsAnswer | None:
    try:
        return CacheContentsAnswer.model_validate(asdict(await cache.contents()))
    except Unavailable:
        return None


def _counts(counts: CacheCounts) -> CacheCountsAnswer:
    return CacheCountsAnswer.model_validate(asdict(counts))


def _here(parts: Parts) -> PoolAnswer:
    pool = parts.record.engine.sync_engine.pool
    assert isinstance(pool, QueuePool)  # noqa: S101 (the engine's own choice)
    in_use = pool.checkedout()
    return PoolAnswer(size=pool.size(), open=in_use + pool.checkedin(), in_use=in_use)
