"""`chrono run`: check what is asked, have it started, follow it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli.following import INTERRUPTED, follow_shown, with_owner
from chrono_ray.cli.remote import server
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.targets import target
from chrono_ray.pipeline.follow import Interrupted
from chrono_ray.pipeline.report import as_json, summary
from chrono_ray.settings import Settings
from chrono_ray.storage.projects import (
    OVERLAP_MOST,
    Begun,
    Collection,
    Projects,
    RunState,
    check_name,
)

if TYPE_CHECKING:
    from chrono_ray.client import Chrono


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed: archives most preferred first; `since` in days, None for all there is."""

    url: str
    match: str
    start: str
    end: str
    archives: Sequence[str]
    project: str
    since: int | None
    stop_on_interrupt: bool
    json: bool


def run_to_end(request: Request) -> int:
    """Returns the exit code. Nothing is started before the request is known to be good."""
    if c := server():
        with c:
            return _run_there(c, request, checked(request, None))
    settings = chrono_settings.load()
    wanted = checked(request, settings)
    if (
        "wayback" in wanted.archives
        and settings.archives.wayback.is_public
        and not settings.contact
    ):
        sys.stderr.write("Archives like to know whom to write to: set CHRONO_CONTACT\n")
    return with_owner(settings, lambda attached: _run(request, wanted, attached))


def _run_there(c: Chrono, request: Request, wanted: Collection) -> int:
    from chrono_ray.cli.remote_runs import Left, begin, follow, leave

    begun = begin(c, wanted)
    run_id = begun.run_ids[0]
    sys.stderr.write(_told(begun, wanted))
    ended = follow(c, run_id, json=request.json)
    if isinstance(ended, Left):
        leave(c, "Run", run_id, stop=request.stop_on_interrupt)
        return INTERRUPTED
    sys.stdout.write((as_json(ended) if request.json else summary(ended)) + "\n")
    return ended.exit_code


def checked(request: Request, settings: Settings | None) -> Collection:
    """What is to be collected, or `InvalidInput`. An archive named twice is named once.

    Without settings a server says whether it knows the archives.
    """
    today = Timestamp14.of(datetime.now(UTC))
    scope = target(
        request.url, match=request.match, start=request.start, end=request.end, today=today
    )
    archives = tuple(dict.fromkeys(request.archives))
    if settings is not None:
        for each in archives:
            wiring.check_archive(each, settings)
    check_name(request.project)
    return Collection(scope, request.project, archives, since=_overlap(request.since))


def _overlap(days: int | None) -> timedelta | None:
    if days is not None and not 0 <= days <= OVERLAP_MOST.days:
        raise InvalidInput(
            "The overlap cannot be used",
            why=f"{days} days",
            fix=f"From 0 to {OVERLAP_MOST.days} days",
            code="overlap",
        )
    return None if days is None else timedelta(days=days)


async def _run(request: Request, wanted: Collection, settings: Settings) -> tuple[int, bool]:
    """The exit code, and whether what runs must be left running (it was detached)."""
    record = wiring.database(settings, pool_size=2, name="chrono run")
    try:
        projects = Projects(record)
        begun = await projects.begin(wanted)
        run_id = begun.run_ids[0]
        sys.stderr.write(_told(begun, wanted))
        ended = await follow_shown(record, run_id, settings, json=request.json)
        if isinstance(ended, Interrupted):
            await _interrupt(projects, run_id, stop=request.stop_on_interrupt)
            return INTERRUPTED, not request.stop_on_interrupt
        sys.stdout.write((as_json(ended) if request.json else summary(ended)) + "\n")
        return ended.exit_code, False
    finally:
        await record.aclose()


def _told(begun: Begun, wanted: Collection) -> str:
    how = "is under way already: following it" if begun.joined else "begins"
    return "".join(
        f"Run {run_id}: {wanted.scope.url} ({wanted.scope.match}) from {archive} {how}\n"
        for run_id, archive in zip(begun.run_ids, wanted.archives, strict=True)
    )


async def _interrupt(projects: Projects, run_id: int, *, stop: bool) -> None:
    if stop:
        await projects.change(run_id, RunState.PAUSED)
        sys.stderr.write(f"\nRun {run_id} is paused. Go on: chrono resume {run_id}\n")
    else:
        sys.stderr.write(
            f"\nRun {run_id} goes on. See it: chrono status {run_id}. Stop it all: chrono down\n"
        )
