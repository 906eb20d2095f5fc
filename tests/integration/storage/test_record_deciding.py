"""Stored captures under new rules: exact at every commit, order-independent, without a request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from chrono_ray.model.capture import Capture
from chrono_ray.model.decision import decide
from chrono_ray.model.errors import LeaseLost
from chrono_ray.model.retry import Retry
from chrono_ray.model.rule_text import parse
from chrono_ray.model.selection import CHOSEN
from chrono_ray.pipeline.redecide import redecide, try_rules
from chrono_ray.storage.control import Control
from chrono_ray.storage.database import statements
from chrono_ray.storage.deciding import Deciding, Tally
from chrono_ray.storage.listings import Decided
from chrono_ray.storage.projects import RunState
from tests.integration.storage.making import (
    NOTHING_KEPT,
    Record,
    capture,
    failed,
    page,
    settlement,
    stored,
)

PRESS = [capture(f"http://a.example/press/{n}", f"201{n}0101000000") for n in range(3)]
LOST = [capture(f"http://a.example/lost/{n}", statuscode="404") for n in range(2)]
PRINT = [capture(f"http://a.example/print/{n}") for n in range(3)]
SITE = [*PRESS, *LOST, *PRINT, capture("http://a.example/logo.png", mimetype="image/png")]


async def domain_of(record: Record, run_id: int) -> int:
    return int(await record.database.fetchval("SELECT domain_id FROM runs WHERE id = $1", run_id))


async def ruled(record: Record, run_id: int, text: str, *, batch: int = 2) -> Tally:
    """Set the rules of the run's domain and have everything decided by them."""
    deciding, domain = Deciding(record.database), await domain_of(record, run_id)
    await deciding.set_rules(domain, parse(text))
    assert await redecide(deciding, domain, tell=lambda _: None, batch=batch)
    assert await record.faults() == []
    found = await deciding.progress(domain)
    assert found is not None
    assert found.done
    return found.tally


async def list_by_rules(record: Record, run_id: int, rows: Sequence[Capture], **keys: str) -> None:
    """A page of the run's listing, decided as a lister does."""
    lease = await record.slice_of(run_id)
    decided = [Decided(row, decide(row, lease.rules)) for row in rows]
    await record.listings.keep(lease, page(rows, **keys), decided=decided, raw=NOTHING_KEPT)
    if keys.get("next_key"):
        await record.listings.release(lease, delay=0, attempt=False, reason="", detail="")


async def decisions(record: Record, run_id: int) -> dict[tuple[str, str], str]:
    """By URL and time: empty when wanted, else why not."""
    rows = await record.database.fetch(
        "SELECT original, ts, reason FROM captures WHERE domain_id = $1",
        await domain_of(record, run_id),
    )
    return {(row["original"], row["ts"]): row["reason"] for row in rows}


async def finish(record: Record) -> list[str]:
    """Fetch all that can be claimed; the URLs, as they were claimed."""
    asked = []
    while leases := await record.claim():
        asked += [lease.capture.original for lease in leases]
        await record.settling.settle([stored(lease) for lease in leases])
    await record.frontier().sweep()
    return asked


async def test_what_a_rule_fetches_is_queued_and_a_finished_run_goes_on(record: Record):
    run = await record.start()
    await record.list_all(run, SITE)
    await finish(record)
    assert await record.state_of(run) == RunState.DONE
    assert await ruled(record, run, "fetch status 404") == Tally(looked=9, wanted=2)
    assert await record.state_of(run) == RunState.ACTIVE
    assert (await record.counters(run)).get(("skipped", "not_found"), 0) == 0
    assert sorted(await finish(record)) == [row.original for row in LOST]
    assert await record.state_of(run) == RunState.DONE
    assert (await record.counters(run))["stored", ""] == 8
    assert await record.faults() == []


async def test_what_a_rule_skips_leaves_the_queue_and_nothing_else_does(record: Record):
    run = await record.start()
    await record.list_all(run, SITE)
    assert await ruled(record, run, "skip print path /print/") == Tally(looked=9, skipped=3)
    assert (await record.counters(run))["skipped", "print"] == 3
    assert sorted(await finish(record)) == [row.original for row in PRESS]
    assert await record.state_of(run) == RunState.DONE
    rows = await record.database.fetch("SELECT rule FROM captures WHERE reason = 'print'")
    assert {row["rule"] for row in rows} == {"skip print path /print/"}


