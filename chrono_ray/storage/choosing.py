"""What people decide about captures: few at once, many by a task.

The record's own functions do it (migration 0005): one statement, whose locks
and counters are theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import asyncpg
import orjson

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import Conflict, Forbidden, NotFound
from chrono_ray.model.priority import CapturePriority, QueueClass, order_key
from chrono_ray.model.selection import (
    EVERY_CAPTURE,
    CaptureAction,
    CaptureSort,
    Selection,
    person_rule,
    written,
)
from chrono_ray.model.task import CLASSES, Bulk
from chrono_ray.storage.capture_query import CaptureQuery, Place, in_order
from chrono_ray.storage.control import NOT_AGAIN
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.listings import EARLIEST
from chrono_ray.storage.settling import GUILTY_BYTES

AT_ONCE: Final = 1_000
"""So many captures are changed while somebody waits; more are a task's work."""
COUNTED: Final = 10_000
"""So many a dry run looks at."""
FIRST_KEY: Final = order_key(CapturePriority.NOW, 0)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Captures that a person means: by what holds for them, or these ids alone."""

    project_id: int
    selection: Selection = EVERY_CAPTURE
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to them, and who does it. `priority` matters for that action alone."""

    action: CaptureAction
    user_id: int
    priority: CapturePriority = CapturePriority.NORMAL

    @property
    def guilty(self) -> list[str]:
        """Reasons whose captures it leaves alone: the same bytes would give them again."""
        return list(NOT_AGAIN if self.action is CaptureAction.RETRY else GUILTY_BYTES)


@dataclass(frozen=True, slots=True)
class Counted:
    """So many captures stood there before."""

    state: str
    reason: str
    n: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did, or would do. `task` does it where they are many.

    `more`: there are more captures than were counted.
    """

    changed: tuple[Counted, ...]
    left: tuple[Counted, ...]
    more: bool
    task: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a task's work: up to which id, and whether it was the last."""

    upto: int
    done: bool
    changed: tuple[Counted, ...]
    left: tuple[Counted, ...]


@dataclass(frozen=True, slots=True)
class Fetching:
    """`run_id` fetches it before all else; None where its payload is here."""

    project_id: int
    run_id: int | None
    approved: bool


