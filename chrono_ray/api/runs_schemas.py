"""Runs, plans and schedules as they go over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self, cast

import orjson
from pydantic import ConfigDict, StringConstraints, model_validator
from pydantic import Field as Rule

from chrono_ray.api.schemas import (
    Answer,
    Asked,
    Captures,
    HoleDetail,
    Requests,
    RunAnswer,
    RunStateName,
)
from chrono_ray.api.search_schemas import Date
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.model.memento import MatchType
from chrono_ray.model.priority import QueueClass
from chrono_ray.pipeline.plan import Plan
from chrono_ray.pipeline.report import RunReport, captures_json
from chrono_ray.storage.control import Retried, Retryable
from chrono_ray.storage.planning import Filter, Wire, Year
from chrono_ray.storage.projects import OVERLAP_MOST, Goal, RunState
from chrono_ray.storage.schedules import LEAST, MOST, Schedule
from chrono_ray.storage.stats import summed
from chrono_ray.storage.visible import ArchiveHole, KeptCertificate, ListedRun, SeenRun

ARCHIVES_MOST: Final = 10
URL_SHOWN_MAX: Final = 10_000
ProjectId = Annotated[int, Rule(ge=1, le=INT_MAX)]
ArchiveName = Annotated[
    str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Reason = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,100}$")]
Url = Annotated[str, StringConstraints(max_length=URL_SHOWN_MAX)]
Days = Annotated[
    int,
    Rule(
        ge=0, le=OVERLAP_MOST.days,
        description="Only what each archive has added since the newest that finished runs listed, "
        "less so many days; null: everything",
    ),
]  # fmt: skip
Stamp = Annotated[str, Rule(description="14 digits; empty: as far as the archive goes")]
Seconds = Annotated[
    int, Rule(ge=int(LEAST.total_seconds()), le=int(MOST.total_seconds()), description="Seconds")
]
PlaceName = Literal["now", "high", "normal", "low"]


class CollectionRequest(Asked):
    """What to collect: a URL, how it matches, from when to when, and from which archives.

    Dates are a year, YYYYMM, YYYY-MM-DD or up to 14 digits; a short `to` is its last second.
    Archives come most preferred first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    project: ProjectId
    url: Url
    match: MatchType = MatchType.DOMAIN
    start: Annotated[Date, Rule(alias="from")] = ""
    end: Annotated[Date, Rule(alias="to")] = ""
    archives: Annotated[
        list[ArchiveName],
        Rule(default_factory=lambda: ["wayback"], min_length=1, max_length=ARCHIVES_MOST),
    ]
    queue_class: Annotated[QueueClass, Rule(alias="class")] = QueueClass.SCRAPING
    since: Days | None = None


class BegunAnswer(Answer):
    """A collection's runs, one an archive, most preferred first; `run` stands for all of them.

    `joined`: exactly this was under way already, and goes on.
    """

    run: int
    runs: list[int]
    joined: bool


class RunDetail(RunAnswer):
    """A run and what it is about. `first` stands for its collection, or is the run itself.

    `hole_details` are its first hundred holes: `/holes` lists them all.
    """

    first: int
    project_id: int
    domain_id: int
    match: MatchType
    start: Annotated[Stamp, Rule(serialization_alias="from")]
    end: Annotated[Stamp, Rule(serialization_alias="to")]
    queue_class: Annotated[QueueClass, Rule(serialization_alias="class")]
    goal: Goal
    finished_at: datetime | None

    @classmethod
    def of_seen(cls, seen: SeenRun) -> Self:
        report = report_of(seen)
        place, shown = seen.place, RunAnswer.of(report, seen.holes)
        return cls(
            **dict(shown), first=place.first, project_id=place.project_id,
            domain_id=place.domain_id, match=place.scope.match, start=place.scope.start,
            end=place.scope.end, queue_class=place.queue_class, goal=place.goal,
            finished_at=place.finished_at,
        )  # fmt: skip