async def test_rules_taken_back_leave_the_decisions_as_they_were(record: Record):
    run = await record.start()
    await record.list_all(run, SITE)
    before = await decisions(record, run)
    await ruled(record, run, "skip print path /print/\nfetch status 404")
    await ruled(record, run, "skip press path /press/")
    assert await ruled(record, run, "") == Tally(looked=9, wanted=3)
    assert await decisions(record, run) == before
    assert len(await finish(record)) == 6
    assert await record.faults() == []


async def test_what_has_ended_stays_and_what_is_in_flight_ends(record: Record):
    run = await record.start()
    await record.list_all(run, PRINT)
    done, flying, parked = await record.claim()
    await record.settling.settle([stored(done), settlement(parked, Retry(600, "deadline"))])
    assert await ruled(record, run, "skip print path /print/") == Tally(
        looked=3, skipped=1, ended=1, in_flight=1
    )
    assert await record.database.fetchval("SELECT count(*) FROM parked") == 0
    await record.settling.settle([stored(flying)])
    await record.frontier().sweep()
    assert await record.state_of(run) == RunState.DONE
    assert await record.faults() == []


@pytest.mark.parametrize("waits", ["queue", "parked"])
async def test_a_payload_that_others_want_is_asked_for_by_them(record: Record, waits: str):
    """Also when the others were listed by another run of another archive."""
    run = await record.start()
    other = await record.start("b.example", archive="pywb")
    shared = capture("http://a.example/print/1", body="one")
    same = capture("http://b.example/1", "20110101000000", body="one")
    await record.list_all(run, [shared])
    await record.list_all(other, [same], archive="pywb")
    if waits == "parked":
        [lease] = await record.claim()
        await record.settling.settle([settlement(lease, Retry(0, "deadline"))])
    assert await ruled(record, run, "skip print path /print/") == Tally(looked=1, skipped=1)
    await record.frontier().sweep()
    assert await record.state_of(run) == RunState.DONE
    [lease] = await record.claim()
    assert (lease.run_id, lease.archive, lease.capture.original) == (other, "pywb", same.original)
    await record.settling.settle([stored(lease)])
    assert (await record.counters(other))["stored", ""] == 1
    assert await record.faults() == []


async def test_a_wanted_capture_of_a_payload_that_ended_shares_its_fate(record: Record):
    run = await record.start()
    rows = [
        capture("http://a.example/1", body="one"), capture("http://a.example/2", body="two"),
        capture("http://a.example/3", body="one", statuscode="404"),
        capture("http://a.example/4", body="two", statuscode="404"),
    ]  # fmt: skip
    await record.list_all(run, rows)
    one, two = await record.claim()
    await record.settling.settle([stored(one), failed(two, "deadline")])
    await ruled(record, run, "fetch status 404")
    counters = await record.counters(run)
    assert (counters["stored", ""], counters["unchanged", ""]) == (1, 1)
    assert await finish(record) == ["http://a.example/4"], "another capture promises the bytes"
    assert await record.state_of(run) == RunState.DONE


async def test_a_cancelled_run_s_captures_wait_for_one_that_wants_them(record: Record):
    run = await record.start()
    await record.list_all(run, LOST)
    await record.projects.change(run, RunState.CANCELLED)
    await ruled(record, run, "fetch status 404")
    assert (await record.counters(run))["cancelled", "run"] == 2
    assert await record.claim() == []
    again = await record.start()
    await list_by_rules(record, again, LOST)
    assert len(await finish(record)) == 2
    assert await record.faults() == []


async def test_a_person_s_choice_is_not_taken_back(record: Record):
    run = await record.start()
    await record.list_all(run, PRINT)
    await record.database.fetch(
        "UPDATE captures SET rule = $1 WHERE original = $2", CHOSEN, PRINT[0].original
    )
    assert await ruled(record, run, "skip print path /print/") == Tally(looked=3, skipped=2)
    assert await finish(record) == [PRINT[0].original]


