"""Collections that begin by themselves, and those that ask only for what is new."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Collection, RunState
from chrono_ray.storage.schedules import Schedules
from tests.integration.storage.making import Record, capture, stored

MONTH = timedelta(days=30)
DAY = timedelta(days=1)
SITE = Collection(
    Scope("http://a.example/", MatchType.DOMAIN), "p", ("wayback",), QueueClass.DEFAULT, MONTH
)

UNTIL_2005 = replace(SITE.scope, end="20051231235959")


async def collect(record: Record, run: int, stamps: list[str], *, archive: str = "wayback") -> None:
    rows = [capture(f"http://a.example/{stamp}", stamp) for stamp in stamps]
    await record.list_all(run, rows, archive=archive)
    await record.settling.settle([stored(each) for each in await record.claim()])
    await record.frontier().sweep()
    assert await record.state_of(run) == "done"


async def due(record: Record) -> None:
    await record.database.fetch("UPDATE schedules SET next_at = clock_timestamp()")


async def starts(record: Record) -> list[tuple[str, str]]:
    rows = await record.database.fetch("SELECT archive, start_ts FROM runs ORDER BY id")
    return [(row["archive"], row["start_ts"]) for row in rows]


# -- what is new


async def test_without_an_earlier_run_everything_is_new(record: Record):
    await record.projects.begin(SITE)
    assert await starts(record) == [("wayback", "")]


async def test_a_repeated_collection_begins_at_the_newest_capture_less_the_overlap(record: Record):
    [first] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    await collect(record, first, ["20010101000000", "20100315120000", "20109999000000"])
    [again] = (await record.projects.begin(SITE)).run_ids
    start = (await record.projects.run(again)).scope.start
    assert start[:6] == "201012"
    lease = await record.slice_of(again)
    assert lease.scope.start == start
    known, new = capture("http://a.example/20100315120000", "20100315120000"), capture("http://b/")
    await record.keep(lease, [known, new])
    counters = await record.counters(again)
    assert (counters["known", ""], counters["discovered", ""]) == (1, 2)


async def test_only_finished_runs_of_that_archive_count(record: Record):
    [done] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    await collect(record, done, ["20050101000000"])
    open_ = await record.start()
    await record.list_all(open_, [capture(stamp="20110101000000")])
    begun = await record.projects.begin(replace(SITE, archives=("wayback", "pywb")))
    found = [(await record.projects.run(each)).scope.start for each in begun.run_ids]
    assert found == ["20041202000000", ""]


async def test_what_a_hole_kept_from_being_listed_is_asked_for_again(record: Record):
    """Listings come by URL: the one page before the hole has the newest date already."""
    [first] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    lease = await record.slice_of(first)
    await record.keep(lease, [capture(stamp="20250901000000")], next_key="k")
    await record.listings.leave_hole(replace(lease, key="k"), reason="archive", detail="down")
    await record.settling.settle([stored(each) for each in await record.claim()])
    await record.frontier().sweep()
    assert await record.state_of(first) == "done"
    [again] = (await record.projects.begin(SITE)).run_ids
    assert (await record.projects.run(again)).scope.start == ""
    await collect(record, again, ["20250901000000", "20250902000000"])
    await Schedules(record.database).add(SITE, every=DAY)
    [by_itself] = await record.frontier().begin_due()
    assert (await record.projects.run(by_itself)).scope.start[:6] == "202508"


async def test_a_date_that_was_named_is_not_gone_behind(record: Record):
    [first] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    await collect(record, first, ["20050101000000"])
    later = replace(SITE.scope, start="20080101000000")
    [again] = (await record.projects.begin(replace(SITE, scope=later))).run_ids
    assert (await record.projects.run(again)).scope.start == "20080101000000"


async def test_what_an_unfinished_run_had_listed_counts_once_a_finished_one_lists_it(
    record: Record,
):
    given_up = await record.start()
    await record.list_all(given_up, [capture(stamp="20110101000000")])
    await record.projects.change(given_up, RunState.CANCELLED)
    await sweep(record.frontier(), record.settling)
    [done] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    await record.list_all(done, [capture(stamp="20110101000000"), capture(stamp="29990101000000")])
    await record.settling.settle([stored(each) for each in await record.claim()])
    await record.frontier().sweep()
    assert await record.state_of(done) == "done"
    [again] = (await record.projects.begin(SITE)).run_ids
    assert (await record.projects.run(again)).scope.start == "20101202000000"


async def test_a_span_that_ended_before_what_is_new_shrinks_to_its_last_second(record: Record):
    [first] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    await collect(record, first, ["20100101000000"])
    [again] = (await record.projects.begin(replace(SITE, scope=UNTIL_2005))).run_ids
    scope = (await record.projects.run(again)).scope
    assert (scope.start, scope.end) == (UNTIL_2005.end, UNTIL_2005.end)


# -- by itself


async def test_a_server_whose_clocks_are_changed_begins_nothing_twice_and_skips_nothing(
    record: Record,
):
    """Half a year of Sydney's calendar is an hour more or less than that many times 24."""
    name, every = record.database.url.rpartition("/")[2].partition("?")[0], 183 * DAY
    await record.database.fetch(f"ALTER DATABASE \"{name}\" SET timezone = 'Australia/Sydney'")
    there = Database(record.database.url, pool_size=1)
    try:
        await Schedules(there).add(SITE, every=every)
        was = await there.fetchval(
            "UPDATE schedules SET next_at = clock_timestamp() - interval '1 hour' * $1::float8"
            " RETURNING next_at", 183 * 24 - 0.5,
        )  # fmt: skip
        assert len(await Schedules(there).start_due()) == 1
        assert await there.fetchval("SELECT next_at FROM schedules") - was == every
    finally:
        await there.aclose()


