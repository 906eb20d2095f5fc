"""Listings become rows: slices are leased, and each page is kept whole in one transaction."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson

from chrono_ray.model.capture import Capture, Decision, Skipped, Timestamp14, Wanted
from chrono_ray.model.errors import InvalidInput, LeaseLost, RecordRefused, SettingsError
from chrono_ray.model.memento import ListingPage, MatchType, Scope
from chrono_ray.model.retry import SNOOZE_CAP
from chrono_ray.model.rule_text import parse
from chrono_ray.model.rules import DEFAULT, Rules
from chrono_ray.model.spans import Span
from chrono_ray.model.urls import host_of
from chrono_ray.storage.database import REFUSED, Connection, Database, statements
from chrono_ray.storage.settling import GUILTY_BYTES

SLICE_LEASE: Final = timedelta(seconds=60)
HOST_LIMIT: Final = 255
"""DNS knows no longer host; what a broken URL has in its place may exceed an index row."""
EARLIEST: Final = datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)
"""asyncpg writes the second before as -infinity, and reads it back without a zone."""
STAGE_COLUMNS: Final = (
    "n", "key", "url_id", "share_key", "host", "urlkey", "ts", "instant", "impossible", "original",
    "mimetype", "statuscode", "digest", "length", "locator", "revisit", "reason", "rule",
    "confidence", "band",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SliceLease:
    """A resumable part of a listing, ours while the token holds.

    `tired`: for its next page the archive has asked for a day of silence in all.
    `is_part`: of a slice that was split. `now` is when it was claimed.
    """

    slice_id: int
    token: UUID
    run_id: int
    project_id: int
    domain_id: int
    archive: str
    scope: Scope
    key: str
    attempts: int
    tired: bool
    stored_rules: str | None
    rules_version: int
    is_part: bool
    now: Timestamp14

    @property
    def rules(self) -> Rules:
        """The domain's rules; `SettingsError` when this program cannot read them."""
        return read_rules(self.stored_rules)


@dataclass(frozen=True, slots=True)
class Decided:
    """A listed capture with what was decided about it."""

    capture: Capture
    decision: Decision


