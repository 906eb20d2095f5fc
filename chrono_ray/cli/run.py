"""`chrono run`: check what is asked, have it started, follow it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli import owner
from chrono_ray.cli.following import INTERRUPTED, TELL_EVERY, interrupted, others_active, teller
from chrono_ray.cluster.owner import running
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.memento import Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.targets import target
from chrono_ray.pipeline.follow import LOOK_EVERY, Interrupted, follow
from chrono_ray.pipeline.report import as_json, summary
from chrono_ray.settings import Settings
from chrono_ray.storage.projects import Projects, RunState, check_name


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed."""

    url: str
    match: str
    start: str
    end: str
    archive: str
    project: str
    stop_on_interrupt: bool
    json: bool


def run_to_end(request: Request) -> int:
    """Returns the exit code. Nothing is started before the request is known to be good."""
    settings = chrono_settings.load()
    scope = checked(request, settings)
    if (
        request.archive == "wayback"
        and settings.archives.wayback.is_public
        and not settings.contact
    ):
        sys.stderr.write("Archives like to know whom to write to: set CHRONO_CONTACT\n")
    found = owner.ensure(settings, api=False)
    keep = False
    try:
        code, keep = asyncio.run(_run(request, scope, found.settings))
    finally:
        if keep:
            owner.keep(found)
        elif not owner.release(found, lambda: others_active(found.settings)):
            sys.stderr.write("Other runs go on, so chrono_ray stays up. Stop it: chrono down\n")
    return code


def checked(request: Request, settings: Settings) -> Scope:
    """The scope, or `InvalidInput`."""
    today = Timestamp14.of(datetime.now(UTC))
    scope = target(
        request.url, match=request.match, start=request.start, end=request.end, today=today
    )
    wiring.check_archive(request.archive, settings)
    check_name(request.project)
    return scope


async def _run(request: Request, scope: Scope, settings: Settings) -> tuple[int, bool]:
    """The exit code, and whether what runs must be left running (it was detached)."""
    record = wiring.database(settings, pool_size=2, name="chrono run")
    live = sys.stderr.isatty() and not request.json
    try:
        projects = Projects(record)
        run_id = await projects.start_run(
            scope, project=request.project, archive=request.archive,
            queue_class=QueueClass.SCRAPING,
        )  # fmt: skip
        sys.stderr.write(f"Run {run_id}: {scope.url} ({scope.match}) from {request.archive}\n")
        ended = await follow(
            record, run_id, interrupted(), egress=settings.egress,
            alive=lambda: running(settings.data_dir) is not None,
            tell=teller(live=live), every=LOOK_EVERY if live else TELL_EVERY,
        )  # fmt: skip
        if live:
            sys.stderr.write("\r\x1b[2K")
        if isinstance(ended, Interrupted):
            await _interrupt(projects, run_id, stop=request.stop_on_interrupt)
            return INTERRUPTED, not request.stop_on_interrupt
        sys.stdout.write((as_json(ended) if request.json else summary(ended)) + "\n")
        return ended.exit_code, False
    finally:
        await record.aclose()


async def _interrupt(projects: Projects, run_id: int, *, stop: bool) -> None:
    if stop:
        await projects.change(run_id, RunState.PAUSED)
        sys.stderr.write(f"\nRun {run_id} is paused. Go on: chrono resume {run_id}\n")
    else:
        sys.stderr.write(
            f"\nRun {run_id} goes on. See it: chrono status {run_id}. Stop it all: chrono down\n"
        )
