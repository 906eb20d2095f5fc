"""Settling: what became of a batch of fetches, in one transaction, fenced by their tokens.

Payloads, documents, pages, fetch states, counters, outbox and lease release
are one commit. Running it again after a lost answer changes nothing: the
leases are gone, so nothing of it is ours any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, assert_never
from uuid import UUID

import asyncpg
import orjson

from chrono_ray.model.errors import RecordRefused
from chrono_ray.model.memento import Memento
from chrono_ray.model.outcome import Failed, Gone, Refused, Stored
from chrono_ray.model.page import Document
from chrono_ray.model.priority import late
from chrono_ray.model.retry import SNOOZE_CAP, Fail, Late, Retry, Snooze
from chrono_ray.storage.database import COMMAND_SECONDS, REFUSED, Connection, Database, statements

ALTERNATES: Final = 5
"""How many captures of one digest are tried before the payload counts as gone."""
DETAIL_LIMIT: Final = 500
CAPTURE_SECONDS: Final = 0.0005
"""The longest that one more capture of a digest may take to become a page: 20 times the usual."""
SNOOZED_LONG_ENOUGH: Final = timedelta(seconds=SNOOZE_CAP)
WAITS: Final = (Retry, Snooze, Late)
"""Verdicts after which the fetch is tried again."""
PUT_LATE: Final = "behind the rest of the run"
GUILTY_BYTES: Final = ("too_large", "crashed", "internal")
"""Failures that the bytes themselves caused: another capture of the same digest has the same."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The run was cancelled before the payload was fetched."""


Settled = Fail | Retry | Snooze | Late | Cancelled


