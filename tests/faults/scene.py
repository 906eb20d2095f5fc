"""Where faults strike: a cluster, its archive, a run that somebody follows, and who watches it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import asyncpg
import psutil
import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from tests.support.archive import ArchiveProcess, Kind, Logged, sliding_max, times_of
from tests.support.cluster import Cluster
from tests.support.cluster import until as asked_until

SITE: Final = "lanternbay.example"
CAPTURES: Final = int(os.environ.get("CHRONO_TEST_FAULT_CAPTURES") or 500)
RUN_SECONDS: Final = 120 + CAPTURES / 4
AWAY: Final = (
    asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError,
    TimeoutError,
)  # fmt: skip

PLACES: Final = """
WITH placed AS (
    SELECT fetch_id FROM queue WHERE run_id = $1 UNION ALL
    SELECT fetch_id FROM leases WHERE run_id = $1 UNION ALL
    SELECT fetch_id FROM parked WHERE run_id = $1
)
"""
LOOK: Final = (
    PLACES
    + """
SELECT (SELECT count(*) FROM (
            SELECT 1 FROM fetches f LEFT JOIN placed p ON p.fetch_id = f.id WHERE f.run_id = $1
             GROUP BY f.id, f.state HAVING count(p.fetch_id) <> (f.state = 'pending')::int) x)
           AS misplaced,
       (SELECT count(*) FROM placed p LEFT JOIN fetches f ON f.id = p.fetch_id
         WHERE f.id IS NULL OR f.state <> 'pending') AS stranded,
       (SELECT count(*) FROM placed p JOIN fetches f ON f.id = p.fetch_id
         WHERE f.run_id <> $1 OR EXISTS (SELECT 1 FROM runs WHERE id = $1 AND state = 'done'))
           AS nobodys,
       (SELECT coalesce(sum(CASE state WHEN 'discovered' THEN n WHEN 'request' THEN 0 ELSE -n END),
                        0)::int FROM domain_counters WHERE run_id = $1)
     - (SELECT count(*) FROM captures c JOIN fetches f ON f.id = c.fetch_id
         WHERE c.run_id = $1 AND f.state = 'pending') AS unbalanced,
       (SELECT count(*) FROM captures c LEFT JOIN fetches f ON f.id = c.fetch_id
         WHERE c.run_id = $1 AND c.reason = '' AND f.id IS NULL) AS lost,
       (SELECT count(*) FROM (SELECT 1 FROM captures WHERE run_id = $1
         GROUP BY domain_id, archive, key HAVING count(*) > 1) x) AS captures_twice,
       (SELECT count(*) FROM (SELECT 1 FROM pages GROUP BY project_id, urlkey, payload_id
         HAVING count(*) > 1) x) AS pages_twice,
       (SELECT count(*) FROM (SELECT 1 FROM fetches WHERE run_id = $1
         GROUP BY project_id, share_key HAVING count(*) > 1) x) AS fetches_twice
"""
)
"""I1 to I3 in one snapshot; every number is 0 after each transaction."""
SEEN_TOO_OFTEN: Final = """
SELECT coalesce((SELECT sum(p.captures) FROM pages p JOIN runs r ON r.domain_id = p.domain_id
                  WHERE r.id = $1), 0)::int
     - (SELECT count(*) FROM captures c JOIN fetches f ON f.id = c.fetch_id
         WHERE c.run_id = $1 AND f.state = 'stored')
"""
ENDS: Final = """
SELECT id, state, reason, payload_id, document_id, settled_at, requests FROM fetches
 WHERE run_id = $1 AND state <> 'pending' ORDER BY id
