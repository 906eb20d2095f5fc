"""What changes while somebody watches: runs and tasks as they are now, tickets, throughput."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from chrono_ray.model.accounts import Actor, Grant, ProjectRole, Role, Scope, granted
from chrono_ray.model.bounds import BIG_MAX
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.stats import Progress, counts

TICKET: Final = timedelta(seconds=30)
FROM_NOW: Final = BIG_MAX
"""A version that is ever to come: of the past only what may not have been committed yet."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run at a moment. `together` is the first of its collection, None for one alone."""

    progress: Progress
    project_id: int
    together: int | None


@dataclass(frozen=True, slots=True)
class LiveTask:
    """A task at a moment; `project_id` 0 is none, `total` 0 while it is not known.

    `asked_by` is None as long as there is a project: its members see the task.
    """

    id: int
    kind: str
    project_id: int
    asked_by: int | None
    run_id: int | None
    state: str
    working: bool
    done: int
    total: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A domain whose captures were decided again, to the end; `at` is seconds since 1970."""

    project_id: int
    domain_id: int
    at: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """One look. Of two, the one with the greater `version` saw the later record.

    Versions are microseconds since 1970; runs stand in the order of preference.
    """

    version: int
    at: datetime
    runs: tuple[LiveRun, ...]
    tasks: tuple[LiveTask, ...]
    decided: frozenset[Decided] = frozenset()


@dataclass(frozen=True, slots=True)
class Bearer:
    """By whose token a connection was opened: a login's, or an API key."""

    user_id: int
    token_id: int
    scopes: frozenset[Scope]
    login: Any

    @classmethod
    def of(cls, actor: Actor) -> Bearer:
        return cls(actor.user_id, actor.token_id, actor.scopes, actor.family)


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody may see now: some projects, or everything."""

    user_id: int
    everything: bool
    projects: frozenset[int]

    @classmethod
    def of(cls, actor: Actor) -> Sight:
        return cls(
            actor.user_id, actor.is_admin, frozenset(each.project_id for each in actor.grants)
        )

    def sees(self, project_id: int, asked_by: int | None = None) -> bool:
        """Whether something of this project is theirs to see, or was asked for by them."""
        return self.everything or project_id in self.projects or asked_by == self.user_id


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was done in a step that begins `at`: listed rows, what they ended as, requests sent."""

    at: datetime
    listed: int
    stored: int
    unchanged: int
    known: int
    skipped: int
    gone: int
    refused: int
    failed: int
    listing_requests: int
    replay_requests: int
    throttled: int


class Live:
    """Reads for whoever watches; every method is one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("live")

    async def pulse(
        self, since: int | None, *, runs: Collection[int] = (), tasks: Collection[int] = ()
    ) -> Pulse:
        """What is active, and what changed its state after version `since`; and these by id.

        Without `since` these alone. A run of a collection comes with all the others.
        """
        row = await self._database.fetchrow(self._sql["pulse"], since, list(runs), list(tasks))
        assert row is not None  # noqa: S101 (the function answers with one row)
        return Pulse(
            row["version"], row["at"],
            tuple(_run(each) for each in orjson.loads(row["runs"])),
            tuple(_task(each) for each in orjson.loads(row["tasks"])),
            frozenset(Decided(*each) for each in orjson.loads(row["decided"])),
        )  # fmt: skip

    async def issue(self, ticket: bytes, actor: Actor) -> None:
        """Remember a ticket's hash for `TICKET`."""
        await self._database.fetch(self._sql["issue"], ticket, actor.token_id, TICKET)

    async def take(self, ticket: bytes) -> Actor | None:
        """Whose ticket this is, once; None for one that is spent, expired or nobody's."""
        row = await self._database.fetchrow(self._sql["take"], ticket)
        if row is None:
            return None
        role, grants = Role(row["role"]), orjson.loads(row["grants"] or "[]")
        return Actor(
            row["user_id"], role, granted(map(Scope, row["scopes"]), role), row["id"],
            row["family"],
            tuple(Grant(number, name, ProjectRole(held)) for number, name, held in grants),
        )  # fmt: skip

    async def standing(self, bearers: Sequence[Bearer]) -> list[Sight | None]:
        """What each may see now, in their order; None for one whose login or key has ended."""
        rows = await self._database.fetch(
            self._sql["standing"],
            [each.user_id for each in bearers], [each.token_id for each in bearers],
            [each.login for each in bearers],
        )  # fmt: skip
        found: list[Sight | None] = [None] * len(bearers)
        for row in rows:
            bearer = bearers[row["n"] - 1]
            is_admin = row["role"] == Role.ADMIN and Scope.ADMIN in bearer.scopes
            found[row["n"] - 1] = Sight(bearer.user_id, is_admin, frozenset(row["projects"] or ()))
        return found

    async def sample(self) -> int:
        """Keep every working project's counters for this minute, unless somebody has: how many."""
        return int(await self._database.fetchval(self._sql["sample"]))

    async def throughput(
        self,
        projects: Collection[int] | None,
        *,
        since: datetime,
        until: datetime,
        step: timedelta,
    ) -> list[Throughput] | None:
        """What was done in these projects (None: in all) in steps of time, idle ones left out.

        To the minute for two days back, to the hour for two years. None: none
        of them is there.
        """
        chosen = None if projects is None else list(projects)
        rows = await self._database.fetch(self._sql["throughput"], chosen, since, until, step)
        steps = [Throughput(**dict(row)) for row in rows if row["at"] is not None]
        return steps if rows or not projects else None


def _run(row: dict[str, Any]) -> LiveRun:
    counters: list[tuple[str, str, int]] = row["counters"]
    progress = Progress(
        run_id=row["id"], state=row["state"], project=row["project"], url=row["url"],
        archive=row["archive"], captures=counts(counters),
        requests={reason: n for state, reason, n in counters if state == "request"},
        holes=row["holes"], listing=row["listing"], seconds=float(row["seconds"]),
        created_at=datetime.fromtimestamp(row["created_at"], UTC),
    )  # fmt: skip
    return LiveRun(progress, row["project_id"], row["together"])


def _task(row: dict[str, Any]) -> LiveTask:
    return LiveTask(
        row["id"], row["kind"], row["project_id"], row["asked_by"], row["run_id"], row["state"],
        row["working"], row["done"], row["total"], row["reason"],
    )  # fmt: skip
