"""Everything on one machine may be killed, frozen or ended, and pages may be poison."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from chrono_ray.embedded.parts import EmbeddedParts
from tests.faults.proof import IN_TIME, THOROUGH, Fault, prove, seeds
from tests.faults.scene import CAPTURES, SITE, Scene, until
from tests.support.archive import Kind, Latency, Rule, archive_process
from tests.support.cluster import ROOT, Cluster, owned_cluster

LATENCY = 0.4
REPLAYS_A_MINUTE = 1200
LEASE = 4.0
SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS_A_MINUTE),
    "CHRONO_SCRAPING__SCRAPERS": "2",
    "CHRONO_SCRAPING__IN_FLIGHT": "10",
    "CHRONO_SCRAPING__LEASE": str(LEASE),
    "CHRONO_SCRAPING__SWEEP": "0.5",
    "CHRONO_SCRAPING__PAGE_SECONDS": "4",
    "CHRONO_INDEXING__SECONDS": "0.5",
    "CHRONO_INDEXING__LEASE": "4",
}
POISON = Path(__file__).with_name("poison") / "sitecustomize.py"

pytestmark = IN_TIME


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two scrapers, every server and Ray, all of one owner; a slow archive."""
    poison = tmp_path_factory.mktemp("poison")
    shutil.copy(POISON, poison)
    with archive_process("--captures", str(CAPTURES)) as archive:
        chosen = {
            "CHRONO_ARCHIVES__WAYBACK__URL": archive.url,
            "PYTHONPATH": f"{poison}:{ROOT}",
        }
        with owned_cluster({**SETTINGS, **chosen}) as cluster:
            yield Scene(cluster, archive, REPLAYS_A_MINUTE)


class _Slowly(Fault):
    """The archive takes its time, so that leases are held."""

    def begin(self, scene: Scene) -> None:
        scene.archive.behave(Rule(Latency(LATENCY), kind=Kind.REPLAY))


class KilledScraper(_Slowly):
    number, name = "1", "SIGKILL of a scraper"
    strikes = 2

    def strike(self, scene: Scene) -> set[int]:
        victim = scene.victim()
        held = scene.run.held_by([victim.pid])
        _kill(victim)
        return held


class KilledIndexer(_Slowly):
    number, name = "2", "SIGKILL of the indexer (tantivy) in the middle of its work"
    strikes = 2

    def strike(self, scene: Scene) -> None:
        waiting = "SELECT count(*) > 0 FROM outbox"
        until(lambda: scene.run.over or scene.cluster.value(waiting), 60, "pages to index")
        _kill(scene.actor("Indexer"))


class FrozenScraper(_Slowly):
    """Others do its work meanwhile; its late answers change nothing."""

    number, name = "3", "SIGSTOP of a scraper past its lease, then SIGCONT"

    def strike(self, scene: Scene) -> set[int]:
        self._frozen = scene.victim()
        self._frozen.suspend()
        self._held = scene.run.held_by([self._frozen.pid])
        assert self._held
        return self._held

    def heal(self, scene: Scene) -> None:
        self._ended = scene.run.ended()
        self._frozen.resume()

    def holds(self, scene: Scene) -> None:
        now = scene.run.ended()
        assert {n: now[n] for n in self._ended} == self._ended
        assert self._held <= scene.run.lost_by(self._frozen.pid)
        assert self._frozen.is_running()

    def over(self, scene: Scene) -> None:
        for each in scene.cluster.named("ray::Scraper"):
            each.resume()


class KilledHead(_Slowly):
    """The owner starts another; nobody submits anything again."""

    number, name = "5", "SIGKILL of Ray's head"
    within = 120.0

    def strike(self, scene: Scene) -> None:
        _kill(scene.cluster.named(f"{sys.executable} -m ray.scripts")[0])


class KilledSupervisor(_Slowly):
    number, name = "5b", "SIGKILL of the supervisor: the work goes on without it"

    def strike(self, scene: Scene) -> None:
        _kill(scene.actor("Supervisor"))


