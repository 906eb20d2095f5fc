"""What the API answers. Made by `python -m tools.client`: change the API instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field as Said


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorHealth:
    """An actor's last answer; `done` since it started, `rss` in bytes."""

    state: Literal["ok", "silent"]
    done: int | None = None
    in_flight: int | None = None
    rss: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorsAnswer:
    """The workers' last answers."""

    actors: dict[str, ActorHealth]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAnswer:
    """What an archive allows, and how long a request to it waits."""

    archive: str
    kind: Kind
    per_minute: int | None
    state: Literal["open", "paused"]
    reason: str
    wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveStatistics:
    """What was had from one archive; pages are counted apart from where they came from."""

    captures: int
    runs: int
    holes: int
    requests: Requests
    states: Captures


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivesAnswer:
    """What each archive allows, and how long a request to it waits."""

    archives: tuple[ArchiveAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunAnswer:
    """A collection's runs, one an archive, most preferred first; `run` stands for all of them.

    `joined`: exactly this was under way already, and goes on.
    """

    run: int
    runs: tuple[int, ...]
    joined: bool


Bucket = Literal["year", "month", "day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetAnswer:
    """What an archive allows one egress; null without a limit."""

    archive: str
    kind: Kind
    egress: str
    per_minute: int
    rate: float | None
    now: int | None
    wait: float
    paused_until: datetime | None
    reason: str
    pauses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetsAnswer:
    """The budgets of all archives."""

    budgets: tuple[BudgetAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAnswer:
    """How many captures were changed, or would be, and how many were left as they are.

    Where they are many, `task` changes them, and its result tells the numbers. `more`: a dry
    run counted only the first of them.
    """

    action: CaptureAction
    dry_run: bool
    changed: int
    changed_by: tuple[CountAnswer, ...]
    left: int
    left_by: tuple[CountAnswer, ...]
    more: bool
    task: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAnswer:
    """`off`: set up without Redis; `away`: it does not answer, and everything is computed."""

    state: Literal["on", "away", "off"]
    owes: bool
    counts: CacheCountsAnswer
    classes: dict[str, CacheCountsAnswer]
    contents: CacheContentsAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheContentsAnswer:
    """What the server holds; memory in bytes, of all that it holds. `evicted` since it began."""

    answers: dict[str, int]
    tags: int
    computing: int
    complete: bool
    memory: int
    memory_most: int
    evicted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCountsAnswer:
    """Of this process since it began. `corrupt` misses found something that was no answer."""

    hits: int
    misses: int
    corrupt: int
    bypassed: int
    stale: int


CaptureAction = Literal["skip", "approve", "retry", "priority"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureAnswer:
    """A capture of the page: `fetched` says that its bytes are those that were replayed."""

    id: int
    archive: str
    timestamp: str
    impossible: bool
    url: str
    mimetype: str
    statuscode: str
    digest: str
    run: int
    fetched: bool
    citation: CitationAnswer


CaptureState = Literal[
    "pending",
    "parked",
    "leased",
    "stored",
    "unchanged",
    "known",
    "skipped",
    "gone",
    "refused",
    "failed",
    "cancelled",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Captures:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturesAnswer:
    """A page's captures by time."""

    items: tuple[CaptureAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAnswer:
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
    holes: tuple[CertifiedHole, ...]
    pages: int
    pages_indexed: int
    pages_rejected: int
    payloads: int
    faults: tuple[str, ...]
    fault_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedHole:
    """A part of the listing that could not be had."""

    slice: int
    from_: Annotated[str, Said(validation_alias="from")]
    to: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAnswer:
    """What a version changed. The payload is another one always; the text may be the same."""

    text: bool
    title: bool
    words: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedAnswer:
    """The runs that are meant, and the state of the first of them."""

    run: int
    runs: tuple[int, ...]
    state: RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationAnswer:
    """A capture to be cited, in parts and as one line of `text`.

    `memento` is where the archive shows it; empty where it shows none, then `locator` says
    where the record lies. `retrieved` is when its bytes came here.
    """

    archive: str
    timestamp: str
    url: str
    title: str
    memento: str
    locator: str
    retrieved: datetime | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAnswer:
    """The runs that are meant, and their class now."""

    run: int
    runs: tuple[int, ...]
    class_: Annotated[QueueClass, Said(validation_alias="class")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAnswer:
    """The machines of the cluster, and the workers on them."""

    nodes: tuple[NodeAnswer, ...]
    actors: dict[str, ActorHealth]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedAnswer:
    """A page that is compared."""

    id: int
    url: str
    first_seen: datetime
    title: str
    words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAnswer:
    """So many captures stood there."""

    state: CaptureState
    reason: str
    n: int


Counted = Literal["exact", "estimate", "at_least"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedDomain:
    """One domain of a project's statistics."""

    id: int
    url: str
    match: MatchType
    statistics: DomainStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionAnswer:
    """The task that deletes the project. `joined`: it was asked for already."""

    task: int
    joined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffAnswer:
    """How one text became the other, line by line.

    `shortest`: no shorter account of it is there; else the texts differ in more than a thousand
    lines, and the middle of them is told as removed and added whole.
    """

    before: ComparedAnswer
    after: ComparedAnswer
    removed: int
    added: int
    shortest: bool
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffLine:
    """A line that is the same in both texts, was removed, or was added."""

    change: Literal["same", "removed", "added"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainAnswer:
    """A domain with its numbers; `rules` counts its own."""

    id: int
    url: str
    match: MatchType
    created_at: datetime
    rules: int
    rules_version: int
    statistics: DomainStatistics
    last_activity: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainStatistics:
    """A domain's numbers, by archive and by the year that its captures are of."""

    captures: int
    pages: int
    runs: int
    active: int
    holes: int
    requests: Requests
    states: Captures
    archives: dict[str, ArchiveStatistics]
    years: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainsAnswer:
    """A project's domains by URL."""

    items: tuple[DomainAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateAnswer:
    """What would be fetched: `wanted` captures by so many requests; up to a minute old.

    `deduplicated` captures cost no request of their own.
    """

    wanted: int
    requests: int
    deduplicated: int
    archives: dict[str, WireAnswer]
    filters: tuple[FilterAnswer, ...]
    years: dict[str, YearAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportAnswer:
    """An export to files. It is a task, too; `rows`, `parts` and `bytes` are written by now."""

    id: int
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFile:
    """A closed file. It is read at `/exports/{id}/files/{name}`."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFilesAnswer:
    """By name. An export that is done has besides them `manifest.json`, which vouches for all."""

    state: TaskState
    items: tuple[ExportFile, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportsAnswer:
    """Newest first."""

    items: tuple[ExportAnswer, ...]
    next: str | None


Facet = Literal["project", "domain", "host", "language", "mimetype"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAnswer:
    """How the page's bytes came here: by which run, from which capture, and what was served.

    `url` may be another one, which the archive listed with the same digest. `served` is the
    timestamp that it really answered with; `check` is our own SHA-1 of the bytes against the
    digest that it had listed.
    """

    at: datetime
    run: int
    archive: str
    url: str
    timestamp: str
    served: str
    check: str
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedNowAnswer:
    """`run` fetches the capture before all else. `approved`: it had been skipped."""

    capture: int
    state: Literal["fetching", "stored"]
    run: int | None
    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterAnswer:
    """What one rule leaves out; `requests`: at most so many more there would be without it."""

    reason: str
    rule: str
    confidence: float
    captures: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushedAnswer:
    """How much was freed."""

    freed: int


Form = Literal["jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet"]


Goal = Literal["plan", "collect", "fetch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthAnswer:
    """`down` when the record is away, `degraded` when another part is.

    The rest is told to admins, and to whoever may read the metrics.
    """

    status: Literal["ok", "degraded", "down"]
    version: str | None = None
    parts: dict[str, PartState] | None = None
    actors: dict[str, ActorHealth] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderAnswer:
    """Connections of the processes of one name; `longest` is their oldest statement, in seconds."""

    name: str
    total: int
    active: int
    idle_in_transaction: int
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HoleDetail:
    """A part of the listing that could not be had, and why."""

    slice: int
    from_: Annotated[str, Said(validation_alias="from")]
    to: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoleItem:
    """A hole, and in which archive's listing it is."""

    slice: int
    from_: Annotated[str, Said(validation_alias="from")]
    to: str
    reason: str
    detail: str
    archive: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HolesAnswer:
    """In the order they were listed; `next` goes on."""

    items: tuple[HoleItem, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """A place where texts differ, with three lines around it; lines count from 1."""

    before: int
    after: int
    lines: tuple[DiffLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAnswer:
    """An API key, known by its first characters."""

    id: int
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysAnswer:
    """A user's API keys, oldest first."""

    items: tuple[KeyAnswer, ...]
    next: str | None


Kind = Literal["listing", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAnswer:
    """A link as it stands in the page: `href` was never resolved, and may be anything."""

    href: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCaptureAnswer:
    """A capture and where it stands.

    `memento` is the archive's own address of it, to be cited; `served` the timestamp that the
    archive answered with. `rule` says who decided: a rule's words, or `person:` and a user's
    id.
    """

    id: int
    domain: int
    run: int
    url: str
    timestamp: str
    instant: datetime
    impossible: bool
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCapturesAnswer:
    """A page may hold fewer captures than were asked for, or none: only without `next` it ends."""

    items: tuple[ListedCaptureAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProjectAnswer:
    """A project with what it holds; `last_activity`: when anything of it last changed."""

    id: int
    name: str
    description: str
    role: ProjectRole
    owner_id: int | None
    weight: int
    version: int
    created_at: datetime
    changed_at: datetime
    deleting: int | None
    statistics: Statistics
    last_activity: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Plain text, to be shown as text, and which of its characters matched."""

    text: str
    matches: tuple[tuple[int, int], ...]


MatchType = Literal["exact", "prefix", "host", "domain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAnswer:
    """Who sees a project, and as what."""

    user_id: int
    email: str
    name: str
    role: ProjectRole
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MembersAnswer:
    """A project's members, its owner among them, by user."""

    items: tuple[MemberAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedAnswer:
    """How many waiting payloads would get another place."""

    run: int
    moved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NearAnswer:
    """A page beside another."""

    id: int
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    language: str
    mimetype: str
    words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighboursAnswer:
    """The URL's versions before and after a page, and what else of its host was seen then.

    `host` are up to five pages on each side that were first seen nearest to this one, of the
    2,000 of the project nearest in time.
    """

    before: NearAnswer | None
    after: NearAnswer | None
    host: tuple[NearAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDomainAnswer:
    """A domain that was made."""

    id: int
    url: str
    match: MatchType
    created_at: datetime
    rules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeyAnswer:
    """`key` is shown once: a repeated request gets it empty."""

    id: int
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNote:
    """A note that was just written."""

    id: int
    page: int
    text: str
    written_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAnswer:
    """A machine of the cluster: what Ray may give to actors, and what it has not given."""

    address: str
    alive: bool
    cpus: float
    cpus_free: float
    memory: int
    memory_free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteAnswer:
    """A note; `changed_at` is None while nobody changed it."""

    id: int
    page: int
    author: PersonAnswer
    text: str
    written_at: datetime
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotesAnswer:
    """A page's notes, oldest first."""

    items: tuple[NoteAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimePassword:
    """A password that is good for one login, which must bring another. It is shown once."""

    user: int
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer:
    """A version of a URL's content: one text, seen from `first_seen` to `last_seen`.

    `mementos` are the capture that was fetched, the first and the last. `flags` hold any of
    thin, empty, cut, depth, replaced, truncated; `replaced` counts unreadable characters.
    """

    id: int
    project: int
    project_name: str
    domain: str
    url: str
    host: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    text: str
    author: str
    published: date | None
    language: str
    words: int
    description: str
    canonical: str
    links: tuple[LinkAnswer, ...]
    flags: tuple[str, ...]
    charset: str
    mimetype: str
    extractor: str
    replaced: int
    sha256: str
    sha1: str
    size: int
    mementos: tuple[CitationAnswer, ...]
    fetched: FetchAnswer | None
    review: ReviewAnswer
    tags: tuple[str, ...]
    notes: int
    starred: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRow:
    """A page as lists show it."""

    id: int
    project: int
    domain: str
    url: str
    host: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    language: str
    mimetype: str
    words: int
    flags: tuple[str, ...]
    review: Review
    tags: tuple[str, ...]
    starred: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTags:
    """A page's tags, sorted."""

    page: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesAnswer:
    """A part of a project's pages. Only without `next` it is the end.

    A request looks at 10,000 pages at most: there may be fewer items than were asked for, even
    none, and more behind `next`.
    """

    items: tuple[PageRow, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartState:
    """`unused`: not set up; `unknown`: nobody here can tell."""

    state: Literal["ok", "away", "unused", "unknown"]
    milliseconds: float | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedAnswer:
    """An archive that is left alone."""

    archive: str
    paused_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonAnswer:
    """Somebody by their number and the name they gave themselves."""

    id: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """A plan at a moment. `estimate` is null while the archive is still being listed.

    `state` is `partial` when a part of the listing could not be had.
    """

    run: int
    runs: tuple[int, ...]
    state: Literal["active", "planned", "paused", "cancelled", "done", "partial"]
    goal: Goal
    project: str
    project_id: int
    domain_id: int
    url: str
    match: MatchType
    from_: Annotated[str, Said(validation_alias="from")]
    to: str
    captures: Captures
    listing: int
    holes: int
    hole_details: tuple[HoleDetail, ...]
    estimate: EstimateAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAnswer:
    """This process's pool."""

    size: int
    open: int
    in_use: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolsAnswer:
    """Beside the connection that asks. `most` that the server admits."""

    most: int
    used: int
    here: PoolAnswer
    holders: tuple[HolderAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectAnswer:
    """A project. `role` is the asker's; an admin has an owner's everywhere.

    `version` grows with every change of it; `deleting` is the task that deletes it.
    """

    id: int
    name: str
    description: str
    role: ProjectRole
    owner_id: int | None
    weight: int
    version: int
    created_at: datetime
    changed_at: datetime
    deleting: int | None


ProjectRole = Literal["read", "write", "owner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatisticsAnswer:
    """A project's numbers by state and reason, archive, year and domain.

    `domains` are the 200 with the most captures; `/projects/{id}/domains/` lists all.
    """

    project: int
    statistics: Statistics
    archives: dict[str, ArchiveStatistics]
    years: dict[str, int]
    domains: tuple[CountedDomain, ...]
    last_activity: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectsAnswer:
    """Projects; `next` is the cursor of what comes behind them."""

    items: tuple[ListedProjectAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAnswer:
    """Active runs of a class at an archive."""

    queue: QueueClass
    archive: str
    runs: int
    captures: int
    in_flight: int
    parked: int
    listings: int
    seconds: float


QueueClass = Literal["critical", "scraping", "indexing", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepthAnswer:
    """A class of work, counted up to 10,000 of a kind."""

    queue: QueueClass
    runs: int
    queued: int
    held: int
    leased: int
    parked: int
    parked_seconds: float
    listings: int
    listings_leased: int
    seconds: float
    tasks: int
    tasks_leased: int
    tasks_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepthsAnswer:
    """What waits, by queue class, and how far the index is behind."""

    classes: tuple[QueueDepthAnswer, ...]
    pages: int
    sending: int
    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuesAnswer:
    """What waits in the projects that the asker sees."""

    queues: tuple[QueueAnswer, ...]
    tasks: int
    tasks_running: int
    pages: int
    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RedecisionAnswer:
    """What is listed, decided again by the rules: how far that is, and what came of it.

    `ended`: they would be skipped now, but what became of them stays. `in_flight`: they were
    being fetched.
    """

    state: Literal["pending", "done"]
    looked: int
    wanted: int
    skipped: int
    renamed: int
    ended: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The same whether the address was free or taken: nobody learns who has an account."""

    email: str
    state: UserState
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What went out on the wire for the run, and how much of it was throttled."""

    cdx: int
    replay: int
    throttled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumedAnswer:
    """An archive that is asked again."""

    archive: str
    was_paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriedAnswer:
    """What would be tried again, by state and reason; `withheld`: only by `force`."""

    run: int
    fetches: dict[str, dict[str, int]]
    slices: int
    withheld: dict[str, dict[str, int]]


Review = Literal["unreviewed", "accepted", "rejected", "needs_work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAnswer:
    """What a project thinks of a page. `at` and `by` are None while nothing was said."""

    status: Review
    at: datetime | None
    by: PersonAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewChangeAnswer:
    """One change of a page's review."""

    status: Review
    at: datetime | None
    by: PersonAnswer | None
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsAnswer:
    """Every change of a page's review, the last first."""

    items: tuple[ReviewChangeAnswer, ...]
    next: str | None


Role = Literal["user", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesAnswer:
    """A domain's rules in their canonical spelling. The built-in ones stand behind them.

    `redecision` is the newest; None when there was none.
    """

    domain: int
    version: int
    rules: str
    built_in: tuple[str, ...]
    redecision: RedecisionAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """A run and what it is about. `first` stands for its collection, or is the run itself.

    `hole_details` are its first hundred holes: `/holes` lists them all.
    """

    run: int
    runs: tuple[int, ...]
    state: Literal["active", "planned", "paused", "cancelled", "done", "partial"]
    project: str
    url: str
    archive: str
    created_at: datetime
    captures: Captures
    listing: int
    holes: int
    hole_details: tuple[HoleDetail, ...]
    pages: int
    indexed: int
    requests: Requests
    seconds: float
    first: int
    project_id: int
    domain_id: int
    match: MatchType
    from_: Annotated[str, Said(validation_alias="from")]
    to: str
    class_: Annotated[QueueClass, Said(validation_alias="class")]
    goal: Goal
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunItem:
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
    from_: Annotated[str, Said(validation_alias="from")]
    to: str
    class_: Annotated[QueueClass, Said(validation_alias="class")]
    goal: Goal
    created_at: datetime
    finished_at: datetime | None
    captures: Captures
    listing: int
    holes: int
    pages: int
    requests: Requests
    seconds: float


RunState = Literal["active", "planned", "paused", "cancelled", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsAnswer:
    """Newest first; `next` goes on."""

    items: tuple[RunItem, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSearchAnswer:
    """A search that the asker keeps. `changed_at` is None while it is as it was saved.

    `search` is None where it was saved by a version that asked otherwise.
    """

    id: int
    name: str
    search: SearchRequest | None
    saved_at: datetime
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSearchesAnswer:
    """The asker's saved searches, by name."""

    items: tuple[SavedSearchAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleAnswer:
    """`last_run` is the first of the newest collection that it began."""

    schedule: int
    project: str
    project_id: int
    url: str
    match: MatchType
    archives: tuple[str, ...]
    from_: Annotated[str, Said(validation_alias="from")]
    to: str
    since: int | None
    every: int
    class_: Annotated[QueueClass, Said(validation_alias="class")]
    enabled: bool
    next_at: datetime
    last_run: int | None
    last_state: RunState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleMade:
    """A schedule that was made."""

    schedule: int
    project: int
    next_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulesAnswer:
    """Oldest first; `next` goes on."""

    items: tuple[ScheduleAnswer, ...]
    next: str | None


Scope = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """The hits, how many there are in all, and what was asked to be counted.

    `facets` tells of each field its 100 most frequent values, of projects their numbers;
    `projects` has the names of all that the answer tells of.
    """

    total: int
    counted: Counted
    hits: tuple[SearchHit, ...]
    facets: dict[str, dict[str, int]]
    histogram: tuple[SearchBar, ...]
    projects: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchBar:
    """How many of the pages found were first seen `when`: 2001, 2001-03 or 2001-03-09, in UTC."""

    when: str
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """A page: one version of a URL's content. `captures` counts how often it was seen."""

    id: int
    url: str
    project: str
    project_id: int
    domain: str
    host: str
    language: str
    mimetype: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: Marked
    snippet: Marked


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What to search for, in which order, and what to count beside."""

    query: str | None = None
    project: tuple[int | str, ...] | None = None
    domain: tuple[str, ...] | None = None
    host: tuple[str, ...] | None = None
    language: tuple[str, ...] | None = None
    mimetype: tuple[str, ...] | None = None
    from_: Annotated[str | None, Said(validation_alias="from")] = None
    to: str | None = None
    typos: bool | None = None
    facets: tuple[Facet, ...] | None = None
    histogram: Bucket | None = None
    sort: Sort | None = None
    offset: int | None = None
    limit: int | None = None


Sort = Literal["relevance", "newest", "oldest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StarAnswer:
    """A page that the asker starred."""

    id: int
    project: int
    domain: str
    url: str
    host: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: str
    language: str
    mimetype: str
    words: int
    flags: tuple[str, ...]
    review: Review
    tags: tuple[str, ...]
    starred: bool
    starred_at: datetime
    project_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StarsAnswer:
    """The asker's starred pages, the last starred first."""

    items: tuple[StarAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What is held. `captures` counts listed rows, each once.

    `states` sums up what became of them over all runs: one that two runs list counts in both.
    """

    captures: int
    pages: int
    domains: int
    runs: int
    active: int
    runs_by_state: dict[str, int]
    holes: int
    requests: Requests
    states: Captures


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAnswer:
    """What was done in a step that begins `at`: listed captures, what they ended as, requests."""

    at: datetime
    listed: int
    stored: int
    unchanged: int
    known: int
    skipped: int
    gone: int
    refused: int
    failed: int
    listing_requests: int
    replay_requests: int
    throttled: int


Subject = Literal["pages", "captures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAnswer:
    """A tag of a project, and how many of its pages have it."""

    tag: str
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsAnswer:
    """A project's tags, sorted."""

    items: tuple[TagAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAnswer:
    """A task at a moment. `working`: somebody works on it now; `total` is 0 while it is unknown.

    `reason` and `detail` say why it failed, or was tried again.
    """

    task: int
    kind: str
    class_: Annotated[QueueClass, Said(validation_alias="class")]
    project: str
    project_id: int | None
    run: int | None
    state: TaskState
    working: bool
    done: int
    total: int
    result: dict[str, int | str]
    reason: str
    detail: str
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAsked:
    """The task that does it: `GET /tasks/{task}` tells how far it is.

    `joined`: exactly this was asked for and not finished.
    """

    task: int
    joined: bool


TaskState = Literal["pending", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksAnswer:
    """Newest first; `next` goes on."""

    items: tuple[TaskAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputAnswer:
    """Steps in the order of time; those without work are left out."""

    since: datetime
    until: datetime
    step: int
    steps: tuple[StepAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketAnswer:
    """Leave to open one WebSocket, once; `expires_in` in seconds."""

    ticket: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """`expires_in` and `refresh_expires_in` in seconds. A refresh token is used once."""

    access_token: str = field(repr=False)
    token_type: Literal["bearer"] | None = None
    expires_in: int
    refresh_token: str = field(repr=False)
    refresh_expires_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAnswer:
    """A request that brought nothing. `given_up`: that capture is not asked for again."""

    at: datetime
    reason: str
    detail: str
    requests: int
    capture: int
    run: int
    given_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAnswer:
    """A user; `seen_at` is the last login."""

    id: int
    email: str
    name: str
    role: Role
    state: UserState
    created_at: datetime
    approved_at: datetime | None
    seen_at: datetime | None


UserState = Literal["pending", "active", "disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersAnswer:
    """Users by id."""

    items: tuple[UserAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionAnswer:
    """A version of a URL; `change` is against the one before it, None for the first.

    `came_back`: it was seen again when the next one had been seen already.
    """

    id: int
    url: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    came_back: bool
    title: str
    words: int
    sha256: str
    size: int
    change: ChangeAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsAnswer:
    """All versions of a page's URL in its project, by when each was first seen."""

    items: tuple[VersionAnswer, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeCaptureAnswer:
    """All that is known of a capture.

    `asked_by` and `asked_in` are the capture and the run by which its payload is asked for.
    """

    capture: ListedCaptureAnswer
    because: str
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
    tries: tuple[TryAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireAnswer:
    """What would be asked of one archive. `hours`: its budget takes at least so long, if any."""

    requests: int
    elsewhere: int
    bytes: int
    without_length: int
    per_minute: int
    hours: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class YearAnswer:
    """The captures of a year, and what they would cost."""

    captures: int
    wanted: int
    requests: int
