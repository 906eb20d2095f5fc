"""A run in words: the summary, the live lines, the one JSON object."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Budget
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.stats import CaptureCounts, PageCounts, Progress, Stats, summed


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run at its end, or a collection's runs summed up: then `runs` are its parts."""

    progress: Progress
    pages: PageCounts
    runs: tuple[Progress, ...] = ()

    @property
    def run_ids(self) -> tuple[int, ...]:
        """Of all its runs, most preferred archive first."""
        return tuple(each.run_id for each in self.runs or (self.progress,))

    @property
    def state(self) -> str:
        """The run's state; `partial`: done, but something failed, is unlisted or not searchable.

        A plan is `partial` when a part of the listing could not be had.
        """
        if self.progress.state == "planned" and self.progress.holes:
            return "partial"
        unfindable = self.pages.rejected or self.pages.waiting
        if self.progress.state == "done" and (
            self.progress.captures.failed or self.progress.holes or unfindable
        ):
            return "partial"
        return self.progress.state

    @property
    def exit_code(self) -> int:
        """0 done or planned; 3 partial, or somebody paused or cancelled it; 1 still at work."""
        return {"done": 0, "planned": 0, "active": 1}.get(self.state, 3)


async def read_report(database: Database, run_id: int) -> RunReport:
    """A run as it is now; the first of a collection stands for all of it. `NotFound` for none."""
    stats, ids = Stats(database), await Projects(database).together(run_id)
    parts = await stats.of_runs(ids)
    return RunReport(summed(parts), await stats.pages(*ids), parts if len(parts) > 1 else ())


def as_json(report: RunReport) -> str:
    """One object on one line; its form is stable (docs/cli.md)."""
    requests = report.progress.requests
    return orjson.dumps(
        {
            "run": report.progress.run_id,
            "runs": report.run_ids,
            "state": report.state,
            "captures": captures_json(report.progress.captures),
            "holes": report.progress.holes,
            "pages": report.pages.pages,
            "indexed": report.pages.indexed,
            "requests": {name: requests.get(name, 0) for name in ("cdx", "replay", "throttled")},
            "seconds": round(report.progress.seconds, 3),
        }
    ).decode()


def captures_json(counts: CaptureCounts) -> dict[str, int | dict[str, int]]:
    """The states of a run's captures; `discovered` is the sum of the rest."""
    return {
        "discovered": counts.discovered, "stored": counts.stored, "unchanged": counts.unchanged,
        "known": counts.known, "repeated": counts.repeated, "skipped": counts.skipped,
        "gone": counts.gone, "refused": counts.refused, "failed": counts.failed,
        "cancelled": counts.cancelled, "pending": counts.pending,
    }  # fmt: skip


def summary(report: RunReport) -> str:
    """For a person: what was found, what became of it, what to do next."""
    progress, captures = report.progress, report.progress.captures
    lines = [
        f"Run {progress.run_id}: {report.state}, {progress.seconds:.1f} s",
        f"  {progress.url} from {progress.archive}, project {progress.project!r}",
        *(_part(each) for each in report.runs),
        f"  {captures.discovered:,} captures listed:",
        *(f"    {n:>9,} {label}" for label, n in _states(captures) if n),
        f"  {report.pages.pages:,} pages, {report.pages.indexed:,} searchable",
        "  requests: "
        + ", ".join(f"{progress.requests.get(k, 0):,} {k}" for k in ("cdx", "replay", "throttled")),
    ]
    if progress.holes:
        lines.append(f"  {progress.holes} holes: parts of the listing could not be had")
    if progress.state == "planned":
        lines.append(f"  nothing is fetched yet. Fetch it: chrono start {progress.run_id}")
    else:
        lines.append(f"  check it: chrono verify {progress.run_id}")
    return "\n".join(lines)


def _part(progress: Progress) -> str:
    captures = progress.captures
    holes = f", {progress.holes} holes" if progress.holes else ""
    return (
        f"    run {progress.run_id}, {progress.archive}: {progress.state},"
        f" {captures.discovered:,} listed, {captures.stored:,} stored{holes}"
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """What the last seconds showed: captures ended per second, requests sent in the last minute."""

    ended: float
    sent: dict[str, int]


def live_line(progress: Progress, budgets: list[Budget], rates: Rates | None) -> str:
    """One line while it runs: states, rate, budget left, why it waits, when it may be done.

    Without `rates`, which one look does not show, what hangs on them is left out.
    """
    rate = rates.ended if rates else 0.0
    captures = progress.captures
    ended = captures.discovered - captures.pending
    parts = [
        f"{ended:,}/{captures.discovered:,} ended",
        f"{captures.stored:,} stored",
        f"{captures.unchanged:,} unchanged",
        f"{sum(captures.skipped.values()):,} skipped",
    ]
    if captures.failed:
        parts.append(f"{sum(captures.failed.values()):,} failed")
    if rates:
        parts.append(f"{rate:.1f}/s")
    parts.append(_waiting(progress, budgets, rates))
    if rate > 0 and captures.pending and not progress.listing:
        parts.append(f"about {_duration(captures.pending / rate)} left")
    return " · ".join(part for part in parts if part)


def _waiting(progress: Progress, budgets: list[Budget], rates: Rates | None) -> str:
    ours = [each for each in budgets if each.archive in progress.archives]
    for each in ours:
        if each.paused_seconds > 0:
            return f"{each.archive} silent for {each.paused_seconds:.0f} s ({each.pause_reason})"
    if progress.put_off and not progress.captures.pending:
        again = _duration(progress.put_off.seconds)
        return f"the listing is asked for again in {again} ({progress.put_off.reason})"
    if rates is None:
        return _step(progress)
    left = [
        f"{max(b.per_minute - rates.sent.get(b.kind, 0), 0)} of {b.per_minute} {b.kind}s"
        for b in ours
        if b.per_minute
    ]
    return f"{_step(progress)}, left this minute: {', '.join(left) or 'no limit'}"


def _step(progress: Progress) -> str:
    if progress.listing and not progress.put_off:
        return "listing"
    return "fetching" if progress.captures.pending else "indexing"


def _states(captures: CaptureCounts) -> list[tuple[str, int]]:
    return [
        ("stored", captures.stored),
        ("unchanged (the same bytes as a stored one)", captures.unchanged),
        ("known from an earlier run", captures.known),
        ("repeated in the listing", captures.repeated),
        *((f"skipped: {reason}", n) for reason, n in captures.skipped.items()),
        ("gone from the archive", captures.gone),
        *((f"refused: {reason}", n) for reason, n in captures.refused.items()),
        *((f"failed: {reason}", n) for reason, n in captures.failed.items()),
        ("cancelled", captures.cancelled),
        ("pending", captures.pending),
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
