"""Leave to send: never more than the budget, whoever asks, and silence when an archive wants it."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.errors import ConnectionRefused, Throttled
from chrono_ray.storage.database import Database
from chrono_ray.storage.frontier import Nothing
from chrono_ray.storage.governor import (
    HORIZON,
    LATENCY,
    LEAST_LATE,
    MOST_LATE,
    Governor,
    Kind,
    Limit,
    Pauses,
    slot,
)
from chrono_ray.storage.migrate import migrate
from tests.integration.storage.making import Record, capture, until
from tests.support.archive.audit import sliding_max, smallest_gaps
from tests.support.embedded import start_session_parts


@given(st.integers(1, 200_000))
def test_no_window_can_hold_more_than_the_budget(per_minute: int):
    """Budget + 1 requests take a minute, though the first be late and the last early."""
    step = Limit("a", Kind.REPLAY, per_minute).step.total_seconds()
    late = LATENCY + min(max(step, LEAST_LATE), MOST_LATE)
    assert per_minute * step - late >= 60 - 1e-6
    assert per_minute * step <= 60 * 1.02 + LATENCY + MOST_LATE + 1


@given(
    delay=st.floats(0, 5), step=st.floats(0.001, 60), trip=st.floats(0, 3), share=st.floats(0, 1)
)
def test_a_slot_is_used_neither_early_nor_too_late(
    delay: float, step: float, trip: float, share: float
):
    given_at = 100 + trip * share
    leave = slot(delay, step, asked=100, answered=100 + trip)
    assert leave.at >= given_at + delay
    assert leave.until <= given_at + delay + LATENCY + min(max(step, LEAST_LATE), MOST_LATE) + 1e-6


async def test_a_missed_slot_is_given_up_and_an_unlimited_one_never():
    now = time.monotonic()
    assert not await slot(0, 0.2, asked=now - 1.5, answered=now - 1).come()
    assert not await slot(0.1, 0.2, asked=now - 9, answered=now).come()
    assert await slot(0, 0, asked=now - 99, answered=now - 98).come()


async def budget_of(database: Database, per_minute: int, *, egress: str = "here") -> Governor:
    governor = Governor(database, egress=egress)
    await governor.configure([Limit("wayback", kind, per_minute) for kind in Kind])
    return governor


async def send_for(governor: Governor, seconds: float, sent: list[float]) -> None:
    try:
        async with asyncio.timeout(seconds):
            while True:
                await governor.turn("wayback", Kind.REPLAY)
                sent.append(time.monotonic())
    except TimeoutError:
        return


async def test_many_takers_together_keep_to_the_budget(database: Database):
    governor = await budget_of(database, 600)
    sent: list[float] = []
    await asyncio.gather(*(send_for(governor, 4, sent) for _ in range(20)))
    step = Limit("wayback", Kind.REPLAY, 600).step.total_seconds()
    late = LATENCY + step
    for window in (0.5, 1.0, 2.0, 3.0):
        assert sliding_max(sent, window) <= math.floor((window + late) / step) + 1
    # a slot is late by what PostgreSQL took to answer; in the middle of many that is little
    assert smallest_gaps(sent, len(sent))[len(sent) // 4] > step * 0.4
    assert len(sent) > 0.7 * 4 / step


async def test_slots_are_a_step_apart_whoever_takes_them(database: Database):
    governor = await budget_of(database, 600)
    asked = await asyncio.gather(*(take(database) for _ in range(12)))
    moments = sorted(moment for moments in asked for moment in moments)
    step = Limit("wayback", Kind.REPLAY, 600).step.total_seconds()
    assert len(moments) >= 12
    gaps = smallest_gaps(moments, len(moments))
    assert gaps[0] >= step - 0.001
    assert governor is not None


async def take(database: Database, wanted: int = 1) -> list[float]:
    """The moments, on PostgreSQL's clock, of the slots that one question brought."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(
            "SELECT t.*, extract(epoch FROM b.tat)::float8 AS tat"
            " FROM take_slots('wayback', 'replay', 'here', $1, '2 seconds') t, archive_budgets b"
            " WHERE b.archive = 'wayback' AND b.kind = 'replay' AND b.egress = 'here'",
            wanted,
        )
        after = await connection.fetchval(
            "SELECT extract(epoch FROM tat)::float8 FROM archive_budgets"
            " WHERE archive = 'wayback' AND kind = 'replay' AND egress = 'here'"
        )
    return [after - row["step"] * n for n in range(1, row["granted"] + 1)]


async def test_nobody_gets_slots_beyond_the_horizon(database: Database):
    await budget_of(database, 600)
    assert len(await take(database, 1000)) <= 21
    row = await database.fetchrow(
        "SELECT * FROM take_slots('wayback', 'replay', 'here', 5, '2 seconds')"
    )
    assert row["granted"] == 0
    assert 0 < row["wait"] < 0.2


