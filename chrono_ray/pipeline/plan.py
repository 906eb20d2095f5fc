"""A plan: what a run would do, told before anything is fetched."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson

from chrono_ray.pipeline.report import RunReport, captures_json, read_report
from chrono_ray.storage.database import Database
from chrono_ray.storage.planning import Estimate, Planning

FILTERS_SHOWN = 20
BAR = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned run, or a collection's, with what each archive's budget makes of it."""

    report: RunReport
    estimate: Estimate

    @property
    def requests(self) -> int:
        return sum(wire.requests for wire in self.estimate.wires.values())

    @property
    def wanted(self) -> int:
        """Captures that have not ended and would be served by these requests."""
        return self.report.progress.captures.pending

    @property
    def deduplicated(self) -> int:
        """Captures that cost no request of their own: another of the same bytes is asked for."""
        elsewhere = sum(wire.elsewhere for wire in self.estimate.wires.values())
        return self.wanted - self.requests - elsewhere

    def hours(self, archive: str) -> float | None:
        """At least so long its budget makes the requests take; None without a limit."""
        rate = self.estimate.per_minute.get(archive, 0)
        return self.estimate.wires[archive].requests / rate / 60 if rate else None


async def read_plan(database: Database, run_id: int) -> Plan:
    """The plan of a run as it is now; the first of a collection stands for all of it."""
    report = await read_report(database, run_id)
    return Plan(report, await Planning(database).estimate(report.run_ids))


def as_json(plan: Plan) -> str:
    """One object on one line (docs/cli.md)."""
    progress, estimate = plan.report.progress, plan.estimate
    archives = {
        name: {**asdict(wire), "per_minute": estimate.per_minute.get(name, 0),
               "hours": _rounded(plan.hours(name))}
        for name, wire in estimate.wires.items()
    }  # fmt: skip
    return orjson.dumps(
        {
            "run": progress.run_id,
            "runs": plan.report.run_ids,
            "state": plan.report.state,
            "captures": captures_json(progress.captures),
            "wanted": plan.wanted,
            "requests": plan.requests,
            "deduplicated": plan.deduplicated,
            "archives": archives,
            "filters": [asdict(each) for each in estimate.filters],
            "years": {year: asdict(each) for year, each in estimate.years.items()},
            "holes": [asdict(each) for each in estimate.holes],
        }
    ).decode()


def summary(plan: Plan) -> str:
    """For a person: what would be fetched, what not and why, how long it takes, how to start it."""
    progress, captures = plan.report.progress, plan.report.progress.captures
    lines = [
        f"Plan {progress.run_id}: {plan.report.state}",
        f"  {progress.url} from {progress.archive}, project {progress.project!r}",
        f"  {captures.discovered:,} captures listed",
        f"    {plan.wanted:>9,} wanted",
        f"    {plan.deduplicated:>9,} of them share the bytes of another",
        f"    {captures.known:>9,} known from an earlier run",
        f"    {captures.repeated:>9,} repeated in the listing",
        f"    {sum(captures.skipped.values()):>9,} skipped",
        *(_wire_line(plan, name) for name in plan.estimate.wires),
        *_filter_lines(plan.estimate),
        *_year_lines(plan.estimate),
        *(f"  HOLE {gap.archive}, {gap.start or 'the beginning'} to {gap.end or 'the end'}:"
          f" {gap.reason}" for gap in plan.estimate.holes),
    ]  # fmt: skip
    if progress.state in ("planned", "active"):
        lines.append(
            f"  fetch it: chrono start {progress.run_id}   drop it: chrono cancel {progress.run_id}"
        )
    return "\n".join(lines)


def _wire_line(plan: Plan, name: str) -> str:
    wire, hours = plan.estimate.wires[name], plan.hours(name)
    unknown = f" and {wire.without_length:,} of unknown length" if wire.without_length else ""
    shared = f", {wire.elsewhere:,} more are queued by other runs" if wire.elsewhere else ""
    time = "no limit" if hours is None else f"at least {_duration(hours)}"
    return (
        f"  {name}: {wire.requests:,} requests, {_size(wire.bytes)} as listed{unknown},"
        f" {time}{shared}"
    )


def _filter_lines(estimate: Estimate) -> list[str]:
    if not estimate.filters:
        return []
    shown = [
        f"    {each.captures:>9,} {each.reason}: {each.rule}"
        f" (confidence {each.confidence:.2g}; without it at most {each.requests:,} requests more)"
        for each in estimate.filters[:FILTERS_SHOWN]
    ]
    rest = len(estimate.filters) - len(shown)
    return ["  skipped by:", *shown, *([f"    and {rest} rules more"] if rest else [])]


def _year_lines(estimate: Estimate) -> list[str]:
    most = max((year.captures for year in estimate.years.values()), default=0)
    return [
        f"  {year} {'#' * max(1, round(BAR * each.captures / most)):<{BAR}}"
        f" {each.captures:,} listed, {each.requests:,} requests"
        for year, each in estimate.years.items()
    ]


def _rounded(hours: float | None) -> float | None:
    return None if hours is None else round(hours, 4)


def _duration(hours: float) -> str:
    if hours < 1.5:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"
