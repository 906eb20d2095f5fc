"""Statistics: what waits and how much goes through; never a walk over captures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.deps import Admin, Reader
from chrono_ray.api.parts import ActorState, OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.schemas import ActorHealth
from chrono_ray.api.stats_schemas import (
    ArchiveAnswer,
    ArchivesAnswer,
    ClusterAnswer,
    NodeAnswer,
    QueueAnswer,
    QueuesAnswer,
    StepAnswer,
    ThroughputAnswer,
)
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag, user_tag
from chrono_ray.model.accounts import Actor
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.model.errors import InvalidInput, NotFound, Unavailable
from chrono_ray.storage.live import Live
from chrono_ray.storage.waiting import ArchiveBudget, Waiting

READ_SECONDS: Final = 10.0
STEPS: Final = {
    "minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)
}  # fmt: skip
STEPS_MOST: Final = 20_000
"""Two years of hours: more is not kept."""
USUAL: Final = timedelta(days=1)
YEARS: Final = (1990, 2200)


def _utc(value: datetime) -> datetime:
    if not YEARS[0] <= value.year <= YEARS[1]:
        raise ValueError(f"must lie between {YEARS[0]} and {YEARS[1]}")
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_utc)]
ProjectId = Annotated[int | None, Query(ge=1, le=INT_MAX)]
Since = Annotated[Moment | None, Query(alias="from", description="UTC unless it names an offset")]
Until = Annotated[Moment | None, Query(alias="to")]
Step = Annotated[Literal["minute", "hour", "day"], Query()]

router = APIRouter(prefix="/stats", tags=["statistics"])


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster; memory in bytes. `..._free`: not given to anybody."""

    address: str
    alive: bool
    cpus: float
    cpus_free: float
    memory: int
    memory_free: int


Nodes = Callable[[], Awaitable[Sequence[Node]]]
"""The machines of the cluster."""


async def _nodes(request: Request) -> Nodes | None:
    """Who knows them, where this process belongs to a cluster."""
    return getattr(request.app.state, "nodes", None)


OurNodes = Annotated[Nodes | None, Depends(_nodes)]


@router.get("/throughput", response_model=ThroughputAnswer, responses=told(404))
async def throughput(
    request: Request,
    actor: Reader,
    parts: OurParts,
    project: ProjectId = None,
    since: Since = None,
    until: Until = None,
    step: Step = "hour",
) -> Response:
    """What was done over time, in one project or in all that you see; up to a minute old.

    Minutes are known for two days, hours for two years. Without dates: the last day.
    """
    span = _span(since, until, STEPS[step])
    projects = _seen(actor, project)

    async def compute() -> bytes:
        return await _throughput(parts, projects, project, span)

    key = f"stats:throughput:{asker(actor)}:{project}:{span.since}:{span.until}:{step}"
    tags = _own(actor) if project is None else (project_tag(project), *_own(actor))
    return await _kept(request, parts, Kept(key, Ttl.SHORT, tags), compute)


@router.get("/queues", response_model=QueuesAnswer)
async def queues(request: Request, actor: Reader, parts: OurParts) -> Response:
    """What waits in the projects that you see; up to five seconds old."""

    async def compute() -> bytes:
        found = await Waiting(parts.record).queues(actor)
        answer = QueuesAnswer(
            queues=[QueueAnswer.model_validate(asdict(each)) for each in found.queues],
            tasks=found.tasks, tasks_running=found.tasks_running, pages=found.pages,
            lag=round(found.lag, 3),
        )  # fmt: skip
        return answer.model_dump_json().encode()

    kept = Kept(f"stats:queues:{asker(actor)}", Ttl.SHORT, _own(actor))
    return await _kept(request, parts, kept, compute)


@router.get("/archives", response_model=ArchivesAnswer)
async def archives(request: Request, _actor: Reader, parts: OurParts) -> Response:
    """What each archive allows and how long a request to it waits; up to five seconds old."""

    async def compute() -> bytes:
        found = await Waiting(parts.record).archives()
        return (
            ArchivesAnswer(archives=[_archive(each) for each in found]).model_dump_json().encode()
        )

    return await _kept(request, parts, Kept("stats:archives", Ttl.SHORT, ()), compute)


