"""What a person does to a run: try again, sooner or later, this one now. The record stays whole."""

from __future__ import annotations

import asyncio
import time

import pytest

from chrono_ray.model.errors import Conflict, NotFound, Throttled
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.outcome import Failed
from chrono_ray.model.priority import CapturePriority, QueueClass
from chrono_ray.model.retry import Fail, Late, Retry, Snooze
from chrono_ray.model.selection import CHOSEN
from chrono_ray.model.task import DeleteProject
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.storage.control import Again, Control, FetchedNow, Retryable, StoredAlready
from chrono_ray.storage.projects import Collection, RunState
from chrono_ray.storage.stats import Stats
from chrono_ray.storage.tasks import Tasks
from tests.integration.storage.making import (
    Record,
    capture,
    failed,
    gone,
    settlement,
    stored,
)

GAVE_UP = Fail(Failed("deadline", "180 s"))
EVERYWHERE = Scope("", MatchType.PREFIX)
FAILED = Again(frozenset({Retryable.FAILED, Retryable.HOLE}))
EVERYTHING = Again(frozenset(Retryable))


async def listed(record: Record, n: int, *, host: str = "a.example", **named) -> int:
    run = await record.start(host, **named)
    await record.list_all(run, [capture(f"http://{host}/{i}") for i in range(n)])
    return run


async def end(record: Record, run: int) -> None:
    await sweep(record.frontier(), record.settling)
    assert await record.state_of(run) == "done"


async def spoiled(record: Record) -> int:
    """A run that ended with one stored, two failed, one gone and one whose bytes are to blame."""
    run = await listed(record, 5)
    leases = await record.claim()
    await record.settling.settle(
        [
            stored(leases[0]), failed(leases[1]), failed(leases[2]), gone(leases[3]),
            failed(leases[4], "too_large"),
        ]
    )  # fmt: skip
    await end(record, run)
    return run


# -- again


async def test_what_failed_is_tried_again_and_ends_as_it_then_ends(record: Record):
    run = await spoiled(record)
    control = Control(record.database)
    told = await control.retry(run, FAILED)
    assert (told.fetches, told.slices) == ({("failed", "encoding"): 2}, 0)
    assert told.withheld == {("failed", "too_large"): 1}
    assert await record.state_of(run) == "active"
    assert await record.faults() == []
    counters = await record.counters(run)
    assert ("failed", "encoding") not in counters
    assert counters["gone", "not_found"] == counters["failed", "too_large"] == 1
    again = await control.retry(run, FAILED)
    assert again.fetches == {}
    one, two = await record.claim()
    await record.settling.settle([stored(one), failed(two)])
    await end(record, run)
    counters = await record.counters(run)
    assert (counters["stored", ""], counters["failed", "encoding"]) == (2, 1)
    assert await record.faults() == []


async def test_a_dry_run_counts_and_changes_nothing(record: Record):
    run = await spoiled(record)
    told = await Control(record.database).count_retry(run, EVERYTHING)
    assert told.fetches == {("failed", "encoding"): 2, ("gone", "not_found"): 1}
    assert await record.state_of(run) == "done"
    assert await record.claim() == []


@pytest.mark.parametrize(
    ("again", "n"),
    [
        (EVERYTHING, 3),
        (Again(frozenset(Retryable), force=True), 4),
        (Again(frozenset({Retryable.GONE})), 1),
        (Again(frozenset(Retryable), frozenset({"encoding"})), 2),
        (Again(frozenset(Retryable), frozenset({"nothing"})), 0),
    ],
    ids=["all", "all, by force", "gone", "by reason", "no such reason"],
)
async def test_only_what_was_asked_for_is_tried_again(record: Record, again: Again, n: int):
    run = await spoiled(record)
    await Control(record.database).retry(run, again)
    assert len(await record.claim()) == n
    assert await record.faults() == []


