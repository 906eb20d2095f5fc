"""`chrono export`: a project's pages or captures as files in a folder of this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chrono_ray.cli.following import teller
from chrono_ray.cli.remote import server
from chrono_ray.cli.task import asked, do, ended
from chrono_ray.cluster.jobs.tasks import progress_line
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import Conflict, InvalidInput
from chrono_ray.model.targets import target
from chrono_ray.model.task import Export, Form, Subject
from chrono_ray.pipeline.export import MANIFEST
from chrono_ray.storage.catalogue import Catalogue

if TYPE_CHECKING:
    from chrono_ray.client import Chrono

Kind = TypeVar("Kind", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed."""

    project: str
    to: str
    subject: str
    form: str
    domain: str
    start: str
    end: str


def export(wanted: Wanted, *, json: bool) -> int:
    """Write the files; stopped on this machine, the same again goes on behind the last of them."""
    task = _checked(wanted)
    if c := server():
        with c:
            return _export_there(c, task, json=json)
    asked(lambda record: Catalogue(record).project(wanted.project))  # before there is a task
    return do(task, json=json)


def _export_there(c: Chrono, task: Export, *, json: bool) -> int:
    """Written by the server, fetched, and deleted there: it was made for this folder."""
    from chrono_ray.cli import remote_rows

    folder = Path(task.to)
    if (folder / MANIFEST).exists():
        raise Conflict(f"{folder} holds an export already", fix="Choose another folder")
    tell = teller(live=False)
    begun = c.exports.begin(
        remote_rows.project_id(c, task.project), subject=task.subject.value, form=task.form.value,
        domain=task.domain, from_=task.start, to=task.end,
    )  # fmt: skip
    tell(f"task {begun.id}: started")
    row = remote_rows.task(
        c.tasks.wait(begun.id, progress=lambda now: tell(progress_line(remote_rows.task(now))))
    )
    if row.state.value == "done":
        paths = c.exports.download_all(begun.id, folder)
        tell(f"{len(paths)} files fetched")
        c.exports.delete(begun.id)
        row = replace(row, result={"to": task.to, **row.result})
    return ended(row, tell, json=json)


def _checked(wanted: Wanted) -> Export:
    """`InvalidInput` for what cannot be exported so."""
    if "://" in wanted.to:
        raise InvalidInput(
            "Files are written to a folder here", why=f"{wanted.to[:200]!r} is a URL",
            fix="Use jobs/export.py for a bucket (docs/jobs.md)", code="to",
        )  # fmt: skip
    today = Timestamp14.of(datetime.now(UTC))
    # any URL of a scope will do: it is the dates that are read
    scope = target(
        wanted.domain or "example.org", match="exact", start=wanted.start, end=wanted.end,
        today=today,
    )  # fmt: skip
    return Export(
        wanted.project, str(Path(wanted.to).expanduser().absolute()),
        _one(wanted.subject, Subject, "subject"), _one(wanted.form, Form, "form"), 0,
        scope.url if wanted.domain else "", scope.start, scope.end,
    )  # fmt: skip


def _one(word: str, kind: type[Kind], name: str) -> Kind:
    try:
        return kind(word)
    except ValueError:
        raise InvalidInput(
            f"There is no {name} {word[:200]!r}", fix=f"Use {', '.join(kind)}", code=name
        ) from None
