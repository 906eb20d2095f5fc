"""Everything may be killed at any moment: the run ends by itself, nothing lost, nothing twice.

`CHRONO_TEST_FAULT_CAPTURES` (500) is how many captures the long test lists,
`CHRONO_TEST_FAULT_SEED` repeats its moments and victims.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import asyncpg
import psutil
import pytest

from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.support.archive import (
    ArchiveProcess,
    Kind,
    Latency,
    Rule,
    archive_process,
    sliding_max,
    times_of,
)
from tests.support.cluster import Cluster, owned_cluster, until

CAPTURES = int(os.environ.get("CHRONO_TEST_FAULT_CAPTURES", "500"))
RUN_SECONDS = 120 + CAPTURES / 4
KILLS_AT_LEAST = 10
LATENCY = 0.8
REPLAYS_A_MINUTE = 1200
LEASE = 5.0
SITE = "lanternbay.example"
SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS_A_MINUTE),
    "CHRONO_SCRAPING__SCRAPERS": "2",
    "CHRONO_SCRAPING__IN_FLIGHT": "10",
    "CHRONO_SCRAPING__LEASE": str(LEASE),
    "CHRONO_SCRAPING__SWEEP": "0.5",
    "CHRONO_INDEXING__SECONDS": "0.5",
}

pytestmark = pytest.mark.timeout(RUN_SECONDS + 180)


@pytest.fixture(scope="module")
def archive() -> Iterator[ArchiveProcess]:
    with archive_process("--captures", str(CAPTURES)) as archive:
        archive.behave(Rule(Latency(LATENCY), kind=Kind.REPLAY))
        yield archive


@pytest.fixture(scope="module")
def cluster(archive: ArchiveProcess) -> Iterator[Cluster]:
    with owned_cluster({**SETTINGS, "CHRONO_ARCHIVES__WAYBACK__URL": archive.url}) as cluster:
        yield cluster


@pytest.fixture
def until_2004(cluster: Cluster) -> Iterator[Run]:
    """A smaller run, under way and fetching."""
    with Run.begin(cluster, "--to", "2004") as run:
        yield run


@dataclass(slots=True)
class Run:
    """A `chrono run` that somebody follows."""

    cluster: Cluster
    id: int
    command: subprocess.Popen[str]

    @classmethod
    def begin(cls, cluster: Cluster, *options: str) -> Run:
        """A run in a project of its own, with its first leases out."""
        project = f"kills-{time.monotonic_ns()}"
        command = cluster.spawn("run", SITE, "--project", project, "--json", *options)
        number = until(
            lambda: cluster.value(
                "SELECT coalesce(max(r.id), 0) FROM runs r JOIN projects p ON p.id = r.project_id"
                " WHERE p.name = $1",
                project,
            ),
            60,
            "the run began",
        )
        run = cls(cluster, number, command)
        until(lambda: run.leased() or command.poll() is not None, 60, "it fetches")
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.command.poll() is None:
            self.command.kill()
        self.command.communicate()

    def ends(self) -> None:
        """By itself, complete, with a certificate that adds up."""
        try:
            out, err = self.command.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the run did not end: {self._where()}")
        assert self.command.returncode == 0, f"{out}{err}\n{self._where()}"
        said = self.cluster.chrono("verify", str(self.id))
        assert said.code == 0, said.out
        assert_invariants(self.cluster, self.id)

    def leased(self) -> dict[int, int]:
        """Fetches leased by workers that live: fetch id and worker's pid. Waits for PostgreSQL."""
        rows = until(self._leases, 60, "PostgreSQL answers")
        found = {row["fetch_id"]: int(row["worker"].rpartition(":")[2]) for row in rows if row}
        return {fetch: pid for fetch, pid in found.items() if psutil.pid_exists(pid)}

    def _leases(self) -> list[asyncpg.Record | None]:
        sql = "SELECT fetch_id, worker FROM leases WHERE run_id = $1"
        try:
            return [*self.cluster.fetch(sql, self.id), None]
        except (asyncpg.PostgresError, OSError, TimeoutError):
            return []

    def _where(self) -> str:
        counts = self.cluster.fetch(
            "SELECT (SELECT count(*) FROM queue), (SELECT count(*) FROM leases),"
            " (SELECT count(*) FROM parked), (SELECT count(*) FROM outbox),"
            " (SELECT count(*) FROM slices WHERE state = 'pending'), (SELECT state FROM runs"
            " WHERE id = $1)",
            self.id,
        )
        actors = [each.name() for each in self.cluster.named("ray::")]
        return f"queue, leases, parked, outbox, slices, state: {counts}; actors {actors}"


