"""What goes over the wire: requests refuse unknown fields, answers are documented in full."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic import Field as Rule

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.query import (
    EVERYTHING,
    LIMIT_MAX,
    OFFSET_MAX,
    QUERY_CHARS_MAX,
    And,
    CapturedBetween,
    Equals,
    Field,
    Filter,
    Fragment,
    Hit,
    Query,
    Results,
    Sort,
)
from chrono_ray.model.targets import moment
from chrono_ray.pipeline.report import RunReport, captures_json
from chrono_ray.storage.visible import Hole

RunStateName = Literal["active", "planned", "paused", "cancelled", "done", "partial"]
DATE_CHARS_MAX: Final = 32
Values = Annotated[list[str], Rule(default_factory=list)]
Date = Annotated[str, StringConstraints(max_length=DATE_CHARS_MAX)]
Span = Annotated[list[tuple[int, int]], Rule(description="[start, end) in characters, ascending")]


class Asked(BaseModel):
    """What a request holds: nothing that is not named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(frozen=True)


class SearchRequest(Asked):
    """What to search for. Each filter holds values of which any may match; all filters must."""

    q: Annotated[
        str, Rule(max_length=QUERY_CHARS_MAX, description='Words and "phrases"; empty: all pages')
    ] = ""
    project: Values
    domain: Values
    host: Values
    language: Values
    type: Values
    start: Annotated[
        Date, Rule(alias="from", description="Captured in or after: 2001, 200103, 2001-03-09 ...")
    ] = ""
    end: Annotated[Date, Rule(alias="to", description="Captured in or before its last second")] = ""
    facets: Annotated[list[Field], Rule(default_factory=list, max_length=len(Field))]
    sort: Sort = Sort.RELEVANCE
    offset: Annotated[int, Rule(ge=0, le=OFFSET_MAX)] = 0
    limit: Annotated[int, Rule(ge=1, le=LIMIT_MAX)] = 20

    def query(self, among: Collection[str] | None = None) -> Query:
        """The query tree, in these projects alone; `InvalidInput` for what cannot be asked."""
        values = {
            Field.PROJECT: self.project if among is None else sorted(among),
            Field.DOMAIN: self.domain, Field.HOST: self.host, Field.LANGUAGE: self.language,
            Field.TYPE: self.type,
        }  # fmt: skip
        return Query(
            self.q, chosen(values, start=self.start, end=self.end),
            tuple(dict.fromkeys(self.facets)), self.sort, self.offset, self.limit,
        )  # fmt: skip


def chosen(values: Mapping[Field, Sequence[str]], *, start: str, end: str) -> Filter:
    """The filter of a search form: for each field any of its values, and a span of dates."""
    parts: list[Filter] = [Equals(field, tuple(each)) for field, each in values.items() if each]
    if start or end:
        parts.append(CapturedBetween(_date(start, late=False), _date(end, late=True)))
    return And(tuple(parts)) if parts else EVERYTHING


def sort_of(word: str) -> Sort:
    """The order of this name, or `InvalidInput`."""
    try:
        return Sort(word)
    except ValueError:
        raise InvalidInput(
            f"There is no sort {word!r}", fix=f"One of {', '.join(Sort)}", code="sort"
        ) from None


class Marked(Answer):
    """Plain text, to be shown as text, and which of its characters matched."""

    text: str
    matches: Span

    @classmethod
    def of(cls, fragment: Fragment) -> Self:
        return cls(text=fragment.text, matches=list(fragment.matches))


class SearchHit(Answer):
    """A page: one version of a URL's content. `captures` counts how often it was seen."""

    page: int
    url: str
    project: str
    domain: str
    host: str
    language: str
    type: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: Marked
    snippet: Marked

    @classmethod
    def of(cls, hit: Hit) -> Self:
        return cls(
            page=hit.id, url=hit.url, project=hit.project, domain=hit.domain, host=hit.host,
            language=hit.language, type=hit.type, first_seen=hit.first_seen,
            last_seen=hit.last_seen, captures=hit.captures, title=Marked.of(hit.title),
            snippet=Marked.of(hit.snippet),
        )  # fmt: skip


class SearchAnswer(Answer):
    """The hits, how many there are in all, and the counts of each facet asked for."""

    total: int
    milliseconds: float
    hits: list[SearchHit]
    facets: dict[Field, dict[str, int]]

    @classmethod
    def of(cls, results: Results) -> Self:
        return cls(
            total=results.total, milliseconds=results.milliseconds,
            hits=[SearchHit.of(hit) for hit in results.hits], facets=results.facets,
        )  # fmt: skip


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
    """`down` when the record is away, `degraded` when another part is."""

    status: Literal["ok", "degraded", "down"]
    version: str
    parts: dict[str, PartState]
    actors: dict[str, ActorHealth]


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


def _date(text: str, *, late: bool) -> datetime | None:
    digits = moment(text, Timestamp14.of(datetime.now(UTC)), late=late)
    return Timestamp14(digits).instant if digits else None