async def test_a_claim_gives_back_the_slots_it_does_not_use(record: Record):
    await budget_of(record.database, 60)
    run = await record.start()
    await record.list_all(run, [capture()])
    assert len(await record.claim(100)) == 1
    left = await record.database.fetchval(
        "SELECT extract(epoch FROM tat - clock_timestamp())::float8 FROM archive_budgets"
        " WHERE archive = 'wayback' AND kind = 'replay' AND egress = 'here'"
    )
    assert left <= Limit("wayback", Kind.REPLAY, 60).step.total_seconds()


async def test_a_claim_takes_no_more_than_the_slots_within_the_horizon(record: Record):
    await budget_of(record.database, 120)
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(50)])
    leases = await record.claim(50)
    assert 1 <= len(leases) <= 5
    starts = sorted(lease.slot.at for lease in leases)
    step = Limit("wayback", Kind.REPLAY, 120).step.total_seconds()
    assert all(b - a >= step - 0.05 for a, b in pairwise(starts))
    assert await record.claim(50) == []


async def test_a_clock_that_was_ahead_once_silences_nobody(record: Record):
    """What was given then is kept to: the next slot is a step behind the last that may be out."""
    await budget_of(record.database, 600)
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(50)])
    step = Limit("wayback", Kind.REPLAY, 600).step
    ahead = (
        "UPDATE archive_budgets SET tat = clock_timestamp() + interval '1 day'"
        " WHERE kind = 'replay' RETURNING clock_timestamp()"
    )

    async def first(since: datetime) -> float:
        """The next slot: so many seconds after any that may be out."""
        tat: datetime = await record.database.fetchval(
            "SELECT tat FROM archive_budgets WHERE kind = 'replay' AND egress = 'here'"
        )
        return (tat - since - HORIZON).total_seconds()

    was = await record.database.fetchval(ahead)
    answer = await record.frontier().claim(50, idle=9)
    assert isinstance(answer, Nothing)
    assert answer.wait <= step.total_seconds()
    assert await first(was) >= step.total_seconds()
    was = await record.database.fetchval(ahead)
    taken = "SELECT wait FROM take_slots('wayback', 'replay', 'here', 5, $1)"
    assert await record.database.fetchval(taken, HORIZON) <= step.total_seconds()
    assert await first(was) >= step.total_seconds()
    await until(partial(record.claim, 1))


async def test_an_archive_that_names_its_pause_gets_exactly_that(database: Database):
    governor = await budget_of(database, 600)
    seconds = await governor.heed("wayback", Throttled("429", retry_after=7))
    assert 6.5 < seconds <= 7
    [listing, replay] = await governor.budgets()
    assert 6 < listing.paused_seconds <= 7
    assert replay.pause_reason == "throttled"
    asked = await database.fetchrow(
        "SELECT * FROM take_slots('wayback', 'replay', 'here', 1, '2 seconds')"
    )
    assert asked["granted"] == 0
    assert 6 < asked["wait"] <= 7


async def test_pauses_double_when_the_archive_names_none_and_are_forgiven(database: Database):
    governor = await budget_of(database, 600)
    silence = Throttled("429", retry_after=None)
    for expected in (60, 120, 240):
        assert await governor.heed("wayback", silence) == pytest.approx(expected, abs=1)
        assert await governor.heed("wayback", silence) == pytest.approx(expected, abs=1)
        await ended(database, "1 second")
    await ended(database, "31 minutes")
    assert await governor.heed("wayback", silence) == pytest.approx(60, abs=1)


async def test_pauses_double_to_an_hour_at_most(database: Database):
    governor = await budget_of(database, 600)
    await database.fetch("UPDATE archive_budgets SET pauses = 19, pause_reason = 'throttled'")
    await ended(database, "1 second")
    silence = Throttled("429", retry_after=None)
    assert await governor.heed("wayback", silence) == pytest.approx(3600, abs=1)


async def test_a_refused_connection_is_an_outage_or_after_throttling_a_ban(database: Database):
    governor = await budget_of(database, 600)
    refused = ConnectionRefused("no")
    assert await governor.heed("wayback", refused) == pytest.approx(10, abs=1)
    await ended(database, "1 second")
    assert await governor.heed("wayback", refused) == pytest.approx(20, abs=1)
    await ended(database, "1 second")
    await governor.heed("wayback", Throttled("429", retry_after=1))
    await ended(database, "1 minute")
    assert await governor.heed("wayback", refused) == pytest.approx(3600, abs=1)
    await ended(database, "1 second")
    assert await governor.heed("wayback", refused) == pytest.approx(7200, abs=1)
    await ended(database, "11 minutes")
    assert await governor.heed("wayback", refused) == pytest.approx(10, abs=1)