def report_of(seen: SeenRun) -> RunReport:
    """The report that the command line shows of it."""
    return RunReport(summed(seen.parts), seen.pages, seen.parts if len(seen.parts) > 1 else ())


class RunItem(Answer):
    """One run of a list, alone. `first` stands for its collection, or is the run itself."""

    run: int
    first: int
    state: RunState
    project: str
    project_id: int
    domain_id: int
    url: str
    match: MatchType
    archive: str
    start: Annotated[Stamp, Rule(serialization_alias="from")]
    end: Annotated[Stamp, Rule(serialization_alias="to")]
    queue_class: Annotated[QueueClass, Rule(serialization_alias="class")]
    goal: Goal
    created_at: datetime
    finished_at: datetime | None
    captures: Captures
    listing: Annotated[int, Rule(description="Parts of the listing still to be walked")]
    holes: int
    pages: int
    requests: Requests
    seconds: float

    @classmethod
    def of(cls, listed: ListedRun) -> Self:
        progress, place = listed.progress, listed.place
        return cls(
            run=progress.run_id, first=place.first, state=RunState(progress.state),
            project=progress.project, project_id=place.project_id, domain_id=place.domain_id,
            url=progress.url, match=place.scope.match, archive=progress.archive,
            start=place.scope.start, end=place.scope.end, queue_class=place.queue_class,
            goal=place.goal, created_at=progress.created_at, finished_at=place.finished_at,
            captures=Captures.model_validate(captures_json(progress.captures)),
            listing=progress.listing, holes=progress.holes, pages=listed.pages,
            requests=Requests(
                cdx=progress.requests.get("cdx", 0), replay=progress.requests.get("replay", 0),
                throttled=progress.requests.get("throttled", 0),
            ),
            seconds=round(progress.seconds, 3),
        )  # fmt: skip


class RunsAnswer(Answer):
    """Newest first; `next` goes on."""

    items: list[RunItem]
    next: str | None


class HoleItem(HoleDetail):
    """A hole, and in which archive's listing it is."""

    archive: str

    @classmethod
    def of_archive(cls, found: ArchiveHole) -> Self:
        return cls(**dict(HoleDetail.of(found.hole)), archive=found.archive)


class HolesAnswer(Answer):
    """In the order they were listed; `next` goes on."""

    items: list[HoleItem]
    next: str | None


class ChangedAnswer(Answer):
    """The runs that are meant, and the state of the first of them."""

    run: int
    runs: list[int]
    state: RunState


class RetryRequest(Asked):
    """What is to be tried again: payloads that ended so, and `hole`: parts of the listing.

    No `reasons` are all of them. What ended for its own bytes is asked again only by `force`.
    """

    states: Annotated[
        list[Retryable],
        Rule(
            default_factory=lambda: [Retryable.FAILED, Retryable.HOLE],
            min_length=1, max_length=len(Retryable), description="failed and hole unless given",
        ),
    ]  # fmt: skip
    reasons: Annotated[list[Reason], Rule(default_factory=list, max_length=100)]
    force: bool = False
    dry_run: bool = False


class RetriedAnswer(Answer):
    """What would be tried again, by state and reason; `withheld`: only by `force`."""

    run: int
    fetches: dict[str, dict[str, int]]
    slices: int
    withheld: dict[str, dict[str, int]]

    @classmethod
    def of(cls, run_id: int, told: Retried) -> Self:
        return cls(
            run=run_id, fetches=_by_state(told.fetches), slices=told.slices,
            withheld=_by_state(told.withheld),
        )  # fmt: skip


