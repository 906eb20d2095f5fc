"""The record: its schema, what it waits for, and whether the index agrees with it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chrono_ray.cli.doctor.finding import Code, Finding, NotSeen, Seen, problem, warning
from chrono_ray.cli.words import duration
from chrono_ray.model.errors import Conflict, SearchError, SettingsError, Unavailable
from chrono_ray.model.query import Counted, Query
from chrono_ray.search.base import SearchIndex
from chrono_ray.storage.admin import BudgetState, Operating
from chrono_ray.storage.database import Database
from chrono_ray.storage.inspecting import WAITING_COUNTED, IndexFacts, Inspecting
from chrono_ray.storage.migrate import fits, newest, revision
from chrono_ray.storage.rebuilds import Rebuilds
from chrono_ray.storage.restoring import REPLACED, is_replaced_left, refuse_unfinished

LAG_MOST: Final = 600.0
"""Seconds that a page may wait for the index while somebody indexes."""
SETTLE_SECONDS: Final = 2.0
"""A reader of the index may be so late."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How many pages the record says that the index holds, and how many it does."""

    record: int
    index: int
    waiting: int

    @property
    def differs(self) -> bool:
        """By more than what waits could explain."""
        return abs(self.record - self.index) > self.waiting


async def schema(record: Database) -> Seen:
    """Whether the tables are those of this program, and whole."""
    try:
        await refuse_unfinished(record)
    except Conflict as error:
        return Seen("", (problem(
            Code.RESTORE_UNFINISHED, error.what, why=error.why, fix=error.fix
        ),))  # fmt: skip
    now, needed = await revision(record), newest()
    if now == needed:
        return Seen(f"the schema is {now}", await _leftover(record))
    try:
        if await fits(record):
            told = f"the schema is {now}, which this program works with"
            return Seen(told, await _leftover(record))
    except SettingsError as error:
        return Seen("", (problem(
            Code.SCHEMA_NEWER, error.what, why=error.why,
            fix="Install the chrono_ray that migrated it, or a newer one",
        ),))  # fmt: skip
    if not now:
        return Seen("", (problem(
            Code.SCHEMA_MISSING, "There is no record in this database yet",
            why="it has none of our tables", fix="chrono migrate",
        ),))  # fmt: skip
    return Seen("", (problem(
        Code.SCHEMA_OLDER, "The record is older than this program",
        why=f"its schema is {now}, this program needs {needed}", fix="chrono migrate",
    ),))  # fmt: skip


async def _leftover(record: Database) -> tuple[Finding, ...]:
    if not await is_replaced_left(record):
        return ()
    return (warning(
        Code.RESTORE_LEFTOVER, "What a restore replaced still takes its room",
        why=f"the schema {REPLACED} is a whole record, which nobody uses any more",
        fix=f"In psql: DROP SCHEMA {REPLACED} CASCADE",
    ),)  # fmt: skip


async def work(record: Database, *, elsewhere: bool) -> Seen:
    """What stands still. `elsewhere`: the index takes workers of other hosts."""
    inspecting, found = Inspecting(record), list[Finding]()
    unfinished, expired = await inspecting.unfinished(), await inspecting.expired()
    if expired.leases:
        found.append(problem(
            Code.LEASES_EXPIRED, "Dead workers hold work that nobody takes back",
            why=f"{expired.leases:,} leases of {expired.workers} workers, the oldest for"
            f" {duration(expired.seconds)}",
            fix="chrono rescue, or chrono up: workers do it every few seconds",
        ))  # fmt: skip
    if unfinished.runs and not unfinished.workers:
        found.append(warning(
            Code.RUNS_IDLE, "Runs are active, and nobody works on them",
            why=f"{unfinished.runs} active runs, no scraper is connected", fix="chrono up",
        ))  # fmt: skip
    if len(hosts := _hosts(unfinished.workers)) > 1 and not elsewhere:
        found.append(problem(
            Code.INDEX_HOSTS, "The index is a folder on one host, and several work",
            why=f"scrapers run on {', '.join(hosts)}",
            fix="Set CHRONO_MEILISEARCH_URL and CHRONO_MEILISEARCH_KEY on all of them",
        ))  # fmt: skip
    found += _holes(await inspecting.holes())
    told = f"{unfinished.runs} active runs, {len(unfinished.workers)} workers"
    return Seen(told, tuple(found))


