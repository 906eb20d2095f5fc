"""Which captures a selection means, as one statement put together from pieces of captures.sql.

Filter by filter it asks for the few captures that each holds. If one holds few
they are read and sorted; else the project is walked in the list's order, for
each filter is met soon then. Both are bounded, so that no filter takes long,
however many captures there are: a page of a list may come short, and says
where to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import asyncpg

from chrono_ray.model.bounds import BIG_MAX
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.selection import (
    WAITING,
    WITHOUT_PAGE,
    CaptureSort,
    CaptureState,
    Selection,
)
from chrono_ray.storage.database import Connection, statements

FEW: Final = 10_000
"""So many captures are sorted at once; a filter that holds more is met on a walk."""
BUDGET: Final = 10_000
"""So many captures a walk passes over for one page."""
INDEXED_CHARS: Final = 64
LAST: Final = "\U0010ffff"
_LEASED: Final = "EXISTS (SELECT 1 FROM leases l WHERE l.fetch_id = c.fetch_id)"
_PARKED: Final = "EXISTS (SELECT 1 FROM parked k WHERE k.fetch_id = c.fetch_id)"
_STANDS: Final = {
    CaptureState.SKIPPED: "c.fetch_id IS NULL",
    CaptureState.PENDING: f"(f.state = 'pending' AND NOT {_LEASED} AND NOT {_PARKED})",
    CaptureState.PARKED: f"(f.state = 'pending' AND {_PARKED})",
    CaptureState.LEASED: f"(f.state = 'pending' AND {_LEASED})",
    CaptureState.STORED: "(f.state = 'stored' AND f.capture_id = c.id)",
    CaptureState.UNCHANGED: "(f.state = 'stored' AND f.capture_id <> c.id)",
    CaptureState.GONE: "f.state = 'gone'",
    CaptureState.REFUSED: "f.state = 'refused'",
    CaptureState.FAILED: "f.state = 'failed'",
    CaptureState.CANCELLED: "f.state = 'cancelled'",
}


async def in_order(connection: Connection, query: CaptureQuery, whole: str) -> list[asyncpg.Record]:
    """Ask it, inside a transaction: each of its walks by the index that has its order.

    Of a project that it does not know the planner expects the average, and
    would rather sort it; a large one is to be walked.
    """
    sql = statements("captures")
    await connection.execute(sql["in_order"])
    return cast("list[asyncpg.Record]", await connection.fetch(whole, *query.values))


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list."""

    instant: datetime
    capture_id: int


