"""No run waits for what nobody will fetch, and none ends while it holds another's payload."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chrono_ray.model.capture import Capture
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.retry import Late
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.storage.control import Again, Control, FetchedNow, Retryable
from chrono_ray.storage.frontier import FetchLease
from chrono_ray.storage.planning import Planning
from chrono_ray.storage.projects import Collection, Goal, RunState
from chrono_ray.storage.settling import Settlement
from tests.integration.storage.making import Record, capture, gone, settlement, stored
from tests.integration.storage.test_record_deciding import ruled

SITE = Scope("http://a.example/", MatchType.DOMAIN)
BOTH = Collection(SITE, "p", ("wayback", "pywb"))
ONE = capture("http://a.example/x", body="same")
TWIN = capture("http://b.example/x", body="same")
BROKEN = Again(frozenset({Retryable.CANCELLED}))


def slow(lease: FetchLease) -> Settlement:
    return settlement(lease, Late(0.0, "deadline", "60 s"))


async def swept(record: Record) -> None:
    await sweep(record.frontier(), record.settling)
    assert await record.faults() == []


async def asked(
    record: Record, how: Callable[[FetchLease], Settlement], *, rounds: int
) -> list[str]:
    """Claim and settle all there is, a sweep after each; the archives that were asked."""
    archives = []
    for _ in range(rounds):
        leases = await record.claim()
        archives += [lease.archive for lease in leases]
        await record.settling.settle([how(lease) for lease in leases])
        await swept(record)
    return archives


async def plan(record: Record, *, archive: str = "wayback") -> int:
    wanted = Collection(SITE, "p", (archive,), goal=Goal.PLAN)
    [run] = (await record.projects.begin(wanted)).run_ids
    return run


async def listed(record: Record, host: str, *rows: Capture) -> int:
    run = await record.start(host)
    await record.list_all(run, rows)
    return run


# -- a capture that was given up is not asked for again


async def test_what_only_a_paused_archive_may_have_waits_for_it_without_a_request(record: Record):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(first, [ONE])
    await record.list_all(second, [ONE], archive="pywb")
    await record.projects.change(second, RunState.PAUSED)
    assert await asked(record, gone, rounds=4) == ["wayback"]
    assert await record.state_of(first) == "active"
    await record.projects.change(second, RunState.ACTIVE)
    assert await asked(record, gone, rounds=3) == ["pywb"]
    assert {await record.state_of(run) for run in (first, second)} == {"done"}


async def test_what_is_slow_gets_its_second_pass_here_while_the_other_archive_is_paused(
    record: Record,
):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(first, [ONE])
    await record.list_all(second, [ONE], archive="pywb")
    await record.projects.change(second, RunState.PAUSED)
    tries = []
    for _ in range(3):
        [lease] = await record.claim()
        tries.append((lease.archive, lease.late))
        await record.settling.settle([slow(lease)])
        await swept(record)
    assert tries == [("wayback", False), ("wayback", True), ("wayback", True)]


async def test_a_plan_of_another_archive_asks_when_it_is_started_and_holds_nobody_up(
    record: Record,
):
    run = await listed(record, "a.example", ONE)
    planned = await plan(record, archive="pywb")
    lease = await record.slice_of(planned, archive="pywb")
    await record.keep(lease, [ONE], next_key="more")
    assert await asked(record, gone, rounds=3) == ["wayback"]
    assert await record.state_of(run) == "done"
    assert (await record.counters(run))["gone", "not_found"] == 1
    await Planning(record.database).start([planned])
    assert await record.faults() == []
    assert await asked(record, stored, rounds=2) == ["pywb"]
    assert (await record.counters(run))["unchanged", ""] == 1
    assert (await record.counters(planned))["stored", ""] == 1


# -- a plan keeps what it was to fetch


async def test_a_plan_fetches_what_a_cancelled_run_had_queued(record: Record):
    rows = [capture(f"http://a.example/{n}") for n in range(3)]
    run = await listed(record, "a.example", *rows)
    planned = await plan(record)
    await record.list_all(planned, rows)
    await swept(record)
    await record.projects.change(run, RunState.CANCELLED)
    await swept(record)
    assert (await record.counters(planned)).get(("cancelled", "run"), 0) == 0
    assert await record.claim() == []
    await Planning(record.database).start([planned])
    assert await asked(record, stored, rounds=3) == ["wayback"] * 3
    assert await record.state_of(planned) == "done"


async def test_a_plan_fetches_what_somebody_asked_for_at_once_and_cancelled(record: Record):
    planned = await plan(record)
    await record.list_all(planned, [ONE])
    await swept(record)
    chosen = await record.database.fetchval("SELECT id FROM captures")
    now = await Control(record.database).fetch_now(chosen)
    assert isinstance(now, FetchedNow)
    await record.projects.change(now.run_id, RunState.CANCELLED)
    await swept(record)
    await Planning(record.database).start([planned])
    assert await asked(record, stored, rounds=2) == ["wayback"]


async def test_a_plan_that_was_cut_short_before_it_is_started_opens_what_it_wants(record: Record):
    """As a record of an earlier version holds it: cancelled under the plan's feet."""
    planned = await plan(record)
    await record.list_all(planned, [ONE, TWIN, capture("http://a.example/y")])
    await record.projects.change(planned, RunState.CANCELLED)
    await swept(record)
    await record.database.fetch("UPDATE runs SET state = 'planned' WHERE id = $1", planned)
    await Planning(record.database).start([planned])
    assert await record.faults() == []
    assert await asked(record, stored, rounds=3) == ["wayback"] * 2
    assert await record.state_of(planned) == "done"
    assert (await record.counters(planned)).get(("cancelled", "run"), 0) == 0


