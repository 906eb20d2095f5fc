"""Leave to send: an archive's budget, durable and shared by everyone who uses it.

GCRA with one row per (archive, kind of request, egress). A request is never
sent before its slot's moment, and never later than the answer that brought the
slot may have taken (`LATENCY`) and an interval; the interval is so much longer
than window / budget that even then no sliding window holds more than the budget.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from chrono_ray.model.errors import ConnectionRefused, NotFound, Throttled
from chrono_ray.model.retry import BAN_PAUSE, LONGEST_PAUSE, THROTTLE_PAUSE, pause_after
from chrono_ray.storage.database import Database

HORIZON: Final = timedelta(seconds=2)
OUTAGE_PAUSE: Final = 10.0
LONGEST_WAIT: Final = 5.0
"""Nobody sleeps longer than this without asking again: a pause may be lifted."""
WINDOW: Final = 60.0
LATENCY: Final = 0.5
"""Seconds that PostgreSQL may take to answer before a slot it brought is late for that."""
LEAST_LATE: Final = 0.1
MOST_LATE: Final = 5.0
"""How late a slot may be used: an interval, within these bounds (timers are no better)."""
THROTTLED: Final = "throttled"
BANNED: Final = "banned"
OPERATOR: Final = "operator"
"""Why an archive is silent when somebody wanted it."""
SILENCED: Final = [Throttled.default_reason, ConnectionRefused.default_reason]
"""Why work is put off until a silence ends."""
WOKEN: Final = 10_000
"""Fetches brought back by one statement."""


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
        """Between two slots: budget x step = window + what a request may be late."""
        if self.per_minute == 0:
            return timedelta(0)
        step = (WINDOW + LATENCY) / max(self.per_minute - 1, 1)
        if not LEAST_LATE <= step <= MOST_LATE:
            step = (WINDOW + LATENCY + _lateness(step)) / self.per_minute
        return timedelta(microseconds=math.ceil(step * 1e6))


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long an archive is left alone when it does not say; seconds, each doubling up to a limit.

    `throttled`: 429 or 503 without Retry-After. `ban`: connections refused
    within ten minutes of throttling. `outage`: refused without that.
    """

    throttled: float = THROTTLE_PAUSE
    throttled_most: float = LONGEST_PAUSE
    ban: float = BAN_PAUSE
    ban_most: float = 24 * 3600.0
    outage: float = OUTAGE_PAUSE
    outage_most: float = 300.0


