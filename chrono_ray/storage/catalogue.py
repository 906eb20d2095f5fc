"""The projects there are and what they hold, for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chrono_ray.model.errors import NotFound
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.named import project_named


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project in numbers. `deleting` is the task that deletes it, 0 when none does.

    `owner` is an address, empty for one that was made at the machine.
    """

    id: int
    name: str
    owner: str
    weight: int
    created_at: datetime
    domains: int
    runs: int
    active: int
    captures: int
    pages: int
    deleting: int


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A domain of a project in numbers."""

    url: str
    match: str
    runs: int
    captures: int
    pages: int


class Catalogue:
    """Reads; changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("catalogue")

    async def projects(self) -> list[ProjectRow]:
        """All of them, by name."""
        rows = await self._database.fetch(self._sql["projects"], None)
        return [ProjectRow(**dict(row)) for row in rows]

    async def project(self, name: str) -> ProjectRow:
        """The one that a name means (`project_named`)."""
        project_id = await project_named(self._database, name)
        row = await self._database.fetchrow(self._sql["projects"], [project_id])
        if row is None:  # it went between the two
            raise NotFound(f"There is no project {name!r}", fix="`chrono project list` names them")
        return ProjectRow(**dict(row))

    async def domains(self, project: ProjectRow) -> list[DomainRow]:
        """What a project collects, by URL."""
        rows = await self._database.fetch(self._sql["domains"], project.id)
        return [DomainRow(**dict(row)) for row in rows]