class PriorityRequest(Asked):
    """Either the queue class of a run, or the place of waiting captures inside it.

    Captures of a `url` and a span of time; without a `url` all of that time. `dry_run` counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    queue_class: Annotated[QueueClass | None, Rule(alias="class")] = None
    captures: PlaceName | None = None
    url: Url = ""
    match: MatchType = MatchType.PREFIX
    start: Annotated[Date, Rule(alias="from")] = ""
    end: Annotated[Date, Rule(alias="to")] = ""
    dry_run: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.queue_class is None) == (self.captures is None):
            raise ValueError("give either class or captures")
        if self.queue_class and (self.url or self.start or self.end or self.dry_run):
            raise ValueError("a class is the whole run's: leave out url, from, to and dry_run")
        return self


class ClassAnswer(Answer):
    """The runs that are meant, and their class now."""

    run: int
    runs: list[int]
    queue_class: Annotated[QueueClass, Rule(serialization_alias="class")]


class MovedAnswer(Answer):
    """How many waiting payloads would get another place."""

    run: int
    moved: int


class TaskAsked(Answer):
    """The task that does it: `GET /tasks/{task}` tells how far it is.

    `joined`: exactly this was asked for and not finished.
    """

    task: int
    joined: bool


class CertifiedHole(HoleDetail):
    """A part of the listing that could not be had."""


class CertificateAnswer(Answer):
    """A run recounted from what the archive said and from every row, at that moment.

    `clean` when everything adds up; `faults` are the first thousand of `fault_count`.
    """

    run: int
    made_at: datetime
    clean: bool
    slices: int
    splits: int
    pages_kept: int
    rows_listed: int
    chosen: int
    bad_rows: int
    known: int
    repeated: int
    states: dict[str, dict[str, int]]
    holes: list[CertifiedHole]
    pages: int
    pages_indexed: int
    pages_rejected: int
    payloads: int
    faults: list[str]
    fault_count: int

    @classmethod
    def of(cls, kept: KeptCertificate) -> Self:
        said = orjson.loads(kept.body)
        holes = [{**each, "slice": each["slice_id"]} for each in said["holes"]]
        return cls.model_validate(
            {**said, "run": said["run_id"], "holes": holes, "made_at": kept.made_at}
        )


class WireAnswer(Answer):
    """What would be asked of one archive. `hours`: its budget takes at least so long, if any."""

    requests: int
    elsewhere: Annotated[int, Rule(description="Payloads that another run at work brings anyway")]
    bytes: Annotated[int, Rule(description="As the archive lists them")]
    without_length: int
    per_minute: Annotated[int, Rule(description="Replays; 0 is no limit")]
    hours: float | None

    @classmethod
    def of(cls, wire: Wire, plan: Plan, name: str) -> Self:
        hours = plan.hours(name)
        return cls(
            requests=wire.requests, elsewhere=wire.elsewhere, bytes=wire.bytes,
            without_length=wire.without_length,
            per_minute=plan.estimate.per_minute.get(name, 0),
            hours=None if hours is None else round(hours, 4),
        )  # fmt: skip


class FilterAnswer(Answer):
    """What one rule leaves out; `requests`: at most so many more there would be without it."""

    reason: str
    rule: str
    confidence: float
    captures: int
    requests: int

    @classmethod
    def of(cls, found: Filter) -> Self:
        return cls(
            reason=found.reason, rule=found.rule, confidence=found.confidence,
            captures=found.captures, requests=found.requests,
        )  # fmt: skip


class YearAnswer(Answer):
    captures: int
    wanted: int
    requests: int

    @classmethod
    def of(cls, found: Year) -> Self:
        return cls(captures=found.captures, wanted=found.wanted, requests=found.requests)


class EstimateAnswer(Answer):
    """What would be fetched: `wanted` captures by so many requests; up to a minute old.

    `deduplicated` captures cost no request of their own.
    """

    wanted: int
    requests: int
    deduplicated: int
    archives: dict[str, WireAnswer]
    filters: list[FilterAnswer]
    years: dict[str, YearAnswer]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        estimate = plan.estimate
        return cls(
            wanted=plan.wanted, requests=plan.requests, deduplicated=plan.deduplicated,
            archives={
                name: WireAnswer.of(wire, plan, name) for name, wire in estimate.wires.items()
            },
            filters=[FilterAnswer.of(each) for each in estimate.filters],
            years={year: YearAnswer.of(each) for year, each in estimate.years.items()},
        )  # fmt: skip


class PlanAnswer(Answer):
    """A plan at a moment. `estimate` is null while the archive is still being listed.

    `state` is `partial` when a part of the listing could not be had.
    """

    run: int
    runs: list[int]
    state: RunStateName
    goal: Annotated[Goal, Rule(description="plan, until it is started")]
    project: str
    project_id: int
    domain_id: int
    url: str
    match: MatchType
    start: Annotated[Stamp, Rule(serialization_alias="from")]
    end: Annotated[Stamp, Rule(serialization_alias="to")]
    captures: Captures
    listing: int
    holes: int
    hole_details: list[HoleDetail]
    estimate: EstimateAnswer | None

    @classmethod
    def of(cls, seen: SeenRun, estimate: EstimateAnswer | None) -> Self:
        report, place = report_of(seen), seen.place
        progress = report.progress
        return cls(
            run=progress.run_id, runs=list(report.run_ids),
            state=cast("RunStateName", report.state), goal=place.goal, project=progress.project,
            project_id=place.project_id, domain_id=place.domain_id, url=progress.url,
            match=place.scope.match, start=place.scope.start, end=place.scope.end,
            captures=Captures.model_validate(captures_json(progress.captures)),
            listing=progress.listing, holes=progress.holes,
            hole_details=[HoleDetail.of(each) for each in seen.holes], estimate=estimate,
        )  # fmt: skip


class ScheduleRequest(CollectionRequest):
    """A collection that begins every so many seconds, the first time at once."""

    every: Seconds
    since: Days | None = 30


class SchedulePatch(Asked):
    """What is to be another. One that is not enabled begins no runs; those under way go on."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    every: Seconds | None = None
    enabled: bool | None = None
    queue_class: Annotated[QueueClass | None, Rule(alias="class")] = None

    @model_validator(mode="after")
    def _given(self) -> Self:
        if any(getattr(self, name) is None for name in self.model_fields_set):
            raise ValueError("leave out what stays; null is no value here")
        return self