@dataclass(slots=True)
class Killer:
    """Kills what was drawn, at random moments, while leases are held by the living."""

    run: Run
    chance: random.Random
    landed: Counter[str] = field(default_factory=Counter)
    leases_seen: int = 0

    def strike(self, victim: str) -> bool:
        """Wait for a random moment at which leases are held, then SIGKILL; False: the run ended."""
        time.sleep(self.chance.uniform(0.1, 1.0))  # the moment is what is random here
        process = until(
            lambda: self._found(victim), 150, f"a living {victim} while leases are held"
        )
        if process is None or not isinstance(process, psutil.Process):
            return False
        before = self.run.leased()
        process.kill()
        process.wait(10)
        if before:
            self.landed[victim] += 1
        self.leases_seen += len({*before, *self.run.leased()})
        return True

    def _found(self, victim: str) -> psutil.Process | bool:
        if self.run.command.poll() is not None:
            return True
        leased = self.run.leased()
        if not leased:
            return False
        cluster = self.run.cluster
        match victim:
            case "scraper":
                return psutil.Process(self.chance.choice(sorted(set(leased.values()))))
            case "indexer" | "supervisor":
                found = cluster.named(f"ray::{victim.capitalize()}")
            case "head":
                found = cluster.named(f"{sys.executable} -m ray.scripts")
            case _:
                return cluster.server(victim)
        return found[0] if found else False


def test_a_run_survives_everything_being_killed(cluster: Cluster, archive: ArchiveProcess):
    seed = int(os.environ.get("CHRONO_TEST_FAULT_SEED") or random.randrange(10**6))
    sys.stdout.write(f"CHRONO_TEST_FAULT_SEED={seed}\n")
    before = len(archive.log())
    with Run.begin(cluster) as run:
        killer = Killer(run, random.Random(seed))
        for victim in _victims(killer.chance):
            if not killer.strike(victim):
                break
        run.ends()
    sys.stdout.write(f"kills while leases were held: {dict(killer.landed)}\n")
    assert killer.landed.total() >= KILLS_AT_LEAST
    assert {"valkey-server", "postgres", "head"} <= set(killer.landed)
    log = archive.log()[before:]
    again = _requested_again(cluster, run.id, [each.target for each in log if _is_replay(each)])
    assert 0 < again <= killer.leases_seen
    times = times_of(log, Kind.REPLAY)
    assert sliding_max(times, 60.0) <= REPLAYS_A_MINUTE
    assert sliding_max(times, 6.0) <= REPLAYS_A_MINUTE / 10 + REPLAYS_A_MINUTE / 60


def test_a_frozen_scraper_writes_nothing_late(until_2004: Run):
    """SIGSTOP past its lease, then SIGCONT: others did its work, and its answers change nothing."""
    run = until_2004
    pid = next(iter(run.leased().values()))
    frozen = psutil.Process(pid)
    frozen.suspend()
    try:
        held = [fetch for fetch, worker in run.leased().items() if worker == pid]
        assert held
        until(lambda: not _pending(run, held), 100, "others ended what it held")
        ended = _ends(run, held)
    finally:
        frozen.resume()
    run.ends()
    assert _ends(run, held) == ended
    lost = run.cluster.fetch(
        "SELECT fetch_id FROM attempts WHERE run_id = $1 AND reason = 'lost'"
        " AND detail LIKE '%:' || $2::text",
        run.id,
        str(pid),
    )
    assert {row["fetch_id"] for row in lost} == set(held)
    assert frozen.is_running()


