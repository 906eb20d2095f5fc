"""The bulk job: create the runs of a whole list, follow them to their end, end honestly.

A job leases nothing: the scrapers work on its runs whether it lives or not. So
stopping it loses nothing, and the same job submitted again goes on where the
first one stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from chrono_ray import wiring
from chrono_ray.cluster.jobs.frame import (
    DONE,
    PARTIAL,
    TELL_EVERY,
    Job,
    Session,
    parser,
    result,
    say,
    worst,
)
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import Conflict, InvalidInput
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.targets import BadLine, Line, parse_list, target
from chrono_ray.pipeline.follow import Interrupted, follow
from chrono_ray.pipeline.report import RunReport, as_json
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Collection, Projects, RunState, check_name

CHUNK: Final = 64 * 1024


class OnStop(StrEnum):
    """What stopping the job means for its runs: nothing is fetched any more, or they go on."""

    PAUSE = "pause"
    DETACH = "detach"


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a job collects. Scopes are checked; the same one twice is one run.

    `bad_lines` of its list never became any.
    """

    scopes: tuple[Scope, ...]
    archive: str
    project: str
    on_stop: OnStop
    bad_lines: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job's runs."""

    codes: tuple[int, ...]
    interrupted: bool


def exit_code(ended: Ended, *, bad_lines: int) -> int:
    """0 all done, 3 done with something failed, unlisted or unread, 1 otherwise."""
    codes = (*ended.codes, *([PARTIAL] if bad_lines else []))
    return worst(codes, interrupted=ended.interrupted)


async def collect(database: Database, bulk: Bulk, stop: asyncio.Event, *, egress: str) -> Ended:
    """Start what is not under way, then follow each run in turn until all ended, or `stop`."""
    job = _Runs(database, bulk, stop, egress=egress)
    await job.start()
    codes = await job.follow()
    if stop.is_set():
        await job.stop()
    return Ended(tuple(codes), interrupted=len(codes) < len(bulk.scopes))


class _Runs:
    def __init__(self, database: Database, bulk: Bulk, stop: asyncio.Event, *, egress: str) -> None:
        self._database = database
        self._projects = Projects(database)
        self._bulk = bulk
        self._stop = stop
        self._egress = egress
        self._runs: list[int] = []

    async def start(self) -> None:
        """A run that was not finished is gone on with: its captures are its own to fetch."""
        bulk = self._bulk
        for scope in bulk.scopes:
            if self._stop.is_set():
                return
            begun = await self._projects.begin(Collection(scope, bulk.project, (bulk.archive,)))
            self._runs.append(begun.run_ids[0])
            how = "goes on" if begun.joined else "started"
            say(f"run {begun.run_ids[0]}: {how}, {scope.url} ({scope.match}) from {bulk.archive}")

    async def follow(self) -> list[int]:
        codes: list[int] = []
        for number, run_id in enumerate(self._runs, start=1):
            ended = await self._follow_one(run_id, f"{number}/{len(self._runs)} run {run_id}: ")
            if isinstance(ended, Interrupted):
                break
            result(as_json(ended))
            codes.append(ended.exit_code)
        return codes

    async def _follow_one(self, run_id: int, prefix: str) -> RunReport | Interrupted:
        return await follow(
            self._database, run_id, self._stop, egress=self._egress,
            alive=lambda: True,  # who works is not this process's to know: Ray keeps the actors
            tell=lambda line: say(prefix + line), every=TELL_EVERY,
        )  # fmt: skip

    async def stop(self) -> None:
        """Within the three seconds that Ray leaves between SIGTERM and SIGKILL."""
        if self._bulk.on_stop is OnStop.DETACH:
            say("stopped; the runs go on")
            return
        for run_id in self._runs:
            with suppress(Conflict):  # it has ended
                await self._projects.change(run_id, RunState.PAUSED)
        say("stopped; the runs are paused. The same job again goes on with them")


async def _work(bulk: Bulk, session: Session) -> int:
    ended = await collect(session.record, bulk, session.stop, egress=session.settings.egress)
    say(
        f"{len(ended.codes)} of {len(bulk.scopes)} runs ended, {ended.codes.count(DONE)} without"
        f" a failure; {bulk.bad_lines} bad lines"
    )
    return exit_code(ended, bad_lines=bulk.bad_lines)


def _checked(typed: argparse.Namespace, settings: Settings) -> Bulk:
    """The job; `InvalidInput` when nothing is left to do."""
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
                say(f"line {line.number}: {line.code}: {line.message} ({line.text!r})")
            else:
                scopes.append(line.scope)
    if not scopes:
        raise InvalidInput(
            "There is nothing to collect", fix="Give --url or --list with a good line", code="empty"
        )
    unique = tuple(dict.fromkeys(scopes))
    return Bulk(unique, typed.archive, typed.project, OnStop(typed.on_stop), bad_lines)


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
    made = parser(
        "bulk_scrape",
        "Collect the archived history of many sites and follow it to the end.",
        "Submitted again, a job goes on with the runs that are not finished.",
    )
    made.add_argument("--url", action="append", default=[], help="a URL or domain; repeatable")
    made.add_argument("--list", metavar="FILE", help="one `URL [match] [from [to]]` a line")
    made.add_argument("--match", default="domain", choices=[each.value for each in MatchType])
    made.add_argument("--from", dest="start", default="", help="year, YYYYMM, YYYY-MM-DD ...")
    made.add_argument("--to", dest="end", default="", help="the same; its last second")
    made.add_argument("--archive", default="wayback", help="wayback, commoncrawl, pywb or warc")
    made.add_argument("--project", default="default", help="where the pages are kept together")
    made.add_argument(
        "--on-stop", default=OnStop.PAUSE.value, choices=[each.value for each in OnStop],
        help="what stopping the job does to its runs",
    )  # fmt: skip
    return made


JOB: Final = Job("bulk_scrape", _parser(), _checked, _work)

if __name__ == "__main__":
    sys.exit(JOB.main())
