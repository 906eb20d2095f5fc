"""Any order of listing, claiming, dying, rescuing and cancelling keeps the record whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chrono_ray.model.accounts import Actor, Role
from chrono_ray.model.accounts import Scope as TokenScope
from chrono_ray.model.capture import Capture
from chrono_ray.model.errors import Conflict
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.retry import Late, Retry, Snooze
from chrono_ray.model.rule_text import parse
from chrono_ray.model.selection import CaptureAction
from chrono_ray.pipeline.redecide import redecide
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.storage.choosing import Change, Changed, Choosing, Chosen
from chrono_ray.storage.control import Again, Control, FetchedNow, Retryable
from chrono_ray.storage.database import Database
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.frontier import FetchLease
from chrono_ray.storage.planning import Planning
from chrono_ray.storage.projects import Collection, Goal, RunState
from chrono_ray.storage.settling import Settlement
from tests.conftest import PostgresServer
from tests.integration.storage.making import (
    Record,
    capture,
    failed,
    gone,
    revisit,
    settlement,
    stored,
)

T = TypeVar("T")
TABLES = (
    "projects, run_pages, attempts, fetches, queue, leases, parked, pages, documents, payloads,"
    " outbox, hosts"
)
ARCHIVES = ("wayback", "pywb")
RULES = ("", "skip one url *a.example*", "fetch status 302\nhigh url */1", "one per year",
         "low url */0\nskip old to 2000\none per year url */2")  # fmt: skip
CANCELLED_ELSEWHERE = """
SELECT count(*) FROM domain_counters k JOIN runs r ON r.id = k.run_id
 WHERE k.state = 'cancelled' AND k.n <> 0 AND r.state IN ('active', 'paused')
