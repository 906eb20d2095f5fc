"""The second pass: slow and failing replays go behind the rest of their run before they fail."""

from __future__ import annotations

from chrono_ray.model.outcome import Failed
from chrono_ray.model.retry import Fail, Late, Retry, Snooze
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.storage.frontier import FetchLease
from chrono_ray.storage.projects import RunState
from tests.integration.storage.making import Record, capture, settlement, stored

SLOW = Late(0.0, "deadline", "60 s were not enough")
FAILED = Fail(Failed("deadline", "180 s were not enough"))


async def listed(record: Record, n: int) -> int:
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{i}") for i in range(n)])
    return run


async def one(record: Record) -> FetchLease:
    [lease] = await record.claim(1)
    return lease


async def test_what_is_slow_waits_for_the_rest_of_its_run_and_may_then_take_longer(record: Record):
    run = await listed(record, 4)
    first = await one(record)
    assert not first.late
    await record.settling.settle([settlement(first, Retry(0.0, "deadline"))])
    await record.frontier().sweep()
    again = await one(record)
    assert (again.fetch_id, again.attempt) == (first.fetch_id, 2)
    await record.settling.settle([settlement(again, SLOW)])
    await record.frontier().sweep()
    assert await record.faults() == []
    order = [await one(record) for _ in range(4)]
    assert [each.late for each in order] == [False, False, False, True]
    assert (order[3].fetch_id, order[3].attempt) == (first.fetch_id, 1)
    await record.settling.settle([stored(each) for each in order])
    await record.frontier().sweep()
    assert await record.state_of(run) == "done"
    rows = await record.database.fetch("SELECT reason, detail, final FROM attempts ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("deadline", "", False),
        ("deadline", "behind the rest of the run: 60 s were not enough", False),
    ]


async def test_only_the_second_pass_fails_it_and_then_its_other_captures_are_tried(record: Record):
    run = await record.start()
    stamps = ("20010101000000", "20020101000000")
    await record.list_all(run, [capture("http://a.example/", s, body="x") for s in stamps])
    await record.settling.settle([settlement(await one(record), SLOW)])
    tried = []
    for _ in stamps:
        await record.frontier().sweep()
        lease = await one(record)
        tried.append((lease.capture.timestamp.text, lease.late))
        await record.settling.settle([settlement(lease, FAILED)])
    assert tried == [(stamps[0], True), (stamps[1], True)]
    assert (await record.counters(run))["failed", "deadline"] == 2
    assert await record.faults() == []


async def test_a_snooze_in_the_second_pass_stays_there(record: Record):
    await listed(record, 2)
    await record.settling.settle([settlement(await one(record), SLOW)])
    await record.frontier().sweep()
    await one(record)
    lease = await one(record)
    assert lease.late
    await record.settling.settle([settlement(lease, Snooze(0.0, "throttled"))])
    await record.frontier().sweep()
    again = await one(record)
    assert (again.fetch_id, again.late, again.attempt) == (lease.fetch_id, True, 1)


async def test_a_cancelled_run_ends_its_second_pass_too(record: Record):
    run = await listed(record, 1)
    await record.settling.settle([settlement(await one(record), SLOW)])
    await record.projects.change(run, RunState.CANCELLED)
    await sweep(record.frontier(), record.settling)
    assert (await record.counters(run))["cancelled", "run"] == 1
    assert await record.faults() == []
