"""Projects as searches name them: the index knows their numbers alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chrono_ray.storage.database import Database, statements


@dataclass(frozen=True, slots=True)
class Named:
    """Projects by number, and domains that none of those that are meant collects."""

    projects: dict[int, str]
    unknown: tuple[str, ...]


class ProjectNames:
    """Reads; what somebody may see is for the caller to know."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("search")

    async def of(self, ids: Collection[int] = (), *, names: Collection[str] = ()) -> dict[int, str]:
        """The projects of these numbers and of these names, each with its name."""
        if not ids and not names:
            return {}
        rows = await self._database.fetch(self._sql["projects"], list(ids), list(names))
        return {row["id"]: row["name"] for row in rows}

    async def named(
        self,
        ids: Collection[int],
        names: Collection[str],
        *,
        domains: Collection[str],
        among: Collection[int] | None,
    ) -> Named:
        """The projects of these numbers and names; the domains are to be theirs, or those of
        the projects `among`; where that is None, anybody's."""
        rows = await self._database.fetch(
            self._sql["named"], list(ids), list(names), list(domains), list(among or ()),
            among is None,
        )  # fmt: skip
        projects = {row["id"]: row["name"] for row in rows if row["id"] is not None}
        return Named(projects, tuple(row["name"] for row in rows if row["id"] is None))