PAUSES: Final = Pauses()


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

    def __init__(self, database: Database, *, egress: str, pauses: Pauses = PAUSES) -> None:
        self._database = database
        self._egress = egress
        self._pauses = pauses

    async def configure(self, limits: Sequence[Limit]) -> None:
        """Make the budgets what the settings say; what is spent stays spent, pauses stay.

        They count as in use from now on (`Frontier.be_seen`).

        A new egress joins the archive's pause, should there be one.
        """
        async with self._database.transaction() as connection:
            for limit in sorted(limits, key=lambda limit: (limit.archive, limit.kind)):
                await connection.execute(
                    "INSERT INTO archive_budgets (archive, kind, egress, per_minute, step,"
                    " paused_until, pause_reason, pauses)"
                    " SELECT $1, $2, $3, $4, $5, coalesce(max(paused_until), '-infinity'),"
                    " coalesce(max(pause_reason), ''), coalesce(max(pauses), 0)"
                    " FROM archive_budgets WHERE archive = $1"
                    " ON CONFLICT (archive, kind, egress) DO UPDATE SET step = excluded.step,"
                    " per_minute = excluded.per_minute, seen_at = clock_timestamp()"
                    " WHERE archive_budgets.step <> excluded.step"
                    " OR archive_budgets.seen_at < clock_timestamp() - interval '1 minute'",
                    limit.archive, limit.kind.value, self._egress, limit.per_minute, limit.step,
                )  # fmt: skip

    async def turn(
        self, archive: str, kind: Kind, *, asking: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until one request may go out, and return at its moment.

        `asking` is called every few seconds meanwhile and raises to give up the wait.

        A slot that is missed by more than one interval is given up and
        another is asked for: late slots are never sent in a burst.
        """
        while True:
            asking()
            asked = time.monotonic()
            [row] = await self._database.fetch(
                "SELECT * FROM take_slots($1, $2, $3, 1, $4)",
                archive, kind.value, self._egress, HORIZON,
            )  # fmt: skip
            if row["granted"] == 0:
                await asyncio.sleep(min(max(row["wait"], 0.01), LONGEST_WAIT))
            elif await slot(
                row["delay"], row["step"], asked=asked, answered=time.monotonic()
            ).come():
                return

    async def heed(self, archive: str, error: Throttled | ConnectionRefused) -> float:
        """Silence the archive for the whole cluster; returns for how many seconds.

        429, 503 and Retry-After pause it for what it says, or 60 s doubling to
        an hour. A refused connection within ten minutes of throttling is a
        ban: an hour, doubling; otherwise the archive is down: seconds.
        """
        reason, seconds, longest = await self._sentence(archive, error)
        named = isinstance(error, Throttled) and error.retry_after is not None
        until: datetime = await self._database.fetchval(
            "SELECT pause_archive($1, $2, $3, $4, $5)",
            archive, reason, seconds, not named, longest,
        )  # fmt: skip
        left = await self._database.fetchval(
            "SELECT extract(epoch FROM $1::timestamptz - clock_timestamp())::float8", until
        )
        return max(float(left), 0.0)

    async def _sentence(
        self, archive: str, error: Throttled | ConnectionRefused
    ) -> tuple[str, float, float]:
        """Reason, seconds, and the most they may double to."""
        if isinstance(error, Throttled):
            if error.retry_after is None:
                return THROTTLED, self._pauses.throttled, self._pauses.throttled_most
            return THROTTLED, pause_after(0, error.retry_after), 0.0
        after_throttling = await self._database.fetchval(
            "SELECT count(*) FROM archive_budgets WHERE archive = $1 AND pause_reason = ANY ($2)"
            " AND paused_until > clock_timestamp() - interval '10 minutes'",
            archive, [THROTTLED, BANNED],
        )  # fmt: skip
        if after_throttling:
            return BANNED, self._pauses.ban, self._pauses.ban_most
        return error.reason, self._pauses.outage, self._pauses.outage_most

    async def pause(self, archive: str, seconds: float) -> datetime:
        """Silence an archive for everybody; until when. A longer silence stays. `NotFound` unknown.

        What is under way ends; what was given a slot of the next two seconds goes out. That the
        archive throttled or banned us lately stays known.
        """
        until: datetime | None = await self._database.fetchval(
            "SELECT pause_archive($1, coalesce(max(pause_reason) FILTER (WHERE"
            " pause_reason = ANY ($2) AND paused_until > clock_timestamp() - interval '10 minutes'"
            "), $3), $4, false, 0) FROM archive_budgets WHERE archive = $1 HAVING count(*) > 0",
            archive, [THROTTLED, BANNED], OPERATOR, seconds,
        )  # fmt: skip
        if until is None:
            raise _unknown(archive)
        return until

    async def resume(self, archive: str) -> bool:
        """End an archive's silence for everybody; False when it was not silent, `NotFound` unknown.

        It begins at a quarter of its rate, as after every pause, and what was
        put off for the silence is due at once. That it was throttled or banned
        stays known: the next pause is the longer for it.
        """
        ended = await self._database.fetchval(
            "WITH known AS (SELECT * FROM archive_budgets WHERE archive = $1"
            " ORDER BY archive, kind, egress FOR UPDATE), ended AS (UPDATE archive_budgets b"
            " SET paused_until = clock_timestamp() FROM known k WHERE b.archive = k.archive"
            " AND b.kind = k.kind AND b.egress = k.egress AND k.paused_until > clock_timestamp()"
            " RETURNING 1), due AS (UPDATE slices s SET not_before = clock_timestamp() FROM runs r"
            " WHERE r.id = s.run_id AND r.archive = $1 AND s.state = 'pending'"
            " AND s.reason = ANY ($2) AND s.not_before > clock_timestamp())"
            " SELECT (SELECT count(*) FROM ended) FROM known LIMIT 1",
            archive, SILENCED,
        )  # fmt: skip
        if ended is None:
            raise _unknown(archive)
        while await self._wake(archive) == WOKEN:
            pass
        return bool(ended)

    async def _wake(self, archive: str) -> int:
        """Have the sweep bring back some of what was parked for a silence; how many."""
        woken = await self._database.fetch(
            "UPDATE parked p SET until = clock_timestamp() WHERE p.fetch_id IN"
            " (SELECT q.fetch_id FROM parked q JOIN captures c ON c.id = q.capture_id"
            " WHERE c.archive = $1 AND q.reason = ANY ($2) AND q.until > clock_timestamp()"
            " LIMIT $3 FOR UPDATE OF q SKIP LOCKED) RETURNING 1",
            archive, SILENCED, WOKEN,
        )  # fmt: skip
        return len(woken)

    async def used(self) -> frozenset[str]:
        """The archives that runs were ever begun from."""
        rows = await self._database.fetch("SELECT DISTINCT archive FROM runs")
        return frozenset(row["archive"] for row in rows)

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
    """Leave for one request between two moments of this worker's monotonic clock."""

    at: float
    until: float

    async def come(self) -> bool:
        """Wait for the moment; False when the last one is already past."""
        early = self.at - time.monotonic()
        if early > 0:
            await asyncio.sleep(early)
        return time.monotonic() <= self.until


def slot(delay: float, step: float, *, asked: float, answered: float) -> Slot:
    """A slot `delay` seconds after the unknown moment, between two we know, at which it was given.

    Never early: it counts from the answer. `step` 0 is no limit.
    """
    if step == 0:
        return Slot(answered, math.inf)
    return Slot(answered + delay, min(answered, asked + LATENCY) + delay + _lateness(step))


def _unknown(archive: str) -> NotFound:
    return NotFound(
        f"There is no budget of an archive {archive!r}",
        fix="`chrono archive list` names those that there are",
    )


def _lateness(step: float) -> float:
    return min(max(step, LEAST_LATE), MOST_LATE)
