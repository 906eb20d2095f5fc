"""Tasks about one run: what takes too long for whoever asked for it to wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

import orjson

from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.task import Certify, Finished, Prioritise, Retry, Start
from chrono_ray.pipeline.control import prioritise, retry
from chrono_ray.pipeline.tasks import Steps
from chrono_ray.pipeline.verify import Recount
from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.control import Again, Retryable
from chrono_ray.storage.database import Database
from chrono_ray.storage.planning import Planning
from chrono_ray.storage.projects import Projects

FAULTS_KEPT = 1_000
Recounting = Callable[[int], Awaitable[Recount]]
"""The recount of a run by its id."""


async def start_plan(record: Database, task: Start) -> Steps:
    """Fetch what was planned; again changes nothing."""
    ids = await Projects(record).together(task.run_id)
    paused = await Planning(record).start(ids)
    yield Finished({"run": task.run_id, "paused": int(paused)})


async def try_again(record: Database, task: Retry) -> Steps:
    """Reopen what ended without a page; what is pending already is left alone."""
    told = await retry(record, task.run_id, again_of(task), dry_run=False)
    yield Finished(
        {"run": task.run_id, "fetches": sum(told.fetches.values()), "slices": told.slices,
         "withheld": sum(told.withheld.values())}
    )  # fmt: skip


def again_of(task: Retry) -> Again:
    """What is to be tried again, in the words that it is stored in."""
    try:
        states = frozenset(Retryable(word) for word in task.states.split(","))
    except ValueError:
        raise InvalidInput(
            "The argument 'states' cannot be used", why=f"one of {', '.join(Retryable)}",
            code="task_arguments",
        ) from None  # fmt: skip
    return Again(states, frozenset(filter(None, task.reasons.split(","))), task.force)


async def place_captures(record: Database, task: Prioritise) -> Steps:
    """Another place for what waits; what has it already is left alone."""
    where = Scope(task.url, MatchType(task.match), task.start, task.end)
    try:
        priority = CapturePriority[task.priority.upper()]
    except KeyError:
        raise InvalidInput(
            "The argument 'priority' cannot be used", fix="now, high, normal or low",
            code="task_arguments",
        ) from None  # fmt: skip
    moved = await prioritise(record, task.run_id, where, priority, dry_run=False)
    yield Finished({"run": task.run_id, "moved": moved})


async def certify(record: Database, recounting: Recounting, task: Certify) -> Steps:
    """Recount a run and keep what that says; only the first faults word by word."""
    recount = await recounting(task.run_id)
    said = {
        **asdict(recount), "clean": recount.clean, "faults": recount.faults[:FAULTS_KEPT],
        "fault_count": len(recount.faults),
    }  # fmt: skip
    await Certificate(record).keep(task.run_id, orjson.dumps(said).decode())
    yield Finished({"run": task.run_id, "clean": int(recount.clean), "faults": len(recount.faults)})