def test_a_killed_owner_is_followed_by_another_and_the_run_goes_on(until_2004: Run):
    cluster = until_2004.cluster
    first = cluster.running
    cluster.kill_owner()
    cluster.start()
    again = cluster.running
    assert again.pid != first.pid
    assert again.database_url == first.database_url
    assert again.ray_address != first.ray_address
    until_2004.ends()
    for actor in ("Scraper", "Indexer", "Supervisor"):
        assert len(cluster.named(f"ray::{actor}")) <= 2


def test_sigterm_gives_every_lease_back_within_30_seconds(until_2004: Run):
    cluster = until_2004.cluster
    [head] = cluster.named(f"{sys.executable} -m ray.scripts")
    [rays] = [each for each in head.cmdline() if each.startswith("--temp-dir=")]
    began = time.monotonic()
    assert cluster.terminate() == 0
    assert time.monotonic() - began < 30 + 15, "30 s to drain, and the servers' own end"
    cluster.assert_nothing_left([])
    assert not Path(rays.removeprefix("--temp-dir=")).exists()
    assert any((cluster.data_dir / "ray" / "logs").iterdir())
    left, lost = asyncio.run(_left_in_the_record(cluster))
    cluster.start()
    assert (left, lost) == (0, 0)
    until_2004.command.communicate(timeout=60)
    run = until_2004.id
    until(
        lambda: cluster.value("SELECT state FROM runs WHERE id = $1", run) == "done",
        RUN_SECONDS,
        "the run went on by itself",
    )
    until(lambda: cluster.value("SELECT count(*) = 0 FROM outbox"), 60, "its pages are indexed")
    assert cluster.chrono("verify", str(run)).code == 0
    assert_invariants(cluster, run)


def test_a_killed_extraction_child_harms_no_neighbour(until_2004: Run):
    cluster = until_2004.cluster
    for _ in range(3):
        children = [
            each for each in cluster.processes()
            if "chrono_ray.extraction.child" in " ".join(each.cmdline())
        ]  # fmt: skip
        for child in children:
            child.kill()
        until(until_2004.leased, 30, "the work goes on")
    until_2004.ends()
    failed = cluster.value(
        "SELECT count(*) FROM fetches WHERE run_id = $1 AND state = 'failed'", until_2004.id
    )
    assert failed == 0


def assert_invariants(cluster: Cluster, run: int) -> None:
    """I1 to I4 and I6 of a run that ended, straight from the tables."""
    [row] = cluster.fetch(
        """
        SELECT (SELECT count(*) FROM queue WHERE run_id = $1)
             + (SELECT count(*) FROM leases WHERE run_id = $1)
             + (SELECT count(*) FROM parked WHERE run_id = $1) AS waiting,
               (SELECT count(*) FROM fetches WHERE run_id = $1 AND state = 'pending') AS pending,
               (SELECT count(*) FROM captures c LEFT JOIN fetches f ON f.id = c.fetch_id
                 WHERE c.run_id = $1 AND c.reason = '' AND f.id IS NULL) AS lost,
               (SELECT count(*) FROM (SELECT 1 FROM captures WHERE run_id = $1
                 GROUP BY domain_id, archive, key HAVING count(*) > 1) x) AS captures_twice,
               (SELECT count(*) FROM (SELECT 1 FROM pages GROUP BY project_id, urlkey, payload_id
                 HAVING count(*) > 1) x) AS pages_twice,
               (SELECT count(*) FROM (SELECT 1 FROM fetches WHERE run_id = $1
                 GROUP BY project_id, share_key HAVING count(*) > 1) x) AS fetches_twice,
               (SELECT count(*) FROM outbox) AS outbox,
               (SELECT coalesce(sum(CASE state WHEN 'discovered' THEN n WHEN 'request' THEN 0
                                    ELSE -n END), 0) FROM domain_counters WHERE run_id = $1)::int
                 AS unbalanced,
               (SELECT sum(p.captures) FROM pages p JOIN runs r ON r.domain_id = p.domain_id
                 WHERE r.id = $1) -
               (SELECT count(*) FROM captures c JOIN fetches f ON f.id = c.fetch_id
                 WHERE c.run_id = $1 AND f.state = 'stored') AS seen_too_often
        """,
        run,
    )
    assert dict(row) == dict.fromkeys(dict(row), 0)
    ids = asyncio.run(_index_ids(cluster))
    assert len(ids) == len(set(ids)), "a page stands twice in the index"
    assert set(ids) == {row["id"] for row in cluster.fetch("SELECT id FROM pages")}


