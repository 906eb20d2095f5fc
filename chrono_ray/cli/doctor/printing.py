"""`chrono doctor` as it is typed: examine, print, and an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray.cli.doctor.examine import examine
from chrono_ray.cli.doctor.finding import Finding, Report, Severity
from chrono_ray.cli.remote import only_here
from chrono_ray.model.errors import SettingsError

MARKS = {Severity.PROBLEM: "PROBLEM", Severity.WARNING: "warning", Severity.FINE: "fine"}


def examine_and_print(*, ask_archives: bool, json: bool) -> int:
    """1 with a problem, else 0."""
    _check_here()
    report = asyncio.run(examine(os.environ, ask_archives=ask_archives))
    sys.stdout.write((_json(report) if json else "\n".join(_lines(report))) + "\n")
    return report.exit_code


def _check_here() -> None:
    """It looks at its own machine. Settings that cannot be read are for the doctor to name."""
    try:
        settings = chrono_settings.load()
    except SettingsError:
        return
    only_here(settings)


def _json(report: Report) -> str:
    return orjson.dumps(
        {
            "findings": report.findings,
            "skipped": report.skipped,
            "problems": report.count(Severity.PROBLEM),
            "warnings": report.count(Severity.WARNING),
        }
    ).decode()


def _lines(report: Report) -> Iterator[str]:
    """What is fine first, so that what is not stands last, above the prompt."""
    width = max((len(each.code) for each in report.findings), default=0)
    for severity in reversed(Severity):
        for each in report.findings:
            if each.severity is severity:
                yield from _told(each, width)
    for skipped in report.skipped:
        yield f"not seen  {skipped.check:<{width}}  {skipped.why}"
    problems, warnings = report.count(Severity.PROBLEM), report.count(Severity.WARNING)
    yield f"{problems} problems, {warnings} warnings, {report.count(Severity.FINE)} checks fine"


def _told(finding: Finding, width: int) -> Iterator[str]:
    why = f": {finding.why}" if finding.why else ""
    yield f"{MARKS[finding.severity]:<8}  {finding.code:<{width}}  {finding.what}{why}"
    if finding.fix:
        yield f"{'':<8}  {'':<{width}}  do: {finding.fix}"
