"""Searches over the wire: what may be asked, and what is answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, StrictInt, StringConstraints
from pydantic import Field as Rule

from chrono_ray.api.schemas import Answer, Asked
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.query import (
    EVERYTHING,
    FILTER_TERMS_MAX,
    LIMIT_MAX,
    OFFSET_MAX,
    QUERY_CHARS_MAX,
    And,
    Bar,
    Bucket,
    CapturedBetween,
    Counted,
    Equals,
    Field,
    Filter,
    Fragment,
    Hit,
    Query,
    Results,
    Sort,
    in_projects,
)
from chrono_ray.model.targets import moment

DATE_CHARS_MAX: Final = 32
NAME_CHARS_MAX: Final = 200
WWW: Final = "www."


def _project(asked: int | str) -> int | str:
    if isinstance(asked, int) and not 1 <= asked <= INT_MAX:
        raise ValueError(f"a project's number is from 1 to {INT_MAX}")
    if isinstance(asked, str) and ("\0" in asked or len(asked) > NAME_CHARS_MAX):
        raise ValueError(f"a project's name has up to {NAME_CHARS_MAX} characters and no NUL")
    return asked


Words = Annotated[
    str, Rule(max_length=QUERY_CHARS_MAX, description='Words and "phrases"; empty: all pages')
]
ProjectValue = Annotated[StrictInt | str, AfterValidator(_project)]
Values = Annotated[list[str], Rule(default_factory=list)]
Date = Annotated[str, StringConstraints(max_length=DATE_CHARS_MAX)]
Span = Annotated[list[tuple[int, int]], Rule(description="[start, end) in characters, ascending")]


class Facet(StrEnum):
    """Fields whose values may be counted, by the names that captures have them under."""

    PROJECT = "project"
    DOMAIN = "domain"
    HOST = "host"
    LANGUAGE = "language"
    MIMETYPE = "mimetype"


FIELDS: Final = {
    Facet.PROJECT: Field.PROJECT, Facet.DOMAIN: Field.DOMAIN, Facet.HOST: Field.HOST,
    Facet.LANGUAGE: Field.LANGUAGE, Facet.MIMETYPE: Field.TYPE,
}  # fmt: skip
FACETS: Final = {field: facet for facet, field in FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Projects:
    """Projects as they were asked for: by number, or by a name that is none."""

    ids: frozenset[int]
    names: frozenset[str]

    @property
    def named(self) -> bool:
        """Whether any is; else all that somebody sees are meant."""
        return bool(self.ids or self.names)

    @classmethod
    def of(cls, asked: Sequence[int | str]) -> Self:
        numbers = [each for each in asked if isinstance(each, int) or _is_number(each)]
        names = frozenset(each for each in asked if isinstance(each, str)).difference(numbers)
        return cls(frozenset(int(each) for each in numbers), frozenset(map(str, names)))


class SearchFilters(Asked):
    """What chooses pages. Each filter holds values of which any may match; all filters must."""

    query: Words = ""
    project: Annotated[
        list[ProjectValue],
        Rule(default_factory=list, max_length=FILTER_TERMS_MAX,
             description="By number, or by a name that is none"),
    ]  # fmt: skip
    domain: Values
    host: Annotated[
        list[str],
        Rule(default_factory=list,
             description="A URL's host, with www or without: either finds both"),
    ]  # fmt: skip
    language: Values
    mimetype: Values
    start: Annotated[
        Date, Rule(alias="from", description="Captured in or after: 2001, 200103, 2001-03-09 ...")
    ] = ""
    end: Annotated[Date, Rule(alias="to", description="Captured in or before its last second")] = ""
    typos: Annotated[bool, Rule(description="Without: each word as it is typed, to its end")] = True

    @property
    def projects(self) -> Projects:
        return Projects.of(self.project)

    @property
    def words(self) -> str:
        return self.query

    def tree(self, among: Collection[int] | None) -> Filter:
        """The filter tree, in these projects alone; `InvalidInput` for what cannot be asked."""
        values = {
            Field.DOMAIN: self.domain, Field.HOST: self.host, Field.LANGUAGE: self.language,
            Field.TYPE: self.mimetype,
        }  # fmt: skip
        return chosen(values, among=among, start=self.start, end=self.end)


class SearchRequest(SearchFilters):
    """What to search for, in which order, and what to count beside."""

    facets: Annotated[
        list[Facet],
        Rule(default_factory=list, max_length=len(Facet), description="Fields to count values of"),
    ]
    histogram: Annotated[
        Bucket | None, Rule(description="Counts all pages found by when they were first seen")
    ] = None
    sort: Sort = Sort.RELEVANCE
    offset: Annotated[int, Rule(ge=0, le=OFFSET_MAX)] = 0
    limit: Annotated[int, Rule(ge=1, le=LIMIT_MAX)] = 20

    def asked(self, among: Collection[int] | None = None) -> Query:
        """The query tree, in these projects alone; `InvalidInput` for what cannot be asked."""
        facets = tuple(FIELDS[each] for each in dict.fromkeys(self.facets))
        return Query(
            self.words, self.tree(among), facets, self.sort,
            self.offset, self.limit, self.histogram, self.typos,
        )  # fmt: skip


class SearchParameters(SearchRequest):
    """The same in an address, where `q` is short for `query`."""

    q: Words = ""

    @property
    def words(self) -> str:
        return self.query or self.q


def chosen(
    values: Mapping[Field, Sequence[str]],
    *,
    among: Collection[int] | None,
    start: str,
    end: str,
) -> Filter:
    """The filter of a search form: any of a field's values, some projects, and a span of dates."""
    given = {**values, Field.HOST: _with_and_without_www(values.get(Field.HOST, ()))}
    parts: list[Filter] = [Equals(field, tuple(each)) for field, each in given.items() if each]
    if among is not None:
        parts.append(in_projects(among))
    if start or end:
        parts.append(CapturedBetween(*map(_instant, span_of(start, end))))
    return And(tuple(parts)) if parts else EVERYTHING