def _hosts(workers: Collection[str]) -> list[str]:
    """`chrono scraper HOST:PID`; of local files any host may keep its own."""
    named = [each.removeprefix("chrono scraper ") for each in workers if "scraper" in each]
    return sorted({each.rpartition(":")[0] for each in named})


def _holes(holes: dict[int, int]) -> Iterator[Finding]:
    if holes:
        runs = ", ".join(f"run {run}: {n}" for run, n in holes.items())
        yield warning(
            Code.LISTING_HOLES, "Parts of listings could not be had", why=runs,
            fix=f"chrono retry {next(iter(holes))} --state hole",
        )  # fmt: skip


async def archives(record: Database) -> Seen:
    """Which of them are left alone, and why."""
    budgets = await Operating(record).budgets()
    silent: dict[str, BudgetState] = {}
    for each in budgets:
        if each.paused_until is not None:
            silent.setdefault(each.archive, each)
    found = tuple(
        warning(
            Code.ARCHIVE_SILENT, f"{name} is not asked for {duration(each.wait)} more",
            why=f"{each.reason}, {each.pauses} times in a row" if each.pauses else each.reason,
            fix=f"Wait. If you are sure that it may be asked: chrono archive resume {name}",
        ) for name, each in silent.items()
    )  # fmt: skip
    return Seen(f"{len({each.archive for each in budgets})} archives have budgets", found)


async def index(record: Database, searched: SearchIndex, *, log: Path) -> Seen | NotSeen:
    """Whether pages get there, and as many are there as should be. `log` is the owner's."""
    inspecting = Inspecting(record)
    facts = await inspecting.index()
    found = list(_behind(facts, log))
    try:
        known, here = await Rebuilds(record).living(), await searched.identity()
        if known is not None and known != here:
            found.append(_other(here))
            return Seen("", tuple(found))
        compared = await _compared(inspecting, searched)
    except Unavailable as error:
        return Seen("", tuple(found)) if found else NotSeen(str(error))
    except SearchError as error:
        found.append(problem(
            Code.INDEX_BROKEN, "The index cannot be read", why=f"{error.what}: {error.why}",
            fix="Build it anew from the record: chrono reindex",
        ))  # fmt: skip
        return Seen("", tuple(found))
    if compared is not None and compared.differs:
        found.append(problem(
            Code.INDEX_DIFFERS, "The index does not hold what the record says",
            why=f"{compared.index:,} pages in it, {compared.record:,} should be",
            fix="Name and mend them: chrono reconcile --repair",
        ))  # fmt: skip
    return Seen(f"{facts.pages:,} pages, {facts.waiting:,} on their way", tuple(found))


async def _compared(inspecting: Inspecting, searched: SearchIndex) -> Compared | None:
    """None where nothing can be said of it. What differs is looked at again: work may go on."""
    seen = await _counted(inspecting, searched)
    if seen is None or not seen.differs:
        return seen
    await asyncio.sleep(SETTLE_SECONDS)
    return await _counted(inspecting, searched)


async def _counted(inspecting: Inspecting, searched: SearchIndex) -> Compared | None:
    """None where the index only guesses, or so much waits that it was not counted."""
    held = await searched.search(Query("", limit=1))
    facts = await inspecting.index()
    if held.counted is not Counted.EXACT or facts.waiting >= WAITING_COUNTED:
        return None
    return Compared(facts.pages - facts.refused, held.total, facts.waiting)


def _behind(facts: IndexFacts, log: Path) -> Iterator[Finding]:
    if facts.waiting and facts.lag > LAG_MOST:
        yield problem(
            Code.INDEX_BEHIND, "New pages do not get into the index",
            why=f"{facts.waiting:,} wait, the oldest for {duration(facts.lag)}",
            fix=f"Start who indexes: chrono up. If it runs, its log says why: {log}",
        )  # fmt: skip
    if facts.refused:
        yield warning(
            Code.INDEX_REFUSES, "The index refuses some pages", why=f"{facts.refused:,} pages",
            fix="chrono verify RUN names them; after an upgrade: chrono reindex",
        )  # fmt: skip
    if facts.failed:
        yield warning(
            Code.REBUILD_FAILED, "The last new index was given up", why=facts.failed,
            fix="Mend that, then: chrono reindex",
        )  # fmt: skip


def _other(here: str) -> Finding:
    return problem(
        Code.INDEX_OTHER, "This is not the index that the record was written to",
        why="another one was filled last" if here else "there is none here",
        fix="Look on the host where the indexer runs; if it is lost: chrono reindex",
    )  # fmt: skip
