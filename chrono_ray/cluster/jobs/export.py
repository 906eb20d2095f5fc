"""The export job: a project's pages or captures as files, written by this process.

It is a task of the record: stopped or killed, it goes on behind its last
closed part, here or in any scraper.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chrono_ray.cluster.jobs.frame import TELL_EVERY, Job, Session, parser, result, say
from chrono_ray.cluster.jobs.tasks import code_of, last_word, told, work_off
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.targets import target
from chrono_ray.model.task import Export, Form, Subject
from chrono_ray.settings import Settings
from chrono_ray.storage.catalogue import Catalogue
from chrono_ray.storage.projects import check_name


async def _work(task: Export, session: Session) -> int:
    await Catalogue(session.record).project(task.project)  # `NotFound` before there is a task
    ended = await work_off(
        session.settings, session.record, task, session.stop, tell=say, every=TELL_EVERY
    )
    say(last_word(ended))
    result(told(ended))
    return code_of(ended)


def _checked(typed: argparse.Namespace, settings: Settings) -> Export:  # noqa: ARG001
    check_name(typed.project)
    form = Form(typed.form)
    today = Timestamp14.of(datetime.now(UTC))
    # any URL of a scope will do: it is the dates that are read
    scope = target(
        typed.domain or "example.org", match="exact", start=typed.start, end=typed.end, today=today
    )
    to = typed.to if "://" in typed.to else str(Path(typed.to).expanduser().absolute())
    return Export(
        typed.project, to, Subject(typed.subject), form, typed.run,
        scope.url if typed.domain else "", scope.start, scope.end, typed.rows_per_part,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "export",
        "Write a project's pages or captures as files, with a manifest that vouches for each.",
        "Stopped or killed, the same job again goes on behind its last closed file. Rows that are"
        " added while it runs are left out.",
    )
    made.add_argument("--project", required=True, help="whose rows")
    made.add_argument("--to", required=True, help="a folder, or an s3://, gs:// or az:// URL")
    made.add_argument("--subject", default="pages", choices=[each.value for each in Subject])
    made.add_argument(
        "--form", default=Form.JSONL_ZSTD.value, choices=[each.value for each in Form],
        help="parquet is partitioned by domain and year",
    )  # fmt: skip
    made.add_argument("--run", type=int, default=0, help="only what this run listed")
    made.add_argument("--domain", default="", help="only this collected URL, such as iana.org")
    made.add_argument("--from", dest="start", default="", help="year, YYYYMM, YYYY-MM-DD ...")
    made.add_argument("--to-date", dest="end", default="", help="the same; its last second")
    made.add_argument("--rows-per-part", type=int, default=50_000, help="rows in one file")
    return made


JOB: Final = Job("export", _parser(), _checked, _work)

if __name__ == "__main__":
    sys.exit(JOB.main())
