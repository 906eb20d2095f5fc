"""`chrono run`: check what is asked, have it started, follow it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli import owner
from chrono_ray.cli.follow import Interrupted, follow, teller
from chrono_ray.cli.report import as_json, summary
from chrono_ray.cluster.owner import running
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.targets import target
from chrono_ray.settings import Settings
from chrono_ray.storage.projects import Projects, RunState, check_name

INTERRUPTED = 130


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
    found = owner.ensure(settings, api=False)
    try:
        code, keep = asyncio.run(_run(request, scope, found.settings))
    except BaseException:
        if found.started:
            owner.stop(found.running)
        raise
    if found.started and not keep:
        owner.stop(found.running)
    return code


def checked(request: Request, settings: Settings) -> Scope:
    """The scope, or `InvalidInput`."""
    today = Timestamp14.of(datetime.now(UTC))
    scope = target(
        request.url, match=request.match, start=request.start, end=request.end, today=today
    )
    check_archive(request.archive, settings)
    check_name(request.project)
    return scope


def check_archive(name: str, settings: Settings) -> None:
    """`InvalidInput` when the archive is unknown or not set up."""
    if name in wiring.archive_names(settings):
        return
    known = name in ("pywb", "warc")
    raise InvalidInput(
        f"There is no archive {name!r}",
        why="it is not set up" if known else "",
        fix=f"Set CHRONO_ARCHIVES__{name.upper()}__URL" if known
        else f"Choose one of {', '.join(wiring.archive_names(settings))}",
        code="archive",
    )  # fmt: skip


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
            record, run_id, egress=settings.egress,
            alive=lambda: running(settings.data_dir) is not None,
            tell=teller(live=live), live=live,
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
