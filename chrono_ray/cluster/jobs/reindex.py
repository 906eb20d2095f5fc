"""The reindex job: ask for a fresh index and follow it until it answers.

The indexer does the work, whether this job lives or not; submitted again, it
follows the rebuild that is under way.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from chrono_ray.cluster.jobs.frame import INTERRUPTED, TELL_EVERY, Job, Session, parser, result, say
from chrono_ray.pipeline.rebuild import as_json, exit_code, follow, summary
from chrono_ray.settings import Settings
from chrono_ray.storage.rebuilds import Rebuilds


async def _work(_: None, session: Session) -> int:
    rebuilds = Rebuilds(session.record)
    ended = await follow(
        rebuilds, await rebuilds.request("asked for by a job"), session.stop,
        alive=lambda: True,  # who works is not this process's to know: Ray keeps the actors
        tell=say, every=TELL_EVERY,
    )  # fmt: skip
    code = exit_code(ended)
    say(f"stopped; rebuild {ended.id} goes on" if code == INTERRUPTED else summary(ended))
    result(as_json(ended))
    return code


def _nothing(_: argparse.Namespace, __: Settings) -> None:
    """There is nothing to say wrong."""


JOB: Final = Job(
    "reindex",
    parser(
        "reindex",
        "Build a fresh search index from the record and put it in the live one's place.",
        "Submitted again, it follows the rebuild that is under way.",
    ),
    _nothing,
    _work,
)

if __name__ == "__main__":
    sys.exit(JOB.main())