async def _index_ids(cluster: Cluster) -> list[int]:
    index = TantivyIndex(cluster.data_dir / "index", Role.READER)
    try:
        return [number async for number in index.ids()]
    finally:
        await index.aclose()


async def _left_in_the_record(cluster: Cluster) -> tuple[int, int]:
    """Leases, and lost ones, of a cluster that is down."""
    async with EmbeddedParts(cluster.data_dir, postgres=True, valkey=False) as parts:
        connection = await asyncpg.connect(parts.database_url)
        try:
            return (
                await connection.fetchval("SELECT count(*) FROM leases"),
                await connection.fetchval("SELECT count(*) FROM attempts WHERE reason = 'lost'"
                " AND run_id = (SELECT max(id) FROM runs)"),
            )  # fmt: skip
        finally:
            await connection.close()


def _victims(chance: random.Random) -> list[str]:
    """Every actor several times, the servers once each, the head in between."""
    drawn = ["scraper"] * 6 + ["indexer"] * 2 + ["supervisor"] * 2 + ["valkey-server", "postgres"]
    chance.shuffle(drawn)
    drawn.insert(chance.randrange(4, 9), "head")
    return drawn


def _is_replay(entry) -> bool:
    return entry.kind is Kind.REPLAY


def _requested_again(cluster: Cluster, run: int, targets: list[str]) -> int:
    """How many requests went out beyond the first for each payload; each must have its attempt."""
    rows = cluster.fetch(
        "SELECT c.ts, c.original, c.fetch_id, (SELECT count(*) FROM attempts a"
        " WHERE a.fetch_id = c.fetch_id) AS attempts FROM captures c"
        " WHERE c.run_id = $1 AND c.fetch_id IS NOT NULL",
        run,
    )
    attempts = {row["fetch_id"]: row["attempts"] for row in rows}
    fetches: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        fetches.setdefault((row["ts"], row["original"]), set()).add(row["fetch_id"])
    asked = Counter(frozenset(fetches[_asked_for(target)]) for target in targets)
    for group, requests in asked.items():
        told = sum(1 + attempts[fetch] for fetch in group)
        assert requests <= told, f"fetches {set(group)}: {requests} requests, {told} accounted for"
    return sum(requests - len(group) for group, requests in asked.items() if requests > len(group))


def _asked_for(target: str) -> tuple[str, str]:
    stamp, _, url = unquote(target).removeprefix("/web/").partition("/")
    return stamp.removesuffix("id_"), url


def _pending(run: Run, fetches: list[int]) -> int:
    return run.cluster.value(
        "SELECT count(*) FROM fetches WHERE id = ANY ($1::bigint[]) AND state = 'pending'", fetches
    )


def _ends(run: Run, fetches: list[int]) -> list[tuple]:
    """What became of fetches, and when: a second write would show."""
    rows = run.cluster.fetch(
        "SELECT id, state, payload_id, document_id, settled_at, requests FROM fetches"
        " WHERE id = ANY ($1::bigint[]) ORDER BY id",
        fetches,
    )
    return [tuple(row) for row in rows]
