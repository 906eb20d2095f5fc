"""Tasks: what a person asks for besides runs, each with the arguments it needs and nothing else.

A task is stored as its kind's name and its arguments; `read` is the inverse
of `kind_of` and `dataclasses.asdict` and believes nothing of what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, get_type_hints

from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import MatchType
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.selection import CaptureAction

ATTEMPTS: Final = 3
"""Time-outs, and worker deaths, after which a task ends in failed(timeout) or failed(crashed)."""


class Subject(StrEnum):
    """What an export holds: versions of pages with their texts, or listed captures."""

    PAGES = "pages"
    CAPTURES = "captures"


class Form(StrEnum):
    """How an export is written. Parquet is partitioned by domain and year."""

    JSONL = "jsonl"
    JSONL_GZIP = "jsonl.gz"
    JSONL_ZSTD = "jsonl.zst"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class DeleteProject:
    """Everything of one project. By id: its name may be another's by the time this ends."""

    project: str
    project_id: int


@dataclass(frozen=True, slots=True)
class Purge:
    """Payload rows and bytes that nothing refers to, at least so many seconds old."""

    older_than: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if not self.older_than >= 0:
            raise _bad("older_than", "it is not a number of seconds")


@dataclass(frozen=True, slots=True)
class Export:
    """A project's pages or captures, to an absolute folder or a URL the blob store knows.

    `run_id` 0 is all runs. `start` and `end` are 14 digits, inclusive, or
    empty; a page lies within when it was seen within. `domain` is the URL
    that was collected, empty for all. `project_id` 0: the project is known by
    its name.
    """

    project: str
    to: str
    subject: Subject = Subject.PAGES
    form: Form = Form.JSONL_ZSTD
    run_id: int = 0
    domain: str = ""
    start: str = ""
    end: str = ""
    rows_per_part: int = 50_000
    project_id: int = 0

    def __post_init__(self) -> None:
        if "://" not in self.to and not self.to.startswith("/"):
            raise _bad("to", "it is neither an absolute folder nor a URL")
        if self.rows_per_part < 1:
            raise _bad("rows_per_part", "a part holds at least one row")
        for name, value in (("start", self.start), ("end", self.end)):
            if value and not (len(value) == 14 and value.isascii() and value.isdigit()):
                raise _bad(name, "14 digits, or nothing")


@dataclass(frozen=True, slots=True)
class Discover:
    """A run that is started by the cluster instead of by whoever asks."""

    project: str
    archive: str
    url: str
    match: str
    start: str = ""
    end: str = ""
    project_id: int = 0
    """0: the project of this name that has no owner."""

    def __post_init__(self) -> None:
        if self.match not in tuple(MatchType):
            raise _bad("match", f"one of {', '.join(MatchType)}")


@dataclass(frozen=True, slots=True)
class Reindex:
    """A fresh index from the record, followed to its end."""


@dataclass(frozen=True, slots=True)
class Start:
    """A plan is fetched, or all plans of its collection by the first."""

    run_id: int


@dataclass(frozen=True, slots=True)
class Retry:
    """What of a run, or of its collection, ended without a page is tried again.

    `states` and `reasons` are words with commas between; no reasons are all.
    """

    run_id: int
    states: str
    reasons: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Prioritise:
    """Waiting payloads of a run, or of its collection, get a place: now, high, normal or low.

    Those with a capture in the scope; without a `url` all of that time.
    """

    run_id: int
    priority: str
    url: str = ""
    match: str = MatchType.PREFIX.value
    start: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        if self.match not in tuple(MatchType):
            raise _bad("match", f"one of {', '.join(MatchType)}")


@dataclass(frozen=True, slots=True)
class Certify:
    """A run recounted from what the archive said and from every row; what that says is kept."""

    run_id: int


@dataclass(frozen=True, slots=True)
class Bulk:
    """A person's action on captures of a project up to the id `upto`.

    On those that a selection means (`which`, see model/selection.py), or on
    these `ids`, with commas between. `priority` is a band of the queue.
    """

    project_id: int
    user_id: int
    action: str
    priority: int
    which: str
    ids: str = ""
    upto: int = 2**63 - 1

    def __post_init__(self) -> None:
        if self.action not in tuple(CaptureAction):
            raise _bad("action", f"one of {', '.join(CaptureAction)}")


OfRun = Start | Retry | Prioritise | Certify
"""Tasks about one run, in the share of its project."""
Task = DeleteProject | Purge | Export | Discover | Reindex | Bulk | OfRun

KINDS: Final[Mapping[str, type[Task]]] = {
    "delete_project": DeleteProject,
    "purge": Purge,
    "export": Export,
    "discover": Discover,
    "reindex": Reindex,
    "bulk": Bulk,
    "start": Start,
    "retry": Retry,
    "prioritise": Prioritise,
    "certify": Certify,
}
CLASSES: Final[Mapping[type[Task], QueueClass]] = {
    DeleteProject: QueueClass.CRITICAL,
    Purge: QueueClass.DEFAULT,
    Export: QueueClass.DEFAULT,
    Discover: QueueClass.SCRAPING,
    Reindex: QueueClass.INDEXING,
    Bulk: QueueClass.CRITICAL,
    Start: QueueClass.CRITICAL,
    Retry: QueueClass.CRITICAL,
    Prioritise: QueueClass.CRITICAL,
    Certify: QueueClass.DEFAULT,
}
"""Which class a kind is of unless it is asked for in another."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file that an export has written and closed."""

    name: str
    rows: int
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """A safe point: everything before it is durable, and the work can go on at `position`.

    `total` is 0 while it is not known.
    """

    done: int
    total: int
    position: str
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The work's last word: what came of it, as counts and names."""

    result: Mapping[str, int | str]


def kind_of(task: Task) -> str:
    """The name under which this kind is stored."""
    return next(name for name, kind in KINDS.items() if type(task) is kind)


def read(kind: str, arguments: Mapping[str, Any]) -> Task:
    """The task that was stored; `InvalidInput` names what of it cannot be used."""
    chosen = KINDS.get(kind)
    if chosen is None:
        raise InvalidInput(
            f"There is no task {kind!r}", fix=f"Choose one of {', '.join(KINDS)}", code="task_kind"
        )
    names = {field.name for field in fields(chosen)}
    unknown = sorted(arguments.keys() - names)
    if unknown:
        raise _bad(unknown[0], f"{kind} has no such argument")
    given = {name: _value(chosen, name, value) for name, value in arguments.items()}
    try:
        return chosen(**given)
    except TypeError as error:
        raise _bad(kind, "an argument is missing") from error


def _value(kind: type[Task], name: str, value: object) -> Any:
    wanted = get_type_hints(kind)[name]
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        try:
            return wanted(str(value))
        except ValueError:
            raise _bad(name, f"one of {', '.join(each.value for each in wanted)}") from None
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise _bad(name, f"it is no {wanted.__name__}")
    return value


def _bad(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"The argument {name!r} cannot be used", why=why, code="task_arguments")