# -- no work under a run that is done


async def test_a_rule_gives_nothing_back_to_a_run_that_is_done(record: Record):
    first = await listed(record, "a.example", ONE)
    assert await asked(record, gone, rounds=1) == ["wayback"]
    assert await record.state_of(first) == "done"
    second = await listed(record, "b.example", TWIN)
    await ruled(record, second, "skip unwanted path /x")
    assert (await record.counters(first))["gone", "not_found"] == 1
    assert await asked(record, gone, rounds=2) == []
    assert {await record.state_of(run) for run in (first, second)} == {"done"}


async def test_a_rule_gives_nothing_back_to_a_companion_that_is_done(record: Record):
    first, second = (await record.projects.begin(BOTH)).run_ids
    await record.list_all(second, [TWIN], archive="pywb")
    assert await asked(record, gone, rounds=1) == ["pywb"]
    assert await record.state_of(second) == "done"
    await record.list_all(first, [ONE])
    await ruled(record, first, "skip unwanted url *a.example/x")
    assert await asked(record, gone, rounds=2) == []
    assert {await record.state_of(run) for run in (first, second)} == {"done"}


async def test_a_run_whose_payload_was_never_asked_for_goes_on_when_it_gets_it_back(
    record: Record,
):
    """A record of an earlier version may have ended it too soon."""
    first = await listed(record, "a.example", ONE)
    second = await listed(record, "b.example", TWIN)
    await record.database.fetch(
        "WITH q AS (UPDATE queue SET run_id = $1, capture_id = c.id FROM captures c"
        "            WHERE c.run_id = $1 RETURNING queue.fetch_id, queue.capture_id)"
        " UPDATE fetches f SET run_id = $1, capture_id = q.capture_id FROM q"
        "  WHERE f.id = q.fetch_id",
        second,
    )
    await record.database.fetch("UPDATE runs SET state = 'done' WHERE id = $1", first)
    await ruled(record, second, "skip unwanted path /x")
    assert await record.state_of(first) == "active"
    assert await asked(record, stored, rounds=2) == ["wayback"]
    assert {await record.state_of(run) for run in (first, second)} == {"done"}


async def test_a_run_does_not_end_while_it_holds_another_s_payload(record: Record):
    first = await listed(record, "a.example", ONE)
    second = await listed(record, "b.example", TWIN)
    await record.settling.settle([gone(lease) for lease in await record.claim()])
    await ruled(record, first, "skip unwanted path /x")
    for _ in range(2):
        await swept(record)
    assert await asked(record, stored, rounds=2) == ["wayback"]
    assert (await record.counters(second))["stored", ""] == 1
    assert {await record.state_of(run) for run in (first, second)} == {"done"}


# -- what a person asks for in the middle of it


async def test_what_was_asked_for_at_once_while_in_work_can_be_taken_over_again(record: Record):
    run = await listed(record, "a.example", ONE)
    leases = await record.claim()
    now = await Control(record.database).fetch_now(leases[0].capture_id)
    assert isinstance(now, FetchedNow)
    assert await record.faults() == []
    await record.frontier().release(leases)
    await record.projects.change(now.run_id, RunState.PAUSED)
    await swept(record)
    [lease] = await record.claim()
    assert lease.run_id == run


@pytest.mark.parametrize("place", ["queue", "leases", "parked"])
async def test_a_retry_right_after_the_cancel_takes_it_back(record: Record, place: str):
    run = await listed(record, "a.example", ONE)
    leases = await record.claim() if place != "queue" else []
    if place == "parked":
        await record.settling.settle([slow(lease) for lease in leases])
    assert await record.database.fetchval(f"SELECT count(*) FROM {place}") == 1
    await record.projects.change(run, RunState.CANCELLED)
    await Control(record.database).retry(run, BROKEN)
    assert await record.state_of(run) == "active"
    await record.frontier().release(leases)
    assert await asked(record, stored, rounds=2) == ["wayback"]
    assert (await record.counters(run)).get(("cancelled", "run"), 0) == 0
    assert await record.state_of(run) == "done"