async def test_a_page_decided_by_other_rules_is_not_kept(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await Deciding(record.database).set_rules(lease.domain_id, parse("skip print path /print/"))
    with pytest.raises(LeaseLost, match="other rules"):
        await record.keep(lease, PRINT)
    await record.listings.release(lease, delay=0, attempt=False, reason="", detail="")
    await list_by_rules(record, run, PRINT)
    assert set((await decisions(record, run)).values()) == {"print"}


async def test_a_priority_moves_what_is_listed_and_what_waits_already(record: Record):
    run = await record.start()
    await list_by_rules(record, run, PRESS, next_key="more")
    await ruled(record, run, "high path /print/2\nlow path /press/0\nhigh path /press/2")
    await list_by_rules(record, run, PRINT)
    leases = []
    while got := await record.claim(1):
        leases += got
    order = [lease.capture.original.rpartition(".example/")[2] for lease in leases]
    assert set(order[:2]) == {"print/2", "press/2"}
    assert order[-1] == "press/0"
    assert await record.faults() == []


# --- thinning over time

MONTHS = [
    capture(f"http://a.example/{name}", f"2010{month:02}{day:02}000000")
    for name in ("x", "y") for month in (1, 2) for day in (3, 7, 21)
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
async def test_the_first_of_a_period_is_fetched_in_whatever_order_it_was_listed(
    record: Record, seed: int
):
    rows = [*MONTHS, capture("http://a.example/x", "20100101000000", statuscode="301")]
    random.Random(seed).shuffle(rows)
    run = await record.start()
    deciding = Deciding(record.database)
    await deciding.set_rules(await domain_of(record, run), parse("one per month"))
    await list_by_rules(record, run, rows[:6], next_key="more")
    assert set((await decisions(record, run)).values()) <= {"undecided", "redirect"}
    assert not await redecide(deciding, tell=lambda _: None), "the listing has not ended"
    await list_by_rules(record, run, rows[6:])
    await record.frontier().sweep()
    assert await record.state_of(run) == RunState.ACTIVE, "it is not decided yet"
    assert await redecide(deciding, tell=lambda _: None, batch=2)
    assert await record.faults() == []
    found = await decisions(record, run)
    assert sorted(key for key, reason in found.items() if not reason) == [
        (f"http://a.example/{name}", f"2010{month}03000000")
        for name in ("x", "y") for month in ("01", "02")
    ]  # fmt: skip
    assert sorted(found.values()) == [""] * 4 + ["redirect"] + ["thinned"] * 8
    assert len(await finish(record)) == 4
    assert await record.state_of(run) == RunState.DONE


async def test_a_walk_stopped_anywhere_goes_on_to_the_same_end(record: Record):
    """Cancelled after each of its steps in turn, by one who then takes it up again."""
    run = await record.start()
    await record.list_all(run, MONTHS)
    deciding, domain = Deciding(record.database), await domain_of(record, run)
    await deciding.set_rules(domain, parse("one per month"))

    for steps in range(1, 8):
        walking = asyncio.Event()
        seen = iter(range(steps))

        def step(_: Tally, seen=seen, walking=walking) -> None:
            if next(seen, None) is None:
                walking.set()

        task = asyncio.create_task(redecide(deciding, domain, tell=step, batch=1))
        stopping = asyncio.create_task(walking.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        stopping.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
        assert await record.faults() == []
    await redecide(deciding, domain, tell=lambda _: None, batch=5)
    found = await deciding.progress(domain)
    assert found is not None
    assert (found.done, found.tally) == (True, Tally(looked=12, skipped=8, renamed=4))
    assert sum(not reason for reason in (await decisions(record, run)).values()) == 4


async def test_rules_change_while_all_goes_on(record: Record):
    """Listers, claimers and settlers at work while the rules go to and fro."""
    run = await record.start()
    rows = [
        capture(f"http://h{n % 5}.a.example/{'print' if n % 3 else 'press'}/{n % 40}",
                f"20{10 + n % 7}0101000000", body=f"b{n % 90}",
                statuscode="404" if n % 11 == 0 else "200")
        for n in range(300)
    ]  # fmt: skip
    deciding, domain = Deciding(record.database), await domain_of(record, run)
    listed, ruled_last = asyncio.Event(), asyncio.Event()

    async def listing() -> None:
        for at in range(0, 300, 20):
            while True:
                try:
                    last = at == 280
                    await list_by_rules(record, run, rows[at : at + 20],
                                        next_key="" if last else str(at + 20))  # fmt: skip
                    break
                except LeaseLost:
                    await record.database.fetch("UPDATE slices SET token = NULL")
        listed.set()

    async def working() -> None:
        while not ruled_last.is_set() or await record.state_of(run) == RunState.ACTIVE:
            leases = await record.claim(7)
            await asyncio.sleep(0)
            verdicts = [
                settlement(lease, Retry(0, "deadline")) if lease.fetch_id % 7 == lease.attempt
                else stored(lease) for lease in leases
            ]  # fmt: skip
            await record.settling.settle(verdicts)
            await record.frontier().sweep()

    async def ruling() -> None:
        for text in ["skip print path /print/", "fetch status 404", "", "high path /press/",
                     "skip press path /press/\nfetch status 404"] * 2:  # fmt: skip
            await deciding.set_rules(domain, parse(text))
            await redecide(deciding, domain, tell=lambda _: None, batch=37)
        await listed.wait()
        await redecide(deciding, domain, tell=lambda _: None)
        ruled_last.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(listing())
        group.create_task(working())
        group.create_task(ruling())
    assert await record.faults() == []
    assert await record.state_of(run) == RunState.DONE
    assert (await record.counters(run))["discovered", ""] == 300


async def test_rules_are_tried_without_changing_anything(record: Record):
    run = await record.start()
    await record.list_all(run, SITE)
    before = await decisions(record, run)
    rules = parse("skip print path /print/\nskip one url */print/1\nfetch status 404")
    trial = await try_rules(
        Deciding(record.database), await domain_of(record, run), rules, tell=lambda _: None
    )
    assert (trial.looked, trial.wanted, trial.to_fetch, trial.to_skip) == (9, 5, 2, 3)
    assert trial.skipped == {"print": 3, "type": 1}
    own = {each.rule: (each.captures, each.alone) for each in trial.effects if not each.built_in}
    assert own == {
        "skip print path /print/": (3, 2), "skip one url */print/1": (0, 0),
        "fetch status 404": (2, 0),
    }  # fmt: skip
    assert await decisions(record, run) == before


async def test_what_a_person_waits_for_is_not_skipped_under_him(record: Record):
    run = await record.start()
    await list_by_rules(record, run, PRINT[:1])
    [row] = await record.database.fetch("SELECT id FROM captures")
    await Control(record.database).fetch_now(row["id"])
    assert await ruled(record, run, "skip print path /print/") == Tally(looked=1)
    assert await finish(record) == [PRINT[0].original]


MANY = """
INSERT INTO captures (domain_id, run_id, archive, key, url_id, urlkey, ts, instant, original,
                      mimetype, statuscode, digest, reason)
SELECT domain_id, id, 'wayback', decode(md5(n::text), 'hex'), decode(md5((n / 10)::text), 'hex'),
       'example,a)/', to_char(2000 + n % 10, 'FM0000') || '0101000000', now(),
       'http://a.example/', 'text/html', '404', '-', 'not_found'
  FROM generate_series(1, 20000) n, runs WHERE id = $1
"""


async def test_a_walk_reads_its_captures_by_index_and_sorts_no_more_than_a_second(record: Record):
    run = await record.start()
    await record.database.fetch(MANY, run)
    async with record.database.connection() as connection:
        await connection.execute("ANALYZE captures")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        rows = await connection.fetch(
            f"EXPLAIN {statements('deciding')['read']}",
            await domain_of(record, run), b"\x80", "2005", b"", "", 0, 2000,
        )  # fmt: skip
    plan = "\n".join(row[0] for row in rows)
    assert "captures_url" in plan
    assert "Presorted Key: c.url_id, c.ts" in plan
    assert "Seq Scan on captures" not in plan


async def test_what_a_person_fetches_now_is_wanted_for_every_run_that_waited(record: Record):
    first = await record.start()
    await list_by_rules(record, first, PRINT[:1])
    second = await record.start()
    await list_by_rules(record, second, PRINT[:1])
    await ruled(record, first, "skip print path /print/")
    for run in (first, second):
        assert (await record.counters(run))["skipped", "print"] == 1
    [row] = await record.database.fetch("SELECT id FROM captures")
    await Control(record.database).fetch_now(row["id"])
    assert await record.faults() == []
    assert await finish(record) == [PRINT[0].original]
    assert await ruled(record, first, "skip print path /print/") == Tally(looked=1)
