"""What somebody may see: the right to it and the rows by one statement each."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import NotFound
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.stats import Progress, progress_of


@dataclass(frozen=True, slots=True)
class Hole:
    """A part of a listing that could not be had; `start` and `end` have 14 digits, or none."""

    slice_id: int
    start: str
    end: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A run's progress, or that of a collection's runs, most preferred archive first."""

    parts: tuple[Progress, ...]
    holes: tuple[Hole, ...]


class Visible:
    """Reads. What somebody may not see is not there for them: `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("visible")

    async def run(self, run_id: int, actor: Actor) -> SeenRun:
        """A run; the first of a collection stands for all of it."""
        rows = await self._database.fetch(self._sql["run"], run_id, actor.user_id, actor.is_admin)
        if not rows:
            raise NotFound(f"There is no run {run_id}")
        holes = [Hole(*each) for row in rows for each in orjson.loads(row["hole_details"])]
        return SeenRun(tuple(progress_of(row) for row in rows), tuple(holes))