@dataclass(frozen=True, slots=True)
class Kept:
    """A payload whose bytes are durable in the blob store under `sha256`."""

    sha256: bytes
    memento: Memento


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one leased fetch.

    `kept` is given when the bytes arrived, whether or not they were
    understood. `requests` went out on the wire, `throttled` of them met 429.
    """

    fetch_id: int
    run_id: int
    capture_id: int
    token: UUID
    verdict: Settled
    kept: Kept | None
    requests: int
    throttled: int


class Settling:
    """Writes settlements."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("settle")

    async def settle(self, batch: Sequence[Settlement]) -> int:
        """Write what became of these fetches; returns how many were still ours.

        Raises `RecordRefused` when one of them cannot be written: nothing was.
        Best in batches of 128 to 256 (24,000 settled/s there, half that at 32).
        """
        if not batch:
            return 0

        async def write(connection: Connection) -> int:
            rows = await connection.fetch(
                self._sql["take_leases"],
                [s.fetch_id for s in batch], [s.token for s in batch],
            )  # fmt: skip
            mine = {row["fetch_id"]: row for row in rows}
            await _Batch(
                connection, self._sql, mine, [s for s in batch if s.fetch_id in mine]
            ).write()
            return len(mine)

        try:
            return await self._database.transact(write)
        except REFUSED as error:
            raise RecordRefused("PostgreSQL refuses a row", why=str(error)) from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Under which run a fetch waits, and with which capture."""

    run_id: int
    capture_id: int


@dataclass(slots=True)
class _Batch:
    """One transaction under way."""

    connection: Connection
    sql: dict[str, str]
    leases: dict[int, asyncpg.Record]
    mine: list[Settlement]

    async def write(self) -> None:
        ids = [s.fetch_id for s in self.mine]
        rows = await self.connection.fetch(self.sql["lock_fetches"], ids, SNOOZED_LONG_ENOUGH)
        tired = {row["id"] for row in rows if row["tired"]}
        self.mine = [_given_up(s) if s.fetch_id in tired else s for s in self.mine]
        await self._log_attempts()
        waiting = [s for s in self.mine if isinstance(s.verdict, WAITS)]
        ending = [s for s in self.mine if not isinstance(s.verdict, WAITS)]
        others = await self._other_captures(ending) | await self._wanted_still(ending)
        others |= await self._elsewhere(waiting)
        again = [s for s in ending if s.fetch_id in others]
        await self._park(waiting + again, others)
        await self._end([s for s in ending if s.fetch_id not in others])
        await self._count_requests()

    async def _log_attempts(self) -> None:
        """Every try that did not simply succeed, with its reason."""
        tried = [s for s in self.mine if not isinstance(s.verdict, Cancelled) and not _plain(s)]
        if tried:
            await self.connection.execute(
                self.sql["log_attempts"],
                [s.fetch_id for s in tried], [s.capture_id for s in tried],
                [s.run_id for s in tried], [_reason(s.verdict) for s in tried],
                [_detail(s.verdict) for s in tried], [s.requests for s in tried],
                [_capture_is_useless(s) for s in tried],
            )  # fmt: skip

    async def _other_captures(self, ending: Sequence[Settlement]) -> dict[int, _Place]:
        useless = [s for s in ending if _capture_is_useless(s)]
        if not useless:
            return {}
        rows = await self.connection.fetch(
            self.sql["other_captures"],
            [s.fetch_id for s in useless], [s.run_id for s in useless], ALTERNATES,
        )  # fmt: skip
        return {row["fetch_id"]: _Place(row["run_id"], row["capture_id"]) for row in rows}

    async def _elsewhere(self, waiting: Sequence[Settlement]) -> dict[int, _Place]:
        """Before a second pass here, another archive of the same request that has the bytes."""
        late_ones = [s for s in waiting if isinstance(s.verdict, Late)]
        if not late_ones:
            return {}
        rows = await self.connection.fetch(
            self.sql["elsewhere"], [s.fetch_id for s in late_ones], [s.run_id for s in late_ones]
        )
        return {row["fetch_id"]: _Place(row["run_id"], row["capture_id"]) for row in rows}

    async def _wanted_still(self, ending: Sequence[Settlement]) -> dict[int, _Place]:
        """Asked with the fetch locked, so that no lister can adopt it meanwhile."""
        cancelled = [s.fetch_id for s in ending if isinstance(s.verdict, Cancelled)]
        if not cancelled:
            return {}
        rows = await self.connection.fetch(self.sql["wanted_still"], cancelled)
        return {row["fetch_id"]: _Place(row["run_id"], row["capture_id"]) for row in rows}

    async def _park(self, waiting: Sequence[Settlement], others: dict[int, _Place]) -> None:
        if not waiting:
            return
        lease = self.leases
        places = [
            others.get(s.fetch_id, _Place(lease[s.fetch_id]["run_id"], s.capture_id))
            for s in waiting
        ]
        runs, captures = [p.run_id for p in places], [p.capture_id for p in places]
        await self.connection.execute(
            self.sql["park"],
            [s.fetch_id for s in waiting], runs,
            [
                _key_after(s, lease[s.fetch_id]["order_key"], elsewhere=s.fetch_id in others)
                for s in waiting
            ],
            [_attempts_after(s, lease[s.fetch_id]["attempts"]) for s in waiting],
            [lease[s.fetch_id]["crashes"] for s in waiting], captures,
            [_reason(s.verdict) for s in waiting],
            [0.0 if s.fetch_id in others else _delay(s.verdict) for s in waiting],
        )  # fmt: skip
        await self.connection.execute(
            self.sql["spend_requests"],
            [s.fetch_id for s in waiting], [s.requests for s in waiting], runs, captures,
            [s.verdict.delay if isinstance(s.verdict, Snooze) else 0.0 for s in waiting],
        )  # fmt: skip

    async def _end(self, ending: Sequence[Settlement]) -> None:
        if not ending:
            return
        restored = await self._restore(ending)
        payloads = await self._put_payloads([s.kept for s in ending if s.kept])
        documents = await self._put_documents(ending, payloads)
        ended = await self.connection.fetch(
            self.sql["end_fetches"],
            [s.fetch_id for s in ending], [_state(s.verdict) for s in ending],
            [_reason(s.verdict) if _state(s.verdict) != "stored" else "" for s in ending],
            [_detail(s.verdict) for s in ending], [s.requests for s in ending],
            [payloads[s.kept.sha256] if s.kept else None for s in ending],
            [documents.get(s.fetch_id) for s in ending],
            [s.kept.memento.served.text if s.kept else "" for s in ending],
            [s.kept.memento.check.value if s.kept else "" for s in ending],
            [s.capture_id for s in ending],
        )  # fmt: skip
        ids = [s.fetch_id for s in ending]
        # statements of their own: they must see captures listed while end_fetches waited
        captures = sum(row["captures"] for row in [*restored, *ended])
        patience = COMMAND_SECONDS + CAPTURE_SECONDS * captures
        await self.connection.execute(self.sql["count_captures"], ids, 1, None, timeout=patience)
        await self.connection.execute(self.sql["put_pages"], ids, None, timeout=patience)
        await self.connection.execute(self.sql["note_pages"], ids, None, timeout=patience)

    async def _restore(self, ending: Sequence[Settlement]) -> list[asyncpg.Record]:
        """Cancelled while it was asked for again: it ends as it had ended before."""
        cancelled = [s.fetch_id for s in ending if isinstance(s.verdict, Cancelled)]
        if not cancelled:
            return []
        return list(await self.connection.fetch(self.sql["restore"], cancelled))

    async def _put_payloads(self, kept: Sequence[Kept]) -> dict[bytes, int]:
        """Their ids; one that a purge is just deleting is put again."""
        unique = {k.sha256: k for k in kept}
        found: dict[bytes, int] = {}
        while len(found) < len(unique):
            await self.connection.execute(
                self.sql["put_payloads"],
                list(unique), [k.memento.sha1 for k in unique.values()],
                [len(k.memento.body) for k in unique.values()],
            )  # fmt: skip
            rows = await self.connection.fetch(self.sql["find_payloads"], list(unique))
            found = {row["sha256"]: row["id"] for row in rows}
        return found

    async def _put_documents(
        self, ending: Sequence[Settlement], payloads: dict[bytes, int]
    ) -> dict[int, int]:
        """Document ids by fetch, for the stored ones."""
        keyed: dict[int, tuple[int, str, str, str]] = {}
        unique: dict[tuple[int, str, str, str], Document] = {}
        for s in ending:
            if isinstance(s.verdict, Fail) and isinstance(s.verdict.outcome, Stored) and s.kept:
                document = s.verdict.outcome.document
                key = _document_key(payloads[s.kept.sha256], document)
                keyed[s.fetch_id] = key
                unique[key] = document
        if not unique:
            return {}
        columns: list[list[Any]] = [list(c) for c in zip(*_documents(unique), strict=True)]
        await self.connection.execute(self.sql["put_documents"], *columns)
        rows = await self.connection.fetch(
            self.sql["find_documents"], *[list(c) for c in zip(*unique, strict=True)]
        )
        found = {tuple(r.values())[1:]: r["id"] for r in rows}
        return {fetch_id: found[key] for fetch_id, key in keyed.items()}

    async def _count_requests(self) -> None:
        counts: dict[tuple[int, str], int] = {}
        for s in self.mine:
            for kind, n in (("replay", s.requests), ("throttled", s.throttled)):
                counts[s.run_id, kind] = counts.get((s.run_id, kind), 0) + n
        await self.connection.execute(
            self.sql["count_requests"],
            [run for run, _ in counts], [kind for _, kind in counts], list(counts.values()),
        )  # fmt: skip


def _given_up(s: Settlement) -> Settlement:
    """A snooze burns no attempt, so time must end it: the archive was silent for too long."""
    if not isinstance(s.verdict, Snooze):
        return s
    detail = f"the archive asked for silence for {SNOOZED_LONG_ENOUGH} in all"
    return replace(s, verdict=Fail(Failed(s.verdict.reason, detail)))


def _documents(unique: dict[tuple[int, str, str, str], Document]) -> list[tuple[Any, ...]]:
    rows = []
    for (payload_id, *_), d in unique.items():
        links = orjson.dumps([[link.href, link.text] for link in d.links]).decode()
        rows.append(
            (payload_id, d.extractor, d.charset, d.media_type, d.title, d.text, d.author,
             d.published, d.language, d.words, d.description, d.canonical, links,
             ",".join(d.flags), d.replaced)
        )  # fmt: skip
    return rows


def _document_key(payload_id: int, document: Document) -> tuple[int, str, str, str]:
    return payload_id, document.extractor, document.charset, document.media_type


def _plain(s: Settlement) -> bool:
    """One request, and it gave the payload: the fetch itself says all there is to say."""
    return isinstance(s.verdict, Fail) and isinstance(s.verdict.outcome, Stored) and s.requests <= 1


def _capture_is_useless(s: Settlement) -> bool:
    """This capture cannot give the payload, but another of the same digest may."""
    if not isinstance(s.verdict, Fail):
        return False
    match s.verdict.outcome:
        case Gone():
            return True
        case Failed() as failed:
            return s.kept is None and failed.reason not in GUILTY_BYTES
        case Stored() | Refused():
            return False
        case other:
            assert_never(other)


def _state(verdict: Settled) -> str:
    match verdict:
        case Cancelled():
            return "cancelled"
        case Retry() | Snooze() | Late():
            return "pending"
        case Fail(outcome):
            return type(outcome).__name__.lower()
        case other:
            assert_never(other)


def _reason(verdict: Settled) -> str:
    match verdict:
        case Cancelled():
            return "run"
        case Retry() | Snooze() | Late():
            return verdict.reason
        case Fail(outcome):
            return "redirected" if isinstance(outcome, Stored) else outcome.reason
        case other:
            assert_never(other)


def _detail(verdict: Settled) -> str:
    if isinstance(verdict, Late):
        return _without_nul(f"{PUT_LATE}: {verdict.detail}")[:DETAIL_LIMIT]
    if isinstance(verdict, Fail) and not isinstance(verdict.outcome, Stored):
        return _without_nul(verdict.outcome.detail)[:DETAIL_LIMIT]
    return ""


def _without_nul(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _attempts_after(s: Settlement, before: int) -> int:
    """A snooze burns no attempt; another capture of the digest and a late pass start afresh."""
    match s.verdict:
        case Retry():
            return before + 1
        case Snooze() | Cancelled():
            return before
        case Fail() | Late():
            return 0
        case other:
            assert_never(other)


def _key_after(s: Settlement, before: int, *, elsewhere: bool) -> int:
    """What goes behind the rest of its run; in another archive it is among the first again."""
    return late(before) if isinstance(s.verdict, Late) and not elsewhere else before


def _delay(verdict: Settled) -> float:
    return verdict.delay if isinstance(verdict, WAITS) else 0.0