async def test_a_cancelled_run_lists_and_fetches_on(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.keep(lease, [capture()], next_key="k")
    await record.projects.change(run, RunState.CANCELLED)
    await sweep(record.frontier(), record.settling)
    assert (await record.counters(run))["cancelled", "run"] == 1
    told = await Control(record.database).retry(run, EVERYTHING)
    assert (told.fetches, told.slices) == ({("cancelled", "run"): 1}, 1)
    assert (await record.slice_of(run)).key == "k"
    assert len(await record.claim()) == 1
    assert await record.faults() == []


async def test_a_hole_goes_on_from_its_last_key_and_the_run_is_active(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.keep(lease, [capture()], next_key="k")
    await record.listings.leave_hole(lease, reason="archive", detail="502")
    await record.settling.settle([stored(each) for each in await record.claim()])
    await end(record, run)
    told = await Control(record.database).retry(run, FAILED)
    assert told.slices == 1
    assert await record.state_of(run) == "active"
    assert (await record.slice_of(run)).key == "k"


async def test_a_listing_that_failed_and_is_put_off_for_hours_is_tried_at_once(record: Record):
    run, control = await record.start(), Control(record.database)
    lease = await record.slice_of(run)
    for state, told in (("in work", 0), ("put off", 1), ("due", 0)):
        assert (await control.count_retry(run, FAILED)).slices == told, state
        assert (await control.retry(run, FAILED)).slices == told, state
        if state == "in work":
            late = {"delay": 21_600, "attempt": True, "reason": "archive", "detail": "502"}
            await record.listings.release(lease, **late)
    assert (await record.slice_of(run)).attempts == 0, "with all its tries again"


async def test_captures_that_were_given_up_are_tried_again_too(record: Record):
    run = await record.start()
    stamps = ("20010101000000", "20020101000000")
    await record.list_all(run, [capture("http://a.example/", s, body="x") for s in stamps])
    for round_ in range(2):
        tried = set()
        for _ in stamps:
            await record.frontier().sweep()
            [lease] = await record.claim()
            tried.add(lease.capture.timestamp.text)
            await record.settling.settle([gone(lease)])
        assert tried == set(stamps)
        assert (await record.counters(run))["gone", "not_found"] == 2
        if not round_:
            await Control(record.database).retry(run, EVERYTHING)
    assert await record.faults() == []


async def test_a_run_reopened_while_a_sweeper_judges_it_stays_open(record: Record):
    """The sweeper saw it balanced, then a person had its failures tried again."""
    run = await listed(record, 2)
    await record.settling.settle([failed(each) for each in await record.claim()])
    control = Control(record.database)
    for _ in range(20):
        await asyncio.gather(record.frontier().sweep(), control.retry(run, FAILED))
        assert await record.state_of(run) == "active"
        await record.settling.settle([failed(each) for each in await record.claim()])
    await end(record, run)
    assert await record.faults() == []


async def test_many_failures_are_reopened_in_bounded_steps(record: Record, monkeypatch):
    monkeypatch.setattr("chrono_ray.storage.control.RETRY_BATCH", 7)
    run = await listed(record, 50)
    await record.settling.settle([failed(each) for each in await record.claim(100)])
    await end(record, run)
    await Control(record.database).retry(run, FAILED)
    assert len(await record.claim(100)) == 50
    assert await record.faults() == []


async def test_what_rules_prefer_is_preferred_again(record: Record):
    run = await listed(record, 9)
    await record.settling.settle([failed(each) for each in await record.claim(100)])
    await record.database.fetch(
        "UPDATE captures SET priority = CASE WHEN original LIKE '%/7' THEN -1 ELSE 1 END"
    )
    await Control(record.database).retry(run, FAILED)
    assert (await record.claim(1))[0].capture.original == "http://a.example/7"
    assert len(await record.claim(100)) == 8


async def test_what_is_tried_again_is_asked_of_every_archive_of_its_collection(record: Record):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(first, copies(1))
    await record.list_all(second, copies(1), archive="pywb")

    async def everybody_fails() -> list[str]:
        asked = []
        while leases := await record.claim():
            asked += [lease.archive for lease in leases]
            await record.settling.settle([gone(lease) for lease in leases])
            await record.frontier().sweep()
        return asked

    assert await everybody_fails() == ["wayback", "pywb"]
    assert [await record.state_of(run) for run in (first, second)] == ["done", "done"]
    for run in (first, second):
        await Control(record.database).retry(run, EVERYTHING)
    assert await record.faults() == []
    assert await everybody_fails() == ["wayback", "pywb"]
    assert [await record.state_of(run) for run in (first, second)] == ["done", "done"]
    assert await record.faults() == []


async def test_no_run_no_retry(record: Record):
    with pytest.raises(NotFound):
        await record.projects.together(99)


# -- sooner or later


async def test_captures_of_a_place_and_time_come_first_or_last(record: Record):
    run = await record.start()
    rows = [
        capture(f"http://a.example/{name}/{n}", f"20{n:02}0101000000")
        for name in ("old", "news") for n in range(5)
    ]  # fmt: skip
    await record.list_all(run, rows)
    control = Control(record.database)
    news = Scope("http://www.a.example/news/", MatchType.PREFIX)
    late = Scope("", MatchType.PREFIX, start="20030101000000")
    assert await control.count_matching([run], news, CapturePriority.HIGH) == 5
    assert await control.prioritise([run], news, CapturePriority.HIGH) == 5
    assert await control.count_matching([run], news, CapturePriority.HIGH) == 0
    assert await control.prioritise([run], late, CapturePriority.LOW) == 4
    exact = Scope("http://a.example/old/1", MatchType.EXACT)
    assert await control.prioritise([run], exact, CapturePriority.NOW) == 1
    order = [(await record.claim(1))[0].capture.original.split("/", 3)[3] for _ in range(10)]
    assert order == [
        "old/1", "news/0", "news/1", "news/2", "old/0", "old/2",
        "old/3", "old/4", "news/3", "news/4",
    ]  # fmt: skip
    assert await record.faults() == []


async def test_what_waits_for_its_next_try_keeps_its_new_priority(record: Record):
    run = await listed(record, 3)
    leases = await record.claim()
    await record.settling.settle([settlement(leases[2], Retry(0, "archive"))])
    await record.frontier().release(leases[:2])
    where = Scope("http://a.example/2", MatchType.EXACT)
    assert await Control(record.database).prioritise([run], where, CapturePriority.HIGH) == 1
    await record.frontier().sweep()
    assert (await record.claim(1))[0].fetch_id == leases[2].fetch_id


async def test_windows_cover_every_queued_row_once(record: Record, monkeypatch):
    monkeypatch.setattr("chrono_ray.storage.control.WINDOW", 3)
    run = await record.start()
    rows = [capture(f"http://h{n % 5}.a.example/{n}") for n in range(40)]
    await record.list_all(run, rows)
    control = Control(record.database)
    for priority in (CapturePriority.LOW, CapturePriority.NOW, CapturePriority.NORMAL):
        assert await control.prioritise([run], EVERYWHERE, priority) == 40
        assert len(await record.claim(1)) == 1
        await record.frontier().release([])
        rows = await record.database.fetch("SELECT DISTINCT order_key >> 48 AS band FROM queue")
        assert [row["band"] for row in rows] == [priority.value]
        await record.database.fetch("UPDATE leases SET leased_until = '-infinity'")
        await record.frontier().sweep()
        await record.database.fetch("UPDATE queue SET alone = false")
    assert await record.faults() == []


async def test_a_run_changes_its_class_and_a_project_its_weight(record: Record):
    run = await listed(record, 1)
    await record.projects.set_class(run, QueueClass.CRITICAL)
    await record.projects.set_weight("p", 7)
    row = await record.database.fetchrow(
        "SELECT r.class, p.weight FROM runs r JOIN projects p ON p.id = r.project_id"
    )
    assert tuple(row) == (0, 7)
    with pytest.raises(NotFound):
        await record.projects.set_weight("nobody", 7)


# -- this one now


async def fetch_now(record: Record, url: str, *, project: str = "p"):
    control = Control(record.database)
    found = await control.find_capture(project, url, start="2010", end="20101231235959", archive="")
    return await control.fetch_now(found)


async def test_a_capture_waiting_behind_a_large_backlog_is_the_next_but_few(record: Record):
    """100,000 queued before it, four classes busy: a critical one has every second ticket."""
    run = await listed(record, 2)
    await backlog(record, 100_000)
    began = time.monotonic()
    asked = await fetch_now(record, "http://a.example/1")
    assert isinstance(asked, FetchedNow)
    turns = 0
    while (await record.claim(1))[0].run_id != asked.run_id:
        turns += 1
    assert turns <= 3
    assert time.monotonic() - began < 5
    assert asked.run_id != run


async def backlog(record: Record, n: int) -> None:
    """So many queued rows of other projects, one a class."""
    for name in (QueueClass.SCRAPING, QueueClass.INDEXING, QueueClass.DEFAULT):
        await record.start(f"{name}.example", project=name, queue_class=name)
    await record.database.fetch(
        "INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original,"
        " mimetype, statuscode, digest, locator)"
        " SELECT n, r.id, n, 1, 'wayback', 'k', '20100101000000', 'http://b/', '', '', '', ''"
        "   FROM generate_series(1000, 1000 + $1::int) n JOIN runs r ON r.class = 1 + n % 3"
        "  AND r.project_id > 1",
        n,
    )
    await record.database.fetch("UPDATE runs SET ready = true")


async def test_a_chosen_capture_is_stored_by_a_run_of_its_own(record: Record):
    run = await listed(record, 3)
    asked = await fetch_now(record, "http://a.example/1")
    assert isinstance(asked, FetchedNow)
    assert not asked.approved
    again = await fetch_now(record, "http://a.example/1")
    assert isinstance(again, FetchedNow)
    assert again.run_id == asked.run_id
    [lease] = [each for each in await record.claim() if each.run_id == asked.run_id]
    assert lease.capture.original == "http://a.example/1"
    await record.settling.settle([stored(lease)])
    await sweep(record.frontier(), record.settling)
    assert await record.state_of(asked.run_id) == "done"
    assert (await record.counters(asked.run_id))["stored", ""] == 1
    assert (await record.counters(run))["stored", ""] == 1
    assert isinstance(await fetch_now(record, "http://a.example/1"), StoredAlready)
    progress = await Stats(record.database).progress(asked.run_id)
    assert progress.captures.discovered == 1
    assert await record.faults() == []


async def test_what_a_rule_skipped_is_approved_by_a_person(record: Record):
    run = await record.start()
    await record.list_all(
        run, [capture("http://a.example/pic", mimetype="image/png"), capture("http://a.example/")]
    )
    await record.settling.settle([stored(each) for each in await record.claim()])
    await end(record, run)
    asked = await fetch_now(record, "http://a.example/pic")
    assert isinstance(asked, FetchedNow)
    assert asked.approved
    assert ("skipped", "type") not in await record.counters(run)
    assert await record.faults() == []
    [lease] = await record.claim()
    await record.settling.settle([stored(lease)])
    await sweep(record.frontier(), record.settling)
    row = await record.database.fetchrow("SELECT reason, rule FROM captures WHERE rule <> ''")
    assert tuple(row) == ("", CHOSEN)
    assert (await record.counters(run))["stored", ""] == 2
    assert await record.state_of(asked.run_id) == "done"
    assert await record.faults() == []


async def test_a_skipped_capture_whose_bytes_are_here_needs_no_request(record: Record):
    run = await record.start()
    rows = [
        capture("http://a.example/", body="x"),
        capture("http://a.example/pic", body="x", mimetype="image/png"),
    ]
    await record.list_all(run, rows)
    await record.settling.settle([stored(each) for each in await record.claim()])
    assert isinstance(await fetch_now(record, "http://a.example/pic"), StoredAlready)
    assert (await record.counters(run))["unchanged", ""] == 1
    assert await record.claim() == []
    assert await record.faults() == []


@pytest.mark.parametrize("place", ["failed", "parked", "leased", "cancelled"])
async def test_wherever_a_fetch_is_it_is_had_now(record: Record, place: str):
    run = await listed(record, 1)
    [lease] = await record.claim()
    if place == "failed":
        await record.settling.settle([failed(lease, "too_large")])
    if place == "parked":
        await record.settling.settle([settlement(lease, Retry(3600, "archive"))])
    if place == "cancelled":
        await record.frontier().release([lease])
        await record.projects.change(run, RunState.CANCELLED)
        await sweep(record.frontier(), record.settling)
    asked = await fetch_now(record, "http://a.example/0")
    assert isinstance(asked, FetchedNow)
    assert await record.faults() == []
    if place == "leased":
        assert await record.claim() == []
        await record.settling.settle([settlement(lease, Snooze(0, "halted"))])
        await record.frontier().sweep()
    [now] = await record.claim()
    assert now.run_id == asked.run_id
    await record.settling.settle([stored(now)])
    await sweep(record.frontier(), record.settling)
    assert await record.state_of(asked.run_id) == "done"
    assert (await record.counters(run))["stored", ""] == 1
    assert await record.faults() == []


async def test_a_capture_of_a_paused_run_is_had_without_the_rest_of_it(record: Record):
    run = await listed(record, 3)
    await record.projects.change(run, RunState.PAUSED)
    asked = await fetch_now(record, "http://a.example/2")
    assert isinstance(asked, FetchedNow)
    [lease] = await record.claim()
    assert lease.run_id == asked.run_id


async def test_many_ask_for_the_same_capture_at_once_and_it_is_had_once(record: Record):
    await listed(record, 2)
    asked = await asyncio.gather(*(fetch_now(record, "http://a.example/1") for _ in range(6)))
    assert len({each.run_id for each in asked if isinstance(each, FetchedNow)}) == 1
    assert await record.faults() == []
    assert len(await record.claim()) == 2


async def test_a_capture_that_is_not_listed_is_not_found(record: Record):
    await listed(record, 1)
    with pytest.raises(NotFound):
        await fetch_now(record, "http://a.example/unknown")
    with pytest.raises(NotFound):
        await fetch_now(record, "http://a.example/0", project="other")
    with pytest.raises(NotFound):
        await Control(record.database).fetch_now(99)


# -- a collection from several archives


BOTH = Collection(Scope("http://a.example/", MatchType.DOMAIN), "p", ("wayback", "pywb"))


async def test_a_collection_is_one_thing_to_a_person(record: Record):
    begun = await record.projects.begin(BOTH)
    assert not begun.joined
    first, second = begun.run_ids
    assert await record.projects.together(first) == begun.run_ids
    assert await record.projects.together(second) == (second,)
    await record.projects.change(first, RunState.PAUSED)
    assert [await record.state_of(each) for each in begun.run_ids] == ["paused"] * 2
    joined = await record.projects.begin(BOTH)
    assert (joined.run_ids, joined.joined) == (begun.run_ids, True)
    assert [await record.state_of(each) for each in begun.run_ids] == ["active"] * 2
    await record.projects.change(second, RunState.CANCELLED)
    await record.projects.change(first, RunState.CANCELLED)
    assert [await record.state_of(each) for each in begun.run_ids] == ["cancelled"] * 2
    assert not (await record.projects.begin(BOTH)).joined


async def test_the_same_collection_begun_by_many_at_once_is_one(record: Record):
    begun = await asyncio.gather(*(record.projects.begin(BOTH) for _ in range(6)))
    assert len({each.run_ids for each in begun}) == 1
    assert sorted(each.joined for each in begun) == [False, *[True] * 5]


def copies(n: int) -> list:
    return [capture(f"http://a.example/{i}", body=f"body {i}") for i in range(n)]


async def test_a_payload_waits_for_the_preferred_archive_whichever_listed_first(record: Record):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(second, copies(4), archive="pywb")
    [held] = await record.claim(1)
    assert held.archive == "pywb"
    await record.list_all(first, copies(4))
    assert await record.faults() == []
    leases = await record.claim()
    assert {(each.run_id, each.archive) for each in leases} == {(first, "wayback")}
    assert len(leases) == 3, "what pywb has been asked for stays there"
    await record.settling.settle([stored(each) for each in [held, *leases]])
    await record.frontier().sweep()
    for run in (first, second):
        assert await record.state_of(run) == "done"
    assert (await record.counters(first))["stored", ""] == 3
    assert (await record.counters(second))["stored", ""] == 1
    assert await record.faults() == []


async def test_a_payload_does_not_wait_for_a_preferred_archive_that_is_silent(record: Record):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(first, copies(2))
    await record.governor.heed("wayback", Throttled("429", retry_after=600))
    await record.list_all(second, copies(2), archive="pywb")
    assert {each.run_id for each in await record.claim()} == {second}
    assert await record.faults() == []


async def test_what_waits_for_an_archive_that_turns_silent_is_asked_of_the_next(record: Record):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(first, [*copies(3), capture("http://a.example/only", body="only here")])
    await record.list_all(second, copies(3), archive="pywb")
    [told] = await record.claim(1)
    await record.settling.settle([settlement(told, Snooze(600, "throttled"), throttled=1)])
    await record.governor.heed("wayback", Throttled("429", retry_after=600))
    for _ in range(2):
        await record.frontier().sweep()
        assert await record.faults() == []
    leases = await record.claim()
    assert [(each.run_id, each.archive) for each in leases] == [(second, "pywb")] * 3
    await record.settling.settle([stored(each) for each in leases])
    await record.frontier().sweep()
    assert [await record.state_of(each) for each in (first, second)] == ["active", "done"]
    assert (await record.counters(first))["unchanged", ""] == 3
    assert await record.faults() == []


async def test_nothing_is_begun_in_a_project_that_is_being_deleted(record: Record):
    run = await listed(record, 2)
    await record.settling.settle([failed(each) for each in await record.claim()])
    await end(record, run)
    project_id = await record.database.fetchval("SELECT project_id FROM runs")
    await Tasks(record.database).submit(DeleteProject("p", project_id))
    with pytest.raises(Conflict):
        await Control(record.database).retry(run, FAILED)
    with pytest.raises(Conflict):
        await fetch_now(record, "http://a.example/1")
    assert await record.state_of(run) == "done"


async def test_what_the_preferred_archive_cannot_give_in_time_is_asked_of_the_next(record: Record):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(first, copies(1))
    await record.list_all(second, copies(1), archive="pywb")
    slow = Late(30.0, "deadline", "60 s")
    tried = []
    for verdict in (slow, slow, GAVE_UP, GAVE_UP):
        await record.database.fetch("UPDATE parked SET until = '-infinity'")
        await record.frontier().sweep()
        [lease] = await record.claim()
        tried.append((lease.archive, lease.late, lease.attempt))
        await record.settling.settle([settlement(lease, verdict)])
        assert await record.faults() == []
    assert tried == [
        ("wayback", False, 1), ("pywb", False, 1), ("pywb", True, 1), ("wayback", True, 1),
    ]  # fmt: skip
    await record.frontier().sweep()
    for run in (first, second):
        assert (await record.counters(run))["failed", "deadline"] == 1
        assert await record.state_of(run) == "done"


async def test_people_and_workers_at_once_keep_the_record_whole(record: Record):
    """Claims, settlements, sweeps, retries, priorities and chosen captures, all at one time."""
    begun = await record.projects.begin(BOTH)
    rows = [capture(f"http://h{n % 7}.a.example/{n}", body=f"{n % 90}") for n in range(150)]
    for run, archive in zip(begun.run_ids, BOTH.archives, strict=True):
        await record.list_all(run, rows, archive=archive)
    control, chosen = Control(record.database), set()
    ids = [r["id"] for r in await record.database.fetch("SELECT id FROM captures ORDER BY id")]

    async def work(worker: str) -> None:
        for turn in range(25):
            leases = await record.claim(5, worker=worker)
            how = (stored, failed, lambda each: settlement(each, Late(0, "deadline", "")))
            await record.settling.settle(
                [how[(turn + n) % 3](each) for n, each in enumerate(leases)]
            )

    async def look_after() -> None:
        for _ in range(12):
            await sweep(record.frontier("sweeper"), record.settling)
            await control.retry(begun.run_ids[0], FAILED)

    async def want() -> None:
        for n in range(12):
            asked = await control.fetch_now(ids[n * 17 % len(ids)])
            chosen.update({asked.run_id} if isinstance(asked, FetchedNow) else ())
            where = Scope(f"http://h{n % 7}.a.example/", MatchType.HOST)
            await control.prioritise(begun.run_ids, where, CapturePriority.HIGH)

    async with asyncio.TaskGroup() as group:
        for each in (work("a"), work("b"), look_after(), want()):
            group.create_task(each)
    assert await record.faults() == []
    for _ in range(40):
        await record.database.fetch("UPDATE parked SET until = '-infinity'")
        await sweep(record.frontier(), record.settling)
        await record.settling.settle([stored(each) for each in await record.claim(50)])
    assert await record.faults() == []
    assert {await record.state_of(run) for run in (*begun.run_ids, *chosen)} == {"done"}
