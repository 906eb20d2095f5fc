"""Leave to send: an archive's budget, durable and shared by everyone who uses it.

GCRA with one row per (archive, kind of request, egress). The interval is
window / (budget - 1): with it, and slots given up when late by more than an
interval, no sliding window ever held more than the budget (measured over
64 s, research: 50 of 50 in 1 s, 2,941 of 3,000 in 60 s).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from chrono_ray.model.errors import ConnectionRefused, Throttled
from chrono_ray.model.retry import BAN_PAUSE, LONGEST_PAUSE, THROTTLE_PAUSE
from chrono_ray.storage.database import Database

HORIZON: Final = timedelta(seconds=2)
OUTAGE_PAUSE: Final = 10.0
LONGEST_WAIT: Final = 5.0
"""Nobody sleeps longer than this without asking again: a pause may be lifted."""


class Kind(StrEnum):
    LISTING = "listing"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Limit:
    """What an archive allows per minute and egress; 0 is no limit (an archive of your own)."""

    archive: str
    kind: Kind
    per_minute: int

    @property
    def step(self) -> timedelta:
        """Between two requests."""
        if self.per_minute == 0:
            return timedelta(0)
        return timedelta(seconds=60 / max(self.per_minute - 1, 1))


@dataclass(frozen=True, slots=True)
class Budget:
    """An archive's budget as an operator sees it."""

    archive: str
    kind: Kind
    egress: str
    per_minute: int
    paused_seconds: float
    pause_reason: str


class Governor:
    """Everybody's view of the budgets, for one egress."""

    def __init__(self, database: Database, *, egress: str) -> None:
        self._database = database
        self._egress = egress

    async def configure(self, limits: Sequence[Limit]) -> None:
        """Make the budgets what the settings say; what is spent stays spent, pauses stay."""
        async with self._database.transaction() as connection:
            for limit in sorted(limits, key=lambda limit: (limit.archive, limit.kind)):
                await connection.execute(
                    "INSERT INTO archive_budgets (archive, kind, egress, per_minute, step)"
                    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (archive, kind, egress) DO UPDATE"
                    " SET per_minute = excluded.per_minute, step = excluded.step"
                    " WHERE archive_budgets.step <> excluded.step",
                    limit.archive, limit.kind.value, self._egress, limit.per_minute, limit.step,
                )  # fmt: skip

    async def turn(self, archive: str, kind: Kind) -> None:
        """Wait until one request may go out, and return at its moment.

        A slot that is missed by more than one interval is given up and
        another is asked for: late slots are never sent in a burst.
        """
        while True:
            asked = time.monotonic()
            [row] = await self._database.fetch(
                "SELECT * FROM take_slots($1, $2, $3, 1, $4)",
                archive, kind.value, self._egress, HORIZON,
            )  # fmt: skip
            if row["granted"] == 0:
                await asyncio.sleep(min(max(row["wait"], 0.01), LONGEST_WAIT))
            elif await Slot(asked + row["delay"], row["step"]).come():
                return

    async def heed(self, archive: str, error: Throttled | ConnectionRefused) -> float:
        """Silence the archive for the whole cluster; returns for how many seconds.

        429, 503 and Retry-After pause it for what it says, or 60 s doubling to
        an hour. A refused connection within ten minutes of throttling is a
        ban: an hour, doubling; otherwise the archive is down: seconds.
        """
        seconds, doubling, longest = await self._sentence(archive, error)
        until: datetime = await self._database.fetchval(
            "SELECT pause_archive($1, $2, $3, $4, $5)",
            archive, error.reason, seconds, doubling, longest,
        )  # fmt: skip
        left = await self._database.fetchval(
            "SELECT extract(epoch FROM $1::timestamptz - clock_timestamp())::float8", until
        )
        return max(float(left), 0.0)

    async def _sentence(
        self, archive: str, error: Throttled | ConnectionRefused
    ) -> tuple[float, bool, float]:
        if isinstance(error, Throttled):
            if error.retry_after is None:
                return THROTTLE_PAUSE, True, LONGEST_PAUSE
            return min(max(error.retry_after, 1.0), 24 * 3600.0), False, LONGEST_PAUSE
        throttled = await self._database.fetchval(
            "SELECT count(*) FROM archive_budgets WHERE archive = $1 AND pause_reason = 'throttled'"
            " AND paused_until > clock_timestamp() - interval '10 minutes'",
            archive,
        )
        if throttled:
            return BAN_PAUSE, True, 24 * 3600.0
        return OUTAGE_PAUSE, True, 300.0

    async def budgets(self) -> list[Budget]:
        """Every budget of every egress, by archive and kind."""
        rows = await self._database.fetch(
            "SELECT archive, kind, egress, per_minute, pause_reason,"
            " greatest(extract(epoch FROM paused_until - clock_timestamp()), 0)::float8 AS paused"
            " FROM archive_budgets ORDER BY archive, kind, egress"
        )
        return [
            Budget(
                row["archive"],
                Kind(row["kind"]),
                row["egress"],
                row["per_minute"],
                row["paused"],
                row["pause_reason"] if row["paused"] else "",
            )
            for row in rows
        ]


@dataclass(frozen=True, slots=True)
class Slot:
    """Leave for one request at a moment of this worker's monotonic clock; `step` 0 is no limit."""

    at: float
    step: float

    async def come(self) -> bool:
        """Wait for the moment; False when it is already past by more than an interval."""
        late = time.monotonic() - self.at
        if self.step == 0:
            return True
        if late > self.step:
            return False
        if late < 0:
            await asyncio.sleep(-late)
        return time.monotonic() - self.at <= self.step