class Listings:
    """Slices and what they listed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("listings")
        self._settle = statements("settle")
        self._deciding = statements("deciding")

    async def claim(
        self, archives: Sequence[str], *, token: UUID | None = None
    ) -> SliceLease | None:
        """The next slice of an active run of one of these archives, leased; None without one.

        Should the answer be lost, whoever chose the `token` can give back what it names.
        """
        row = await self._database.fetchrow(
            self._sql["claim_slice"], SLICE_LEASE, list(archives), timedelta(seconds=SNOOZE_CAP),
            token or uuid4(),
        )  # fmt: skip
        return None if row is None else _slice(row)

    async def give_back(self, token: UUID) -> None:
        """The slice of a claim whose answer was lost, if it brought one."""
        await self._database.fetch(self._sql["give_back_slice"], token)

    async def renew(self, lease: SliceLease) -> bool:
        """Keep the slice for another minute; False when it is lost or its run no longer active."""
        row = await self._database.fetchrow(
            self._sql["renew_slice"], lease.slice_id, lease.token, SLICE_LEASE
        )
        return row is not None

    async def release(
        self, lease: SliceLease, *, delay: float, attempt: bool, reason: str, detail: str
    ) -> None:
        """Give the slice back, to be claimed again after `delay` seconds."""
        await self._database.fetch(
            self._sql["release_slice"],
            lease.slice_id, lease.token, delay, int(attempt), reason, detail[:1000],
        )  # fmt: skip

    async def leave_hole(self, lease: SliceLease, *, reason: str, detail: str) -> None:
        """End the slice as a named, retryable hole: what it had listed so far stays."""
        await self._database.fetch(
            self._sql["hole_slice"], lease.slice_id, lease.token, reason, detail[:1000]
        )

    async def split(
        self, lease: SliceLease, parts: Sequence[Span], *, reason: str, detail: str
    ) -> None:
        """End the slice in favour of these, which together span it: what it had listed stays."""
        await self._database.fetch(
            self._sql["split_slice"], lease.slice_id, lease.token, reason, detail[:1000],
            [part.start for part in parts], [part.end for part in parts],
        )  # fmt: skip

    async def count_requests(self, run_id: int, kind: str, count: int) -> None:
        """Add requests that went out for a run: kind cdx, replay or throttled."""
        await self._database.fetch(self._settle["count_requests"], [run_id], [kind], [count])

    async def keep(
        self, lease: SliceLease, page: ListingPage, *, decided: Sequence[Decided], raw: bytes
    ) -> None:
        """Write a listing page and the slice's next key in one transaction.

        `raw` is the SHA-256 under which the page's answer was kept. Safe to run
        again after a commit whose answer was lost. Raises `LeaseLost` when
        the slice is no longer ours, and `RecordRefused` when PostgreSQL cannot
        hold a row: nothing was written then.
        """
        records = list(_records(lease, decided))

        async def write(connection: Connection) -> None:
            await connection.execute(self._sql["stage"])
            await connection.execute(
                self._sql["one_at_a_time"], f"{lease.domain_id} {lease.archive}"
            )
            seq = await connection.fetchval(
                self._sql["advance_slice"], lease.slice_id, lease.token, page.next_key, lease.key
            )
            if seq is None:
                raise LeaseLost("The slice belongs to somebody else now")
            await self._hold_rules(connection, lease)
            await self._keep_answer(connection, lease, page, seq=seq, raw=raw)
            await connection.copy_records_to_table("stage", records=records, columns=STAGE_COLUMNS)
            await self._write_stage(connection, lease, bad=len(page.bad_rows))
            await connection.fetch(
                self._settle["count_requests"], [lease.run_id], ["cdx"], [page.requests]
            )

        try:
            await self._database.transact(write)
        except REFUSED as error:
            raise RecordRefused("PostgreSQL refuses a listed row", why=str(error)) from error

    async def _hold_rules(self, connection: Connection, lease: SliceLease) -> None:
        """The page was decided by the domain's rules as they are; thinning waits for its end."""
        held = await connection.fetchval(
            self._sql["rules_hold"], lease.domain_id, lease.rules_version
        )
        if held is None:
            raise LeaseLost("The domain has other rules now: the page is decided again")
        if lease.rules.thin:
            await connection.execute(self._deciding["ask"], lease.domain_id, True)

    async def _keep_answer(
        self, connection: Connection, lease: SliceLease, page: ListingPage, *, seq: int, raw: bytes
    ) -> None:
        bad = [
            {"line": b.line, "reason": b.reason, "text": _clean(b.text[:500])}
            for b in page.bad_rows
        ]
        await connection.execute(
            self._sql["keep_page"],
            lease.slice_id, seq, lease.key, page.next_key,
            len(page.captures) + len(bad), orjson.dumps(bad).decode(), raw,
        )  # fmt: skip

    async def _write_stage(self, connection: Connection, lease: SliceLease, *, bad: int) -> None:
        """The statements of sql/listings.sql in their order; each comment there says why."""
        sql = self._sql
        await connection.execute(
            sql["fate_of_known_rows"], lease.domain_id, lease.archive, lease.run_id
        )
        await connection.execute(sql["fate_of_new_rows"])
        await connection.execute(sql["number_new_rows"])
        await connection.execute(sql["note_newest"], lease.slice_id)
        # now that fates are known: a planner that expects no new rows compares all with all
        await connection.execute("ANALYZE stage (fate, key, share_key, fetch_id, id, host)")
        wanted = await connection.fetch(sql["want_payloads"], lease.project_id, lease.run_id)
        await connection.execute(sql["lock_fetches"], lease.project_id)
        await connection.execute(sql["lock_adopted"])
        await connection.execute(sql["ended_meanwhile"], list(GUILTY_BYTES))
        reopened = await self._reopen(connection, lease)
        await connection.execute(
            sql["insert_captures"], lease.domain_id, lease.run_id, lease.archive
        )
        await connection.execute(sql["adopt"], lease.run_id)
        due = [row["id"] for row in wanted] + reopened + await self._preferred(connection, lease)
        await connection.execute(sql["rank_hosts"], lease.run_id, due, lease.archive)
        await connection.execute(sql["count_page"], lease.domain_id, lease.run_id, bad)
        await self._count_ended(connection)
        await connection.execute(sql["mark_ready"], lease.run_id)

    async def _preferred(self, connection: Connection, lease: SliceLease) -> list[int]:
        """Fetches that another archive's run of the same collection had, and this one takes."""
        if not await connection.fetchval(self._sql["has_companions"], lease.run_id):
            return []
        return [row["id"] for row in await connection.fetch(self._sql["prefer"], lease.run_id)]

    async def _reopen(self, connection: Connection, lease: SliceLease) -> list[int]:
        rows = await connection.fetch(self._sql["fetches_to_reopen"], list(GUILTY_BYTES))
        if not rows:
            return []
        ids = [row["id"] for row in rows]
        await connection.execute(self._settle["count_captures"], ids, -1, None)
        await connection.execute(
            self._settle["reopen"], ids, [row["capture_id"] for row in rows], lease.run_id
        )
        return ids

    async def _count_ended(self, connection: Connection) -> None:
        """New rows of payloads that ended before: they share their fate and join its page."""
        rows = await connection.fetch(self._sql["ended_captures"])
        if not rows:
            return
        ids = [row["id"] for row in rows]
        fetches = sorted({row["fetch_id"] for row in rows})
        await connection.execute(self._settle["count_captures"], fetches, 1, ids)
        await connection.execute(self._settle["put_pages"], fetches, ids)
        await connection.execute(self._settle["note_pages"], fetches, ids)


