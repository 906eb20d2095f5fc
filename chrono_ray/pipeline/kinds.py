"""The kinds of tasks: which work each one is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, assert_never

from chrono_ray.model.errors import ChronoError
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.task import (
    Bulk,
    Certify,
    DeleteProject,
    Discover,
    Export,
    Finished,
    OfRun,
    Prioritise,
    Progress,
    Purge,
    Reindex,
    Retry,
    Start,
)
from chrono_ray.pipeline.bulk import change_many
from chrono_ray.pipeline.export import ExportParts, export
from chrono_ray.pipeline.of_run import (
    Recounting,
    certify,
    place_captures,
    start_plan,
    try_again,
)
from chrono_ray.pipeline.purge import PurgeParts, delete_project, purge
from chrono_ray.pipeline.tasks import Steps
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Collection, Projects
from chrono_ray.storage.rebuilds import Rebuilds, RebuildState
from chrono_ray.storage.tasks import TaskLease

LOOK_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class KindParts:
    """What every kind works with."""

    purge: PurgeParts
    export: ExportParts
    projects: Projects
    rebuilds: Rebuilds
    record: Database
    recounting: Recounting


def open_steps(parts: KindParts, lease: TaskLease) -> Steps:
    """The work of a leased task, begun at its position."""
    match lease.task:
        case DeleteProject() as task:
            return delete_project(parts.purge, task)
        case Purge() as task:
            return purge(parts.purge, task)
        case Export() as task:
            return export(parts.export, lease, task)
        case Discover() as task:
            return discover(parts.projects, task)
        case Reindex():
            return reindex(parts.rebuilds, lease)
        case Start() | Retry() | Prioritise() | Certify() | Bulk() as task:
            return _of_captures(parts, lease, task)
        case other:
            assert_never(other)


def _of_captures(parts: KindParts, lease: TaskLease, task: OfRun | Bulk) -> Steps:
    match task:
        case Bulk():
            return change_many(parts.record, lease, task)
        case Start():
            return start_plan(parts.record, task)
        case Retry():
            return try_again(parts.record, task)
        case Prioritise():
            return place_captures(parts.record, task)
        case Certify():
            return certify(parts.record, parts.recounting, task)
        case other:
            assert_never(other)


async def discover(projects: Projects, task: Discover) -> Steps:
    """Begin the run, or join the one of exactly this that is under way."""
    scope = Scope(task.url, MatchType(task.match), task.start, task.end)
    project = task.project_id or task.project
    begun = await projects.begin(Collection(scope, project, (task.archive,)))
    yield Finished({"run": begun.run_ids[0], "joined": int(begun.joined)})


async def reindex(rebuilds: Rebuilds, lease: TaskLease) -> Steps:
    """Ask for a fresh index and wait for it: the indexer builds it."""
    wanted = int(lease.position) if lease.position else await rebuilds.request("asked by a task")
    while True:
        found = await rebuilds.progress(wanted)
        if found.state.ended:
            break
        yield Progress(found.filled, found.total, str(wanted))
        await asyncio.sleep(LOOK_EVERY)
    if found.state is RebuildState.FAILED:
        raise ChronoError("The fresh index could not be built", why=found.error, code="rebuild")
    yield Finished({"rebuild": found.id, "pages": found.filled, "rejected": found.rejected})
