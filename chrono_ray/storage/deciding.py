"""Deciding again: a domain's rules, and its stored captures under new ones.

A capture's facts never change; its decision does (ADR 0008). What has ended
stays as it ended: a rule never un-fetches. Every transaction is bounded and
leaves counters and places exact; the walk's place is kept, so that anybody
goes on where another stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import asyncpg

from chrono_ray.model.capture import (
    Capture,
    Decision,
    FetchState,
    Skipped,
    Timestamp14,
    Wanted,
)
from chrono_ray.model.errors import InvalidInput, LeaseLost, NotFound
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.rule_text import as_json
from chrono_ray.model.rules import Rules
from chrono_ray.model.selection import CHOSEN
from chrono_ray.model.urls import canonical, host_of
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.listings import HOST_LIMIT, read_rules, share_key
from chrono_ray.storage.settling import GUILTY_BYTES

VERDICT_COLUMNS: Final = (
    "id", "host", "share_key", "reason", "rule", "confidence", "band",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a walk over a domain's captures is: by URL, time, and what tells two of one second."""

    url_id: bytes = b""
    ts: str = ""
    key: bytes = b""
    archive: str = ""
    capture_id: int = 0


@dataclass(frozen=True, slots=True)
class DecidingLease:
    """A domain whose captures are ours to decide again while the token holds, from `at` on."""

    domain_id: int
    project_id: int
    token: UUID
    stored_rules: str | None
    at: Place

    @property
    def rules(self) -> Rules:
        """The domain's rules; `SettingsError` when this program cannot read them."""
        return read_rules(self.stored_rules)


