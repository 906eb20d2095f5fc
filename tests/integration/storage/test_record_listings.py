"""A listing page becomes rows: every row counted once, every payload wanted once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from chrono_ray.model.capture import EMPTY_DIGEST, Capture, Timestamp14
from chrono_ray.model.errors import LeaseLost, RecordRefused
from chrono_ray.model.memento import BadRow
from chrono_ray.model.spans import Span
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import RunState
from tests.integration.storage.making import (
    NOTHING_KEPT,
    Record,
    capture,
    digest_of,
    gone,
    page,
    revisit,
    stored,
)


async def count(record: Record, table: str) -> int:
    return await record.database.fetchval(f"SELECT count(*) FROM {table}")


async def test_each_new_capture_is_one_row_one_fetch_one_queue_row(record: Record):
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(5)])
    assert [await count(record, t) for t in ("captures", "fetches", "queue")] == [5, 5, 5]
    assert await record.counters(run) == {("discovered", ""): 5, ("request", "cdx"): 1}
    assert await record.faults() == []


async def test_rows_of_one_second_that_differ_in_anything_are_captures_of_their_own(record: Record):
    one = capture("http://a.example/", "20100101000000", body="same")
    rows = [
        one,
        replace(one, original="https://a.example/"),
        replace(one, digest=digest_of("other")),
        replace(one, statuscode="203"),
        replace(one, mimetype="application/xhtml+xml"),
        replace(one, timestamp=Timestamp14("20100101000001")),
    ]
    run = await record.start()
    await record.list_all(run, rows)
    assert await count(record, "captures") == 6
    assert await count(record, "fetches") == 2
    assert (await record.counters(run))["discovered", ""] == 6


async def test_a_row_that_is_listed_twice_is_repeated_in_a_page_and_across_pages(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    row = capture()
    await record.keep(lease, [row, row, row], next_key="k")
    await record.keep(replace(lease, key="k"), [row, capture("http://a.example/b")])
    counters = await record.counters(run)
    assert counters["discovered", ""] == 5
    assert counters["repeated", ""] == 3
    assert await count(record, "captures") == 2
    assert await record.faults() == []


async def test_length_and_locator_alone_make_no_other_capture(record: Record):
    run = await record.start()
    row = capture()
    await record.list_all(run, [row, replace(row, length=9), replace(row, length=None)])
    assert (await record.counters(run))["repeated", ""] == 2


async def test_what_an_earlier_run_ended_is_known_and_not_fetched_again(record: Record):
    first = await record.start()
    row, image = capture(), capture("http://a.example/i.png", mimetype="image/png")
    await record.list_all(first, [row, image])
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    second = await record.start()
    await record.list_all(second, [row, image, row])
    assert await record.counters(second) == {
        ("discovered", ""): 3, ("known", ""): 2, ("repeated", ""): 1, ("request", "cdx"): 1,
    }  # fmt: skip
    assert await record.claim() == []
    assert await record.faults() == []


async def test_what_an_earlier_run_has_not_ended_is_adopted_and_ends_for_both(record: Record):
    first = await record.start()
    row = capture()
    await record.list_all(first, [row])
    second = await record.start()
    await record.list_all(second, [row])
    assert await count(record, "queue") == 1
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    assert (await record.counters(first))["stored", ""] == 1
    assert (await record.counters(second))["stored", ""] == 1
    await record.frontier().sweep()
    assert [await record.state_of(r) for r in (first, second)] == ["done", "done"]
    assert await record.faults() == []


async def test_an_adopted_row_that_is_listed_again_is_repeated(record: Record):
    first, row = await record.start(), capture()
    await record.list_all(first, [row])
    second = await record.start()
    lease = await record.slice_of(second)
    await record.keep(lease, [row, row], next_key="k")
    await record.keep(replace(lease, key="k"), [row])
    counters = await record.counters(second)
    assert (counters["discovered", ""], counters["repeated", ""]) == (3, 2)
    assert await record.faults() == []


async def test_one_fetch_for_a_digest_in_a_project_and_one_for_each_project(record: Record):
    rows = [capture(f"http://a.example/{n}", body="same") for n in range(3)]
    mine, theirs = await record.start(), await record.start(project="other")
    await record.list_all(mine, rows)
    await record.list_all(theirs, rows)
    fetches = await record.database.fetch(
        "SELECT project_id, count(*) AS n FROM fetches GROUP BY 1"
    )
    assert [row["n"] for row in fetches] == [1, 1]
    [lease] = [each for each in await record.claim() if each.run_id == mine]
    await record.settling.settle([stored(lease)])
    assert (await record.counters(mine)).items() >= {
        ("stored", ""): 1,
        ("unchanged", ""): 2,
    }.items()
    assert ("stored", "") not in await record.counters(theirs)


@pytest.mark.parametrize("digest", [EMPTY_DIGEST, "-", ""])
async def test_a_digest_that_names_no_bytes_is_never_shared(record: Record, digest: str):
    rows = [capture(f"http://a.example/{n}", digest=digest) for n in range(3)]
    run = await record.start()
    await record.list_all(run, rows)
    assert await count(record, "fetches") == 3
    assert len(await record.claim()) == 3


async def test_a_revisit_without_its_response_is_wanted(record: Record):
    run = await record.start()
    await record.list_all(run, [revisit(capture(body="seen before"), "20110101000000")])
    [lease] = await record.claim()
    assert lease.capture.is_revisit


async def test_the_response_is_asked_for_before_its_revisits(record: Record):
    response = capture(body="x", stamp="20100101000000")
    run = await record.start()
    await record.list_all(run, [revisit(response, "20090101000000"), response])
    [lease] = await record.claim()
    assert lease.capture.mimetype == "text/html"


async def test_skipped_rows_stay_as_events_with_reason_rule_and_confidence(record: Record):
    run = await record.start()
    rows = [
        capture("http://a.example/m", statuscode="301"),
        capture("http://a.example/g", statuscode="404"),
        capture("http://a.example/p.png", mimetype="image/png"),
    ]
    await record.list_all(run, rows)
    kept = await record.database.fetch("SELECT reason, rule, confidence FROM captures ORDER BY id")
    assert [tuple(row) for row in kept] == [
        ("redirect", "status 301", 1.0),
        ("not_found", "status 404", 1.0),
        ("type", "type image/png", pytest.approx(0.9)),
    ]
    counters = await record.counters(run)
    assert {r: n for (s, r), n in counters.items() if s == "skipped"} == {
        "redirect": 1, "not_found": 1, "type": 1,
    }  # fmt: skip
    await record.frontier().sweep()
    assert await record.state_of(run) == "done"


async def test_bad_rows_are_counted_and_kept(record: Record):
    run = await record.start()
    bad = [BadRow(3, "missing fields", "a\0b \ud800 c"), BadRow(4, "not JSON", "x" * 9000)]
    await record.keep(await record.slice_of(run), [capture()], bad=bad)
    counters = await record.counters(run)
    assert (counters["discovered", ""], counters["skipped", "bad_row"]) == (3, 2)
    kept = await record.database.fetchval("SELECT bad_rows::text FROM listing_pages")
    assert "missing fields" in kept
    assert await record.database.fetchval("SELECT rows FROM listing_pages") == 3


@pytest.mark.parametrize(
    ("stamp", "instant"),
    [
        ("20050032250061", datetime(2005, 1, 31, 23, 0, 59, tzinfo=UTC)),
        ("20060230000000", datetime(2006, 2, 28, tzinfo=UTC)),
        ("00000000000000", datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("99999999999999", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
async def test_an_impossible_timestamp_is_kept_with_the_nearest_moment(
    record: Record, stamp: str, instant: datetime
):
    run = await record.start()
    await record.list_all(run, [capture(stamp=stamp)])
    row = await record.database.fetchrow("SELECT ts, instant, impossible FROM captures")
    assert tuple(row) == (stamp, instant, True)
    [lease] = await record.claim()
    assert lease.capture.timestamp.text == stamp
    await record.settling.settle([stored(lease)])
    assert await record.faults() == []


async def test_text_that_postgresql_does_not_take_is_kept_in_another_spelling(record: Record):
    odd = replace(
        capture(), original="http://a.example/\0\ud800", urlkey="example,a)/\0\udfff",
        mimetype="text/\0html", digest="ODD\ud800\0", locator="\0",
    )  # fmt: skip
    run = await record.start()
    await record.list_all(run, [odd])
    [lease] = await record.claim()
    assert lease.capture.original == "http://a.example/%00?"
    await record.settling.settle([stored(lease, body=b"x")])
    assert await record.faults() == []


async def test_urls_longer_than_an_index_takes_are_ordinary_captures(record: Record):
    path = "".join(digest_of(str(n)) for n in range(600))
    long = f"http://a.example/{path}"
    host = "http://" + "".join(digest_of(f"h{n}") for n in range(300)).lower() + ".example/"
    run = await record.start()
    await record.list_all(run, [capture(long), capture(long, "20110101000000"), capture(host)])
    leases = await record.claim()
    assert sorted(len(lease.capture.original) for lease in leases) == sorted(
        [len(long), len(long), len(host)]
    )
    await record.settling.settle([stored(lease) for lease in leases])
    assert await count(record, "pages") == 3
    assert await record.faults() == []


async def test_a_page_that_postgresql_refuses_says_so_and_leaves_nothing(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    with pytest.raises(RecordRefused):
        await record.keep(lease, [capture(), replace(capture("http://a.example/b"), length=2**70)])
    assert await count(record, "captures") == 0
    await record.keep(lease, [capture()])
    assert await count(record, "captures") == 1


async def test_a_slice_goes_on_from_its_key_after_its_lister_died(record: Record):
    run = await record.start()
    dead = await record.slice_of(run)
    await record.keep(dead, [capture()], next_key="after a")
    await record.database.fetch(
        "UPDATE slices SET leased_until = clock_timestamp() - interval '1s'"
    )
    heir = await record.listings.claim(["wayback"])
    assert heir is not None
    assert heir.key == "after a"
    with pytest.raises(LeaseLost):
        await record.keep(replace(dead, key="after a"), [capture("http://a.example/b")])
    await record.keep(heir, [capture("http://a.example/b")])
    assert await record.database.fetchval("SELECT state FROM slices") == "listed"
    assert (await record.counters(run))["discovered", ""] == 2


async def test_a_page_whose_commit_answer_was_lost_is_not_kept_twice(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.keep(lease, [capture()], next_key="k")
    with pytest.raises(LeaseLost):
        await record.keep(lease, [capture()], next_key="k")
    assert await count(record, "listing_pages") == 1
    assert (await record.counters(run))["discovered", ""] == 1


async def test_a_stranger_to_the_slice_writes_nothing(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    stranger = replace(lease, token=uuid4())
    with pytest.raises(LeaseLost):
        await record.keep(stranger, [capture()])
    assert not await record.listings.renew(stranger)
    await record.listings.leave_hole(stranger, reason="x", detail="")
    await record.listings.release(stranger, delay=60, attempt=True, reason="x", detail="")
    row = await record.database.fetchrow("SELECT state, attempts, token FROM slices")
    assert tuple(row) == ("pending", 0, lease.token)


async def test_a_lost_slice_leaves_its_connection_fit_for_the_next_page(database_url: str):
    narrow = Database(database_url, pool_size=1)
    record = Record(narrow)
    await record.unlimited("wayback")
    run = await record.start()
    lease = await record.slice_of(run)
    with pytest.raises(LeaseLost):
        await record.keep(replace(lease, token=uuid4()), [capture()])
    await record.keep(lease, [capture()], next_key="1")
    with pytest.raises(RecordRefused):
        await record.keep(replace(lease, key="1"), [replace(capture(), length=2**70)])
    await record.keep(replace(lease, key="1"), [capture("http://a.example/b")])
    assert await record.faults() == []
    await narrow.aclose()


async def test_only_active_runs_are_listed_and_each_slice_by_one(record: Record):
    paused, cancelled, active = [await record.start(f"{n}.example") for n in range(3)]
    await record.projects.change(paused, RunState.PAUSED)
    await record.projects.change(cancelled, RunState.CANCELLED)
    claims = await asyncio.gather(*(record.listings.claim(["wayback"]) for _ in range(4)))
    assert [lease.run_id for lease in claims if lease] == [active]
    assert await record.listings.claim(["pywb"]) is None


async def test_a_slice_given_back_for_later_waits_and_a_hole_is_not_walked(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.listings.release(lease, delay=3600, attempt=True, reason="archive", detail="502")
    assert await record.listings.claim(["wayback"]) is None
    await record.database.fetch("UPDATE slices SET not_before = '-infinity'")
    again = await record.slice_of(run)
    assert again.attempts == 1
    await record.listings.leave_hole(again, reason="archive", detail="502")
    assert await record.listings.claim(["wayback"]) is None
    await record.frontier().sweep()
    assert await record.state_of(run) == "done"


async def test_a_cancelled_run_keeps_no_page_that_was_under_way(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.projects.change(run, RunState.CANCELLED)
    assert not await record.listings.renew(lease)
    with pytest.raises(LeaseLost):
        await record.keep(lease, [capture()])
    assert await count(record, "captures") == 0


async def test_new_captures_of_a_payload_that_ended_share_its_fate_at_once(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.keep(lease, [capture(body="x")], next_key="k")
    await record.settling.settle([stored(each) for each in await record.claim()])
    later = [
        capture("http://a.example/", "20120101000000", body="x"),
        capture("http://a.example/copy", "20120101000000", body="x"),
    ]
    await record.keep(replace(lease, key="k"), later)
    assert (await record.counters(run)).items() >= {("stored", ""): 1, ("unchanged", ""): 2}.items()
    pages = await record.database.fetch("SELECT captures, last_seen FROM pages ORDER BY captures")
    assert [row["captures"] for row in pages] == [1, 2]
    assert await count(record, "queue") == 0
    assert await record.faults() == []


async def test_two_listers_over_the_same_payloads_queue_each_once(record: Record):
    first = await record.start("a.example", project="p")
    second = await record.start("b.example", project="p")
    one, two = await record.slice_of(first), await record.slice_of(second)
    for step in range(6):
        bodies = [f"body {step} {n}" for n in range(120)]
        forward = [capture(f"http://a.example/{step}/{b}", body=b) for b in bodies]
        backward = [capture(f"http://b.example/{step}/{b}", body=b) for b in reversed(bodies)]
        keys = ("" if step == 0 else str(step)), str(step + 1)
        await asyncio.gather(
            record.keep(replace(one, key=keys[0]), forward, next_key=keys[1]),
            record.keep(replace(two, key=keys[0]), backward, next_key=keys[1]),
        )
    assert await count(record, "fetches") == 720
    assert await record.database.fetchval("SELECT count(DISTINCT fetch_id) FROM queue") == 720
    assert await count(record, "queue") == 720
    assert await record.faults() == []


async def test_listing_and_settling_at_once_lose_no_capture(record: Record):
    """Payloads end while other captures of them are being listed, in both lock orders."""
    runs = [await record.start(f"{name}.example", project="p") for name in "abc"]
    leases = [await record.slice_of(run) for run in runs]
    bodies = [f"body {n}" for n in range(150)]

    async def list_pages(place: int) -> None:
        name, lease = "abc"[place], leases[place]
        for step in range(3):
            part = bodies[step * 50 : step * 50 + 50]
            rows = [capture(f"http://{name}.example/{b}", body=b) for b in part]
            ordered = rows if place % 2 else rows[::-1]
            key = str(step) if step else ""
            next_key = str(step + 1) if step < 2 else ""
            await record.keep(replace(lease, key=key), ordered, next_key=next_key)

    async def settle() -> None:
        done = 0
        while done < 150:
            claimed = await record.claim(16)
            ends = [stored(e) if e.fetch_id % 3 else gone(e) for e in claimed]
            await record.settling.settle(ends)
            await record.frontier().sweep()
            done = await record.database.fetchval(
                "SELECT count(*) FROM fetches WHERE state <> 'pending'"
            )

    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        for place in range(3):
            group.create_task(list_pages(place))
        group.create_task(settle())
    while claimed := await record.claim():
        await record.settling.settle([gone(each) for each in claimed])
        await record.frontier().sweep()
    assert await record.faults() == []
    assert [await record.state_of(run) for run in runs] == ["done"] * 3


async def test_discovered_is_the_sum_of_the_rest_at_every_moment(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    rows = [capture(f"http://a.example/{n}", body=f"b{n % 7}") for n in range(20)]
    await record.keep(lease, rows, next_key="k", bad=[BadRow(9, "x", "y")])
    assert await record.faults() == []
    for each in await record.claim(3):
        await record.settling.settle([stored(each)])
        assert await record.faults() == []
    await record.keep(replace(lease, key="k"), rows[:4])
    assert await record.faults() == []
    for each in await record.claim():
        await record.settling.settle([gone(each)])
        assert await record.faults() == []


async def test_hosts_take_turns_in_a_run(record: Record):
    run = await record.start()
    rows = [capture(f"http://{host}.a.example/{n}") for host in "xyz" for n in range(4)]
    await record.list_all(run, rows)
    hosts = [each.capture.original[7] for each in await record.claim()]
    assert all(set(hosts[i : i + 3]) == set("xyz") for i in range(0, 12, 3))


async def test_a_new_host_joins_at_the_front_and_never_below_the_floor(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.keep(lease, [capture(f"http://x.a.example/{n}") for n in range(50)], next_key="k")
    await record.settling.settle([stored(each) for each in await record.claim(40)])
    await record.frontier().sweep()
    floor = await record.database.fetchval("SELECT floor_key FROM runs")
    assert floor == 41
    late = [capture(f"http://late.a.example/{n}") for n in range(3)]
    await record.keep(replace(lease, key="k"), late)
    keys = await record.database.fetch("SELECT order_key FROM queue WHERE original LIKE '%late%'")
    assert min(row["order_key"] for row in keys) > floor
    first = [each.capture.original for each in await record.claim(4)]
    assert any("late" in url for url in first)


async def test_a_kept_listing_says_what_was_asked_and_what_follows(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    decided: list = []
    await record.listings.keep(lease, page([], next_key="k"), decided=decided, raw=b"1" * 32)
    await record.listings.keep(
        replace(lease, key="k"), page([], requests=3), decided=decided, raw=NOTHING_KEPT
    )
    kept = await record.certificate.listing_pages(run)
    assert [(p.key, p.next_key, p.rows, p.raw) for p in kept] == [
        ("", "k", 0, b"1" * 32), ("k", "", 0, NOTHING_KEPT),
    ]  # fmt: skip
    assert (await record.counters(run))["request", "cdx"] == 4


def test_a_capture_is_named_by_what_makes_it_one():
    row = capture()
    assert isinstance(row, Capture)
    assert row.key == replace(row, length=1, locator="x", urlkey="y").key


async def test_a_split_slice_ends_and_its_parts_are_walked_in_its_place(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.keep(lease, [capture("http://a.example/1")], next_key="k")
    parts = (Span("", "20100131235959"), Span("20100131235959", ""))
    for _ in range(2):  # the second as after a commit whose answer was lost
        await record.listings.split(lease, parts, reason="deadline", detail="too slow")
    assert not await record.listings.renew(lease)
    facts = await record.certificate.slices(run)
    assert [(f.state, f.start, f.end, f.part_of) for f in facts] == [
        ("split", "", "", None),
        ("pending", "", "20100131235959", lease.slice_id),
        ("pending", "20100131235959", "", lease.slice_id),
    ]
    leases = [await record.listings.claim(["wayback"]) for _ in range(2)]
    assert [each and (each.scope.start, each.scope.end, each.key) for each in leases] == [
        (part.start, part.end, "") for part in parts
    ]
    assert all(each and each.is_part for each in leases)
    rows = [capture("http://a.example/1"), capture("http://a.example/2")]
    for each, row in zip(leases, rows, strict=True):
        assert each is not None
        await record.keep(each, [row])
    counters = await record.counters(run)
    assert (counters["discovered", ""], counters["repeated", ""]) == (3, 1)
    assert await record.faults() == []


async def test_a_slice_of_a_cancelled_run_is_not_split(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.projects.change(run, RunState.CANCELLED)
    await record.listings.split(lease, (Span(), Span()), reason="deadline", detail="")
    await record.listings.leave_hole(lease, reason="deadline", detail="")
    assert [fact.state for fact in await record.certificate.slices(run)] == ["cancelled"]
