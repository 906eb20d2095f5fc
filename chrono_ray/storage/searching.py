"""Projects as searches name them: the index knows their numbers alone."""

from __future__ import annotations

from collections.abc import Collection

from chrono_ray.storage.database import Database, statements


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