class KilledOwner(_Slowly):
    """Another owner follows, on the same record, with a Ray of its own."""

    number, name = "5c", "SIGKILL of the owner, and another started"
    within = 120.0

    def strike(self, scene: Scene) -> None:
        first = scene.cluster.running
        scene.cluster.kill_owner()
        scene.cluster.start()
        again = scene.cluster.running
        assert again.database_url == first.database_url
        assert (again.pid, again.ray_address) != (first.pid, first.ray_address)

    def holds(self, scene: Scene) -> None:
        for actor in ("Scraper", "Indexer", "Supervisor"):
            assert len(scene.cluster.named(f"ray::{actor}")) <= 2


class KilledPostgres(_Slowly):
    number, name = "7", "SIGKILL of PostgreSQL"
    strikes = 2

    def strike(self, scene: Scene) -> None:
        until(scene.run.leased, 60, "PostgreSQL answers, leases are held")
        _kill(scene.cluster.server("postgres"))


class LostCache(_Slowly):
    """Redis is a cache: it may forget everything, be filled with nonsense, or die."""

    number, name = "9", "Redis: FLUSHALL, nonsense, SIGKILL"
    strikes = 3

    def __init__(self) -> None:
        self._deeds = iter((self._flush, self._spoil, self._end))

    def strike(self, scene: Scene) -> None:
        next(self._deeds)(scene)

    def _flush(self, scene: Scene) -> None:
        with _redis(scene.cluster) as cache:
            cache.flushall()

    def _spoil(self, scene: Scene) -> None:
        with _redis(scene.cluster) as cache:
            for key in cache.scan_iter():
                cache.set(key, b"\x80\x04nonsense")

    def _end(self, scene: Scene) -> None:
        _kill(scene.cluster.server("valkey-server"))


class KilledChild(_Slowly):
    """Somebody else ends the process that reads pages: no page is blamed."""

    number, name = "18b", "SIGKILL of the extraction children"
    strikes = 3

    def strike(self, scene: Scene) -> None:
        for each in scene.cluster.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "chrono_ray.extraction.child" in each.cmdline():
                    each.kill()


class PoisonedPages(_Slowly):
    """One crashes its reader, one bloats it, one hangs it, one kills the whole worker."""

    number, name = "18", "pages that crash, bloat or hang their reader, or kill their worker"
    codes = (3,)
    within = 90.0
    _pages = (
        ("visit/fr.html", 2002, "crash", "crashed"),
        ("visit/de.html", 2002, "bloat", "memory"),
        ("visit/es.html", 2005, "hang", "timeout"),
        ("sister/hihama.html", 2002, "kill", "crashed"),
    )

    def begin(self, scene: Scene) -> None:
        super().begin(scene)
        guilty = [page[:3] for page in self._pages]
        _guilty(scene.cluster).write_text(json.dumps(guilty))

    def strike(self, scene: Scene) -> set[int]:
        """The pages strike by themselves, whoever leases them."""
        rows = scene.cluster.fetch(
            "SELECT c.fetch_id FROM captures c JOIN unnest($2::text[], $3::int[]) AS w (part, year)"
            " ON c.original LIKE '%' || w.part AND c.ts LIKE w.year || '%'"
            " WHERE c.run_id = $1 AND c.fetch_id IS NOT NULL",
            scene.run.id,
            [page[0] for page in self._pages],
            [page[1] for page in self._pages],
        )
        return {row["fetch_id"] for row in rows}

    def holds(self, scene: Scene) -> None:
        rows = scene.cluster.fetch(  # the first of the captures that hold the same bytes
            "SELECT DISTINCT ON (f.id) c.original, left(c.ts, 4)::int AS year, f.reason"
            " FROM fetches f JOIN captures c ON c.fetch_id = f.id"
            " WHERE f.run_id = $1 AND f.state = 'failed' ORDER BY f.id, c.ts",
            scene.run.id,
        )
        ended = {(row["original"].partition(f"{SITE}/")[2], row["year"]): row["reason"]
                 for row in rows}  # fmt: skip
        assert ended == {(part, year): reason for part, year, _, reason in self._pages}
        deaths = scene.cluster.value(
            "SELECT count(*) FROM attempts a JOIN captures c ON c.id = a.capture_id"
            " WHERE a.run_id = $1 AND a.reason = 'lost' AND c.original LIKE '%sister/hihama.html'"
            " AND c.ts LIKE '2002%'",
            scene.run.id,
        )
        assert 5 <= deaths <= 6, "twice among others, once among few, three times alone"

    def over(self, scene: Scene) -> None:
        _guilty(scene.cluster).unlink(missing_ok=True)