"""


T = TypeVar("T")


def until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """As everywhere, but seldom: each question is a connection to PostgreSQL on two busy cores."""
    return asked_until(condition, seconds, what, every=0.2)


@dataclass(slots=True)
class Run:
    """A `chrono run` that somebody follows."""

    cluster: Cluster
    id: int
    project: str
    command: subprocess.Popen[str]

    @classmethod
    @contextmanager
    def begin(cls, cluster: Cluster, *options: str) -> Iterator[Run]:
        """A run in a project of its own, with its first leases out."""
        project = f"faults-{time.monotonic_ns()}"
        command = cluster.spawn("run", SITE, "--project", project, "--json", *options)
        try:
            number = until(lambda: run_of(cluster, project), 60, "the run began")
            run = cls(cluster, number, project, command)
            until(lambda: run.leased() or run.over, 60, "it fetches")
            yield run
        finally:
            if command.poll() is None:
                command.kill()
            command.communicate()

    @property
    def over(self) -> bool:
        return self.command.poll() is not None

    def ends(self, codes: Sequence[int] = (0,), *, seconds: float = RUN_SECONDS) -> None:
        """By itself, complete, with a certificate that adds up."""
        try:
            out, err = self.command.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the run did not end: {self.where()}")
        assert self.command.returncode in codes, f"{out}{err}\n{self.where()}"
        self.is_whole()

    def is_whole(self) -> None:
        """I1 to I3, I5 and I6, counted anew from the rows and from the index."""
        said = self.cluster.chrono("verify", str(self.id))
        assert said.code == 0, said.out
        assert breaches(self.cluster, self.id) == {}
        until(lambda: self.cluster.value("SELECT count(*) = 0 FROM outbox"), 60, "an empty outbox")
        assert self.cluster.value(SEEN_TOO_OFTEN, self.id) == 0
        assert self.cluster.value("SHOW synchronous_commit") == "on"
        waiting = self.cluster.value(PLACES + "SELECT count(*) FROM placed", self.id)
        assert waiting == 0
        ids = index_ids(self.cluster)
        assert len(ids) == len(set(ids)), "a page stands twice in the index"
        rows = self.cluster.fetch("SELECT id FROM pages WHERE index_error = ''")
        assert set(ids) == {row["id"] for row in rows}

    def leased(self) -> dict[int, int]:
        """Fetches leased by workers that live: fetch id and worker's pid. Waits for PostgreSQL."""
        rows = until(self._leases, 60, "PostgreSQL answers")
        found = {row["fetch_id"]: int(row["worker"].rpartition(":")[2]) for row in rows if row}
        return {fetch: pid for fetch, pid in found.items() if psutil.pid_exists(pid)}

    def _leases(self) -> list[asyncpg.Record | None]:
        sql = "SELECT fetch_id, worker FROM leases WHERE run_id = $1"
        try:
            return [*self.cluster.fetch(sql, self.id), None]
        except AWAY:
            return []

    def held_by(self, pids: Collection[int]) -> set[int]:
        """Fetches that these workers hold."""
        return {fetch for fetch, pid in self.leased().items() if pid in pids}

    def pending(self, fetches: Sequence[int]) -> int:
        """How many of these have not ended; all of them while PostgreSQL is away."""
        sql = "SELECT count(*) FROM fetches WHERE id = ANY ($1::bigint[]) AND state = 'pending'"
        try:
            return self.cluster.value(sql, list(fetches))
        except AWAY:
            return len(fetches)

    def stored(self) -> int:
        return self.cluster.value(
            "SELECT count(*) FROM fetches WHERE run_id = $1 AND state = 'stored'", self.id
        )

    def ended(self) -> dict[int, tuple]:
        """What became of each fetch, and when: a second write would show."""
        return {row["id"]: tuple(row) for row in self.cluster.fetch(ENDS, self.id)}

    def lost_by(self, pid: int) -> set[int]:
        """The fetches that were taken away from this worker."""
        rows = self.cluster.fetch(
            "SELECT fetch_id FROM attempts WHERE run_id = $1 AND reason = 'lost'"
            " AND detail LIKE '%:' || $2::text",
            self.id,
            str(pid),
        )
        return {row["fetch_id"] for row in rows}

    def where(self) -> str:
        """How far it is, for whom it failed."""
        counts = self.cluster.fetch(
            "SELECT (SELECT count(*) FROM queue) AS queue, (SELECT count(*) FROM leases) AS leases,"
            " (SELECT count(*) FROM parked) AS parked, (SELECT count(*) FROM outbox) AS outbox,"
            " (SELECT count(*) FROM slices WHERE state = 'pending') AS slices,"
            " (SELECT state FROM runs WHERE id = $1) AS state",
            self.id,
        )
        actors = [each.name() for each in self.cluster.named("ray::")]
        return f"{[dict(row) for row in counts]}; actors {actors}"


@dataclass(slots=True)
class Watch:
    """Looks at the invariants again and again while a run goes on; `found` is what was broken."""

    run: Run
    found: list[str] = field(default_factory=list)
    looks: int = 0
    every: float = 0.5
    _ended: dict[int, tuple] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        thread = threading.Thread(target=self._watch, name="watch")
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.every):
            with contextlib.suppress(*AWAY, AssertionError):  # a record that is away breaks nothing
                self._look()

    def _look(self) -> None:
        broken = breaches(self.run.cluster, self.run.id)
        if broken:
            self.found.append(f"{broken}")
        ended = self.run.ended()
        changed = [n for n, how in self._ended.items() if ended.get(n) != how]
        self.found += [f"fetch {n}: {self._ended[n]}, then {ended.get(n)}" for n in changed]
        self._ended = ended
        self.looks += 1


