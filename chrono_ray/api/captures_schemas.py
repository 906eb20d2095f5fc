"""Captures over the wire: which are meant, what is told of each, what is done to many."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field as Rule
from pydantic import StringConstraints, model_validator

from chrono_ray.api.cursors import CHARS_MAX
from chrono_ray.api.schemas import Answer, Asked
from chrono_ray.archives.mementos import Mementos
from chrono_ray.model.bounds import BIG_MAX, INT_MAX
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import MatchType
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.selection import (
    PERSON,
    CaptureAction,
    CaptureSort,
    CaptureState,
    Selection,
)
from chrono_ray.model.targets import URL_CHARS_MAX, moment, target
from chrono_ray.model.urls import key_beginnings
from chrono_ray.storage.captures import CaptureRow, Try, WholeCapture
from chrono_ray.storage.choosing import Changed, Counted, Fetching

VALUES_MOST: Final = 20
IDS_MOST: Final = 10_000

STANDING: Final = {
    CaptureState.PENDING: "It waits for its turn.",
    CaptureState.PARKED: "It waits for its next try, after: {reason}.",
    CaptureState.LEASED: "It is being fetched.",
    CaptureState.STORED: "It was fetched.",
    CaptureState.UNCHANGED: "The archive gives the same bytes as for capture {other}.",
    CaptureState.GONE: "The archive lists it and does not have it: {reason}.",
    CaptureState.REFUSED: "It is not asked for, or not kept: {reason}.",
    CaptureState.FAILED: "It could not be had: {reason}.",
    CaptureState.CANCELLED: "It was cancelled before it was fetched: {reason}.",
}

Number = Annotated[int, Rule(ge=1, le=INT_MAX)]
LongNumber = Annotated[int, Rule(ge=1, le=BIG_MAX)]
Word = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Reason = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Host = Annotated[
    str, StringConstraints(max_length=255, pattern=r"^(\*\.)?[^\x00-\x20\x7f*/?#@\\:]+$")
]
Url = Annotated[str, StringConstraints(min_length=1, max_length=URL_CHARS_MAX)]
Date = Annotated[str, StringConstraints(max_length=32)]
State = CaptureState | Literal["repeated"]


class CaptureFilter(Asked):
    """Which captures: every part that is given must hold, of its values any one.

    `host` is a URL's host, with www or without: either finds both. `*.example.org` is that and
    all below it.
    """

    state: Annotated[list[State], Rule(default_factory=list, max_length=VALUES_MOST)]
    reason: Annotated[list[Reason], Rule(default_factory=list, max_length=VALUES_MOST)]
    start: Annotated[Date, Rule(alias="from", description="2001, 200103, 2001-03-09 ...")] = ""
    end: Annotated[Date, Rule(alias="to", description="Its last second is meant")] = ""
    host: Host | None = None
    url: Annotated[Url | None, Rule(description="What the URL begins with")] = None
    mimetype: Annotated[list[Word], Rule(default_factory=list, max_length=VALUES_MOST)]
    statuscode: Annotated[list[Word], Rule(default_factory=list, max_length=VALUES_MOST)]
    archive: Annotated[list[Word], Rule(default_factory=list, max_length=VALUES_MOST)]
    domain: Number | None = None
    run: LongNumber | None = None

    def selection(self) -> Selection:
        """The same, checked; `InvalidInput` says what cannot be."""
        if "repeated" in self.state:
            raise InvalidInput(
                "Rows that repeat a capture are counted, not kept",
                why="each is the same as one that is listed", code="capture_state",
            )  # fmt: skip
        states = tuple(dict.fromkeys(each for each in self.state if each != "repeated"))
        start, end = self._span()
        return Selection(
            states, tuple(self.reason), self._places(), tuple(self.mimetype),
            tuple(self.statuscode), tuple(self.archive), self.domain or 0, self.run or 0,
            start, end,
        )  # fmt: skip

    def _span(self) -> tuple[str, str]:
        now = Timestamp14.of(datetime.now(UTC))
        start, end = moment(self.start, now, late=False), moment(self.end, now, late=True)
        if start and end and start > end:
            raise InvalidInput(
                "The date range is empty", why=f"{start} is after {end}", fix="Swap the two dates",
                code="date_range",
            )  # fmt: skip
        return start, end

    def _places(self) -> tuple[tuple[str, ...], ...]:
        places = []
        if self.host:
            below = self.host.startswith("*.")
            match = MatchType.DOMAIN if below else MatchType.HOST
            places.append(_beginnings(self.host.removeprefix("*."), match))
        if self.url:
            places.append(_beginnings(self.url, MatchType.PREFIX))
        return tuple(places)


class CapturesAsked(CaptureFilter):
    """A list of captures of one project, run or domain."""

    project: Number | None = None
    sort: CaptureSort = CaptureSort.OLDEST
    cursor: Annotated[
        str | None, Rule(max_length=CHARS_MAX, description="`next` of the answer before")
    ] = None
    limit: Annotated[int, Rule(ge=1, le=1000)] = 100

    @property
    def list_name(self) -> str:
        """The list with its filters and order."""
        return f"captures?{self.model_dump_json(exclude={'cursor', 'limit'})}"


class ListedCaptureAnswer(Answer):
    """A capture and where it stands.

    `memento` is the archive's own address of it, to be cited; `served` the timestamp that the
    archive answered with. `rule` says who decided: a rule's words, or `person:` and a user's id.
    """

    id: int
    domain: int
    run: int
    url: str
    timestamp: Annotated[str, Rule(description="The archive's 14 digits")]
    instant: Annotated[datetime, Rule(description="The moment meant, or the nearest there is")]
    impossible: Annotated[bool, Rule(description="The digits name no moment")]
    memento: str
    archive: str
    mimetype: str
    statuscode: str
    digest: str
    length: int | None
    state: CaptureState
    reason: str
    rule: str
    confidence: float
    detail: str
    attempts: int
    requests: int
    page: int | None
    served: str
    parked_until: datetime | None

    @classmethod
    def of(cls, row: CaptureRow, mementos: Mementos) -> Self:
        memento = mementos.address(
            row.archive, timestamp=row.timestamp, original=row.url, locator=row.locator
        )
        return cls(
            id=row.id, domain=row.domain_id, run=row.run_id, url=row.url,
            timestamp=row.timestamp, instant=row.instant, impossible=row.impossible,
            memento=memento, archive=row.archive, mimetype=row.mimetype,
            statuscode=row.statuscode, digest=row.digest, length=row.length, state=row.state,
            reason=row.reason, rule=row.rule, confidence=row.confidence, detail=row.detail,
            attempts=row.attempts, requests=row.requests, page=row.page_id, served=row.served,
            parked_until=row.parked_until,
        )  # fmt: skip


class ListedCapturesAnswer(Answer):
    """A page may hold fewer captures than were asked for, or none: only without `next` it ends."""

    items: list[ListedCaptureAnswer]
    next: str | None


class TryAnswer(Answer):
    """A request that brought nothing. `given_up`: that capture is not asked for again."""

    at: datetime
    reason: str
    detail: str
    requests: int
    capture: int
    run: int
    given_up: bool

    @classmethod
    def of(cls, each: Try) -> Self:
        return cls(
            at=datetime.fromisoformat(each.at), reason=each.reason, detail=each.detail,
            requests=each.requests, capture=each.capture_id, run=each.run_id,
            given_up=each.given_up,
        )  # fmt: skip


class WholeCaptureAnswer(Answer):
    """All that is known of a capture.

    `asked_by` and `asked_in` are the capture and the run by which its payload is asked for.
    """

    capture: ListedCaptureAnswer
    because: Annotated[str, Rule(description="Why it stands there, in words")]
    project: int
    project_name: str
    domain_url: str
    urlkey: str
    locator: str
    priority: str
    asked_by: int | None
    asked_in: int | None
    settled_at: datetime | None
    digest_check: str
    leased_until: datetime | None
    tries: list[TryAnswer]

    @classmethod
    def of(cls, whole: WholeCapture, mementos: Mementos) -> Self:
        return cls(
            capture=ListedCaptureAnswer.of(whole.row, mementos), because=because(whole),
            project=whole.project_id, project_name=whole.project, domain_url=whole.domain,
            urlkey=whole.urlkey, locator=whole.row.locator,
            priority=CapturePriority(whole.priority).name.lower(), asked_by=whole.asked_by,
            asked_in=whole.asked_in, settled_at=whole.settled_at,
            digest_check=whole.digest_check, leased_until=whole.leased_until,
            tries=[TryAnswer.of(each) for each in whole.tries],
        )  # fmt: skip


class BulkRequest(Asked):
    """An action on captures of a project: on all that a filter means, or on these ids.

    `skip` leaves out what waits, `approve` wants what is skipped, and no rule takes either back;
    `retry` asks again for what ended without a page, `priority` moves what waits. A listed type
    may be wrong, so approving asks the archive: what then holds no text is `refused` (type).
    """

    project: Number
    action: CaptureAction
    filter: CaptureFilter | None = None
    ids: Annotated[list[LongNumber] | None, Rule(min_length=1, max_length=IDS_MOST)] = None
    priority: Literal["now", "high", "normal", "low"] | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.filter is None) == (self.ids is None):
            raise ValueError("either `filter` or `ids`")
        if (self.priority is None) == (self.action is CaptureAction.PRIORITY):
            raise ValueError("`priority` belongs to the action `priority`")
        return self


class CountAnswer(Answer):
    """So many captures stood there."""

    state: CaptureState
    reason: str
    n: int

    @classmethod
    def of(cls, counted: Counted) -> Self:
        return cls(state=CaptureState(counted.state), reason=counted.reason, n=counted.n)


class BulkAnswer(Answer):
    """How many captures were changed, or would be, and how many were left as they are.

    Where they are many, `task` changes them, and its result tells the numbers. `more`: a dry run
    counted only the first of them.
    """

    action: CaptureAction
    dry_run: bool
    changed: int
    changed_by: list[CountAnswer]
    left: int
    left_by: list[CountAnswer]
    more: bool
    task: int | None

    @classmethod
    def of(cls, asked: BulkRequest, done: Changed) -> Self:
        return cls(
            action=asked.action, dry_run=asked.dry_run,
            changed=sum(each.n for each in done.changed),
            changed_by=[CountAnswer.of(each) for each in done.changed],
            left=sum(each.n for each in done.left),
            left_by=[CountAnswer.of(each) for each in done.left],
            more=done.more, task=done.task,
        )  # fmt: skip


class FetchedNowAnswer(Answer):
    """`run` fetches the capture before all else. `approved`: it had been skipped."""

    capture: int
    state: Literal["fetching", "stored"]
    run: int | None
    approved: bool

    @classmethod
    def of(cls, capture_id: int, fetching: Fetching) -> Self:
        state: Literal["fetching", "stored"] = "stored" if fetching.run_id is None else "fetching"
        return cls(capture=capture_id, state=state, run=fetching.run_id, approved=fetching.approved)


def because(whole: WholeCapture) -> str:
    """Why a capture stands where it does, in one or two sentences."""
    row = whole.row
    said = _standing(whole)
    if row.state is CaptureState.SKIPPED or not row.rule:
        return said
    who = row.rule.removeprefix(PERSON)
    if who != row.rule:
        return f"{said} User {who} wanted it."
    return f"{said} Wanted by the rule: {row.rule}."


def _standing(whole: WholeCapture) -> str:
    if whole.row.state is CaptureState.SKIPPED:
        return _skipped(whole.row)
    return STANDING[whole.row.state].format(reason=whole.row.reason, other=whole.asked_by)


def _skipped(row: CaptureRow) -> str:
    who = row.rule.removeprefix(PERSON)
    if who != row.rule:
        return f"User {who} skipped it."
    sure = "" if row.confidence == 1 else f", with confidence {row.confidence:g}"
    return f"Skipped ({row.reason}) by the rule: {row.rule}{sure}."


def _beginnings(url: str, match: MatchType) -> tuple[str, ...]:
    today = Timestamp14.of(datetime.now(UTC))
    scope = target(url, match=match.value, start="", end="", today=today)
    return key_beginnings(scope.url, match)
