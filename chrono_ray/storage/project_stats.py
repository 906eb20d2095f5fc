"""Projects and domains with what they hold, for whoever may see them: one statement each.

Nothing is counted: the totals are kept where things change (`total_changes`
in the record), and read as of one snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import asyncpg
import orjson

from chrono_ray.model.accounts import Actor, ProjectRole
from chrono_ray.model.errors import NotFound
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.deciding import Redecision, Tally
from chrono_ray.storage.stats import CaptureCounts, counts

DOMAINS_SHOWN: Final = 200
"""Domains of a project's statistics: those with the most captures. All of them have a list."""


class ProjectSort(StrEnum):
    """By name, or the latest or most first."""

    NAME = "name"
    CREATED = "created"
    ACTIVITY = "activity"
    CAPTURES = "captures"
    PAGES = "pages"


@dataclass(frozen=True, slots=True)
class ProjectHead:
    """A project itself. `version` grows with every change of a person; `deleting` is that task."""

    id: int
    name: str
    description: str
    weight: int
    version: int
    owner_id: int | None
    created_at: datetime
    changed_at: datetime
    role: ProjectRole
    deleting: int | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is held. `captures` counts rows, each once; `states` what runs listed, summed over runs.

    `runs` by their state, `requests` by their kind.
    """

    captures: int
    pages: int
    domains: int
    holes: int
    runs: Mapping[str, int]
    requests: Mapping[str, int]
    states: CaptureCounts


@dataclass(frozen=True, slots=True)
class ListedProject:
    """`active_at`: when anything of it last changed. `rank`: what the list is ordered by."""

    head: ProjectHead
    numbers: Numbers
    active_at: datetime
    rank: str | int


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers by archive, and captures by the year of their timestamp."""

    numbers: Numbers
    archives: Mapping[str, Numbers]
    years: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DomainShape:
    """A domain among a project's statistics."""

    id: int
    url: str
    match: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class ProjectStatistics:
    """`domains` are those with the most captures, at most `DOMAINS_SHOWN`."""

    project_id: int
    shape: Shape
    domains: tuple[DomainShape, ...]
    active_at: datetime


@dataclass(frozen=True, slots=True)
class ListedDomain:
    """`rules` counts its own, not the built-in ones; `place` is where the list goes on."""

    id: int
    url: str
    match: str
    created_at: datetime
    rules: int
    rules_version: int
    shape: Shape
    active_at: datetime
    place: str = ""