@router.get("/cluster", response_model=ClusterAnswer)
async def cluster(request: Request, _actor: Admin, parts: OurParts, nodes: OurNodes) -> Response:
    """The machines, what of them is free, and the workers; 503 where nobody knows a cluster."""

    async def compute() -> bytes:
        if nodes is None or parts.actors is None:
            raise Unavailable("This process knows no cluster", fix="`chrono up` starts one")
        found, workers = await nodes(), await parts.actors()
        answer = ClusterAnswer(
            nodes=[NodeAnswer.model_validate(asdict(each)) for each in found or ()],
            actors={name: _worker(each) for name, each in sorted(workers.items())},
        )
        return answer.model_dump_json().encode()

    return await _kept(request, parts, Kept("stats:cluster", Ttl.SHORT, ()), compute)


def asker(actor: Actor) -> str:
    """Whose rights an answer depends on."""
    return "admin" if actor.is_admin else f"u{actor.user_id}"


def _own(actor: Actor) -> tuple[str, ...]:
    """What ends it when those rights change; all admins are told the same."""
    return () if actor.is_admin else (user_tag(actor.user_id),)


async def _kept(
    request: Request, parts: Parts, kept: Kept, compute: Callable[[], Awaitable[bytes]]
) -> Response:
    async with within(READ_SECONDS, "Reading the statistics"):
        return await answered(request, parts, kept, compute)


@dataclass(frozen=True, slots=True)
class _Span:
    since: datetime
    until: datetime
    step: timedelta


def _span(since: datetime | None, until: datetime | None, step: timedelta) -> _Span:
    """Whole minutes, so that all who ask within one are answered as one."""
    ends = until or datetime.now(UTC) + timedelta(minutes=1)
    ends = ends.replace(second=0, microsecond=0)
    begins = since.replace(second=0, microsecond=0) if since else ends - USUAL
    if begins >= ends:
        raise InvalidInput("It ends before it begins", fix="Ask from < to", code="date_range")
    if (ends - begins) / step > STEPS_MOST:
        raise InvalidInput(
            "That is too many steps", why=f"over {STEPS_MOST}", fix="Choose a longer step",
            code="date_range",
        )  # fmt: skip
    return _Span(begins, ends, step)


def _seen(actor: Actor, project: int | None) -> list[int] | None:
    """The projects to add up; None is all. `NotFound` for one that the actor does not see."""
    if actor.is_admin:
        return None if project is None else [project]
    seen = [each.project_id for each in actor.grants]
    if project is None:
        return seen
    if project not in seen:
        raise _unknown(project)
    return [project]


async def _throughput(
    parts: Parts, seen: list[int] | None, project: int | None, span: _Span
) -> bytes:
    live = Live(parts.record)
    found = await live.throughput(seen, since=span.since, until=span.until, step=span.step)
    if project is not None and found is None:
        raise _unknown(project)
    answer = ThroughputAnswer(
        since=span.since, until=span.until, step=int(span.step.total_seconds()),
        steps=[StepAnswer.model_validate(asdict(each)) for each in found or ()],
    )  # fmt: skip
    return answer.model_dump_json().encode()


def _unknown(project: int) -> NotFound:
    return NotFound(f"There is no project {project}")


def _archive(found: ArchiveBudget) -> ArchiveAnswer:
    return ArchiveAnswer(
        archive=found.archive, kind=found.kind, per_minute=found.per_minute,
        state="paused" if found.paused else "open", reason=found.reason,
        wait=round(found.wait, 3),
    )  # fmt: skip


def _worker(state: ActorState | None) -> ActorHealth:
    if state is None:
        return ActorHealth(state="silent")
    return ActorHealth(state="ok", done=state.done, in_flight=state.in_flight, rss=state.rss)
