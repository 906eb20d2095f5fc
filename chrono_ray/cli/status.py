"""`chrono status`: what runs, how far it is, what it waits for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli.archive import budget_line, shown_budgets
from chrono_ray.cli.machine import connected
from chrono_ray.cli.remote import chosen, server
from chrono_ray.cluster.owner import running
from chrono_ray.observability.log import printable
from chrono_ray.pipeline.report import (
    RunReport,
    as_json,
    live_line,
    read_report,
    summary,
)
from chrono_ray.settings import Settings
from chrono_ray.storage.governor import Budget
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.stats import Stats

RUNS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are kept, in words, and whether chrono_ray runs there."""

    told: str
    runs: bool


def print_status(run_id: int | None, *, json: bool) -> int:
    """What runs, then one run in full, or the newest in a line each."""
    place = _place()
    reports, budgets = _asked(run_id)
    if json:
        sys.stdout.writelines(_object(report, place) + "\n" for report in reports)
    else:
        lines = _lines(reports, budgets, place, whole=run_id is not None)
        sys.stdout.writelines("\n".join(map(printable, each.split("\n"))) + "\n" for each in lines)
    return 0


def _place() -> Place:
    settings = chrono_settings.load()
    if login := chosen(settings):
        return Place(f"chrono_ray at {login.server}", runs=True)
    found = running(settings.data_dir)
    if found is None:
        return Place("chrono_ray does not run here. Start it: chrono up", runs=False)
    what = "for a command" if found.ephemeral else found.api or "without an API"
    return Place(f"chrono_ray runs here (pid {found.pid}), {what}", runs=True)


def _object(report: RunReport, place: Place) -> str:
    return orjson.dumps({**orjson.loads(as_json(report)), "running": place.runs}).decode()


def _lines(
    reports: list[RunReport], budgets: list[Budget], place: Place, *, whole: bool
) -> Iterator[str]:
    yield place.told
    if whole:
        yield from (_whole(report, budgets, place) for report in reports)
        return
    yield from map(_line, reports)
    yield from map(budget_line, budgets)
    if not reports:
        yield "No runs yet. Begin: chrono run iana.org --from 2012 --to 2014"


def _asked(run_id: int | None) -> tuple[list[RunReport], list[Budget]]:
    if c := server():
        from chrono_ray.cli import remote_runs

        with c:
            if run_id is None:
                return remote_runs.newest(c, RUNS_SHOWN), remote_runs.budgets(c)
            return [remote_runs.report(c, run_id)], remote_runs.budgets(c)
    with connected() as settings:
        return asyncio.run(_read(settings, run_id))


async def _read(settings: Settings, run_id: int | None) -> tuple[list[RunReport], list[Budget]]:
    record = wiring.database(settings, pool_size=2, name="chrono status")
    try:
        if run_id is not None:
            reports = [await read_report(record, run_id)]
        else:
            stats, ids = Stats(record), await Projects(record).recent_runs(RUNS_SHOWN)
            found = await stats.found(ids)
            reports = [RunReport(each, await stats.pages(each.run_id)) for each in found]
        return reports, await shown_budgets(wiring.governor(record, settings), settings)
    finally:
        await record.aclose()


def _whole(report: RunReport, budgets: list[Budget], place: Place) -> str:
    """One look shows no rate."""
    if report.progress.state != "active":
        return summary(report)
    now = live_line(report.progress, budgets, None) if place.runs else "nobody here works on it"
    return f"{summary(report)}\n  now: {now}"


def _line(report: RunReport) -> str:
    captures = report.progress.captures
    return (
        f"run {report.progress.run_id:<6} {report.state:<9} {report.progress.url}"
        f" from {report.progress.archive}"
        f"  {captures.discovered - captures.pending:,}/{captures.discovered:,} ended,"
        f" {report.pages.indexed:,} pages searchable"
    )