class ScheduleMade(Answer):
    schedule: int
    project: int
    next_at: datetime


class ScheduleAnswer(Answer):
    """`last_run` is the first of the newest collection that it began."""

    schedule: int
    project: str
    project_id: int
    url: str
    match: MatchType
    archives: list[str]
    start: Annotated[Stamp, Rule(serialization_alias="from")]
    end: Annotated[Stamp, Rule(serialization_alias="to")]
    since: int | None
    every: int
    queue_class: Annotated[QueueClass, Rule(serialization_alias="class")]
    enabled: bool
    next_at: datetime
    last_run: int | None
    last_state: RunState | None

    @classmethod
    def of(cls, found: Schedule) -> Self:
        wanted = found.wanted
        return cls(
            schedule=found.id, project=str(wanted.project), project_id=found.project_id,
            url=wanted.scope.url, match=wanted.scope.match, archives=list(wanted.archives),
            start=wanted.scope.start, end=wanted.scope.end,
            since=None if wanted.since is None else wanted.since.days,
            every=int(found.every / timedelta(seconds=1)), queue_class=wanted.queue_class,
            enabled=found.enabled, next_at=found.next_at, last_run=found.last_run,
            last_state=None if found.last_state is None else RunState(found.last_state),
        )  # fmt: skip


class SchedulesAnswer(Answer):
    """Oldest first; `next` goes on."""

    items: list[ScheduleAnswer]
    next: str | None


def _by_state(counted: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (state, reason), n in sorted(counted.items()):
        found.setdefault(state, {})[reason] = n
    return found
