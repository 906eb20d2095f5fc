"""A run from its first listing to its certificate, whatever the archive does meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chrono_ray.extraction.process import ExtractionProcess
from chrono_ray.model.errors import ExtractionFailed, NotFound, Unavailable
from chrono_ray.model.page import Document
from chrono_ray.observability.metrics import Registry, Spread
from chrono_ray.storage.projects import Projects, RunState
from chrono_ray.storage.stats import Stats
from tests.integration.pipeline.rig import (
    ASKED_WHEN_ILL,
    PACE,
    InProcess,
    Rig,
    most_successes,
    rig_over,
    spoiled,
)
from tests.integration.storage.making import faults, until
from tests.support.archive import (
    Hang,
    HostileArchive,
    HtmlError,
    Kind,
    Latency,
    Reset,
    Rule,
    Site,
    Status,
    Throttle,
    sliding_max,
    times_of,
)


async def test_a_run_is_complete_and_asks_for_each_payload_once(
    rig: Rig, server: HostileArchive, site: Site
):
    run = await rig.collect(site.domain)
    await rig.assert_whole(run, len(site.records))
    assert most_successes(server, site) == 1
    counters = await rig.counters(run)
    assert counters["stored", ""] > 10
    assert counters["unchanged", ""] >= 1
    assert counters["gone", "not_found"] == 1


async def test_a_second_run_knows_everything_and_asks_for_no_payload(
    rig: Rig, server: HostileArchive, site: Site
):
    await rig.collect(site.domain)
    asked = len(times_of(list(server.log.entries()), Kind.REPLAY))
    again = await rig.collect(site.domain)
    counters = await rig.counters(again)
    assert counters["known", ""] == counters["discovered", ""] == len(site.records)
    assert len(times_of(list(server.log.entries()), Kind.REPLAY)) == asked
    await rig.assert_whole(again, len(site.records))


async def test_runs_of_two_projects_are_certified_apart(rig: Rig, site: Site):
    runs = [await rig.collect(site.domain, project=name) for name in ("one", "other")]
    for run in runs:
        await rig.assert_whole(run, len(site.records))


async def test_two_workers_share_a_run_and_still_ask_once(
    rig: Rig, server: HostileArchive, site: Site, tmp_path: Path
):
    run = await rig.start(site.domain)
    async with (
        rig_over(server.url, rig.database.url, tmp_path / "second", blobs=rig.blobs) as other,
        rig.working(),
        other.working(index=False),
    ):
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))
    assert most_successes(server, site) == 1


@pytest.mark.parametrize("retry_after", [None, 1.0])
async def test_throttling_silences_the_archive_and_costs_nothing(
    rig: Rig, server: HostileArchive, site: Site, retry_after: float | None
):
    server.behave(Rule(Throttle(retry_after=retry_after), kind=Kind.REPLAY, after=5, times=1))
    run = await rig.collect(site.domain)
    await rig.assert_whole(run, len(site.records))
    assert (await rig.counters(run))["request", "throttled"] >= 1
    log = [each for each in server.log.entries() if each.kind is Kind.REPLAY]
    [hit] = [each.at for each in log if each.behaviour == "Throttle"]
    in_flight = 0.4
    quiet = [each.at - hit for each in log if in_flight < each.at - hit < 0.75]
    assert quiet == [], "requests in the pause"
    assert most_successes(server, site) == 1


async def test_a_throttled_listing_goes_on_from_its_key(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Throttle(), kind=Kind.LISTING, after=1, times=2))
    run = await rig.collect(site.domain)
    await rig.assert_whole(run, len(site.records))
    assert (await rig.counters(run))["request", "throttled"] == 2


async def test_refused_connections_are_an_outage_and_nothing_is_lost(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Latency(0.3), kind=Kind.REPLAY))
    run = await rig.start(site.domain)
    async with rig.working():
        await until(lambda: listed(rig, run))
        await until(lambda: stored_at_least(rig, run, 3))
        async with server.refusing():
            await until(lambda: paused(rig))
        async with rig.impatient():
            await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))


async def test_a_sick_archive_is_asked_again_and_the_attempts_are_kept(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(
        Rule(Status(502), kind=Kind.REPLAY, after=3, times=4),
        Rule(Reset(), kind=Kind.REPLAY, after=10, times=3),
        Rule(HtmlError(), kind=Kind.LISTING, after=1, times=2),
    )
    run = await rig.start(site.domain)
    async with rig.impatient(), rig.working():
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))
    reasons = await rig.database.fetch("SELECT DISTINCT reason FROM attempts")
    assert "archive" in {row["reason"] for row in reasons}
    assert most_successes(server, site) == 1


async def test_a_listing_that_never_works_is_a_named_hole_and_the_run_ends(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(HtmlError(), kind=Kind.LISTING, after=1))
    run = await rig.start(site.domain)
    async with rig.impatient(), rig.working():
        await rig.until_done(run)
    recount = await rig.verify(run)
    assert [hole.reason for hole in recount.holes] == ["archive"]
    assert recount.faults == []
    assert 0 < recount.rows_listed <= 40
    assert len(times_of(list(server.log.entries()), Kind.LISTING)) == 1 + ASKED_WHEN_ILL


async def test_a_lister_that_dies_is_followed_from_its_last_key(
    rig: Rig, server: HostileArchive, site: Site
):
    run = await rig.start(site.domain)
    server.behave(Rule(Hang(), kind=Kind.LISTING, after=2, times=1))
    dying = asyncio.create_task(rig.discoverer.step())
    # not before it has asked: the silence meant for it would meet its follower, for 30 s
    await until(lambda: listings_asked(server, 3))
    dying.cancel()
    await asyncio.wait([dying])
    assert dying.cancelled()
    async with rig.working():
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))
    listings = [each.target for each in server.log.entries() if each.kind is Kind.LISTING]
    assert len(listings) - len(set(listings)) == 1, "only the page it died over is asked for again"


async def test_postgresql_away_for_a_moment_loses_nothing(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Latency(0.05), kind=Kind.REPLAY))
    run = await rig.start(site.domain)
    async with rig.working():
        for stored in (3, 12, 25):
            await until(lambda stored=stored: stored_at_least(rig, run, stored))
            await rig.database.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))
    assert most_successes(server, site) == 1


async def test_a_document_that_cannot_be_written_is_named_and_its_neighbours_stored(
    server: HostileArchive, database_url: str, tmp_path: Path, site: Site
):
    def poison(url: str, document: Document) -> Document:
        return spoiled(document) if url.endswith("/library.html") else document

    async with rig_over(server.url, database_url, tmp_path, understanding=InProcess(poison)) as rig:
        run = await rig.collect(site.domain)
        counters = await rig.counters(run)
        guilty = await rig.database.fetch(
            "SELECT DISTINCT c.original FROM captures c JOIN fetches f ON f.id = c.fetch_id"
            " WHERE f.state = 'failed' AND f.reason = 'internal'"
        )
        assert {row["original"].rpartition("/")[2] for row in guilty} == {"library.html"}
        assert counters["failed", "internal"] >= 1
        assert counters["stored", ""] > 10
        assert most_successes(server, site) == 1
        await rig.assert_whole(run, len(site.records))


async def test_a_page_that_kills_extraction_fails_with_its_bytes_kept(
    server: HostileArchive, database_url: str, tmp_path: Path, site: Site
):
    def kill(url: str, document: Document) -> Document:
        if "/library" in url:
            raise ExtractionFailed("the child died", reason="crashed")
        return document

    async with rig_over(server.url, database_url, tmp_path, understanding=InProcess(kill)) as rig:
        run = await rig.collect(site.domain)
        failed = await rig.database.fetch(
            "SELECT f.reason, y.sha256 FROM fetches f JOIN payloads y ON y.id = f.payload_id"
            " WHERE f.state = 'failed'"
        )
        assert {row["reason"] for row in failed} == {"crashed"}
        assert all([await rig.blobs.get(row["sha256"]) for row in failed])
        assert most_successes(server, site) == 1
        await rig.assert_whole(run, len(site.records))


async def test_a_paused_run_sends_nothing_and_goes_on_when_resumed(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Latency(0.1), kind=Kind.REPLAY))
    run = await rig.start(site.domain)
    await rig.limit(replay=1200)
    async with rig.working():
        await until(lambda: stored_at_least(rig, run, 5))
        await Projects(rig.database).change(run, RunState.PAUSED)
        paused_at = time.monotonic()
        await until(lambda: nothing_leased(rig))
        seen = len(server.log)
        await asyncio.sleep(1.0)
        assert len(server.log) == seen
        late = [each.at - paused_at for each in server.log.entries() if each.at > paused_at]
        assert max(late, default=0) < 1.5
        await Projects(rig.database).change(run, RunState.ACTIVE)
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))


async def test_a_run_keeps_within_the_budget_by_the_archive_s_own_log(
    rig: Rig, server: HostileArchive, site: Site
):
    """Slots come one by one; a claim waits for several of them all the same."""
    await rig.limit(listing=600, replay=900)
    rig.pace, counted = replace(PACE, idle=0.5, begin=48, in_flight=48), Registry()
    rig.scrape = rig.new_scrape(meter=counted)
    run = await rig.collect(site.domain)
    await rig.assert_whole(run, len(site.records))
    replays = times_of(list(server.log.entries()), Kind.REPLAY)
    step = 60.5 / 899
    for window in (1.0, 2.0):
        assert sliding_max(replays, window) <= (window + 0.5 + 0.1) / step + 1
    assert len(replays) / (max(replays) - min(replays)) > 0.7 / step, "no slot was missed"
    [granted] = [each for each in counted.readings() if each.values == ("granted",)]
    assert isinstance(granted, Spread)
    assert sum(granted.counts) < 10


async def test_a_stopped_worker_gives_everything_back(rig: Rig, server: HostileArchive, site: Site):
    server.behave(Rule(Latency(0.1), kind=Kind.REPLAY))
    run = await rig.start(site.domain)
    async with rig.working():
        await until(lambda: stored_at_least(rig, run, 3))
    assert rig.scrape.in_flight == 0
    assert await rig.database.fetchval("SELECT count(*) FROM leases") == 0
    assert await faults(rig.database) == []
    rig.scrape = rig.new_scrape()
    async with rig.working():
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))


async def test_what_was_fetched_is_read_when_the_system_gives_a_reader_again(
    server: HostileArchive, site: Site, database_url: str, tmp_path: Path, monkeypatch
):
    """The kernel, out of memory, ends the reader, and refuses the fork of the next one once."""
    reader = ExtractionProcess()
    await reader.start()
    forks = iter([BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")])
    popen = subprocess.Popen

    def fork(*arguments: object, **options: object) -> object:
        for refused in forks:
            raise refused
        return popen(*arguments, **options)  # type: ignore[call-overload]

    async with rig_over(server.url, database_url, tmp_path, understanding=reader) as rig:
        monkeypatch.setattr(subprocess, "Popen", fork)
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGKILL)
        run = await rig.collect(site.domain)
        assert next(forks, None) is None, "a fork was refused"
        assert most_successes(server, site) == 1, "nothing was asked for again"
        await rig.assert_whole(run, len(site.records))
    await reader.aclose()


async def test_while_nobody_reads_nothing_more_is_asked_for_and_what_was_is_kept(
    server: HostileArchive, site: Site, database_url: str, tmp_path: Path
):
    class Away(InProcess):
        away = True

        async def extract(self, body: bytes, **page: Any) -> Document:
            if self.away:
                raise Unavailable("The extraction child does not start")
            return await super().extract(body, **page)

    reader = Away()
    async with rig_over(server.url, database_url, tmp_path, understanding=reader) as rig:
        run = await rig.start(site.domain)
        async with rig.working():
            await until(lambda: listed(rig, run))
            await until(lambda: asked_for(server, PACE.begin))
            await asyncio.sleep(0.5)
            assert await asked_for(server, PACE.begin)
            reader.away = False
            await rig.until_done(run)
        assert most_successes(server, site) == 1
        await rig.assert_whole(run, len(site.records))


# -- conditions


async def stored_at_least(rig: Rig, run: int, n: int) -> bool:
    return (await rig.counters(run)).get(("stored", ""), 0) >= n


async def listings_asked(server: HostileArchive, n: int) -> bool:
    return len(times_of(list(server.log.entries()), Kind.LISTING)) >= n


async def asked_for(server: HostileArchive, n: int) -> bool:
    return len(times_of(list(server.log.entries()), Kind.REPLAY)) == n


async def listed(rig: Rig, run: int) -> bool:
    state = await rig.database.fetchval("SELECT state FROM slices WHERE run_id = $1", run)
    return state == "listed"


async def nothing_leased(rig: Rig) -> bool:
    return await rig.database.fetchval("SELECT count(*) FROM leases") == 0


async def paused(rig: Rig) -> bool:
    return any(each.paused_seconds > 0 for each in await rig.governor.budgets())


async def test_progress_of_an_unknown_run_is_not_found(rig: Rig):
    with pytest.raises(NotFound):
        await Stats(rig.database).progress(99)
    with pytest.raises(NotFound):
        await rig.verify(99)
