"""`chrono status`: what runs, how far it is, what it waits for."""

from __future__ import annotations

import asyncio
import sys

from chrono_ray import wiring
from chrono_ray.cli.archive import budget_line, shown_budgets
from chrono_ray.cli.machine import connected
from chrono_ray.cli.remote import server
from chrono_ray.pipeline.report import (
    Rates,
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


def print_status(run_id: int | None, *, json: bool) -> int:
    """One run in full, or the newest in a line each."""
    reports, budgets = _asked(run_id)
    if json:
        sys.stdout.writelines(as_json(report) + "\n" for report in reports)
    elif run_id is not None:
        sys.stdout.writelines(_whole(report, budgets) + "\n" for report in reports)
    else:
        sys.stdout.writelines(_line(report) + "\n" for report in reports)
        sys.stdout.writelines(budget_line(budget) + "\n" for budget in budgets)
        if not reports:
            sys.stdout.write("No runs yet. Begin: chrono run iana.org --from 2012 --to 2014\n")
    return 0


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


def _whole(report: RunReport, budgets: list[Budget]) -> str:
    if report.progress.state == "active":
        return summary(report) + "\n  now: " + live_line(report.progress, budgets, Rates(0.0, {}))
    return summary(report)


def _line(report: RunReport) -> str:
    captures = report.progress.captures
    return (
        f"run {report.progress.run_id:<6} {report.state:<9} {report.progress.url}"
        f" from {report.progress.archive}"
        f"  {captures.discovered - captures.pending:,}/{captures.discovered:,} ended,"
        f" {report.pages.indexed:,} pages searchable"
    )