@dataclass(frozen=True, slots=True)
class Standing:
    """A stored capture with its decision; `state` is its fetch's, None while it is skipped."""

    capture_id: int
    run_id: int
    archive: str
    key: bytes
    url_id: bytes
    capture: Capture
    decision: Decision
    state: FetchState | None

    @property
    def place(self) -> Place:
        return Place(
            self.url_id, self.capture.timestamp.text, self.key, self.archive, self.capture_id
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stored capture that is to be decided otherwise."""

    standing: Standing
    decision: Decision


@dataclass(frozen=True, slots=True)
class Tally:
    """What a walk did: captures looked at, made wanted, made skipped, given other words.

    `ended`: they would be skipped now, but what became of them stays.
    `in_flight`: they would be skipped, but are being fetched this moment.
    """

    looked: int = 0
    wanted: int = 0
    skipped: int = 0
    renamed: int = 0
    ended: int = 0
    in_flight: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.looked + other.looked, self.wanted + other.wanted, self.skipped + other.skipped,
            self.renamed + other.renamed, self.ended + other.ended,
            self.in_flight + other.in_flight,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Redecision:
    """How far the newest walk is. `held`: somebody is at it."""

    done: bool
    held: bool
    tally: Tally


@dataclass(frozen=True, slots=True)
class Domain:
    """What a project collects, as a person names it."""

    id: int
    project: str
    url: str
    match: str


class Deciding:
    """Rules as they are stored, and decisions changed by them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("deciding")
        self._listings = statements("listings")
        self._settle = statements("settle")

    async def domains(self, name: str, *, project: str) -> list[Domain]:
        """All domains of a project with this name, or those with this URL.

        `project` narrows to one. `NotFound` when there is none, `InvalidInput`
        when it may mean different things.
        """
        place = canonical(name).partition("://")[2]
        rows = await self._database.fetch(self._sql["find_domains"], name, project, place)
        if not rows:
            raise NotFound(
                f"There is no domain or project {name!r}",
                fix="Give a URL as it was given to `chrono run` or `chrono plan`",
            )
        if len({(row["project_id"], row["by_project"]) for row in rows}) > 1:
            found = {f"{row['project']!r} (#{row['project_id']})" for row in rows}
            where = ", ".join(sorted(found))
            raise InvalidInput(
                f"{name!r} means several things", why=f"in the projects {where}",
                fix="Say which with --project; where names are the same, by the id: '#7'",
                code="rules_target",
            )  # fmt: skip
        return [Domain(row["id"], row["project"], row["url"], row["match"]) for row in rows]

    async def rules(self, domain_id: int) -> Rules:
        """The domain's rules as they are now; `SettingsError` when they cannot be read."""
        stored = await self._database.fetchval(
            "SELECT rules::text FROM domains WHERE id = $1", domain_id
        )
        return read_rules(stored)

    async def set_rules(self, domain_id: int, rules: Rules) -> None:
        """Decide by these from now on, and have every stored capture decided again."""
        await self._database.fetch(self._sql["set_rules"], domain_id, *as_stored(rules))

    async def claim(self, domain_id: int | None) -> DecidingLease | None:
        """A domain (or this one) that is to be decided again now; None without one."""
        row = await self._database.fetchrow(self._sql["claim"], domain_id)
        if row is None:
            return None
        return DecidingLease(
            row["domain_id"], row["project_id"], row["token"], row["rules"],
            Place(row["at_url"], row["at_ts"], row["at_key"], row["at_archive"], row["at_capture"]),
        )  # fmt: skip

    async def release(self, lease: DecidingLease) -> None:
        """Give the domain back, to be gone on with from the last place kept."""
        await self._database.fetch(self._sql["release"], lease.domain_id, lease.token)

    async def put_aside(self, lease: DecidingLease) -> None:
        """Give back a domain that cannot be decided here: others first, it again in minutes."""
        await self._database.fetch(self._sql["put_aside"], lease.domain_id, lease.token)

    async def progress(self, domain_id: int) -> Redecision | None:
        """The newest walk over a domain; None when there was none."""
        row = await self._database.fetchrow(self._sql["redecision"], domain_id)
        if row is None:
            return None
        tally = Tally(*(row[name] for name in Tally.__dataclass_fields__))
        return Redecision(row["state"] == "done", row["held"], tally)

    async def read(self, domain_id: int, after: Place, *, limit: int) -> list[Standing]:
        """The domain's next captures behind a place, by URL and time."""
        rows = await self._database.fetch(
            self._sql["read"], domain_id, after.url_id, after.ts, after.key, after.archive,
            after.capture_id, limit,
        )  # fmt: skip
        return [_standing(row) for row in rows]

    async def advance(self, lease: DecidingLease, at: Place, tally: Tally, *, done: bool) -> None:
        """Keep how far the walk is. Raises `LeaseLost` when it is no longer ours."""
        row = await self._database.fetchrow(
            self._sql["advance"], lease.domain_id, lease.token, at.url_id, at.ts, at.key,
            at.archive, at.capture_id, tally.looked, tally.wanted, tally.skipped, tally.renamed,
            tally.ended, tally.in_flight, done,
        )  # fmt: skip
        if row is None:
            raise _lost()

    async def write(self, lease: DecidingLease, verdicts: Sequence[Verdict]) -> Tally:
        """Make these decisions: one transaction, and one more for each run that gets wants.

        Safe to run again. Raises `LeaseLost` when the domain is no longer ours:
        then what was written so far stays, as somebody else would write it.
        """
        tally = Tally()
        others = [v for v in verdicts if not _is_want(v)]
        if others:
            tally += await self._transact(lease, others, self._skip_and_rename)
        for run_id, group in await self._by_run([v for v in verdicts if _is_want(v)]):
            tally += await self._transact(lease, group, partial(self._want, lease, run_id))
        return tally

    async def _by_run(self, wants: Sequence[Verdict]) -> list[tuple[int, list[Verdict]]]:
        """Whose queue each goes to: a run asks its own archive only."""
        if not wants:
            return []
        ids = [verdict.standing.capture_id for verdict in wants]
        rows = await self._database.fetch(self._sql["runs_to_want"], ids)
        runs = {row["id"]: row["run_id"] for row in rows}

        def run_of(verdict: Verdict) -> int:
            return int(runs[verdict.standing.capture_id])

        return [(run, list(group)) for run, group in groupby(sorted(wants, key=run_of), key=run_of)]

    async def _transact(
        self,
        lease: DecidingLease,
        verdicts: Sequence[Verdict],
        work: Callable[[Connection, Sequence[Verdict]], Awaitable[Tally]],
    ) -> Tally:
        """`work` in a transaction, on these captures less those that a person chose."""
        records = [_record(lease, verdict) for verdict in verdicts]

        async def write(connection: Connection) -> Tally:
            sql = self._sql
            await connection.execute(sql["verdict"])
            await connection.execute(self._listings["stage"])
            await connection.copy_records_to_table(
                "verdict", records=records, columns=VERDICT_COLUMNS
            )
            await connection.execute("ANALYZE verdict (id)")
            await connection.execute(sql["archives_alone"], str(lease.domain_id))
            held = await connection.fetchval(sql["still_ours"], lease.domain_id, lease.token)
            if held is None:
                raise _lost()
            await connection.execute(sql["lock_captures"])
            rows = await connection.fetch(sql["leave_chosen"], CHOSEN)
            chosen = {row["id"] for row in rows}
            return await work(
                connection, [v for v in verdicts if v.standing.capture_id not in chosen]
            )

        return await self._database.transact(write)

    async def _skip_and_rename(self, connection: Connection, verdicts: Sequence[Verdict]) -> Tally:
        unwanted = {
            v.standing.capture_id for v in verdicts
            if isinstance(v.decision, Skipped) and isinstance(v.standing.decision, Wanted)
        }  # fmt: skip
        skipped = unwanted.intersection(await connection.fetchval(self._sql["skip"]))
        await connection.execute(self._sql["requeue"])
        await connection.execute(self._sql["rename_wanted"])
        return Tally(
            skipped=len(skipped), renamed=len(verdicts) - len(unwanted),
            in_flight=len(unwanted) - len(skipped),
        )  # fmt: skip

    async def _want(
        self,
        lease: DecidingLease,
        run_id: int,
        connection: Connection,
        verdicts: Sequence[Verdict],
    ) -> Tally:
        """As a lister writes new rows (`Listings.keep`), for rows that are there already."""
        if not verdicts:
            return Tally()
        archive = verdicts[0].standing.archive
        sql, listings = self._sql, self._listings
        dead = await connection.fetchval(
            "SELECT state = 'cancelled' FROM runs WHERE id = $1", run_id
        )
        staged = await connection.execute(sql["stage_wanted"])
        await connection.execute("ANALYZE stage (fate, id, share_key, host)")
        wanted = await connection.fetch(listings["want_payloads"], lease.project_id, run_id)
        fresh = [row["id"] for row in wanted]
        await connection.execute(listings["lock_fetches"], lease.project_id)
        if dead:
            await connection.execute(sql["stillborn"], fresh)
        else:
            fresh += await self._reopen(connection, run_id)
        await connection.execute(sql["count_wanted"])
        await connection.execute(sql["want_captures"])
        if not dead:
            fresh += await self._preferred(connection, run_id)
            await connection.execute(listings["rank_hosts"], run_id, fresh, archive)
        await self._count_ended(connection)
        await connection.execute(sql["go_on"])
        if not dead:
            await connection.execute(listings["mark_ready"], run_id)
        return Tally(wanted=int(staged.rpartition(" ")[2]))

    async def _preferred(self, connection: Connection, run_id: int) -> list[int]:
        """Payloads that a less preferred archive's run of the same collection had."""
        if not await connection.fetchval(self._listings["has_companions"], run_id):
            return []
        return [row["id"] for row in await connection.fetch(self._listings["prefer"], run_id)]

    async def _reopen(self, connection: Connection, run_id: int) -> list[int]:
        rows = await connection.fetch(self._listings["fetches_to_reopen"], list(GUILTY_BYTES))
        ids = [row["id"] for row in rows]
        if ids:
            await connection.execute(self._settle["count_captures"], ids, -1, None)
            await connection.execute(
                self._settle["reopen"], ids, [row["capture_id"] for row in rows], run_id
            )
        return ids

    async def _count_ended(self, connection: Connection) -> None:
        """They share the fate of a payload that ended before, and join its page."""
        rows = await connection.fetch(self._listings["ended_captures"])
        if rows:
            ids = [row["id"] for row in rows]
            fetches = sorted({row["fetch_id"] for row in rows})
            await connection.execute(self._settle["count_captures"], fetches, 1, ids)
            await connection.execute(self._settle["put_pages"], fetches, ids)
            await connection.execute(self._settle["note_pages"], fetches, ids)


def as_stored(rules: Rules) -> tuple[str | None, bool]:
    """What `change_rules` in the record takes: the domain's own as JSON, and whether they thin."""
    return (as_json(rules) if rules.own else None), rules.thin


def _is_want(verdict: Verdict) -> bool:
    return isinstance(verdict.decision, Wanted) and isinstance(verdict.standing.decision, Skipped)


def _lost() -> LeaseLost:
    return LeaseLost("The domain is decided by somebody else now, or has other rules")


def _record(lease: DecidingLease, verdict: Verdict) -> tuple[Any, ...]:
    row, decision = verdict.standing, verdict.decision
    host = host_of(row.capture.original).replace("\0", "%00")[:HOST_LIMIT]
    if isinstance(decision, Skipped):
        return row.capture_id, host, None, decision.reason, decision.rule, decision.confidence, 0
    share = share_key(
        row.capture, domain_id=lease.domain_id, archive=row.archive, key=row.key
    )  # fmt: skip
    return row.capture_id, host, share, "", decision.rule, 1.0, decision.priority.value


def _standing(row: asyncpg.Record) -> Standing:
    capture = Capture(
        urlkey=row["urlkey"], timestamp=Timestamp14(row["ts"]), original=row["original"],
        mimetype=row["mimetype"], statuscode=row["statuscode"], digest=row["digest"],
        length=row["length"],
    )  # fmt: skip
    decision: Decision = Wanted(CapturePriority(row["priority"]), row["rule"])
    if row["reason"]:
        decision = Skipped(row["reason"], row["rule"], row["confidence"])
    return Standing(
        capture_id=row["id"], run_id=row["run_id"], archive=row["archive"], key=row["key"],
        url_id=row["url_id"], capture=capture, decision=decision,
        state=None if row["state"] is None else FetchState(row["state"]),
    )  # fmt: skip