class TwinJobs(_Slowly):
    """The same list handed in twice, at once: the second joins what the first began."""

    number, name = "20", "the same bulk job submitted twice"

    def strike(self, scene: Scene) -> None:
        project = f"twins-{time.monotonic_ns()}"
        arguments = ["--url", SITE, "--from", "2000", "--to", "2002", "--project", project]
        jobs = [_job(scene.cluster, arguments) for _ in range(2)]
        told = [json.loads(job.communicate(timeout=120)[0]) for job in jobs]
        assert [job.returncode for job in jobs] == [0, 0]
        [row] = scene.cluster.fetch(
            "SELECT count(*) AS pages, count(DISTINCT (g.url_id, g.payload_id)) AS different"
            " FROM pages g JOIN projects p ON p.id = g.project_id WHERE p.name = $1",
            project,
        )
        assert row["pages"] == row["different"] == told[0]["pages"] > 0
        numbers = [each["captures"] for each in told]
        assert told[0]["run"] == told[1]["run"] or any(
            n["known"] == n["discovered"] for n in numbers
        )


class Terminated(_Slowly):
    """SIGTERM: every lease given back, nothing left running, and the run goes on afterwards."""

    number, name = "22", "SIGTERM, everything drained, and a new start"
    within = 90.0

    def strike(self, scene: Scene) -> None:
        cluster = scene.cluster
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

    def heal(self, scene: Scene) -> None:
        """The command that followed it says that it stopped; the run does not."""
        scene.run.command.communicate(timeout=60)
        run = scene.run
        sql = "SELECT state FROM runs WHERE id = $1"
        until(lambda: run.cluster.value(sql, run.id) == "done", 120, "it went on by itself")
        until(lambda: run.cluster.value("SELECT count(*) = 0 FROM outbox"), 60, "all is indexed")
        self.codes = (scene.run.command.returncode,)


class EverythingAtOnce(_Slowly):
    """A longer run in which every part dies, one after the other, before the last is well again."""

    number, name = (
        "1-9",
        "scrapers, indexer, supervisor, Redis, PostgreSQL and the head, in any order",
    )
    within = 120.0
    options = ()
    strikes = 8

    def begin(self, scene: Scene) -> None:
        super().begin(scene)
        kinds = (KilledScraper, KilledIndexer, KilledSupervisor, KilledPostgres, KilledHead)
        self._left = [kind() for kind in kinds] + [KilledScraper(), KilledScraper(), LostCache()]
        scene.chance.shuffle(self._left)

    def strike(self, scene: Scene) -> None:
        self._left.pop().strike(scene)


FAULTS = (
    KilledScraper, KilledIndexer, FrozenScraper, KilledHead, KilledPostgres, PoisonedPages,
    TwinJobs, Terminated,
)  # fmt: skip
LONG = (KilledOwner, KilledSupervisor, LostCache, KilledChild, EverythingAtOnce)
"""Those of the long run only: close kin of others, or all of them together."""


@seeds()
@pytest.mark.parametrize(
    "fault", [*FAULTS, *(LONG if THOROUGH else ())], ids=lambda kind: kind.__name__
)
def test_a_run_survives(fault: type[Fault], number: int, scene: Scene):
    prove(fault(), scene)


def _kill(process: psutil.Process) -> None:
    process.kill()
    process.wait(10)


def _redis(cluster: Cluster) -> redis.Redis:
    return redis.Redis.from_url(cluster.running.redis_url, socket_timeout=5)


def _guilty(cluster: Cluster) -> Path:
    return Path(cluster.settings["PYTHONPATH"].partition(":")[0]) / "guilty.json"


def _job(cluster: Cluster, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "jobs/bulk_scrape.py"), *arguments], cwd=cluster.data_dir,
        env=cluster.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


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