@dataclass(frozen=True, slots=True)
class SeenDomain:
    """A domain with its rules as they are stored, and how far its newest redecision is."""

    domain: ListedDomain
    role: ProjectRole
    stored_rules: str | None
    redecision: Redecision | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which projects: those with a word in name or description, and those being deleted too.

    `after` is the last one's rank and id.
    """

    word: str = ""
    sort: ProjectSort = ProjectSort.NAME
    deleting: bool = False
    after: tuple[str | int, int] | None = None
    limit: int = 100


class ProjectStats:
    """Reads. What somebody may not see is not there for them: `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("project_stats")

    async def projects(self, actor: Actor, wanted: Wanted) -> list[ListedProject]:
        """In the order of `wanted`, of equal ones by id."""
        rank, last_id = wanted.after or (None, None)
        arguments = [
            actor.user_id, actor.is_admin, wanted.word, wanted.deleting, rank, last_id,
            wanted.limit,
        ]  # fmt: skip
        if wanted.sort is ProjectSort.NAME:
            rows = await self._database.fetch(self._sql["by_name"], *arguments)
        else:
            rows = await self._database.fetch(self._sql["by_number"], *arguments, wanted.sort)
        return [_listed(row, wanted.sort) for row in rows]

    async def project(self, actor: Actor, project_id: int) -> ProjectHead:
        """One project without its numbers."""
        row = await self._database.fetchrow(
            self._sql["project"], actor.user_id, actor.is_admin, project_id
        )
        if row is None:
            raise no_project(project_id)
        return head_of(row)

    async def statistics(self, actor: Actor, project_id: int) -> ProjectStatistics:
        """A project's numbers by domain, state, reason, archive and year."""
        row = await self._database.fetchrow(
            self._sql["statistics"], actor.user_id, actor.is_admin, project_id, DOMAINS_SHOWN
        )
        if row is None:
            raise no_project(project_id)
        domains = [
            DomainShape(domain_id, url, match, shape_of(numbers or []))
            for domain_id, url, match, numbers in orjson.loads(row["domains"] or "[]")
        ]
        numbers = orjson.loads(row["numbers"] or "[]")
        return ProjectStatistics(row["id"], shape_of(numbers), tuple(domains), row["active_at"])

    async def domains(
        self, actor: Actor, project_id: int, *, word: str, after: tuple[str, int] | None, limit: int
    ) -> list[ListedDomain]:
        """A project's domains by URL, those behind a place and an id."""
        place, last_id = after or (None, None)
        rows = await self._database.fetch(
            self._sql["domains"],
            actor.user_id, actor.is_admin, project_id, word, place, last_id, limit,
        )  # fmt: skip
        if not rows:
            raise no_project(project_id)
        return [_domain(row, row["place"]) for row in rows if row["id"] is not None]

    async def domain(self, actor: Actor, project_id: int, domain_id: int) -> SeenDomain:
        """One of them."""
        row = await self._database.fetchrow(
            self._sql["domain"], actor.user_id, actor.is_admin, project_id, domain_id
        )
        if row is None:
            raise no_domain(domain_id)
        walk = None
        if row["walk"] is not None:
            tally = Tally(*(row[name] for name in Tally.__dataclass_fields__))
            walk = Redecision(row["walk"] == "done", row["held"], tally)
        return SeenDomain(_domain(row, ""), ProjectRole(row["role"]), row["stored_rules"], walk)


def no_project(project_id: int) -> NotFound:
    return NotFound(f"There is no project {project_id}")


def no_domain(domain_id: int) -> NotFound:
    return NotFound(f"There is no domain {domain_id}")


def head_of(row: asyncpg.Record) -> ProjectHead:
    """A row of `project` in project_stats.sql, or one with the same columns."""
    return ProjectHead(
        row["id"], row["name"], row["description"], row["weight"], row["version"], row["owner_id"],
        row["created_at"], row["changed_at"], ProjectRole(row["role"]), row["deleting"],
    )  # fmt: skip


def numbers_of(rows: Iterable[tuple[str, str, int]]) -> Numbers:
    """Rows of (state, reason, n), of which several may be about the same."""
    sums: Counter[tuple[str, str]] = Counter()
    for state, reason, n in rows:
        sums[state, reason] += n
    return Numbers(
        captures=sums["captures", ""], pages=sums["pages", ""], domains=sums["domains", ""],
        holes=sums["holes", ""], runs=_of("runs", sums), requests=_of("request", sums),
        states=counts([(state, reason, n) for (state, reason), n in sums.items()]),
    )  # fmt: skip


def shape_of(rows: Iterable[tuple[str, str, str, int]]) -> Shape:
    """Rows of (archive, state, reason, n); a domain's `years` are its captures."""
    told = [(archive, *_captures(state, reason), n) for archive, state, reason, n in rows]
    years: Counter[str] = Counter()
    whole: list[tuple[str, str, int]] = []
    archives: dict[str, list[tuple[str, str, int]]] = {}
    for archive, state, reason, year, n in told:
        if year:
            years[year] += n
        whole.append((state, reason, n))
        if archive:
            archives.setdefault(archive, []).append((state, reason, n))
    return Shape(
        numbers_of(whole), {name: numbers_of(archives[name]) for name in sorted(archives)},
        {year: n for year, n in sorted(years.items()) if n},
    )  # fmt: skip


def _captures(state: str, reason: str) -> tuple[str, str, str]:
    return ("captures", "", reason) if state == "years" else (state, reason, "")


def _of(state: str, sums: Mapping[tuple[str, str], int]) -> dict[str, int]:
    found = {reason: n for (each, reason), n in sums.items() if each == state and n}
    return dict(sorted(found.items()))


def _listed(row: asyncpg.Record, sort: ProjectSort) -> ListedProject:
    rank = row["name"] if sort is ProjectSort.NAME else row["rank"]
    rows = zip(row["states"] or (), row["reasons"] or (), row["counts"] or (), strict=True)
    return ListedProject(head_of(row), numbers_of(rows), row["active_at"], rank)


def _domain(row: asyncpg.Record, place: str) -> ListedDomain:
    columns = (row[name] or () for name in ("archives", "states", "reasons", "counts"))
    return ListedDomain(
        row["id"], row["url"], row["match"], row["created_at"], row["rules"],
        row["rules_version"], shape_of(zip(*columns, strict=True)), row["active_at"], place,
    )  # fmt: skip