async def test_a_longer_pause_is_never_shortened(database: Database):
    governor = await budget_of(database, 600)
    await governor.heed("wayback", Throttled("429", retry_after=100))
    assert await governor.heed("wayback", Throttled("429", retry_after=2)) > 95
    assert await governor.heed("wayback", Throttled("429", retry_after=None)) > 95


@pytest.mark.parametrize("odd", [math.inf, math.nan, -5.0, 1e300])
async def test_an_odd_retry_after_is_a_finite_pause(database: Database, odd: float):
    governor = await budget_of(database, 600)
    assert 0 < await governor.heed("wayback", Throttled("429", retry_after=odd)) <= 24 * 3600


async def test_after_a_pause_requests_come_back_in_small_steps(database: Database):
    await budget_of(database, 600)
    plain = Limit("wayback", Kind.REPLAY, 600).step.total_seconds()
    for ago, factor in (("0 seconds", 4.0), ("5 minutes", 2.5), ("9 minutes 59 seconds", 1.0)):
        await ended(database, ago)
        row = await database.fetchrow(
            "SELECT * FROM take_slots('wayback', 'replay', 'here', 1, '2 seconds')"
        )
        assert row["step"] == pytest.approx(plain * factor, rel=0.02)
        await database.fetch("UPDATE archive_budgets SET tat = '-infinity'")


async def test_egresses_have_budgets_of_their_own_and_are_silenced_together(database: Database):
    here = await budget_of(database, 60)
    await budget_of(database, 60, egress="there")
    assert len(await take(database, 100)) >= 1
    [row] = await database.fetch(
        "SELECT * FROM take_slots('wayback', 'replay', 'there', 100, '2 seconds')"
    )
    assert row["granted"] >= 1
    await here.heed("wayback", Throttled("429", retry_after=30))
    assert {b.egress: b.paused_seconds > 25 for b in await here.budgets()} == {
        "here": True, "there": True,
    }  # fmt: skip


async def test_listings_and_replays_are_counted_apart(database: Database):
    governor = await budget_of(database, 60)
    async with asyncio.timeout(1):
        await governor.turn("wayback", Kind.LISTING)
        await governor.turn("wayback", Kind.REPLAY)


async def test_configuring_again_keeps_what_is_spent_and_paused(database: Database):
    governor = await budget_of(database, 60)
    await take(database, 3)
    await governor.heed("wayback", Throttled("429", retry_after=50))
    before = await database.fetch("SELECT tat, paused_until FROM archive_budgets ORDER BY kind")
    await budget_of(database, 120)
    after = await database.fetch("SELECT tat, paused_until FROM archive_budgets ORDER BY kind")
    assert [tuple(row) for row in before] == [tuple(row) for row in after]
    assert {b.per_minute for b in await governor.budgets()} == {120}


async def test_a_pause_may_be_as_short_as_it_is_told(database: Database):
    governor = Governor(database, egress="here", pauses=Pauses(throttled=0.2, outage=0.1))
    await governor.configure([Limit("wayback", kind, 0) for kind in Kind])
    began = time.monotonic()
    assert await governor.heed("wayback", Throttled("429", retry_after=None)) <= 0.2
    async with asyncio.timeout(5):
        await governor.turn("wayback", Kind.REPLAY)
    assert time.monotonic() - began >= 0.19


async def test_an_archive_without_a_limit_is_never_locked(record: Record):
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(4)])
    async with record.database.transaction() as other:
        await other.execute("SELECT 1 FROM archive_budgets FOR UPDATE")
        async with asyncio.timeout(5):
            assert len(await record.claim(4)) == 4
            await record.governor.turn("wayback", Kind.REPLAY)


async def ended(database: Database, ago: str) -> None:
    """As if the pause had ended so long ago."""
    await database.fetch(
        "UPDATE archive_budgets SET paused_until = clock_timestamp() - $1::text::interval", ago
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's account may enter (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-tests-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def test_what_is_spent_and_paused_survives_a_restart_of_the_server(open_folder: Path):
    with start_session_parts(open_folder / "parts") as parts:
        before = Database(parts.database_url, pool_size=1)
        await migrate(before)
        governor = await budget_of(before, 60)
        spent = await take(before, 3)
        await governor.heed("wayback", Throttled("429", retry_after=300))
        await before.aclose()
    with start_session_parts(open_folder / "parts") as parts:
        after = Database(parts.database_url, pool_size=1)
        tat = await after.fetchval(
            "SELECT extract(epoch FROM tat)::float8 FROM archive_budgets WHERE kind = 'replay'"
        )
        [listing, replay] = await Governor(after, egress="here").budgets()
        await after.aclose()
    assert tat > max(spent)
    assert listing.paused_seconds > 200
    assert replay.paused_seconds > 200
