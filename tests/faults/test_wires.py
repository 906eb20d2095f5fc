"""The wires may be slow, half dead or cut at the worst byte, and who is at their other end may die.

PostgreSQL and the archive stand behind proxies; Meilisearch is a fake with true task semantics.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from chrono_ray.demo.site import demo_site
from tests.faults.proof import IN_TIME, THOROUGH, Fault, prove, seeds
from tests.faults.scene import CAPTURES, SITE, Scene, run_of, until
from tests.integration.archives.warcs import write_warc
from tests.support.accounts import admin_key, bearer
from tests.support.archive import (
    CutBody,
    Hang,
    Kind,
    Latency,
    Rule,
    SlowBody,
    Throttle,
    archive_process,
)
from tests.support.cluster import owned_cluster
from tests.support.embedded import start_session_parts
from tests.support.meilisearch import FakeMeilisearch
from tests.support.proxy import (
    Cut,
    CutAt,
    HalfOpen,
    Moment,
    ProxyProcess,
    Stall,
    WireRule,
    proxy_process,
)

LATENCY = 0.4
REPLAYS_A_MINUTE = 1200
KEY = "a-key-of-the-fault-tests"
MEILISEARCH_KILLS = 20 if THOROUGH else 5
SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS_A_MINUTE),
    "CHRONO_POLITENESS__THROTTLED": "1.5",
    "CHRONO_POLITENESS__THROTTLED_MOST": "3",
    "CHRONO_POLITENESS__BAN": "40",
    "CHRONO_POLITENESS__BAN_MOST": "40",
    "CHRONO_POLITENESS__OUTAGE": "0.5",
    "CHRONO_SCRAPING__SCRAPERS": "2",
    "CHRONO_SCRAPING__IN_FLIGHT": "10",
    "CHRONO_SCRAPING__LEASE": "4",
    "CHRONO_SCRAPING__SWEEP": "0.5",
    "CHRONO_SCRAPING__REPLAY_DEADLINE": "4",
    "CHRONO_INDEXING__SECONDS": "0.5",
    "CHRONO_INDEXING__LEASE": "4",
    "CHRONO_SERVING__PORT": "0",
    "CHRONO_MEILISEARCH_KEY": KEY,
}

pytestmark = IN_TIME


@dataclass(slots=True)
class Wires(Scene):
    """A scene whose wires are ours: to the record, to the archive, and the index itself."""

    record: ProxyProcess = field(kw_only=True)
    wayback: ProxyProcess = field(kw_only=True)
    index: Index = field(kw_only=True)
    key: str = field(kw_only=True)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Somebody searches all the time: I8."""
        over, seen = threading.Event(), []

        def visit() -> None:
            while not over.wait(0.5):
                seen.append(self.search()[0])

        visitor = threading.Thread(target=visit, name="visitor")
        visitor.start()
        try:
            yield
        finally:
            over.set()
            visitor.join()
        assert set(seen) <= {200, 503}, "a 5xx beyond 503 with Retry-After"
        assert 200 in seen

    def search(self) -> tuple[int, dict[str, Any]]:
        """Status and answer of a search over the API."""
        url = f"{self.cluster.running.api}/api/v1/search?q=lighthouse"
        try:
            with urlopen(Request(url, headers=bearer(self.key)), timeout=20) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                polite = error.code < 500 or (error.code == 503 and error.headers["Retry-After"])
                return error.code if polite else 500, json.load(error)


