"""An archive that is away for hours, or the way to it: its listing waits, and is no hole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chrono_ray.pipeline.verify import Recount
from chrono_ray.storage.governor import Governor, Pauses
from chrono_ray.storage.stats import Stats
from tests.integration.pipeline.rig import Rig
from tests.support.archive import HostileArchive, Kind, Reset, Rule, Site, times_of

HOUR = 3600.0
NEXT = """
SELECT extract(epoch FROM greatest(
         (SELECT min(not_before) FROM slices WHERE state = 'pending'),
         (SELECT max(paused_until) FROM archive_budgets)) - clock_timestamp())::float8
"""
PASS = """
WITH later AS (
    UPDATE slices SET not_before = not_before - make_interval(secs => $1)
     WHERE not_before > '-infinity'
)
UPDATE archive_budgets SET paused_until = paused_until - make_interval(secs => $1)
 WHERE paused_until > '-infinity'
"""


async def listing(rig: Rig, goes_on: Callable[[float], bool]) -> float:
    """List, and let the time pass that it waits for; how many seconds until the end of it."""
    passed = 0.0
    while goes_on(passed) and await rig.database.fetchval(
        "SELECT 1 FROM slices WHERE state = 'pending'"
    ):
        await rig.discoverer.step()
        wait = await rig.database.fetchval(NEXT)
        if wait is not None and wait > 0:
            passed += wait
            await rig.database.fetch(PASS, wait)
    return passed


def to_its_end(_: float) -> bool:
    return True


async def recounted(rig: Rig, run: int) -> Recount:
    """Without what says that nothing was fetched."""
    recount = await rig.verify(run)
    recount.faults = [each for each in recount.faults if "have not ended yet" not in each]
    return recount


def count_listings(server: HostileArchive) -> int:
    return len(times_of(list(server.log.entries()), Kind.LISTING))


@pytest.fixture
def slow_rig(rig: Rig) -> Rig:
    """One that leaves an archive that refuses alone for an hour."""
    pauses = Pauses(outage=HOUR, outage_most=HOUR)
    rig.governor = Governor(rig.database, egress="here", pauses=pauses)
    return rig


async def test_a_listing_waits_for_an_archive_that_refuses_as_its_replays_do(
    slow_rig: Rig, server: HostileArchive, site: Site
):
    run = await slow_rig.start(site.domain)
    async with server.refusing():
        await listing(slow_rig, lambda passed: passed < 20 * HOUR)
        [row] = await slow_rig.database.fetch("SELECT state, attempts, reason FROM slices")
        assert tuple(row) == ("pending", 0, "refused_connection")
    await listing(slow_rig, to_its_end)
    recount = await recounted(slow_rig, run)
    assert (recount.holes, recount.faults) == ([], [])
    assert recount.rows_listed == len(site.records)


async def test_who_refuses_for_a_day_leaves_a_hole(
    slow_rig: Rig, server: HostileArchive, site: Site
):
    run = await slow_rig.start(site.domain)
    async with server.refusing():
        assert 24 * HOUR <= await listing(slow_rig, to_its_end) < 26 * HOUR
    recount = await recounted(slow_rig, run)
    assert [hole.reason for hole in recount.holes] == ["refused_connection"]
    assert recount.faults == []


async def test_a_listing_outlasts_hours_without_a_connection(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Reset(), kind=Kind.LISTING))
    run = await rig.start(site.domain)
    await listing(rig, lambda passed: passed < HOUR)
    await rig.discoverer.step()
    told = (await Stats(rig.database).progress(run)).put_off
    assert told is not None
    assert told.reason == "archive"
    assert told.seconds > HOUR
    server.behave()
    await listing(rig, to_its_end)
    recount = await recounted(rig, run)
    assert (recount.holes, recount.faults) == ([], [])
    assert recount.rows_listed == len(site.records)


async def test_an_archive_that_is_away_for_a_working_day_is_asked_seldom_and_leaves_a_hole(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Reset(), kind=Kind.LISTING))
    run = await rig.start(site.domain)
    assert 6 * HOUR < await listing(rig, to_its_end) < 9 * HOUR
    recount = await recounted(rig, run)
    assert [hole.reason for hole in recount.holes] == ["archive"]
    assert recount.faults == []
    assert count_listings(server) < 40