class Choosing:
    """Writes decisions. What somebody may not see is not there for them: `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("captures")

    async def fetch_now(self, connection: Connection, capture_id: int, actor: Actor) -> Fetching:
        """Have one fetched before all else (see `Control.fetch_now`), in this transaction."""
        row = await connection.fetchrow(
            self._sql["fetch_now"], capture_id, actor.user_id, actor.is_admin,
            person_rule(actor.user_id), FIRST_KEY,
        )  # fmt: skip
        if row is None:
            raise NotFound("There is no such capture")
        _check_may(row["role"], row["task"])
        return Fetching(row["project_id"], row["run"], row["approved"])

    async def change(
        self, connection: Connection, chosen: Chosen, change: Change, actor: Actor
    ) -> Changed:
        """Change these captures in this transaction, or have a task do it where they are many.

        `NotFound` when one of the ids is none of the project's; then nothing is changed.
        """
        query = CaptureQuery()
        pieces = {**_said(query, change), **_task_of(query, chosen, change)}
        pieces |= {"most": AT_ONCE, "ids": len(chosen.ids), "rule": _rule(query, change)}
        statement = query.filled("change", pieces)
        whole = _whole(query, chosen, actor, AT_ONCE + 1, statement)
        return _changed(await in_order(connection, query, whole), chosen)

    async def count(
        self, connection: Connection, chosen: Chosen, change: Change, actor: Actor
    ) -> Changed:
        """What `change` would do, of so many of them as `COUNTED` says."""
        query = CaptureQuery()
        statement = query.filled("count", {**_said(query, change), "most": COUNTED})
        whole = _whole(query, chosen, actor, COUNTED + 1, statement)
        return _changed(await in_order(connection, query, whole), chosen)

    async def step(
        self, chosen: Chosen, change: Change, *, after: int, upto: int, limit: int = AT_ONCE
    ) -> Step:
        """Change the next of these captures, behind an id and not behind another, for a task.

        `Forbidden` when whoever asked for it may write there no more, `Conflict` when the
        project is being deleted.
        """
        query = CaptureQuery()
        place = query.place(change.user_id, chosen.project_id, EVERY_CAPTURE, admin=None)
        ids = [each for each in sorted(chosen.ids) if each > after][:limit]
        if chosen.ids:
            found = query.filled("these", {"these": query.put(ids, "bigint[]")})
        else:
            found = query.found(
                chosen.selection, sort=CaptureSort.LISTED, after=Place(EARLIEST, after),
                limit=limit, upto=upto,
            )  # fmt: skip
        statement = query.filled("step", {**_said(query, change), "rule": _rule(query, change)})
        whole = f"WITH place AS MATERIALIZED ({place}), {found} {statement}"
        rows = await self._database.transact(lambda c: in_order(c, query, whole))
        return _step(rows, ids, limit)


def _whole(query: CaptureQuery, chosen: Chosen, actor: Actor, limit: int, statement: str) -> str:
    place = query.place(
        actor.user_id, chosen.project_id, chosen.selection, admin=actor.is_admin
    )  # fmt: skip
    if chosen.ids:
        found = query.filled("these", {"these": query.put(list(chosen.ids), "bigint[]")})
    else:
        found = query.found(chosen.selection, sort=CaptureSort.LISTED, after=None, limit=limit)
    return f"WITH place AS MATERIALIZED ({place}), {found} {statement}"


def _said(query: CaptureQuery, change: Change) -> dict[str, str | int]:
    return {
        "action": query.put(change.action.value, "text"),
        "band": query.put(change.priority.value, "int"),
        "guilty": query.put(change.guilty, "text[]"),
    }


def _rule(query: CaptureQuery, change: Change) -> str:
    return query.put(person_rule(change.user_id), "text")


def _task_of(query: CaptureQuery, chosen: Chosen, change: Change) -> dict[str, str | int]:
    """The task that does it, and the key by which an unfinished one of the same is known."""
    task = Bulk(
        chosen.project_id, change.user_id, change.action.value, change.priority.value,
        written(chosen.selection), ",".join(map(str, chosen.ids)),
    )  # fmt: skip
    said = orjson.dumps(asdict(task), option=orjson.OPT_SORT_KEYS)
    return {
        "key": query.put(f"bulk {hashlib.sha256(said).hexdigest()}", "text"),
        "arguments": query.put(said.decode(), "text"),
        "asked_by": query.put(change.user_id, "int"),
        "class": list(QueueClass).index(CLASSES[Bulk]),
    }


def _changed(rows: Sequence[asyncpg.Record], chosen: Chosen) -> Changed:
    if not rows or rows[0]["found"] < len(chosen.ids):
        raise NotFound("There is no such project, run, domain or capture")
    first = rows[0]
    _check_may(first["role"], first["deleting"])
    return Changed(*_counted(rows), first["more"], first["task"])


def _counted(
    rows: Sequence[asyncpg.Record],
) -> tuple[tuple[Counted, ...], tuple[Counted, ...]]:
    """Those that changed, and those that did not."""
    told = [row for row in rows if row["changed"] is not None]
    parts = (
        [Counted(row["state"], row["reason"], row["n"]) for row in told if row["changed"] is way]
        for way in (True, False)
    )
    changed, left = parts
    return tuple(changed), tuple(left)


def _step(rows: Sequence[asyncpg.Record], ids: Sequence[int], limit: int) -> Step:
    if not rows:
        raise Forbidden("Who asked for it is no member any more", code="project_role")
    first = rows[0]
    if first["role"] == "read":
        raise Forbidden("Who asked for it may only read there now", code="project_role")
    _check_may(first["role"], first["deleting"])
    full = first["found"] == limit or first["edge"] is not None
    upto = max(first["last"], first["edge"] or 0, *ids[-1:])
    return Step(upto, not (full or len(ids) == limit), *_counted(rows))


def _check_may(role: str, deleting: int | None) -> None:
    if role == "read":
        raise Forbidden(
            "This project is yours to read only", fix="Ask its owner", code="project_role"
        )
    if deleting is not None:
        raise Conflict(
            "Its project is being deleted", why=f"by task {deleting}", code="project_deleting"
        )
