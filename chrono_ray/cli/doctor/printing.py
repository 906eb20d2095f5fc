"""`chrono doctor` as it is typed: examine, print, and an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray.cli.doctor.examine import examine
from chrono_ray.cli.doctor.finding import Finding, Report, Severity, Skipped
from chrono_ray.cli.doctor.threads import Unawaited
from chrono_ray.cli.remote import only_here
from chrono_ray.model.errors import SettingsError
from chrono_ray.observability.log import printable

MARKS = {Severity.PROBLEM: "PROBLEM", Severity.WARNING: "warning", Severity.FINE: "fine"}


def examine_and_print(*, ask_archives: bool, json: bool) -> int:
    """1 with a problem, else 0."""
    _check_here()
    report = asyncio.run(_examined(ask_archives=ask_archives))
    sys.stdout.write((_json(report) if json else "\n".join(_lines(report))) + "\n")
    return report.exit_code


async def _examined(*, ask_archives: bool) -> Report:
    """A thread that hangs, with a network disk that is away, keeps nobody from the report."""
    asyncio.get_running_loop().set_default_executor(Unawaited())
    return await examine(os.environ, ask_archives=ask_archives)


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
        if severity is Severity.FINE:
            yield from _not_seen(report.skipped)
    problems, warnings = report.count(Severity.PROBLEM), report.count(Severity.WARNING)
    yield f"{problems} problems, {warnings} warnings, {report.count(Severity.FINE)} checks fine"


def _not_seen(skipped: Iterable[Skipped]) -> Iterator[str]:
    """Each reason once."""
    reasons: dict[str, list[str]] = {}
    for each in skipped:
        reasons.setdefault(each.why, []).append(each.check)
    for why, checks in reasons.items():
        yield printable(f"not seen  {', '.join(checks)}: {why}")


def _told(finding: Finding, width: int) -> Iterator[str]:
    why = f": {finding.why}" if finding.why else ""
    yield printable(f"{MARKS[finding.severity]:<8}  {finding.code:<{width}}  {finding.what}{why}")
    if finding.fix:
        yield printable(f"{'':<8}  {'':<{width}}  do: {finding.fix}")