class CaptureQuery:
    """A statement in the making: code alone makes its text, `values` are its parameters."""

    def __init__(self) -> None:
        self._sql = statements("captures")
        self.values: list[object] = []

    def put(self, value: object, kind: str) -> str:
        """A parameter, to be used."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"

    def filled(self, name: str, pieces: Mapping[str, str | int]) -> str:
        """One of the pieces, with its own places filled."""
        text = self._sql[name]
        for piece, said in pieces.items():
            text = text.replace(f"{{{piece}}}", str(said))
        return text

    def place(
        self, user_id: int, project_id: int | None, selection: Selection, *, admin: bool | None
    ) -> str:
        """The project, as the user sees it: by itself, or by the run or domain that is meant.

        Without `admin` the record says whether they are one.
        """
        holds = [] if project_id is None else [f"v.project_id = {self.put(project_id, 'int')}"]
        for table, number in (("runs", selection.run), ("domains", selection.domain)):
            if number:
                at = self.put(number, "int8")
                holds.append(self.filled("project_of", {"table": table, "id": at}))
        user = self.put(user_id, "int")
        asked = self.filled("is_admin", {"user": user}) if admin is None else None
        seen = {"user": user, "admin": asked or self.put(admin, "boolean")}
        return self.filled("place", {**seen, "holds": " AND ".join(holds) or "false"})

    def rows(self, sort: CaptureSort) -> str:
        """What is told of those that were found."""
        order = _order(sort).replace("c.", "r.")
        return self.filled("rows", {**self.details(), "row_order": order})

    def details(self) -> dict[str, str]:
        """The pieces of a row."""
        return {"row": self._sql["row"], "details": self._sql["details"]}

    def found(
        self,
        selection: Selection,
        *,
        sort: CaptureSort,
        after: Place | None,
        limit: int,
        upto: int | None = None,
    ) -> str:
        """The ids of the selection behind a place, and not behind the id `upto`."""
        within = self._within(selection, sort, after, upto)
        walk, walk_order = self._walk(selection, sort, after, upto)
        conditions = self._conditions(selection, sort)
        few, sparse, dense = self._few(self._filters(selection, sort))
        found = self.filled(
            "found",
            {
                "sparse": sparse, "dense": dense, "within": within, "order": _order(sort),
                "walk": walk, "walk_order": walk_order, "limit": limit,
                "budget": max(BUDGET, limit), "conditions": " AND ".join(conditions) or "true",
                "fetch": self._sql["fetch"] if selection.states or selection.reasons else "",
            },
        )  # fmt: skip
        return "".join(f"{each}, " for each in few) + found

    def _few(self, filters: Sequence[str]) -> tuple[list[str], str, str]:
        """What each filter holds, asked for only where those before it hold many.

        Answers the parts of the statement, what of them is few, and when all hold many.
        """
        few, sources, many = [], [self._sql["nothing"]], "true"
        for n, text in enumerate(filters):
            pieces: dict[str, str | int] = {"n": n, "few": FEW, "many": many}
            few.append(self.filled("few", {**pieces, "most": FEW + 1, "text": text}))
            sources.append(self.filled("few_if_few", pieces))
            many = self.filled("if_many", pieces)
        return few, " UNION ALL ".join(sources), many

    def _within(
        self, selection: Selection, sort: CaptureSort, after: Place | None, upto: int | None
    ) -> str:
        """What lies between the ends of the list."""
        parts = self._span(selection) if sort.by_time else []
        sign = "<" if sort.backwards else ">"
        if after and sort.by_time:
            at = f"({self.put(after.instant, 'timestamptz')}, {self.put(after.capture_id, 'int8')})"
            parts.append(f"(c.instant, c.id) {sign} {at}")
        elif after:
            parts.append(f"c.id {sign} {self.put(after.capture_id, 'int8')}")
        if upto is not None:
            parts.append(f"c.id <= {self.put(upto, 'int8')}")
        return " AND ".join(parts) or "true"

    def _walk(
        self, selection: Selection, sort: CaptureSort, after: Place | None, upto: int | None
    ) -> tuple[str, str]:
        """The same for a walk through the project, and its order, as one index alone has it."""
        project = "(SELECT project_id FROM place)"
        if sort.by_time:
            within = self._within(selection, sort, after, upto)
            return f"c.project_id = {project} AND {within}", _order(sort)
        first, last = (after.capture_id + 1 if after else 0), (upto or BIG_MAX)
        if sort.backwards:
            first, last = 0, (after.capture_id - 1 if after else BIG_MAX)
        ends = (("<=", last), (">=", first))
        row = "(c.project_id, c.id)"
        within = " AND ".join(
            f"{row} {sign} ({project}, {self.put(each, 'int8')})" for sign, each in ends
        )
        return within, f"c.project_id{_way(sort)}, c.id{_way(sort)}"

    def _span(self, selection: Selection) -> list[str]:
        ends = ((">=", selection.start), ("<=", selection.end))
        return [
            f"c.instant {sign} {self.put(Timestamp14(text).instant, 'timestamptz')}"
            for sign, text in ends if text
        ]  # fmt: skip

    # what must hold

    def _conditions(self, selection: Selection, sort: CaptureSort) -> list[str]:
        words = (
            ("c.mimetype = ANY ({})", selection.mimetypes),
            ("c.statuscode = ANY ({})", selection.statuscodes),
            ("c.archive = ANY ({})", selection.archives),
            *(("c.urlkey ^@ ANY ({})", keys) for keys in selection.places),
        )
        parts = [text.format(self.put(list(any_of), "text[]")) for text, any_of in words if any_of]
        if not sort.by_time:
            parts += self._span(selection)
        if selection.domain:
            parts.append(f"c.domain_id = {self.put(selection.domain, 'int')}")
        if selection.run:
            name = "known_to_run" if selection.known else "of_run"
            parts.append(self.filled(name, {"run": self.put(selection.run, "int8")}))
        if selection.states and not selection.known:
            parts.append(f"({' OR '.join(_STANDS[each] for each in selection.states)})")
        if selection.reasons:
            reasons = self.put(list(selection.reasons), "text[]")
            parts.append(self.filled("because", {"reasons": reasons}))
        return parts

    # which few of them

    def _filters(self, selection: Selection, sort: CaptureSort) -> list[str]:
        """Statements for those that each part of a selection holds, likely few ones first."""
        found = [
            *self._by_state(selection), *self._by_run(selection), *self._by_place(selection),
            *self._by_kind(selection),
        ]  # fmt: skip
        if (selection.start or selection.end) and not sort.by_time:
            found.append(self._one("few_in_time", "span", " AND ".join(self._span(selection))))
        return found

    def _one(self, name: str, piece: str = "", said: str = "") -> str:
        shared = {each: self._sql[each] for each in ("of_fetches", "their_captures")}
        return self.filled(name, {**shared, piece: said, "most": FEW + 1})

    def _by_state(self, selection: Selection) -> list[str]:
        if selection.known or not (selection.states or selection.reasons):
            return []
        any_state = (CaptureState.SKIPPED, CaptureState.PARKED, *sorted(WITHOUT_PAGE))
        states = selection.states or any_state
        return [" UNION ALL ".join(f"({self._in_state(each, selection)})" for each in states)]

    def _in_state(self, state: CaptureState, selection: Selection) -> str:
        if state in WAITING or state is CaptureState.STORED:
            return self._one(f"few_{state.value}")
        kind = "skipped" if state is CaptureState.SKIPPED else "ended"
        if selection.reasons:
            reasons = self.put(list(selection.reasons), "text[]")
            found = self._one(f"few_{kind}_because", "reasons", reasons)
        else:
            found = self._one(f"few_{kind}")
        ended = CaptureState.STORED if state is CaptureState.UNCHANGED else state
        return found.replace("{state}", ended.value)

    def _by_run(self, selection: Selection) -> list[str]:
        found = []
        if selection.run and not selection.known:
            found.append(self._one("few_of_run", "run", self.put(selection.run, "int8")))
        if selection.domain:
            which = f"r.domain_id = {self.put(selection.domain, 'int')}"
            found.append(self._one("few_of_runs", "which", which))
        if selection.archives:
            which = f"r.archive = ANY ({self.put(list(selection.archives), 'text[]')})"
            found.append(self._one("few_of_runs", "which", which))
        return found

    def _by_place(self, selection: Selection) -> list[str]:
        return [
            " UNION ALL ".join(f"({self._at(key)})" for key in keys) for keys in selection.places
        ]

    def _at(self, key: str) -> str:
        low = key[:INDEXED_CHARS]
        found = self._one("few_at", "low", self.put(low, "text"))
        return found.replace("{high}", self.put(low + LAST, "text"))

    def _by_kind(self, selection: Selection) -> list[str]:
        kinds = (("status", selection.statuscodes), ("type", selection.mimetypes))
        return [
            self._one(f"few_of_{name}", "any_of", self.put(list(any_of), "text[]"))
            for name, any_of in kinds if any_of
        ]  # fmt: skip


def _way(sort: CaptureSort) -> str:
    return " DESC" if sort.backwards else ""


def _order(sort: CaptureSort) -> str:
    way = _way(sort)
    return f"c.instant{way}, c.id{way}" if sort.by_time else f"c.id{way}"
