"""Runs of a server, as the commands that follow and show runs know them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from types import FrameType
from typing import Final

from chrono_ray.cli.remote_rows import project_id
from chrono_ray.client import Chrono
from chrono_ray.client import answers as a
from chrono_ray.model.errors import ChronoError, NotFound, Unavailable
from chrono_ray.pipeline.follow import INDEX_SECONDS, RATE_WINDOW
from chrono_ray.pipeline.plan import Plan
from chrono_ray.pipeline.report import Rates, RunReport, live_line
from chrono_ray.pipeline.verify import Hole, Recount
from chrono_ray.storage.control import Again, Retried
from chrono_ray.storage.governor import Budget, Kind
from chrono_ray.storage.planning import Estimate, Filter, Gap, Wire, Year
from chrono_ray.storage.projects import Begun, Collection, Goal, RunState
from chrono_ray.storage.stats import CaptureCounts, PageCounts, Progress

LOOK_SECONDS: Final = 1.0
TELL_SECONDS: Final = 5.0
TASK_SECONDS: Final = 300.0
FRESH_SECONDS: Final = 30.0
"""An answer may be so much older than what it tells of."""
EVERYWHERE: Final = "server"


@dataclass(frozen=True, slots=True)
class Left:
    """Ctrl+C: whoever followed is gone, the run goes on."""


def report(c: Chrono, run_id: int) -> RunReport:
    """A run as it is now; the first of a collection stands for all of it."""
    return _report(c, c.runs.get(run_id))


def newest(c: Chrono, count: int) -> list[RunReport]:
    """The newest runs, each alone."""
    return [_alone(c, each) for each in islice(c.runs.list(), count)]


def budgets(c: Chrono) -> list[Budget]:
    """What each archive may be asked, whichever machine of the server asks."""
    return [
        Budget(
            each.archive, Kind(each.kind), EVERYWHERE, each.per_minute or 0,
            each.wait if each.state == "paused" else 0.0, each.reason,
        )
        for each in c.stats.archives().archives
    ]  # fmt: skip


def change(c: Chrono, run_id: int, state: RunState) -> None:
    """Pause, resume or cancel."""
    match state:
        case RunState.PAUSED:
            c.runs.pause(run_id)
        case RunState.ACTIVE:
            c.runs.resume(run_id)
        case RunState.CANCELLED:
            c.runs.cancel(run_id)
        case RunState.PLANNED | RunState.DONE:
            raise AssertionError(f"nobody makes a run {state}")


def retry(c: Chrono, run_id: int, again: Again, *, dry_run: bool) -> Retried:
    """What is tried again, or would be; counted before it is."""
    states, reasons = sorted(again.states), sorted(again.reasons)
    told = c.runs.retry(
        run_id, states=[each.value for each in states], reasons=reasons, force=again.force,
        dry_run=True,
    )  # fmt: skip
    if not isinstance(told, a.RetriedAnswer):
        raise ChronoError("The server did something else than it was asked", code="answer")
    if not dry_run:
        asked = c.runs.retry(
            run_id, states=[each.value for each in states], reasons=reasons, force=again.force
        )
        if isinstance(asked, a.TaskAsked):
            done(c, asked.task)
    return Retried(_by_pair(told.fetches), told.slices, _by_pair(told.withheld))


def start(c: Chrono, run_id: int) -> bool:
    """Fetch what was planned; whether it is paused."""
    return bool(done(c, c.plans.start(run_id).task).result.get("paused"))


def plan(c: Chrono, run_id: int) -> Plan:
    """What a run would do; of one that was paused while it was listed, nothing is told."""
    found, until = c.plans.get(run_id), time.monotonic() + FRESH_SECONDS
    while found.estimate is None and found.state == "active" and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        found = c.plans.get(run_id)
    if found.estimate is None:
        estimate = Estimate({}, (), {}, (), {})
    else:
        estimate = _estimate(found.estimate, _gaps(c, run_id) if found.holes else ())
    return Plan(report(c, run_id), estimate)


def recount(c: Chrono, run_id: int) -> Recount:
    """A run recounted now, by a task of the server."""
    began = done(c, c.runs.certify(run_id).task, timeout=None).started_at
    until = time.monotonic() + FRESH_SECONDS
    found = _certificate(c, run_id)
    while began and (found is None or found.made_at < began) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        found = _certificate(c, run_id)
    if found is None:
        raise Unavailable(f"Run {run_id} has no certificate yet", fix="Ask again")
    return Recount(
        run_id=found.run, slices=found.slices, splits=found.splits, pages_kept=found.pages_kept,
        rows_listed=found.rows_listed, chosen=found.chosen, bad_rows=found.bad_rows,
        known=found.known, repeated=found.repeated, states=found.states,
        holes=[
            Hole(each.slice, each.from_, each.to, each.reason, each.detail) for each in found.holes
        ],
        pages=found.pages, pages_indexed=found.pages_indexed,
        pages_rejected=found.pages_rejected, payloads=found.payloads, faults=list(found.faults),
    )  # fmt: skip


def done(c: Chrono, task_id: int, *, timeout: float | None = TASK_SECONDS) -> a.TaskAnswer:
    """The task when it is done; `ChronoError` when it failed or was cancelled."""
    sys.stderr.write(f"task {task_id}: asked for; somebody there does it\n")
    task = c.tasks.wait(task_id, timeout=timeout)
    if task.state != "done":
        raise ChronoError(f"Task {task_id} {task.state}", why=f"{task.reason}: {task.detail}")
    return task


def begin(c: Chrono, wanted: Collection) -> Begun:
    """Have the server collect or plan this; a project that is not there yet is made."""
    scope = wanted.scope
    subject = c.plans if wanted.goal is Goal.PLAN else c.runs
    told = subject.begin(
        project=project_id(c, str(wanted.project), new=True), url=scope.url,
        match=scope.match.value, from_=scope.start, to=scope.end, archives=wanted.archives,
        since=None if wanted.since is None else wanted.since.days,
    )  # fmt: skip
    return Begun(told.runs, told.joined)


def leave(c: Chrono, what: str, run_id: int, *, stop: bool) -> None:
    """After Ctrl+C: pause it where that was wanted, and say so."""
    if stop:
        c.runs.pause(run_id)
        sys.stderr.write(f"\n{what} {run_id} is paused. Go on: chrono resume {run_id}\n")
    else:
        sys.stderr.write(f"\n{what} {run_id} goes on. See it: chrono status {run_id}\n")


def follow(c: Chrono, run_id: int, *, json: bool) -> RunReport | Left:
    """Until the run has ended and its pages are searchable, or Ctrl+C; telling how it goes."""
    live = sys.stderr.isatty() and not json
    with _interrupted() as stop:
        ended = _Following(c, run_id, stop, live=live).run()
    if live:
        sys.stderr.write("\r\x1b[2K")
    return ended


class _Following:
    def __init__(self, c: Chrono, run_id: int, stop: threading.Event, *, live: bool) -> None:
        self._c = c
        self._run_id = run_id
        self._stop = stop
        self._live = live
        self._told = 0.0
        self._seen: deque[tuple[float, int, dict[str, int]]] = deque(maxlen=1000)

    def run(self) -> RunReport | Left:
        now = report(self._c, self._run_id)
        while now.progress.state == "active":
            self._show(now.progress)
            if self._stop.wait(LOOK_SECONDS):
                return Left()
            now = report(self._c, self._run_id)
        return self._until_indexed(now)

    def _until_indexed(self, now: RunReport) -> RunReport:
        """Wait for the index as long as it moves."""
        ends = time.monotonic() + INDEX_SECONDS
        while now.pages.waiting and time.monotonic() < ends and not self._stop.wait(LOOK_SECONDS):
            before, now = now, report(self._c, self._run_id)
            if now.pages != before.pages:
                ends = time.monotonic() + INDEX_SECONDS
        return now

    def _show(self, progress: Progress) -> None:
        now, captures = time.monotonic(), progress.captures
        self._seen.append((now, captures.discovered - captures.pending, progress.requests))
        while now - self._seen[0][0] > RATE_WINDOW and len(self._seen) > 1:
            self._seen.popleft()
        if now - self._told < (LOOK_SECONDS if self._live else TELL_SECONDS):
            return
        self._told = now
        (began, first, _), (last, ended, _) = self._seen[0], self._seen[-1]
        rate = (ended - first) / (last - began) if last > began else 0.0
        line = live_line(progress, budgets(self._c), Rates(rate, {}))
        sys.stderr.write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Set by Ctrl+C or SIGTERM."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _certificate(c: Chrono, run_id: int) -> a.CertificateAnswer | None:
    try:
        return c.runs.certificate(run_id)
    except NotFound as error:
        if error.code != "no_certificate":
            raise
        return None


def _report(c: Chrono, run: a.RunDetail) -> RunReport:
    state = {"partial": "planned" if run.goal == "plan" else "done"}.get(run.state, run.state)
    progress = Progress(
        run.run, state, run.project, run.url, run.archive, _captures(run.captures),
        asdict(run.requests), run.holes, run.listing, run.seconds, run.created_at,
    )  # fmt: skip
    # what the index refused is not told: a run that is `partial` for nothing else has such pages
    clear = not (run.captures.failed or run.holes)
    refused = run.pages - run.indexed if run.state == "partial" and clear else 0
    pages = PageCounts(run.pages, run.indexed, refused)
    return RunReport(progress, pages, _parts(c, run))


def _parts(c: Chrono, run: a.RunDetail) -> tuple[Progress, ...]:
    """The runs of a collection, most preferred first."""
    if len(run.runs) == 1:
        return ()
    found: dict[int, Progress] = {}
    for each in c.runs.list(domain=run.domain_id):
        if each.run in run.runs:
            found[each.run] = _progress(each)
        if len(found) == len(run.runs):
            break
    return tuple(found[number] for number in run.runs if number in found)


def _alone(c: Chrono, item: a.RunItem) -> RunReport:
    whole = c.runs.get(item.run)
    indexed = min(whole.indexed, item.pages)
    return RunReport(_progress(item), PageCounts(item.pages, indexed, 0))


def _progress(item: a.RunItem) -> Progress:
    return Progress(
        item.run, item.state, item.project, item.url, item.archive, _captures(item.captures),
        asdict(item.requests), item.holes, item.listing, item.seconds, item.created_at,
    )  # fmt: skip


def _captures(told: a.Captures) -> CaptureCounts:
    return CaptureCounts(
        told.discovered, told.stored, told.unchanged, told.known, told.repeated, told.gone,
        told.cancelled, told.skipped, told.refused, told.failed,
    )  # fmt: skip


def _estimate(told: a.EstimateAnswer, holes: tuple[Gap, ...]) -> Estimate:
    return Estimate(
        {name: Wire(each.requests, each.elsewhere, each.bytes, each.without_length)
         for name, each in told.archives.items()},
        tuple(Filter(each.reason, each.rule, each.confidence, each.captures, each.requests)
              for each in told.filters),
        {year: Year(each.captures, each.wanted, each.requests)
         for year, each in told.years.items()},
        holes,
        {name: each.per_minute for name, each in told.archives.items()},
    )  # fmt: skip


def _gaps(c: Chrono, run_id: int) -> tuple[Gap, ...]:
    return tuple(
        Gap(each.archive, each.from_, each.to, each.reason, each.detail)
        for each in c.runs.holes(run_id)
    )


def _by_pair(told: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(state, reason): n for state, each in told.items() for reason, n in each.items()}