"""


@st.composite
def listed_rows(draw: st.DrawFn) -> list[Capture]:
    """Few URLs and moments, ten bodies, so that everything meets everything."""
    rows = []
    for _ in range(draw(st.integers(2, 8))):
        url = f"http://{draw(st.sampled_from('ab'))}.example/{draw(st.integers(0, 2))}"
        stamp = f"200{draw(st.integers(0, 2))}0101000000"
        row = capture(url, stamp, body=draw(st.sampled_from("klmnopqrst")))
        kind = draw(st.sampled_from(["response"] * 4 + ["revisit", "redirect"]))
        if kind == "revisit":
            row = revisit(row, stamp)
        elif kind == "redirect":
            row = replace(row, statuscode="302")
        rows.append(row)
    return rows


class RecordMachine(RuleBasedStateMachine):
    """The real record; the machine itself only remembers who holds what."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database = Database(self.url, pool_size=2)
        self.record = Record(self.database)
        self.runs: list[int] = []
        self.held: list[FetchLease] = []
        self.lost: list[FetchLease] = []
        self.keys = 0
        self.ended: set[int] = set()

    def do(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @initialize(first=listed_rows(), second=listed_rows())
    def begin(self, first: list[Capture], second: list[Capture]) -> None:
        self.do(self.database.fetch(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
        self.do(self.record.unlimited(*ARCHIVES))
        self.start_run("a", "wayback")
        self.list_page(first, False)
        self.start_run("b", "pywb")
        self.list_page(second, False)

    # -- listing

    @precondition(lambda self: len(self.runs) < 6)
    @rule(domain=st.sampled_from("ab"), archive=st.sampled_from(ARCHIVES))
    def start_run(self, domain: str, archive: str) -> None:
        self.runs.append(self.do(self.record.start(f"{domain}.example", archive=archive)))

    @rule(rows=listed_rows(), last=st.sampled_from([False, False, False, True]))
    def list_page(self, rows: list[Capture], last: bool) -> None:
        lease = self.do(self.record.listings.claim(ARCHIVES))
        if lease is None:
            return
        self.keys += 1
        next_key = "" if last else str(self.keys)
        self.do(self.record.keep(lease, rows, next_key=next_key))
        if not last:
            self.do(
                self.record.listings.release(lease, delay=0, attempt=False, reason="", detail="")
            )

    # -- working

    @rule(worker=st.sampled_from("AB"), wanted=st.integers(1, 8))
    def claim(self, worker: str, wanted: int) -> None:
        leases = self.do(self.record.claim(wanted, worker=worker))
        held = {lease.fetch_id for lease in self.held}
        assert not held & {lease.fetch_id for lease in leases}, "leased twice"
        self.held += leases

    @precondition(lambda self: self.held)
    @rule(
        n=st.integers(1, 4),
        how=st.sampled_from(
            ["stored", "stored", "gone", "failed", "crashed", "retry", "snooze", "late"]
        ),
    )
    def settle(self, n: int, how: str) -> None:
        batch, self.held = self.held[:n], self.held[n:]
        settled = self.do(self.record.settling.settle([ending(lease, how) for lease in batch]))
        assert settled == len(batch), "what nobody took over is ours"

    @precondition(lambda self: self.lost)
    @rule(n=st.integers(1, 4))
    def write_too_late(self, n: int) -> None:
        batch, self.lost = self.lost[:n], self.lost[n:]
        assert self.do(self.record.settling.settle([stored(lease) for lease in batch])) == 0
        self.do(self.record.frontier().release(batch))

    @rule(wanted=st.integers(1, 4), how=st.sampled_from(["stored", "gone", "gone", "failed"]))
    def claim_and_settle(self, wanted: int, how: str) -> None:
        leases = self.do(self.record.claim(wanted, worker="C"))
        batch = [ending(lease, how) for lease in leases]
        assert self.do(self.record.settling.settle(batch)) == len(leases)

    @precondition(lambda self: self.held)
    @rule(n=st.integers(1, 4))
    def release(self, n: int) -> None:
        batch, self.held = self.held[:n], self.held[n:]
        self.do(self.record.frontier().release(batch))

    # -- dying and being found

    @precondition(lambda self: self.held)
    @rule()
    def die(self) -> None:
        """Whoever holds anything is gone; the leases run out."""
        self.do(
            self.database.fetch(
                "UPDATE leases SET leased_until = clock_timestamp() - interval '1 second'"
            )
        )
        self.lost, self.held = self.lost + self.held, []
        self.do(self.record.frontier().sweep())

    @precondition(lambda self: self.held)
    @rule()
    def die_and_come_back(self) -> None:
        """A worker that only slept writes after its leases were rescued and taken by another."""
        self.die()
        self.claim("B", 8)
        late = [stored(lease) for lease in self.lost]
        assert self.do(self.record.settling.settle(late)) == 0

    @rule()
    def sweep(self) -> None:
        self.do(sweep(self.record.frontier("sweeper"), self.record.settling))

    @rule()
    def time_passes(self) -> None:
        self.do(self.database.fetch("UPDATE parked SET until = clock_timestamp()"))
        self.do(self.record.frontier().sweep())

    # -- a person

    @rule(
        place=st.integers(0, 4),
        state=st.sampled_from(["active", "active", "active", "paused", "cancelled"]),
    )
    def change(self, place: int, state: str) -> None:
        run = self.runs[place % len(self.runs)]
        try:
            self.do(self.record.projects.change(run, RunState(state)))
        except Conflict:
            return

    @precondition(lambda self: len(self.runs) < 6)
    @rule(archives=st.permutations(ARCHIVES))
    def begin_collection(self, archives: list[str]) -> None:
        site = Scope("http://a.example/", MatchType.DOMAIN)
        begun = self.do(self.record.projects.begin(Collection(site, "p", tuple(archives))))
        self.runs += [run for run in begun.run_ids if run not in self.runs]

    @rule(
        place=st.integers(0, 7), states=st.frozensets(st.sampled_from(Retryable), min_size=1),
        force=st.booleans(),
    )  # fmt: skip
    def try_again(self, place: int, states: frozenset[Retryable], force: bool) -> None:
        run = self.runs[place % len(self.runs)]
        again = Again(states, force=force)
        self.do(Control(self.database).retry(run, again))
        left = self.do(Control(self.database).count_retry(run, again))
        assert (left.fetches, left.slices) == ({}, 0)

    @precondition(lambda self: len(self.runs) < 9)
    @rule(nth=st.integers(0, 20))
    def fetch_now(self, nth: int) -> None:
        rows = self.do(self.database.fetch("SELECT id FROM captures ORDER BY id"))
        if rows:
            asked = self.do(Control(self.database).fetch_now(rows[nth % len(rows)]["id"]))
            if isinstance(asked, FetchedNow) and asked.run_id not in self.runs:
                self.runs.append(asked.run_id)

    @precondition(lambda self: len(self.runs) < 9)
    @rule(action=st.sampled_from(CaptureAction), nth=st.integers(0, 4), step=st.integers(1, 4))
    def decide_by_hand(self, action: CaptureAction, nth: int, step: int) -> None:
        """As was said before it was done; runs of their own are made for cancelled ones."""
        rows = self.do(self.database.fetch("SELECT id FROM captures ORDER BY id"))
        ids = tuple(row["id"] for row in rows[nth::step])
        if not ids:
            return
        change = Change(action, 7, CapturePriority.HIGH)
        said, done = self.do(chosen_by_hand(self.database, Chosen(1, ids=ids), change))
        assert (said.changed, said.left) == (done.changed, done.left)
        runs = self.do(self.database.fetch("SELECT id FROM runs ORDER BY id"))
        self.runs += [row["id"] for row in runs if row["id"] not in self.runs]

    @rule(host=st.sampled_from("ab"), priority=st.sampled_from(sorted(CapturePriority)[:-1]))
    def prioritise(self, host: str, priority: CapturePriority) -> None:
        where = Scope(f"http://{host}.example/", MatchType.HOST)
        control = Control(self.database)
        self.do(control.prioritise(self.runs, where, priority))
        assert self.do(control.count_matching(self.runs, where, priority)) == 0

    @precondition(lambda self: len(self.runs) < 9)
    @rule()
    def begin_plan(self) -> None:
        site = Scope("http://b.example/", MatchType.DOMAIN)
        wanted = Collection(site, "p", ("pywb",), goal=Goal.PLAN)
        begun = self.do(self.record.projects.begin(wanted))
        self.runs += [run for run in begun.run_ids if run not in self.runs]

    @rule(place=st.integers(0, 7))
    def start_plan(self, place: int) -> None:
        try:
            self.do(Planning(self.database).start([self.runs[place % len(self.runs)]]))
        except Conflict:
            return

    @rule(place=st.integers(0, 4), text=st.sampled_from(RULES))
    def set_rules(self, place: int, text: str) -> None:
        run = self.runs[place % len(self.runs)]
        domain = self.do(self.database.fetchval("SELECT domain_id FROM runs WHERE id = $1", run))
        self.do(Deciding(self.database).set_rules(domain, parse(text)))

    @rule()
    def decide_again(self) -> None:
        self.do(redecide(Deciding(self.database), tell=lambda _: None, batch=3))

    # -- what always holds

    @invariant()
    def nothing_is_lost_or_twice(self) -> None:
        assert self.do(self.record.faults()) == []

    @invariant()
    def only_cancelled_runs_hold_cancelled_captures(self) -> None:
        assert self.do(self.database.fetchval(CANCELLED_ELSEWHERE)) == 0

    @invariant()
    def what_was_known_is_not_cancelled(self) -> None:
        rows = self.do(self.database.fetch("SELECT id, state FROM fetches"))
        states = {row["id"]: row["state"] for row in rows}
        assert not {each for each in self.ended if states[each] == "cancelled"}
        self.ended |= {each for each in states if states[each] not in ("pending", "cancelled")}

    def teardown(self) -> None:
        try:
            self.do(self.finish())
        finally:
            self.do(self.database.aclose())
            self.loop.close()

    async def finish(self) -> None:
        """With everybody back at work, every run ends and every fetch has its reason."""
        await self.database.fetch("UPDATE leases SET leased_until = clock_timestamp()")
        for run in self.runs:
            if await self.record.state_of(run) == "paused":
                await self.record.projects.change(run, RunState.ACTIVE)
        while (lease := await self.record.listings.claim(ARCHIVES)) is not None:
            await self.record.keep(lease, [])
        while await redecide(Deciding(self.database), tell=lambda _: None):
            assert await self.record.faults() == []
        await sweep(self.record.frontier(), self.record.settling)
        for run in self.runs:
            if await self.record.state_of(run) == "planned":
                await Planning(self.database).start([run])
        for _ in range(60):
            await sweep(self.record.frontier(), self.record.settling)
            await self.database.fetch("UPDATE parked SET until = clock_timestamp()")
            batch = await self.record.claim(50)
            await self.record.settling.settle([stored(lease) for lease in batch])
        assert await self.record.faults() == []
        states = {await self.record.state_of(run) for run in self.runs}
        assert states <= {"done", "cancelled"}
        assert (
            await self.database.fetchval("SELECT count(*) FROM fetches WHERE state = 'pending'")
            == 0
        )


async def chosen_by_hand(
    database: Database, chosen: Chosen, change: Change
) -> tuple[Changed, Changed]:
    """What would be changed, and what then was."""
    choosing, admin = Choosing(database), Actor(7, Role.ADMIN, frozenset(TokenScope), 1, None)
    async with database.transaction() as connection:
        said = await choosing.count(connection, chosen, change, admin)
    async with database.transaction() as connection:
        return said, await choosing.change(connection, chosen, change, admin)


def ending(lease: FetchLease, how: str) -> Settlement:
    match how:
        case "stored":
            return stored(lease)
        case "gone":
            return gone(lease)
        case "retry":
            return settlement(lease, Retry(3600, "protocol"))
        case "late":
            return settlement(lease, Late(3600, "deadline", "60 s"))
        case "snooze":
            return settlement(lease, Snooze(3600, "throttled"), throttled=1)
        case reason:
            return failed(lease, "encoding" if reason == "failed" else reason)


def test_no_order_of_events_breaks_the_record(postgres_server: PostgresServer):
    loop = asyncio.new_event_loop()
    fresh = postgres_server.fresh()

    class Machine(RecordMachine):
        url = loop.run_until_complete(fresh.__aenter__())

    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=14, stateful_step_count=30, deadline=None,
                # each step of shrinking is a database emptied: longer than anybody waits
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
    finally:
        loop.run_until_complete(fresh.__aexit__(None, None, None))
        loop.close()
