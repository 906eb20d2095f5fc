"""Captures as a person sees them: lists, and one with all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import orjson

from chrono_ray.model.accounts import Actor
from chrono_ray.model.errors import NotFound
from chrono_ray.model.selection import CaptureSort, CaptureState, Selection
from chrono_ray.storage.capture_query import CaptureQuery, Place, in_order
from chrono_ray.storage.database import Database, statements


@dataclass(frozen=True, slots=True)
class CaptureRow:
    """A listed capture and where it stands.

    `timestamp` has 14 digits; `page_id` is given where it is stored.
    `served` is the timestamp the archive answered with, empty until it did.
    `parked_until` is when it is tried again.
    """

    id: int
    domain_id: int
    run_id: int
    url: str
    timestamp: str
    instant: datetime
    impossible: bool
    archive: str
    mimetype: str
    statuscode: str
    digest: str
    length: int | None
    locator: str
    state: CaptureState
    reason: str
    rule: str
    confidence: float
    detail: str
    attempts: int
    requests: int
    served: str
    page_id: int | None
    parked_until: datetime | None

    @property
    def place(self) -> Place:
        return Place(self.instant, self.id)


@dataclass(frozen=True, slots=True)
class CapturePage:
    """Some captures of a project, in a list's order; it goes on behind `last`, if that is given."""

    project_id: int
    rows: tuple[CaptureRow, ...]
    last: Place | None


@dataclass(frozen=True, slots=True)
class Try:
    """A request for a payload that gave none. `given_up`: that capture is not asked for again."""

    at: str
    reason: str
    detail: str
    requests: int
    capture_id: int
    run_id: int
    given_up: bool


@dataclass(frozen=True, slots=True)
class WholeCapture:
    """A capture with all that is known of it.

    `asked_by` and `asked_in` are the capture and the run by which its payload is, or was,
    asked for; `tries` the last thousand, oldest first.
    """

    row: CaptureRow
    project_id: int
    project: str
    domain: str
    urlkey: str
    priority: int
    asked_by: int | None
    asked_in: int | None
    settled_at: datetime | None
    digest_check: str
    leased_until: datetime | None
    tries: tuple[Try, ...]


class Captures:
    """Reads and decisions. What somebody may not see is not there for them: `NotFound`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("captures")

    async def page(
        self,
        actor: Actor,
        project_id: int | None,
        selection: Selection,
        *,
        sort: CaptureSort,
        after: Place | None,
        limit: int,
    ) -> CapturePage:
        """The next captures of a project behind a place; without one, of the run's or domain's."""
        query = CaptureQuery()
        place = query.place(actor.user_id, project_id, selection, admin=actor.is_admin)
        found = query.found(selection, sort=sort, after=after, limit=limit + 1)
        whole = f"WITH place AS MATERIALIZED ({place}), {found} {query.rows(sort)}"
        rows = await self._database.transact(lambda c: in_order(c, query, whole))
        if not rows:
            raise NotFound("There is no such project, run or domain")
        shown = tuple(_row(row) for row in rows if row["id"] is not None)
        last = shown[limit - 1].place if len(shown) > limit else _edge(rows[0])
        return CapturePage(rows[0]["project_id"], shown[:limit], last)

    async def knows(self, reasons: Sequence[str], project_id: int) -> bool:
        """Whether any capture of a project has, or had, one of these reasons."""
        return bool(
            await self._database.fetchval(self._sql["reason_occurs"], project_id, list(reasons))
        )

    async def capture(self, capture_id: int, actor: Actor) -> WholeCapture:
        """One capture."""
        query = CaptureQuery()
        statement = query.filled("one", query.details())
        row = await self._database.fetchrow(statement, capture_id, actor.user_id, actor.is_admin)
        if row is None:
            raise NotFound("There is no such capture")
        return WholeCapture(
            _row(row), row["project_id"], row["project"], row["domain"], row["urlkey"],
            row["priority"], row["asked_by"], row["asked_in"], row["settled_at"],
            row["digest_check"] or "", row["leased_until"], _tries(row["tries"]),
        )  # fmt: skip


def _row(row: asyncpg.Record) -> CaptureRow:
    return CaptureRow(
        id=row["id"], domain_id=row["domain_id"], run_id=row["run_id"], url=row["original"],
        timestamp=row["ts"], instant=row["instant"], impossible=row["impossible"],
        archive=row["archive"], mimetype=row["mimetype"], statuscode=row["statuscode"],
        digest=row["digest"], length=row["length"], locator=row["locator"],
        state=CaptureState(row["state"]), reason=row["reason"], rule=row["rule"],
        confidence=round(row["confidence"], 6), detail=row["detail"], attempts=row["attempts"],
        requests=row["requests"], served=row["served_ts"], page_id=row["page_id"],
        parked_until=row["parked_until"],
    )  # fmt: skip


def _edge(row: asyncpg.Record) -> Place | None:
    if row["edge_id"] is None:
        return None
    return Place(row["edge_instant"], row["edge_id"])


def _tries(text: str) -> tuple[Try, ...]:
    return tuple(
        Try(each["at"], each["reason"], each["detail"], each["requests"], each["capture"],
            each["run"], each["given_up"])
        for each in orjson.loads(text)
    )  # fmt: skip
