"""Handing a job to the cluster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from chrono_ray.model.budget import Share


class Entry(StrEnum):
    """The jobs there are, by the module that runs each."""

    BULK_SCRAPE = "chrono_ray.cluster.jobs.bulk"
    INGEST_WARC = "chrono_ray.cluster.jobs.ingest"
    VERIFY = "chrono_ray.cluster.jobs.verify"
    EXPORT = "chrono_ray.cluster.jobs.export"
    REINDEX = "chrono_ray.cluster.jobs.reindex"


def submit(
    entry: Entry, arguments: Sequence[str], *, dashboard: str, token: Path, share: Share
) -> str:
    """Returns the submission id. `share` is the budget's `job`.

    RAY_ADDRESS must be unset: Ray's client would prefer it to `dashboard`.
    """
    from ray.job_submission import JobSubmissionClient

    # said outright: Ray reads its token variables once, when it is imported
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
    return str(
        JobSubmissionClient(dashboard, headers=headers).submit_job(
            entrypoint=shlex.join([sys.executable, "-m", entry.value, *arguments]),
            entrypoint_num_cpus=share.num_cpus, entrypoint_memory=share.memory,
            metadata={"chrono": entry.name.lower()},
        )
    )  # fmt: skip