class Index:
    """The fake Meilisearch in a thread of its own, killed and started from ours."""

    def __init__(self, server: FakeMeilisearch, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self._loop = loop

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def additions(self, *states: str) -> list[Any]:
        """Tasks that add documents, in these states."""
        tasks = list(self.server.tasks.values())
        return [t for t in tasks if t.kind == "documentAdditionOrUpdate" and t.status in states]

    def release(self) -> None:
        """Go on with tasks that were held."""
        self._loop.call_soon_threadsafe(self.server.release)


@contextmanager
def meilisearch() -> Iterator[Index]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="meilisearch")
    thread.start()
    index = Index(FakeMeilisearch(KEY), loop)
    try:
        index.do(index.server.start())
        yield index
        index.do(index.server.kill())
        assert index.server.faults == [], "requests that the OpenAPI file does not allow"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def scene() -> Iterator[Wires]:
    """Two scrapers, indexers and the API, with a proxy on each wire."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-wires-", dir="/tmp"))
    folder.chmod(0o755)  # the servers' own account must be able to enter it
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        archive = stack.enter_context(archive_process("--captures", str(CAPTURES)))
        parts = stack.enter_context(start_session_parts(folder / "parts"))
        record = stack.enter_context(proxy_process(parts.database_url, postgresql=True))
        wayback = stack.enter_context(proxy_process(archive.url))
        index = stack.enter_context(meilisearch())
        chosen = {
            "CHRONO_DATABASE_URL": record.through(parts.database_url),
            "CHRONO_ARCHIVES__WAYBACK__URL": wayback.through(archive.url),
            "CHRONO_ARCHIVES__WARC__URL": str(_warc(folder)),
            "CHRONO_MEILISEARCH_URL": index.server.url,
        }
        cluster = stack.enter_context(owned_cluster({**SETTINGS, **chosen}, api=True))
        assert not cluster.running.api_error, cluster.running.api_error
        cluster.record = parts.database_url
        key = asyncio.run(admin_key(parts.database_url))
        yield Wires(
            cluster, archive, REPLAYS_A_MINUTE, record=record, wayback=wayback, index=index, key=key
        )


class _Slowly(Fault):
    """The archive takes its time, so that leases are held; afterwards everything is whole again."""

    def begin(self, scene: Wires) -> None:
        scene.archive.behave(Rule(Latency(LATENCY), kind=Kind.REPLAY))

    def over(self, scene: Wires) -> None:
        scene.record.behave()
        scene.wayback.behave()
        scene.index.server.reject.clear()
        scene.index.server.slow = 0.0
        scene.index.release()


class KilledBeforeTicket(_Slowly):
    """Meilisearch has the batch, and its indexer dies before it could note the task."""

    number, name = "2", "SIGKILL of the indexer between sending a batch and hearing its end"

    def begin(self, scene: Wires) -> None:
        super().begin(scene)
        scene.index.server.hold = True

    def strike(self, scene: Wires) -> None:
        until(lambda: scene.index.additions("enqueued"), 60, "a batch is sent")
        for each in scene.cluster.named("ray::Indexer"):
            each.kill()
            each.wait(10)
        scene.index.release()


class CutCommit(_Slowly):
    """Lost before the server has heard it, or before we hear that it has."""

    number, name = "8", "the connection to PostgreSQL cut exactly at COMMIT, and at the claim"
    strikes = 4

    def __init__(self) -> None:
        scraper, indexer = "chrono scraper", "chrono indexer"
        self._cuts = iter(
            (
                Cut("COMMIT", Moment.ANSWERED, times=3, who=scraper),
                Cut("COMMIT", Moment.UNSENT, times=3, who=scraper),
                Cut("FROM claim(", Moment.ANSWERED, who=scraper),
                Cut("COMMIT", Moment.ANSWERED, who=indexer),
            )
        )

    def strike(self, scene: Wires) -> None:
        _through(scene.record, next(self._cuts))


class KilledMeilisearch(_Slowly):
    number, name = (
        "10",
        f"SIGKILL of Meilisearch in the middle of a task, {MEILISEARCH_KILLS} times",
    )

    def strike(self, scene: Wires) -> None:
        scene.index.server.slow = 0.3
        for _ in range(MEILISEARCH_KILLS):
            until(lambda: scene.index.additions("processing"), 60, "a task under way")
            scene.index.do(scene.index.server.kill())
            scene.index.do(scene.index.server.start())


class AwayMeilisearch(_Slowly):
    """Scraping goes on to its end meanwhile; whoever searches is told to come again."""

    number, name = "11", "Meilisearch away until everything is stored"

    def strike(self, scene: Wires) -> None:
        scene.index.do(scene.index.server.kill())
        run = scene.run
        sql = "SELECT state FROM runs WHERE id = $1"
        until(lambda: scene.cluster.value(sql, run.id) == "done", 120, "the scraping ended")
        assert run.stored() > 0
        status, problem = scene.search()
        assert (status, bool(problem["code"])) == (503, True)
        assert not run.over, "it waits for its pages to be found"
        scene.index.do(scene.index.server.start())
        until(lambda: scene.search()[0] == 200, 60, "a search is answered")


class RejectedDocument(_Slowly):
    """The index takes a batch whole or not at all; the one it cannot take is found and named."""

    number, name = "12", "a task that fails for one document"
    codes = (3,)

    def begin(self, scene: Wires) -> None:
        super().begin(scene)
        scene.index.server.hold = True

    def strike(self, scene: Wires) -> None:
        until(lambda: scene.index.additions("enqueued"), 60, "a batch is sent")
        rows, _ = scene.index.additions("enqueued")[-1].payload
        self._guilty = scene.chance.choice([row["id"] for row in rows])
        scene.index.server.reject[str(self._guilty)] = (
            "invalid_document_geo_field",
            "invalid_request",
        )
        scene.index.release()

    def holds(self, scene: Wires) -> None:
        named = scene.cluster.fetch(
            "SELECT g.id, g.index_error FROM pages g JOIN runs r ON r.domain_id = g.domain_id"
            " WHERE r.id = $1 AND g.index_error <> ''",
            scene.run.id,
        )
        assert [row["id"] for row in named] == [self._guilty]
        assert "invalid_document_geo_field" in named[0]["index_error"]


class UnwillingArchive(_Slowly):
    """Refused connections after throttling are a ban; another archive goes on."""

    number, name = "14", "the archive says 429, 503, refuses connections and bans us"
    strikes = 3
    within = 60.0

    def __init__(self) -> None:
        self._deeds = iter((Throttle(429), Throttle(503, retry_after=1), None))

    def strike(self, scene: Wires) -> None:
        said = next(self._deeds)
        if said is None:
            until(lambda: not _paused(scene) and scene.run.leased(), 60, "it is asked again")
            scene.wayback.refuse(4.0)
            self._left_alone(scene, "banned")
            self._others_go_on(scene)
        else:
            latency = Rule(Latency(LATENCY), kind=Kind.REPLAY)
            scene.archive.behave(latency, Rule(said, kind=Kind.REPLAY, times=1))
            self._left_alone(scene, "throttled")

    def _left_alone(self, scene: Wires, reason: str) -> None:
        until(lambda: _paused(scene) == reason, 60, f"the archive is left alone: {reason}")

    def _others_go_on(self, scene: Wires) -> None:
        project = f"beside-{scene.run.id}"
        with scene.cluster.spawn(
            "run", SITE, "--archive", "warc", "--project", project, "--json"
        ) as command:
            until(lambda: _stored(scene, project), 30, "a page of another archive")
            assert _paused(scene) == "banned", "the ban was over before"
            scene.forgive()
            scene.cluster.fetch("UPDATE parked SET until = clock_timestamp()")
            out, err = command.communicate(timeout=60)
        assert command.returncode == 0, f"{out}{err}"

    def holds(self, scene: Wires) -> None:
        throttled = scene.cluster.value(
            "SELECT coalesce(sum(n), 0)::int FROM domain_counters WHERE run_id = $1"
            " AND state = 'request' AND reason = 'throttled'",
            scene.run.id,
        )
        assert throttled == 2


class TreacherousArchive(_Slowly):
    """Bodies that come slowly, never, or only in part; connections that are dead on one side."""

    number, name = "15", "slow, cut and half-open answers of the archive"
    strikes = 3
    within = 60.0

    def __init__(self) -> None:
        self._deeds = iter((self._bodies, self._cuts, self._half_open))

    def strike(self, scene: Wires) -> None:
        next(self._deeds)(scene)

    def _bodies(self, scene: Wires) -> None:
        scene.archive.behave(
            Rule(Latency(LATENCY), kind=Kind.REPLAY),
            *(Rule(each, kind=Kind.REPLAY, times=2)
              for each in (SlowBody(1.0), CutBody(scene.chance.randrange(1, 20)), Hang())),
        )  # fmt: skip
        until(lambda: scene.archive.hits()[1:] == [2, 2, 2], 60, "every rule struck")

    def _cuts(self, scene: Wires) -> None:
        _through(scene.wayback, CutAt(scene.chance.randrange(300, 4000), times=3))

    def _half_open(self, scene: Wires) -> None:
        _through(scene.wayback, HalfOpen())

    def holds(self, scene: Wires) -> None:
        row = scene.cluster.fetch(
            "SELECT count(*) FILTER (WHERE state = 'stored' AND digest_check = 'mismatch')"
            " AS other,"
            " (SELECT count(*) FROM attempts a WHERE a.run_id = $1"
            "   AND a.reason IN ('truncated', 'deadline', 'protocol')) AS broken"
            " FROM fetches WHERE run_id = $1",
            scene.run.id,
        )[0]
        assert row["other"] == 0, "what was cut is stored as whole"
        assert row["broken"] >= 6


class Partition(_Slowly):
    """Neither hears the other; afterwards all that was said arrives late."""

    number, name = "16", "a partition between one scraper and PostgreSQL"

    def strike(self, scene: Wires) -> set[int]:
        self._cut_off = scene.victim()
        scene.record.behave(Stall(who=f":{self._cut_off.pid}"))
        self._held = scene.run.held_by([self._cut_off.pid])
        assert self._held
        return self._held

    def heal(self, scene: Wires) -> None:
        assert scene.record.hits()[0] > 0
        self._ended = scene.run.ended()
        scene.record.behave()

    def holds(self, scene: Wires) -> None:
        now = scene.run.ended()
        assert {n: now[n] for n in self._ended} == self._ended
        assert self._held <= scene.run.lost_by(self._cut_off.pid)
        assert psutil.pid_exists(self._cut_off.pid)


FAULTS = (
    KilledBeforeTicket, CutCommit, KilledMeilisearch, AwayMeilisearch, RejectedDocument,
    UnwillingArchive, TreacherousArchive, Partition,
)  # fmt: skip


@seeds()
@pytest.mark.parametrize("fault", FAULTS, ids=lambda kind: kind.__name__)
def test_a_run_survives(fault: type[Fault], number: int, scene: Wires):
    prove(fault(), scene)


def _through(proxy: ProxyProcess, rule: WireRule) -> None:
    """Have the wire do this until it has struck."""
    proxy.behave(rule)
    until(lambda: proxy.hits()[0] > 0, 60, f"{rule} strikes")
    proxy.behave()


def _warc(folder: Path) -> Path:
    path = folder / "beside.warc.gz"
    write_warc(path, demo_site(150).records)
    path.chmod(0o644)
    return path


def _paused(scene: Wires) -> str:
    return scene.cluster.value(
        "SELECT coalesce(max(pause_reason) FILTER (WHERE paused_until > clock_timestamp()), '')"
        " FROM archive_budgets WHERE archive = 'wayback'"
    )


def _stored(scene: Wires, project: str) -> int:
    return scene.cluster.value(
        "SELECT count(*) FROM fetches WHERE run_id = $1 AND state = 'stored'",
        run_of(scene.cluster, project),
    )