@dataclass(slots=True)
class Scene:
    """What a fault has to work with; `per_minute` is what the archive allows."""

    cluster: Cluster
    archive: ArchiveProcess
    per_minute: int
    chance: random.Random = field(default_factory=random.Random)
    run: Run = field(init=False)

    def beside(self) -> contextlib.AbstractContextManager[object]:
        """What goes on beside the run."""
        return contextlib.nullcontext()

    def victim(self) -> psutil.Process:
        """One of the scrapers that hold leases."""
        workers = until(self.run.leased, 60, "leases are held by the living")
        return psutil.Process(self.chance.choice(sorted(set(workers.values()))))

    def actor(self, name: str) -> psutil.Process:
        """The process of an actor of this class, waited for."""
        [found, *_] = until(lambda: self.cluster.named(f"ray::{name}"), 90, f"{name} lives")
        return found

    def rest(self) -> None:
        """Nothing in flight, no pause, nothing that the archive still holds against us."""
        self.archive.behave()
        self.cluster.fetch(
            "UPDATE runs SET state = 'cancelled' WHERE state IN ('active', 'paused')"
        )
        until(lambda: self.cluster.value("SELECT count(*) = 0 FROM leases"), 60, "no leases")
        self.forgive()

    def forgive(self) -> None:
        """No archive is left alone any more, and none is asked more slowly for what it said."""
        self.cluster.fetch(
            "UPDATE archive_budgets SET paused_until = '-infinity', pause_reason = '', pauses = 0"
        )

    def assert_polite(self, log: Sequence[Logged]) -> None:
        """I7: never more than the budget, in a minute or in six seconds."""
        times = times_of(log, Kind.REPLAY)
        assert sliding_max(times, 60.0) <= self.per_minute
        assert sliding_max(times, 6.0) <= self.per_minute / 10 + self.per_minute / 60

    def assert_accounted(self, log: Sequence[Logged]) -> int:
        """Each request beyond a payload's first has its stored attempt; how many there were."""
        rows = self.cluster.fetch(
            "SELECT c.ts, c.original, c.fetch_id, (SELECT count(*) FROM attempts a"
            " WHERE a.fetch_id = c.fetch_id) AS attempts FROM captures c"
            " WHERE c.run_id >= $1 AND c.archive = 'wayback' AND c.fetch_id IS NOT NULL",
            self.run.id,
        )
        attempts = {row["fetch_id"]: row["attempts"] for row in rows}
        fetches: dict[tuple[str, str], set[int]] = {}
        for row in rows:
            fetches.setdefault((row["ts"], row["original"]), set()).add(row["fetch_id"])
        targets = [_asked_for(each.target) for each in log if each.kind is Kind.REPLAY]
        asked = Counter(frozenset(fetches[each]) for each in targets if each in fetches)
        for group, requests in asked.items():
            told = sum(1 + attempts[fetch] for fetch in group)
            assert requests <= told, f"{set(group)}: {requests} requests, {told} accounted for"
        return sum(max(requests - len(group), 0) for group, requests in asked.items())


def run_of(cluster: Cluster, project: str) -> int:
    """The newest run of a project, 0 while there is none."""
    return cluster.value(
        "SELECT coalesce(max(r.id), 0) FROM runs r JOIN projects p ON p.id = r.project_id"
        " WHERE p.name = $1",
        project,
    )


def breaches(cluster: Cluster, run: int) -> dict[str, Any]:
    """What breaks I1 to I3 at this moment, by name; empty when nothing does."""
    [row] = cluster.fetch(LOOK, run)
    return {name: n for name, n in row.items() if n}


def index_ids(cluster: Cluster) -> list[int]:
    """Every page in the cluster's index, as often as it stands there."""

    async def read() -> list[int]:
        index = wiring.index(chrono_settings.load(cluster.environment), "reader")
        try:
            return [number async for number in index.ids()]
        finally:
            await index.aclose()

    return asyncio.run(read())


def _asked_for(target: str) -> tuple[str, str]:
    stamp, _, url = unquote(target).removeprefix("/web/").partition("/")
    return stamp.removesuffix("id_"), url