async def test_what_is_due_begins_once_however_many_look(record: Record):
    await Schedules(record.database).add(SITE, every=DAY)
    begun = await asyncio.gather(*(record.frontier(f"w{n}").begin_due() for n in range(8)))
    assert sorted(len(each) for each in begun) == [*[0] * 7, 1]
    [told] = await Schedules(record.database).all()
    assert told.last_state == "active"
    assert await record.database.fetchval("SELECT class FROM runs") == 3


async def test_none_begins_while_the_last_is_unfinished_and_missed_periods_are_one(record: Record):
    schedules = Schedules(record.database)
    await schedules.add(SITE, every=DAY)
    [first] = await schedules.start_due()
    await record.database.fetch(
        "UPDATE schedules SET next_at = clock_timestamp() - interval '9 days 1 hour'"
    )
    assert await schedules.start_due() == ()
    await record.projects.change(first, RunState.PAUSED)
    assert await schedules.start_due() == ()
    await record.projects.change(first, RunState.ACTIVE)
    await collect(record, first, ["20100101000000"])
    assert len(await schedules.start_due()) == 1
    assert [each[1] for each in await starts(record)] == ["", "20091202000000"]
    assert await schedules.start_due() == ()
    hours = await record.database.fetchval(
        "SELECT extract(epoch FROM next_at - clock_timestamp()) / 3600 FROM schedules"
    )
    assert 22 < hours < 24


async def test_several_archives_stand_together(record: Record):
    both = replace(SITE, archives=("pywb", "wayback"))
    await Schedules(record.database).add(both, every=DAY)
    [first] = await Schedules(record.database).start_due()
    members = await record.projects.together(first)
    assert [(await record.projects.run(each)).archive for each in members] == ["pywb", "wayback"]
    await due(record)
    await record.projects.change(first, RunState.CANCELLED)
    assert len(await Schedules(record.database).start_due()) == 1


async def test_the_same_begun_by_hand_is_waited_for(record: Record):
    whole = replace(SITE, since=None)
    await record.projects.begin(whole)
    await Schedules(record.database).add(whole, every=DAY)
    assert await Schedules(record.database).start_due() == ()


async def test_a_schedule_rests_goes_on_and_goes(record: Record):
    schedules = Schedules(record.database)
    number = await schedules.add(SITE, every=DAY)
    await schedules.enable(number, enabled=False)
    assert await schedules.start_due() == ()
    await schedules.enable(number, enabled=True)
    [run] = await schedules.start_due()
    await schedules.remove(number)
    assert await schedules.all() == []
    assert await record.state_of(run) == "active"
    for change in (schedules.remove(number), schedules.enable(number, enabled=True)):
        with pytest.raises(NotFound):
            await change


async def test_it_is_told_as_it_was_asked_for(record: Record):
    schedules = Schedules(record.database)
    number = await schedules.add(SITE, every=timedelta(hours=12))
    [told] = await schedules.all()
    assert (told.id, told.wanted, told.every) == (number, SITE, timedelta(hours=12))
    with pytest.raises(InvalidInput):
        await schedules.add(SITE, every=timedelta(seconds=1))


async def test_nothing_begins_where_nothing_can_be_new_any_more(record: Record):
    [first] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    await collect(record, first, ["20100101000000"])
    schedules = Schedules(record.database)
    await schedules.add(replace(SITE, scope=UNTIL_2005), every=DAY)
    assert await schedules.start_due() == ()
    [told] = await schedules.all()
    assert (told.last_run, told.enabled) == (None, True)
    assert await record.database.fetchval("SELECT next_at > clock_timestamp() FROM schedules")
    await record.database.fetch("DELETE FROM schedules")
    await schedules.add(replace(SITE, scope=UNTIL_2005, archives=("wayback", "pywb")), every=DAY)
    [only] = await schedules.start_due()
    assert (await record.projects.run(only)).archive == "pywb"
    assert await record.projects.together(only) == (only,)


async def test_what_is_due_begins_without_a_look_at_the_captures(record: Record):
    """They may be millions, and a sweep waits meanwhile."""
    [first] = (await record.projects.begin(replace(SITE, since=None))).run_ids
    await collect(record, first, ["20100101000000"])
    await Schedules(record.database).add(SITE, every=DAY)
    async with record.database.transaction() as other:
        await other.execute("LOCK TABLE captures IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(5):
            [again] = await Schedules(record.database).start_due()
    assert (await record.projects.run(again)).scope.start == "20091202000000"


async def test_a_deleted_run_leaves_its_schedule(record: Record):
    await Schedules(record.database).add(SITE, every=DAY)
    [run] = await Schedules(record.database).start_due()
    await record.projects.change(run, RunState.CANCELLED)
    await sweep(record.frontier(), record.settling)
    await record.database.fetch("DELETE FROM runs WHERE id = $1", run)
    [told] = await Schedules(record.database).all()
    assert told.last_run is None


@pytest.mark.parametrize("days", [-1, 365 * 8_000])
async def test_an_overlap_that_no_date_can_be_reached_with_is_refused(record: Record, days: int):
    """Stored, it would be met by whoever begins what is due, again and again."""
    far = replace(SITE, since=timedelta(days=days))
    for refused in (Schedules(record.database).add(far, every=DAY), record.projects.begin(far)):
        with pytest.raises(InvalidInput, match="From 0 to 3660 days"):
            await refused
