"""The bulk job: create the runs of a whole list, follow them to their end, end honestly.

A job leases nothing: the scrapers work on its runs whether it lives or not. So
stopping it loses nothing, and the same job submitted again goes on where the
first one stopped. This module runs without Ray; only `submit` speaks to it.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.owner import attached_here
from chrono_ray.model.budget import Share
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import ChronoError, Conflict, InvalidInput, SettingsError
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.targets import BadLine, Line, parse_list, target
from chrono_ray.pipeline.follow import Interrupted, follow
from chrono_ray.pipeline.report import RunReport, as_json
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects, RunState, check_name

DONE, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
TELL_EVERY: Final = 5.0
CHUNK: Final = 64 * 1024


class OnStop(StrEnum):
    """What stopping the job means for its runs: nothing is fetched any more, or they go on."""

    PAUSE = "pause"
    DETACH = "detach"


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a job collects. Scopes are checked; the same one twice is one run."""

    scopes: tuple[Scope, ...]
    archive: str
    project: str
    on_stop: OnStop


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job's runs; `bad_lines` never became any."""

    codes: tuple[int, ...]
    bad_lines: int
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 all done, 3 done with something failed, unlisted or unread, 1 otherwise."""
        if self.interrupted:
            return INTERRUPTED
        if FAILED in self.codes:
            return FAILED
        return PARTIAL if PARTIAL in self.codes or self.bad_lines else DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """`python jobs/bulk_scrape.py ...`: 0 done, 1 failed, 2 usage, 3 partial, 130 stopped."""
    typed = _parser().parse_args(arguments)
    try:
        settings = attached_here(chrono_settings.load())
        bulk, bad_lines = _checked(typed, settings)
        return asyncio.run(_main(bulk, settings, bad_lines=bad_lines))
    except (InvalidInput, SettingsError) as error:
        _say(f"bulk_scrape: {error}")
        return USAGE
    except ChronoError as error:
        _say(f"bulk_scrape: {error}")
        return FAILED


def submit(arguments: Sequence[str], *, dashboard: str, token: Path, share: Share) -> str:
    """Hand a bulk job to the cluster; returns its submission id. `share` is the budget's `job`.

    RAY_ADDRESS must be unset: Ray's client would prefer it to `dashboard`.
    """
    from ray.job_submission import JobSubmissionClient

    # said outright: Ray reads its token variables once, when it is imported
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
    return str(
        JobSubmissionClient(dashboard, headers=headers).submit_job(
            entrypoint=shlex.join([sys.executable, "-m", "chrono_ray.cluster.jobs", *arguments]),
            entrypoint_num_cpus=share.num_cpus, entrypoint_memory=share.memory,
            metadata={"chrono": "bulk_scrape"},
        )
    )  # fmt: skip


async def collect(database: Database, bulk: Bulk, stop: asyncio.Event, *, egress: str) -> Ended:
    """Start what is not under way, then follow each run in turn until all ended, or `stop`."""
    job = _Job(database, bulk, stop, egress=egress)
    await job.start()
    codes = await job.follow()
    if stop.is_set():
        await job.stop()
    return Ended(tuple(codes), 0, interrupted=len(codes) < len(bulk.scopes))


class _Job:
    def __init__(self, database: Database, bulk: Bulk, stop: asyncio.Event, *, egress: str) -> None:
        self._database = database
        self._projects = Projects(database)
        self._bulk = bulk
        self._stop = stop
        self._egress = egress
        self._runs: list[int] = []

    async def start(self) -> None:
        for scope in self._bulk.scopes:
            if self._stop.is_set():
                return
            run_id, how = await self._run_of(scope)
            self._runs.append(run_id)
            _say(f"run {run_id}: {how}, {scope.url} ({scope.match}) from {self._bulk.archive}")

    async def _run_of(self, scope: Scope) -> tuple[int, str]:
        """A run that was not finished is gone on with: its captures are its own to fetch."""
        project, archive = self._bulk.project, self._bulk.archive
        found = await self._projects.unfinished(scope, project=project, archive=archive)
        if found is not None:
            # it may have ended between our look and now: then it is done, and told as such
            with suppress(Conflict):
                await self._projects.change(found, RunState.ACTIVE)
            return found, "goes on"
        run_id = await self._projects.start_run(
            scope, project=project, archive=archive, queue_class=QueueClass.SCRAPING
        )
        return run_id, "started"

    async def follow(self) -> list[int]:
        codes: list[int] = []
        for number, run_id in enumerate(self._runs, start=1):
            ended = await self._follow_one(run_id, f"{number}/{len(self._runs)} run {run_id}: ")
            if isinstance(ended, Interrupted):
                break
            sys.stdout.write(as_json(ended) + "\n")
            sys.stdout.flush()
            codes.append(ended.exit_code)
        return codes

    async def _follow_one(self, run_id: int, prefix: str) -> RunReport | Interrupted:
        return await follow(
            self._database, run_id, self._stop, egress=self._egress,
            alive=lambda: True,  # who works is not this process's to know: Ray keeps the actors
            tell=lambda line: _say(prefix + line), every=TELL_EVERY,
        )  # fmt: skip

    async def stop(self) -> None:
        """Within the three seconds that Ray leaves between SIGTERM and SIGKILL."""
        if self._bulk.on_stop is OnStop.DETACH:
            _say("stopped; the runs go on")
            return
        for run_id in self._runs:
            with suppress(Conflict):  # it has ended
                await self._projects.change(run_id, RunState.PAUSED)
        _say("stopped; the runs are paused. The same job again goes on with them")


async def _main(bulk: Bulk, settings: Settings, *, bad_lines: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    record = wiring.database(settings, pool_size=2, name="chrono bulk_scrape")
    try:
        ended = await collect(record, bulk, stop, egress=settings.egress)
    finally:
        await record.aclose()
    whole = Ended(ended.codes, bad_lines, ended.interrupted)
    _say(
        f"{len(ended.codes)} of {len(bulk.scopes)} runs ended, {ended.codes.count(DONE)} without"
        f" a failure; {bad_lines} bad lines"
    )
    return whole.exit_code


def _checked(typed: argparse.Namespace, settings: Settings) -> tuple[Bulk, int]:
    """The job and how many lines of the list are bad; `InvalidInput` when nothing is left to do."""
    wiring.check_archive(typed.archive, settings)
    check_name(typed.project)
    today = Timestamp14.of(datetime.now(UTC))
    scopes = [
        target(url, match=typed.match, start=typed.start, end=typed.end, today=today)
        for url in typed.url
    ]
    bad_lines = 0
    if typed.list is not None:
        for line in _lines(typed, today):
            if isinstance(line, BadLine):
                bad_lines += 1
                _say(f"line {line.number}: {line.code}: {line.message} ({line.text!r})")
            else:
                scopes.append(line.scope)
    if not scopes:
        raise InvalidInput(
            "There is nothing to collect", fix="Give --url or --list with a good line", code="empty"
        )
    unique = tuple(dict.fromkeys(scopes))
    return Bulk(unique, typed.archive, typed.project, OnStop(typed.on_stop)), bad_lines


def _lines(typed: argparse.Namespace, today: Timestamp14) -> Iterator[Line | BadLine]:
    try:
        with Path(typed.list).open("rb") as file:
            chunks: Iterable[bytes] = iter(lambda: file.read(CHUNK), b"")
            yield from parse_list(
                chunks, match=typed.match, start=typed.start, end=typed.end, today=today
            )
    except OSError as error:
        raise InvalidInput(
            f"The list {typed.list} cannot be read", why=error.strerror or "", code="list"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bulk_scrape.py",
        description="Collect the archived history of many sites and follow it to the end.",
        epilog="Progress goes to stderr, one JSON object per ended run to stdout. Exit codes:"
        " 0 done, 1 failed, 2 usage, 3 partial, 130 stopped. Submitted again, a job goes on"
        " with the runs that are not finished.",
    )
    parser.add_argument("--url", action="append", default=[], help="a URL or domain; repeatable")
    parser.add_argument("--list", metavar="FILE", help="one `URL [match] [from [to]]` a line")
    parser.add_argument("--match", default="domain", choices=[each.value for each in MatchType])
    parser.add_argument("--from", dest="start", default="", help="year, YYYYMM, YYYY-MM-DD ...")
    parser.add_argument("--to", dest="end", default="", help="the same; its last second")
    parser.add_argument("--archive", default="wayback", help="wayback, commoncrawl, pywb or warc")
    parser.add_argument("--project", default="default", help="where the pages are kept together")
    parser.add_argument(
        "--on-stop", default=OnStop.PAUSE.value, choices=[each.value for each in OnStop],
        help="what stopping the job does to its runs",
    )  # fmt: skip
    return parser


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