def share_key(capture: Capture, *, domain_id: int, archive: str, key: bytes = b"") -> bytes:
    """20 bytes under which captures of a project share one fetch.

    The digest's own bytes when it names a payload, else bytes of this one
    capture: the empty payload's digest and `-` are never shared. `key` is the
    capture's own as it was stored. The record's function of this name says the same.
    """
    if capture.shareable:
        try:
            digest = base64.b32decode(capture.digest)
        except (binascii.Error, ValueError):
            digest = b""
        if len(digest) == 20:
            return digest
        named = b"digest\0" + capture.digest.encode("utf-8", "surrogatepass")
        return hashlib.sha256(named).digest()[:20]
    own = f"capture\0{domain_id}\0{archive}\0".encode() + (key or capture.key)
    return hashlib.sha256(own).digest()[:20]


def url_id(urlkey: str) -> bytes:
    """16 bytes that stand for a URL key of any length."""
    return hashlib.blake2b(urlkey.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _records(lease: SliceLease, decided: Sequence[Decided]) -> Iterator[tuple[Any, ...]]:
    for n, row in enumerate(decided):
        capture, decision = row.capture, row.decision
        if isinstance(decision, Skipped):
            share, why = None, (decision.reason, decision.rule, decision.confidence)
        else:
            share = share_key(capture, domain_id=lease.domain_id, archive=lease.archive)
            why = ("", decision.rule, 1.0)
        yield (
            n, capture.key, url_id(capture.urlkey), share,
            _clean(host_of(capture.original))[:HOST_LIMIT], _clean(capture.urlkey),
            capture.timestamp.text, max(capture.timestamp.instant, EARLIEST),
            capture.timestamp.impossible, _clean(capture.original), _clean(capture.mimetype),
            _clean(capture.statuscode), _clean(capture.digest), capture.length,
            _clean(capture.locator), capture.is_revisit, *why,
            decision.priority.value if isinstance(decision, Wanted) else 0,
        )  # fmt: skip


def _clean(text: str) -> str:
    """PostgreSQL takes neither NUL nor lone surrogates."""
    if text.isascii():
        return text.replace("\0", "%00")
    return text.replace("\0", "%00").encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=64)
def read_rules(stored: str | None) -> Rules:
    """A domain's rules as the record holds them; `SettingsError` when they cannot be read."""
    if stored is None:
        return DEFAULT
    try:
        return parse(stored)
    except InvalidInput as error:
        raise SettingsError(
            "The domain's stored rules cannot be read", why=f"{error.what}: {error.why}",
            fix="A newer chrono_ray set them: upgrade this one, or set them again",
        ) from error  # fmt: skip


def _slice(row: asyncpg.Record) -> SliceLease:
    scope = Scope(row["url"], MatchType(row["match"]), row["start_ts"], row["end_ts"])
    return SliceLease(
        slice_id=row["id"], token=row["token"], run_id=row["run_id"], project_id=row["project_id"],
        domain_id=row["domain_id"], archive=row["archive"], scope=scope, key=row["next_key"],
        attempts=row["attempts"], tired=bool(row["tired"]), is_part=row["is_part"],
        now=Timestamp14(row["now"]), stored_rules=row["rules"], rules_version=row["rules_version"],
    )  # fmt: skip
