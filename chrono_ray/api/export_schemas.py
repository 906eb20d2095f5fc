"""Exports over the wire: what may be asked, and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, StringConstraints
from pydantic import Field as Rule

from chrono_ray.api.schemas import Answer, Asked
from chrono_ray.api.search_schemas import Date, SearchFilters, Words, span_of
from chrono_ray.model.bounds import BIG_MAX
from chrono_ray.model.task import Export, Form, Part, Subject
from chrono_ray.storage.export_tasks import ExportRow
from chrono_ray.storage.exporting import Wanted
from chrono_ray.storage.tasks import TaskState

URL_CHARS_MAX: Final = 8192
PART_ROWS_LEAST: Final = 1_000
"""Fewer would only make many files."""


def _sayable(text: str) -> str:
    """PostgreSQL knows no NUL, and no URL holds one."""
    if "\0" in text:
        raise ValueError("a NUL character is in no URL")
    return text


After = Annotated[
    int, Rule(ge=0, le=BIG_MAX, description="Go on behind the line of this `id`; 0: from the first")
]
Texts = Annotated[bool, Rule(description="With the texts of the pages")]
Bom = Annotated[bool, Rule(description="Of CSV: begin with a byte order mark, for spreadsheets")]
Run = Annotated[int, Rule(ge=0, le=BIG_MAX, description="Only what this run listed; 0: all")]
DomainUrl = Annotated[
    str, StringConstraints(max_length=URL_CHARS_MAX), AfterValidator(_sayable),
    Rule(description="Only this domain, by the URL it is collected by; empty: all"),
]  # fmt: skip
Start = Annotated[Date, Rule(alias="from", description="Captured in or after")]
End = Annotated[Date, Rule(alias="to", description="Captured in or before its last second")]


class SearchExport(SearchFilters):
    """All that a search finds, by the numbers of the pages."""

    q: Words = ""
    text: Texts = False
    bom: Bom = False
    after: After = 0

    @property
    def words(self) -> str:
        return self.query or self.q


class ProjectExport(Asked):
    """All of a project, or a part of it: by domain, then pages by number, captures by archive
    and key."""

    subject: Subject = Subject.PAGES
    run: Run = 0
    domain: DomainUrl = ""
    start: Start = ""
    end: End = ""
    text: Texts = False
    bom: Bom = False
    after: After = 0

    def wanted(self, project_id: int) -> Wanted:
        """`InvalidInput` for dates that are none."""
        return Wanted(
            project_id, "", self.subject, self.run, self.domain,
            *span_of(self.start, self.end), self.text,
        )  # fmt: skip


class ExportRequest(Asked):
    """What is to be written to files."""

    subject: Subject = Subject.PAGES
    form: Annotated[Form, Rule(description="Parquet is divided by domain and year")] = (
        Form.JSONL_ZSTD
    )
    run: Run = 0
    domain: DomainUrl = ""
    start: Start = ""
    end: End = ""
    rows_per_part: Annotated[
        int, Rule(ge=PART_ROWS_LEAST, le=10_000_000, description="Rows of one file")
    ] = 50_000

    def export(self, project_id: int, to: str) -> Export:
        """`InvalidInput` for dates that are none."""
        return Export(
            "", to, self.subject, self.form, self.run, self.domain,
            *span_of(self.start, self.end), self.rows_per_part, project_id,
        )  # fmt: skip


class ExportAnswer(Answer):
    """An export to files. It is a task, too; `rows`, `parts` and `bytes` are written by now."""

    id: Annotated[int, Rule(description="The task's number")]
    project_id: int
    project: str
    subject: Subject
    form: Form
    state: TaskState
    rows: int
    parts: int
    bytes: int
    reason: str
    detail: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: ExportRow) -> Self:
        return cls(
            id=row.id, project_id=row.project_id, project=row.project, subject=row.subject,
            form=row.form, state=row.state, rows=row.rows, parts=row.parts, bytes=row.bytes,
            reason=row.reason, detail=row.detail, created_at=row.created_at,
            started_at=row.started_at, finished_at=row.finished_at,
        )  # fmt: skip


class ExportsAnswer(Answer):
    """Newest first."""

    items: list[ExportAnswer]
    next: str | None

    @classmethod
    def of(cls, rows: Sequence[ExportRow], following: str | None) -> Self:
        return cls(items=[ExportAnswer.of(row) for row in rows], next=following)


class ExportFile(Answer):
    """A closed file. It is read at `/exports/{id}/files/{name}`."""

    name: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, part: Part) -> Self:
        return cls(name=part.name, rows=part.rows, bytes=part.size, sha256=part.sha256.hex())


class ExportFilesAnswer(Answer):
    """By name. An export that is done has besides them `manifest.json`, which vouches for all."""

    state: TaskState
    items: list[ExportFile]
    next: str | None
