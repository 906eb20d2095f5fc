"""What goes over the wire: requests refuse unknown fields, answers are documented in full."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self, cast

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Rule

from chrono_ray.pipeline.report import RunReport, captures_json
from chrono_ray.storage.visible import Hole

RunStateName = Literal["active", "planned", "paused", "cancelled", "done", "partial"]


class Asked(BaseModel):
    """What a request holds: nothing that is not named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(frozen=True)


class Captures(Answer):
    """The states of a run's listed rows; `discovered` is the sum of the others."""

    discovered: int
    stored: int
    unchanged: int
    known: int
    repeated: int
    skipped: dict[str, int]
    gone: int
    refused: dict[str, int]
    failed: dict[str, int]
    cancelled: int
    pending: int


class Requests(Answer):
    """What went out on the wire for the run, and how much of it was throttled."""

    cdx: int
    replay: int
    throttled: int


class HoleDetail(Answer):
    """A part of the listing that could not be had, and why."""

    slice: int
    start: Annotated[
        str, Rule(serialization_alias="from", description="14 digits; empty: the beginning")
    ]
    end: Annotated[str, Rule(serialization_alias="to", description="14 digits; empty: the end")]
    reason: str
    detail: str

    @classmethod
    def of(cls, hole: Hole) -> Self:
        return cls(
            slice=hole.slice_id, start=hole.start, end=hole.end, reason=hole.reason,
            detail=hole.detail,
        )  # fmt: skip


class RunAnswer(Answer):
    """A run at a moment: what it collects, and how far it is. `seconds` since it was created.

    `state` is `partial` when it is done, but something failed or could not be listed.
    """

    run: int
    runs: Annotated[
        list[int], Rule(description="Of a collection, one an archive, most preferred first")
    ]
    state: RunStateName
    project: str
    url: str
    archive: str
    created_at: datetime
    captures: Captures
    listing: Annotated[int, Rule(description="Parts of the listing still to be walked")]
    holes: int
    hole_details: list[HoleDetail]
    pages: int
    indexed: int
    requests: Requests
    seconds: float

    @classmethod
    def of(cls, report: RunReport, holes: Sequence[Hole]) -> Self:
        progress, counts = report.progress, report.progress.captures
        return cls(
            run=progress.run_id, runs=list(report.run_ids),
            state=cast("RunStateName", report.state),
            project=progress.project, url=progress.url, archive=progress.archive,
            created_at=progress.created_at,
            captures=Captures.model_validate(captures_json(counts)),
            listing=progress.listing, holes=progress.holes,
            hole_details=[HoleDetail.of(each) for each in holes],
            pages=report.pages.pages, indexed=report.pages.indexed,
            requests=Requests(
                cdx=progress.requests.get("cdx", 0), replay=progress.requests.get("replay", 0),
                throttled=progress.requests.get("throttled", 0),
            ),
            seconds=round(progress.seconds, 3),
        )  # fmt: skip


class PartState(Answer):
    """`unused`: not set up; `unknown`: nobody here can tell."""

    state: Literal["ok", "away", "unused", "unknown"]
    milliseconds: float | None = None
    detail: str = ""


class ActorHealth(Answer):
    """An actor's last answer; `done` since it started, `rss` in bytes."""

    state: Literal["ok", "silent"]
    done: int = 0
    in_flight: int = 0
    rss: int = 0


class HealthAnswer(Answer):
    """`down` when the record is away, `degraded` when another part is.

    The rest is told to admins, and to whoever may read the metrics.
    """

    status: Literal["ok", "degraded", "down"]
    version: str | None = None
    parts: dict[str, PartState] | None = None
    actors: dict[str, ActorHealth] | None = None


class FieldError(Answer):
    """One thing wrong with a request; `code` is pydantic's name for the rule."""

    field: str
    code: str
    message: str


class Problem(Answer):
    """RFC 9457. `code` is stable; clients match on it, never on the words."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    fix: str = ""
    request_id: str
    errors: list[FieldError] = []
