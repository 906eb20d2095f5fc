"""The ingest job: local WARC, ARC and WACZ files become captures and pages of a project.

Each path is an archive and a run of its own, worked on by this process alone:
only here are the files known to be within reach. Killed, its leases run out,
and the same job again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chrono_ray import wiring
from chrono_ray.cluster.jobs.bulk import Bulk, OnStop, collect, exit_code
from chrono_ray.cluster.jobs.frame import STOP_SECONDS, Job, Session, parser, say, worst
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.settings import Settings
from chrono_ray.storage.exporting import bad_records
from chrono_ray.storage.projects import check_name


@dataclass(frozen=True, slots=True)
class Ingest:
    """Files or folders, each once."""

    paths: tuple[Path, ...]
    project: str


async def _work(wanted: Ingest, session: Session) -> int:
    codes: list[int] = []
    async with _working(wanted, session):
        for path in wanted.paths:
            if session.stop.is_set():
                say(f"stopped before {path}. The same job again goes on")
                break
            codes.append(await _ingest(path, wanted.project, session))
    return worst(codes, interrupted=session.stop.is_set())


async def _ingest(path: Path, project: str, session: Session) -> int:
    archive = wiring.archive_of_path(path)
    scope = Scope(path.as_uri(), MatchType.EXACT)
    bulk = Bulk((scope,), archive, project, OnStop.PAUSE)
    ended = await collect(session.record, bulk, session.stop, egress=session.settings.egress)
    damaged = await bad_records(session.record, project=project, archive=archive)
    for each in damaged:
        say(f"damaged: {path} at {each.place}: {each.reason}")
    return exit_code(ended, bad_lines=len(damaged))


@asynccontextmanager
async def _working(wanted: Ingest, session: Session) -> AsyncIterator[None]:
    """Lists, reads and keeps while entered, then drains."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        parts = await wiring.ingester(
            session.settings, stack, wanted.paths, worker=wiring.worker_name(), drain=STOP_SECONDS
        )
        try:
            async with asyncio.TaskGroup() as group:
                for discoverer in parts.discoverers:
                    group.create_task(discoverer.run(stop))
                group.create_task(parts.scrape.run(stop))
                try:
                    yield
                finally:
                    stop.set()
        except ExceptionGroup as errors:  # of ours there is one: the rest is its cancellation
            raise errors.exceptions[0] from errors


def _checked(typed: argparse.Namespace, settings: Settings) -> Ingest:  # noqa: ARG001
    check_name(typed.project)
    paths = dict.fromkeys(Path(each).expanduser().absolute() for each in typed.path)
    for path in paths:
        if not path.exists():
            raise InvalidInput(f"There is no {path}", fix="Give files or folders", code="path")
    return Ingest(tuple(paths), typed.project)


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "ingest_warc",
        "Make captures and pages of a project from WARC, ARC and WACZ files.",
        "A damaged record is named with its file and offset, the others are kept. Submitted again,"
        " a job goes on with what is not finished; a file that was kept already changes nothing.",
    )
    made.add_argument("path", nargs="+", help="a file, or a folder and all files below it")
    made.add_argument("--project", default="default", help="where the pages are kept together")
    return made


JOB: Final = Job("ingest_warc", _parser(), _checked, _work)

if __name__ == "__main__":
    sys.exit(JOB.main())
