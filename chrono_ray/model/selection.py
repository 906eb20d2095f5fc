"""Which captures a person means: where they stand, when, where and what they are.

A selection is stored as JSON with a task that works on it; `read` is the
inverse of `written` and believes nothing of what it reads.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput

CHOSEN: Final = "chosen by a person"
"""The rule of a decision about one capture that a person took at the machine."""
PERSON: Final = "person:"
"""Begins the rule of a decision that a user took; their id follows. No rule takes it back."""
SKIPPED_BY_PERSON: Final = "skipped"
"""The reason of what a person skipped."""


class CaptureState(StrEnum):
    """Where a capture stands. `pending` is queued, `parked` waits for its next try.

    `known` is told of one run alone: what it listed and an earlier one had.
    """

    PENDING = "pending"
    PARKED = "parked"
    LEASED = "leased"
    STORED = "stored"
    UNCHANGED = "unchanged"
    KNOWN = "known"
    SKIPPED = "skipped"
    GONE = "gone"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


WAITING: Final = frozenset({CaptureState.PENDING, CaptureState.PARKED, CaptureState.LEASED})
WITHOUT_PAGE: Final = frozenset(
    {CaptureState.GONE, CaptureState.REFUSED, CaptureState.FAILED, CaptureState.CANCELLED}
)


class CaptureAction(StrEnum):
    """What a person may do to captures."""

    SKIP = "skip"
    APPROVE = "approve"
    RETRY = "retry"
    PRIORITY = "priority"


class CaptureSort(StrEnum):
    """The order of a list: by time, or as they were listed; `-` is the other way."""

    OLDEST = "time"
    NEWEST = "-time"
    LISTED = "id"
    LISTED_LAST = "-id"

    @property
    def by_time(self) -> bool:
        return self in (CaptureSort.OLDEST, CaptureSort.NEWEST)

    @property
    def backwards(self) -> bool:
        return self.value.startswith("-")


@dataclass(frozen=True, slots=True)
class Selection:
    """Captures of one project: every part that is given must hold, of its values any one.

    `places` are such parts themselves, each of beginnings of SURT keys. `start` and
    `end` have 14 digits, inclusive, or are empty; `domain` and `run` 0 mean all.
    """

    states: tuple[CaptureState, ...] = ()
    reasons: tuple[str, ...] = ()
    places: tuple[tuple[str, ...], ...] = ()
    mimetypes: tuple[str, ...] = ()
    statuscodes: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    domain: int = 0
    run: int = 0
    start: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        if self.known and (len(self.states) > 1 or not self.run):
            raise InvalidInput(
                "What was known already is told of one run alone",
                fix="Give the run, and no other state", code="capture_state",
            )  # fmt: skip
        for each in filter(None, (self.start, self.end)):
            Timestamp14(each)

    @property
    def known(self) -> bool:
        """Whether it means what its run knew already."""
        return CaptureState.KNOWN in self.states


EVERY_CAPTURE: Final = Selection()


def person_rule(user_id: int) -> str:
    """How the record names a user's decision."""
    return f"{PERSON}{user_id}"


def is_persons(rule: str) -> bool:
    """Whether a person took the decision: no rule takes it back."""
    return rule == CHOSEN or rule.startswith(PERSON)


def written(selection: Selection) -> str:
    """The selection as JSON."""
    return json.dumps(asdict(selection), sort_keys=True)


def read(text: str) -> Selection:
    """The selection that was written; `InvalidInput` when it is none."""
    try:
        return _selection(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInput(
            "The selection cannot be used", why=repr(error)[:200], code="task_arguments"
        ) from error


def _selection(given: dict[str, object]) -> Selection:
    def words(name: str) -> tuple[str, ...]:
        return _words(given[name])

    places = given["places"]
    if not isinstance(places, list):
        raise TypeError("places")
    return Selection(
        tuple(CaptureState(each) for each in words("states")), words("reasons"),
        tuple(_words(each) for each in places), words("mimetypes"), words("statuscodes"),
        words("archives"), _number(given["domain"]), _number(given["run"]),
        str(given["start"]), str(given["end"]),
    )  # fmt: skip


def _words(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise TypeError(given)
    return tuple(given)


def _number(given: object) -> int:
    if type(given) is not int:
        raise TypeError(given)
    return given
