"""What a planned run would ask for, and the word that starts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from chrono_ray.model.capture import EMPTY_DIGEST, NO_DIGEST
from chrono_ray.model.errors import Conflict, NotFound
from chrono_ray.storage.control import Control
from chrono_ray.storage.database import Database, statements

UNSHARED: Final = [EMPTY_DIGEST, NO_DIGEST, ""]
COUNTED: Final = ("payloads", "filters", "years", "holes", "rates")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """What would be asked of one archive: requests, and the listed bytes of what they bring.

    `without_length` of them the archive lists without a length. `elsewhere`:
    payloads that another run at work will bring anyway.
    """

    requests: int
    elsewhere: int
    bytes: int
    without_length: int


@dataclass(frozen=True, slots=True)
class Filter:
    """What one rule leaves out; `requests`: at most so many more there would be without it."""

    reason: str
    rule: str
    confidence: float
    captures: int
    requests: int


@dataclass(frozen=True, slots=True)
class Year:
    captures: int
    wanted: int
    requests: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of an archive's listing that could not be had."""

    archive: str
    start: str
    end: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """Counted from the rows of a plan, which are not the `known` and `repeated` ones."""

    wires: dict[str, Wire]
    filters: tuple[Filter, ...]
    years: dict[str, Year]
    holes: tuple[Gap, ...]
    per_minute: dict[str, int]
    """Replays that each archive may be asked for, over all egresses; 0 is no limit."""


class Planning:
    """Reads plans; starts them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._control = Control(database)
        self._sql = statements("planning")

    async def estimate(self, run_ids: Sequence[int]) -> Estimate:
        """All of a plan, at one moment. Three walks over its captures: 1,000,000 take seconds."""
        parts = ", ".join(
            f"(SELECT coalesce(json_agg(q), '[]') FROM ({self._sql[name]}) q)::text"  # noqa: S608 (ours)
            for name in COUNTED
        )
        row = await self._database.fetchrow(f"SELECT {parts}", list(run_ids), UNSHARED)
        payloads, filters, years, holes, rates = map(orjson.loads, row or ())
        return Estimate(
            {name: _wire([row for row in payloads if row["archive"] == name])
             for name in dict.fromkeys(row["archive"] for row in payloads)},
            tuple(Filter(*row.values()) for row in filters),
            _years(years, payloads),
            tuple(Gap(*row.values()) for row in holes),
            {row["archive"]: row["per_minute"] for row in rates},
        )  # fmt: skip

    async def start(self, run_ids: Sequence[int]) -> bool:
        """Fetch what these runs planned; again changes nothing. True while they are paused.

        What was cancelled with another run meanwhile, or could not be had
        from another archive, is asked for too.
        `Conflict` when one was cancelled or is no plan and over; `NotFound` for none.
        """
        ids = list(run_ids)
        for run_id in ids:
            await self._control.open_unasked(run_id)
        await self._database.fetch(self._sql["start"], ids)
        rows = await self._database.fetch(self._sql["standing"], ids)
        if not rows:
            raise NotFound("There is no such run", fix="`chrono status` lists the runs")
        for row in rows:
            if row["state"] not in ("active", "paused"):
                raise Conflict(f"Run {row['id']} cannot be started", why=f"it is {row['state']}",
                               fix="Plan or run it again")  # fmt: skip
        return any(row["state"] == "paused" for row in rows)


def _wire(rows: Sequence[Row]) -> Wire:
    return Wire(
        requests=sum(row["requests"] for row in rows),
        elsewhere=sum(row["elsewhere"] for row in rows),
        bytes=sum(row["bytes"] for row in rows),
        without_length=sum(row["without_length"] for row in rows),
    )


def _years(years: Sequence[Row], payloads: Sequence[Row]) -> dict[str, Year]:
    requests = dict.fromkeys([row["year"] for row in [*years, *payloads]], 0)
    for row in payloads:
        requests[row["year"]] += row["requests"]
    counted = {row["year"]: (row["captures"], row["wanted"]) for row in years}
    return {
        year: Year(*counted.get(year, (0, 0)), requests[year]) for year in sorted(requests)
    }  # fmt: skip
