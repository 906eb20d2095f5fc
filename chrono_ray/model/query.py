"""What can be asked of the index: words, a filter tree over allow-listed fields, counts, a sort.

Filters are built by code from this tree, never parsed from a user's string.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from chrono_ray.model.errors import InvalidInput

LIMIT_MAX: Final = 100
OFFSET_MAX: Final = 1000
"""Deeper pages are an export's work: Meilisearch stops at 1,000 hits."""
FILTER_TERMS_MAX: Final = 200
"""What a person may ask for; the projects that somebody sees are not counted."""
FILTER_DEPTH_MAX: Final = 10
QUERY_CHARS_MAX: Final = 1000
VALUE_BYTES_MAX: Final = 468
"""Meilisearch refuses longer filterable values."""


class Field(StrEnum):
    """Fields that may be filtered and counted. A project is known by its number: see `in_projects`.

    Names are for people: they change, and are unique for their owner only.
    """

    PROJECT = "project"
    DOMAIN = "domain"
    HOST = "host"
    LANGUAGE = "language"
    TYPE = "type"


class Sort(StrEnum):
    RELEVANCE = "relevance"
    NEWEST = "newest"
    OLDEST = "oldest"


class Bucket(StrEnum):
    """How wide the bars of a histogram over time are."""

    YEAR = "year"
    MONTH = "month"
    DAY = "day"


WIDTHS: Final = {Bucket.YEAR: 4, Bucket.MONTH: 7, Bucket.DAY: 10}
"""Characters of an ISO date that name a bucket."""
BARS_MAX: Final = 20_000
"""Days of 54 years, twice what web archives know."""


class Counted(StrEnum):
    """What a total is worth: the very number, an estimate of the index, or a lower bound."""

    EXACT = "exact"
    ESTIMATE = "estimate"
    AT_LEAST = "at_least"


@dataclass(frozen=True, slots=True)
class Equals:
    """The field is exactly one of `values`; any text is a literal."""

    field: Field
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        for value in self.values:
            _check_value(value)


@dataclass(frozen=True, slots=True)
class CapturedBetween:
    """Some capture of the page falls in [start, end]; either end may be open.

    A page is a version of a URL's content that was seen from `first_seen` to
    `last_seen`, so it matches when that span touches the one asked for.
    """

    start: datetime | None
    end: datetime | None

    def __post_init__(self) -> None:
        if self.start and self.end and self.start > self.end:
            raise InvalidInput(
                "The date range is empty",
                why=f"{self.start:%Y-%m-%d} is after {self.end:%Y-%m-%d}",
                fix="Swap the two dates",
                code="date_range",
            )


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


Filter = Equals | CapturedBetween | And | Or | Not
EVERYTHING: Final = And(())


def in_projects(ids: Iterable[int]) -> Equals:
    """The pages of these projects alone."""
    return Equals(Field.PROJECT, tuple(str(each) for each in sorted(set(ids))))


@dataclass(frozen=True, slots=True)
class Query:
    """One search. `text` may hold "quoted phrases"; an empty text matches everything.

    Without `typos` every word must stand there as it was typed, to its end. A
    `histogram` counts all matching pages by when they were first seen.
    """

    text: str
    filter: Filter = EVERYTHING
    facets: tuple[Field, ...] = ()
    sort: Sort = Sort.RELEVANCE
    offset: int = 0
    limit: int = 20
    histogram: Bucket | None = None
    typos: bool = True

    def __post_init__(self) -> None:
        _check_number("limit", self.limit, 1, LIMIT_MAX)
        _check_number("offset", self.offset, 0, OFFSET_MAX)
        if len(self.text) > QUERY_CHARS_MAX:
            raise InvalidInput(
                "The query is too long",
                why=f"{len(self.text)} characters, at most {QUERY_CHARS_MAX}",
                code="query_length",
            )
        check_filter(self.filter)


@dataclass(frozen=True, slots=True)
class PageEntry:
    """What the index holds of a page. `id` is the record's page id, stable for ever.

    `version` is another number whenever anything else here is (52 bits, from the record).
    """

    id: int
    project_id: int
    domain: str
    url: str
    host: str
    title: str
    text: str
    author: str
    language: str
    type: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of text with the character ranges that matched: plain text, to be shown as text."""

    text: str
    matches: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One page found. `title` and `snippet` carry match positions, never markup."""

    id: int
    project_id: int
    domain: str
    url: str
    host: str
    language: str
    type: str
    first_seen: datetime
    last_seen: datetime
    captures: int
    title: Fragment
    snippet: Fragment


@dataclass(frozen=True, slots=True)
class Bar:
    """How many pages were first seen `when`: 2001, 2001-03 or 2001-03-09, in UTC."""

    when: str
    pages: int


@dataclass(frozen=True, slots=True)
class Results:
    """`total` counts all matches, as well as `counted` says. Facets map value to count; a project's
    value is its number. `histogram` has the bars that are not empty, ascending."""

    hits: tuple[Hit, ...]
    total: int
    facets: dict[Field, dict[str, int]]
    milliseconds: float
    counted: Counted = Counted.EXACT
    histogram: tuple[Bar, ...] = ()


def bars(counted: Iterable[tuple[str, int]], bucket: Bucket) -> tuple[Bar, ...]:
    """A histogram from numbers of pages by ISO date, or by the beginning of one: added up."""
    counts: dict[str, int] = {}
    for day, pages in counted:
        when = day[: WIDTHS[bucket]]
        counts[when] = counts.get(when, 0) + pages
    return tuple(Bar(when, counts[when]) for when in sorted(counts))


def check_filter(tree: Filter) -> None:
    """Refuse a tree too deep or too wide to be served: `InvalidInput`."""
    if _depth(tree) > FILTER_DEPTH_MAX:
        raise InvalidInput(
            "The filter is too deep", why=f"at most {FILTER_DEPTH_MAX} levels", code="filter_depth"
        )
    if _terms(tree) > FILTER_TERMS_MAX:
        raise InvalidInput(
            "The filter is too long", why=f"at most {FILTER_TERMS_MAX} terms", code="filter_terms"
        )


def _depth(tree: Filter) -> int:
    """Walks without recursion, so that a hostile tree cannot exhaust the stack."""
    deepest, todo = 0, [(tree, 1)]
    while todo:
        node, level = todo.pop()
        deepest = max(deepest, level)
        if level > FILTER_DEPTH_MAX:
            return level
        todo.extend((part, level + 1) for part in _parts(node))
    return deepest


def _terms(tree: Filter) -> int:
    count, todo = 0, [tree]
    while todo:
        node = todo.pop()
        count += _weight(node)
        todo.extend(_parts(node))
    return count


def _weight(node: Filter) -> int:
    if isinstance(node, Equals):
        return 0 if node.field is Field.PROJECT else len(node.values)
    return 1


def _parts(node: Filter) -> tuple[Filter, ...]:
    match node:
        case And(parts) | Or(parts):
            return parts
        case Not(part):
            return (part,)
        case _:
            return ()


def _check_number(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(
            f"{name} is out of range", why=f"{value} is not in {low}..{high}", code=name
        )


def _check_value(value: str) -> None:
    bad = "\\" in value or any(ord(char) < 32 or ord(char) == 127 for char in value)
    if bad or len(value.encode("utf-8", "replace")) > VALUE_BYTES_MAX:
        raise InvalidInput(
            "The filter value cannot be asked",
            why=f"no backslash, no control character, at most {VALUE_BYTES_MAX} bytes",
            code="filter_value",
        )
