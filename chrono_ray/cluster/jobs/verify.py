"""The verify job: the certificates of many runs, recounted one by one."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from typing import Final

from chrono_ray import wiring
from chrono_ray.cluster.jobs.frame import (
    DONE,
    FAILED,
    Job,
    Session,
    parser,
    result,
    say,
    worst,
)
from chrono_ray.model.bounds import BIG_MAX
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.named import project_named


@dataclass(frozen=True, slots=True)
class Chosen:
    """These runs, and all of this project that have ended."""

    run_ids: tuple[int, ...]
    project: str


async def _work(chosen: Chosen, session: Session) -> int:
    run_ids = [*chosen.run_ids, *await _ended_runs(session.record, chosen.project)]
    codes: list[int] = []
    for number, run_id in enumerate(dict.fromkeys(run_ids), start=1):
        if session.stop.is_set():
            left = " ".join(str(each) for each in run_ids[number - 1 :])
            say(f"stopped; nothing is changed by it. Go on: verify.py {left}")
            break
        recount = await wiring.recounted(session.settings, session.record, run_id)
        word = "adds up" if recount.clean else f"does NOT add up: {len(recount.faults)} faults"
        say(f"{number}/{len(run_ids)} run {run_id}: {word}")
        result({**asdict(recount), "clean": recount.clean})
        codes.append(DONE if recount.clean else FAILED)
    return worst(codes, interrupted=session.stop.is_set())


async def _ended_runs(record: Database, project: str) -> list[int]:
    if not project:
        return []
    rows = await record.fetch(
        "SELECT id FROM runs WHERE project_id = $1 AND state = 'done' ORDER BY id",
        await project_named(record, project),
    )
    if not rows:
        raise NotFound(f"Project {project!r} has no run that has ended")
    return [row["id"] for row in rows]


def _checked(typed: argparse.Namespace, settings: Settings) -> Chosen:  # noqa: ARG001
    if not typed.run and not typed.project:
        raise InvalidInput("There is nothing to verify", fix="Give runs or --project", code="empty")
    if any(not 1 <= each <= BIG_MAX for each in typed.run):
        raise InvalidInput("A run's number is 1 or more", code="run")
    return Chosen(tuple(typed.run), typed.project)


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "verify",
        "Recount runs from what the archive said and from every row.",
        "1 when anything does not add up. It only reads.",
    )
    made.add_argument("run", nargs="*", type=int, help="a run's number")
    made.add_argument("--project", default="", help="all its runs that have ended")
    return made


JOB: Final = Job("verify", _parser(), _checked, _work)

if __name__ == "__main__":
    sys.exit(JOB.main())