def _with_and_without_www(hosts: Sequence[str]) -> list[str]:
    """As archives key hosts: both are one."""
    bare = dict.fromkeys(each.strip().lower().removeprefix(WWW) for each in hosts)
    return [name for each in bare for name in (each, WWW + each)]


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

    id: int
    url: str
    project: Annotated[str, Rule(description="Its name now")]
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

    @classmethod
    def of(cls, hit: Hit, names: Mapping[int, str]) -> Self:
        return cls(
            id=hit.id, url=hit.url, project=names.get(hit.project_id, ""),
            project_id=hit.project_id, domain=hit.domain, host=hit.host,
            language=hit.language, mimetype=hit.type, first_seen=hit.first_seen,
            last_seen=hit.last_seen, captures=hit.captures, title=Marked.of(hit.title),
            snippet=Marked.of(hit.snippet),
        )  # fmt: skip


class SearchBar(Answer):
    """How many of the pages found were first seen `when`: 2001, 2001-03 or 2001-03-09, in UTC."""

    when: str
    pages: int

    @classmethod
    def of(cls, bar: Bar) -> Self:
        return cls(when=bar.when, pages=bar.pages)


class SearchAnswer(Answer):
    """The hits, how many there are in all, and what was asked to be counted.

    `facets` tells of each field its 100 most frequent values, of projects their
    numbers; `projects` has the names of all that the answer tells of.
    """

    total: int
    counted: Annotated[
        Counted, Rule(description="What the total is worth: exact, an estimate, or a lower bound")
    ]
    hits: list[SearchHit]
    facets: dict[Facet, dict[str, int]]
    histogram: Annotated[list[SearchBar], Rule(description="Ascending, without empty ones")]
    projects: dict[str, str]

    @classmethod
    def of(cls, results: Results, names: Mapping[int, str]) -> Self:
        return cls(
            total=results.total, counted=results.counted,
            hits=[SearchHit.of(hit, names) for hit in results.hits],
            facets={FACETS[field]: told for field, told in results.facets.items()},
            histogram=[SearchBar.of(bar) for bar in results.histogram],
            projects={str(each): names[each] for each in told_of(results) if each in names},
        )  # fmt: skip


def told_of(results: Results) -> list[int]:
    """The projects that results tell of, ascending."""
    counted = map(int, results.facets.get(Field.PROJECT, {}))
    return sorted({*(hit.project_id for hit in results.hits), *counted})


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def span_of(start: str, end: str) -> tuple[str, str]:
    """14 digits of each date as it was typed, of the end its last second; empty for an open end.

    `InvalidInput` for what is no date, or no span of time.
    """
    span = _digits(start, late=False), _digits(end, late=True)
    CapturedBetween(*map(_instant, span))
    return span


def _digits(text: str, *, late: bool) -> str:
    return moment(text, Timestamp14.of(datetime.now(UTC)), late=late)


def _instant(digits: str) -> datetime | None:
    return Timestamp14(digits).instant if digits else None
