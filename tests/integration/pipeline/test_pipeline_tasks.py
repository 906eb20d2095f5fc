"""The runner: safe points, limits, hand-overs and deaths, over a real record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from chrono_ray.model.errors import InvalidInput, Unavailable
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.task import Finished, Progress, Purge
from chrono_ray.pipeline.tasks import Steps, TaskPace, TaskRunner
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskLease, TaskRow, Tasks, TaskState
from tests.integration.storage.making import until

PACE = TaskPace(
    slots=1, soft=30, hard=60, idle=0.05, renew_every=0.3, rescue_every=0.1, drain=0.3
)  # fmt: skip


@pytest.fixture
def tasks(database: Database) -> Tasks:
    return Tasks(database)


@asynccontextmanager
async def working(
    tasks: Tasks, steps: Callable[[TaskLease], Steps], pace: TaskPace = PACE, worker: str = "w"
) -> AsyncIterator[TaskRunner]:
    runner, stop = TaskRunner(tasks, steps, worker=worker, pace=pace), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(runner.run(stop))
        try:
            yield runner
        finally:
            stop.set()


async def ended(tasks: Tasks, task_id: int) -> TaskRow:
    async def over() -> bool:
        return (await tasks.task(task_id)).state is not TaskState.PENDING

    await until(over)
    return await tasks.task(task_id)


def counting(to: int, seen: list[int]) -> Callable[[TaskLease], Steps]:
    """Counts up, a safe point after each number."""

    async def steps(lease: TaskLease) -> Steps:
        for n in range(int(lease.position or 0), to):
            seen.append(n)
            yield Progress(n + 1, to, str(n + 1))
        yield Finished({"counted": to})

    return steps


async def test_a_task_is_worked_off_and_tells_how_far_it_is(tasks: Tasks):
    seen: list[int] = []
    async with working(tasks, counting(5, seen)):
        row = await ended(tasks, (await tasks.submit(Purge())).id)
    assert (row.state, row.result, row.done, row.total) == (TaskState.DONE, {"counted": 5}, 5, 5)
    assert seen == [0, 1, 2, 3, 4]


async def test_after_the_soft_limit_it_goes_on_in_another_lease_where_it_stopped(tasks: Tasks):
    seen: list[int] = []
    eager = TaskPace(slots=1, soft=0, hard=60, idle=0.02, drain=1)
    async with working(tasks, counting(4, seen), eager):
        row = await ended(tasks, (await tasks.submit(Purge())).id)
    assert (row.state, row.attempts, seen) == (TaskState.DONE, 0, [0, 1, 2, 3])


async def test_three_hard_limits_end_it_and_its_neighbours_are_done(
    tasks: Tasks, database: Database
):
    good: list[int] = []

    async def steps(lease: TaskLease) -> Steps:
        if lease.task == Purge(1.0):
            await asyncio.sleep(3600)
        async for step in counting(2, good)(lease):
            yield step

    async with working(tasks, steps, TaskPace(slots=1, hard=0.1, idle=0.02)):
        bad = await tasks.submit(Purge(1.0))
        neighbour = await tasks.submit(Purge(2.0))

        async def over() -> bool:
            await database.fetch("UPDATE tasks SET not_before = '-infinity'")
            return (await tasks.task(bad.id)).state is not TaskState.PENDING

        await until(over)
        row = await tasks.task(bad.id)
        assert (row.state, row.reason, row.attempts) == (TaskState.FAILED, "timeout", 3)
        assert (await ended(tasks, neighbour.id)).state is TaskState.DONE


@pytest.mark.parametrize(
    ("error", "reason"),
    [(InvalidInput("No", why="because", code="export_to"), "export_to"),
     (ValueError("a bug"), "internal"), (TimeoutError("not ours"), "internal")],
)  # fmt: skip
async def test_a_task_that_raises_ends_with_the_reason(tasks: Tasks, error, reason):
    async def steps(lease: TaskLease) -> Steps:
        yield Progress(1, 2, "x")
        raise error

    async with working(tasks, steps):
        row = await ended(tasks, (await tasks.submit(Purge())).id)
    assert (row.state, row.reason) == (TaskState.FAILED, reason)
    assert str(error) in row.detail or repr(error) == row.detail


async def test_a_part_that_is_away_is_waited_for(tasks: Tasks, database: Database):
    tries: list[str] = []

    async def steps(lease: TaskLease) -> Steps:
        tries.append(lease.position)
        yield Progress(1, 2, "half")
        if len(tries) < 3:
            raise Unavailable("The store is away")
        yield Finished({})

    async with working(tasks, steps):
        submitted = await tasks.submit(Purge())

        async def over() -> bool:
            await database.fetch("UPDATE tasks SET not_before = '-infinity'")
            return (await tasks.task(submitted.id)).state is not TaskState.PENDING

        await until(over)
    row = await tasks.task(submitted.id)
    assert (row.state, row.attempts, tries) == (TaskState.DONE, 0, ["", "half", "half"])


async def test_connections_that_are_cut_again_and_again_cost_no_step_and_no_attempt(
    tasks: Tasks, database: Database
):
    seen: list[int] = []
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'"
    scissors = Database(database.url, pool_size=1, name="scissors")

    async def steps(lease: TaskLease) -> Steps:
        async for step in counting(12, seen)(lease):
            if len(seen) % 3 == 0:
                await scissors.fetch(cut)
            yield step

    try:
        async with working(tasks, steps):
            submitted = await tasks.submit(Purge())

            async def over() -> bool:
                await scissors.fetch("UPDATE tasks SET not_before = '-infinity'")
                rows = await Tasks(scissors).recent(1)
                return rows[0].state is not TaskState.PENDING

            await until(over)
            [row] = await Tasks(scissors).recent(1)
    finally:
        await scissors.aclose()
    assert (row.id, row.state, row.attempts) == (submitted.id, TaskState.DONE, 0)
    assert set(seen) == set(range(12))


async def test_a_drained_worker_gives_its_task_back_at_its_safe_point(tasks: Tasks):
    reached = asyncio.Event()

    async def steps(lease: TaskLease) -> Steps:
        yield Progress(1, 2, "half")
        reached.set()
        await asyncio.sleep(3600)

    submitted = await tasks.submit(Purge())
    async with asyncio.timeout(10):
        async with working(tasks, steps):
            await reached.wait()
    row = await tasks.task(submitted.id)
    assert (row.state, row.worker, row.attempts) == (TaskState.PENDING, "", 0)
    lease = await tasks.claim("another")
    assert isinstance(lease, TaskLease)
    assert lease.position == "half"


async def test_a_cancelled_task_is_let_go_and_writes_nothing_more(tasks: Tasks):
    began, stopped = asyncio.Event(), asyncio.Event()

    async def steps(lease: TaskLease) -> Steps:
        began.set()
        try:
            yield Progress(1, 2, "half")
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    async with working(tasks, steps) as runner:
        submitted = await tasks.submit(Purge())
        await asyncio.wait_for(began.wait(), 10)
        await tasks.cancel(submitted.id)
        await asyncio.wait_for(stopped.wait(), 10)

        async def free() -> bool:
            return runner.in_flight == 0

        await until(free)
    assert (await tasks.task(submitted.id)).state is TaskState.CANCELLED


async def test_a_dead_worker_s_task_goes_on_with_another(tasks: Tasks, database: Database):
    submitted = await tasks.submit(Purge())
    dead = await tasks.claim("dead")
    assert isinstance(dead, TaskLease)
    await tasks.save(dead, Progress(2, 4, "2"))
    await database.fetch("UPDATE tasks SET leased_until = clock_timestamp()")
    seen: list[int] = []
    async with working(tasks, counting(4, seen)):
        assert (await ended(tasks, submitted.id)).state is TaskState.DONE
    assert seen == [2, 3]


async def test_who_lives_keeps_its_task_when_the_record_was_away(tasks: Tasks, database: Database):
    """Who is back first must not take what nobody could renew meanwhile, nor charge a crash."""
    await tasks.submit(Purge())
    mine = await tasks.claim("alive")
    assert isinstance(mine, TaskLease)
    await database.fetch("UPDATE tasks SET leased_until = clock_timestamp()")
    other = await tasks.submit(Purge(7.0))
    async with working(tasks, counting(1, []), replace(PACE, renew_every=15)):
        assert (await ended(tasks, other.id)).state is TaskState.DONE
    assert await tasks.renew([mine.token]) == {mine.token}


async def test_a_critical_task_starts_at_once_with_a_million_fetches_pending_and_all_slots_full(
    tasks: Tasks, database: Database
):
    """It needs neither the queue nor a slot that a long task could hold."""
    await database.fetch(
        "INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original,"
        " mimetype, statuscode, digest, locator) SELECT n, 1, n, n, 'wayback', '', '', '', '', '',"
        " '', '' FROM generate_series(1, 1000000) n"
    )
    started = asyncio.Event()

    async def steps(lease: TaskLease) -> Steps:
        if lease.task == Purge(1.0):
            started.set()
        else:
            yield Progress(0, 0, "")
            await asyncio.sleep(3600)
        yield Finished({})

    pace = TaskPace(slots=1, drain=0.1)
    async with working(tasks, steps, pace) as runner:
        await tasks.submit(Purge(2.0))

        async def full() -> bool:
            return runner.in_flight == 1

        await until(full)
        began = time.monotonic()
        await tasks.submit(Purge(1.0), queue_class=QueueClass.CRITICAL)
        await asyncio.wait_for(started.wait(), 10)
        assert time.monotonic() - began < 1.0


async def test_one_task_is_worked_on_by_whoever_asked_for_it(tasks: Tasks):
    seen: list[int] = []
    other = await tasks.submit(Purge(7.0))
    mine = await tasks.submit(Purge(8.0))
    runner = TaskRunner(tasks, counting(3, seen), worker="job", pace=PACE)
    row = await runner.run_one(mine.id, asyncio.Event(), tell=lambda _: None)
    assert (row.state, seen) == (TaskState.DONE, [0, 1, 2])
    assert (await tasks.task(other.id)).started_at is None


async def test_whoever_asks_again_takes_over_from_a_dead_worker(tasks: Tasks, database: Database):
    seen: list[int] = []
    submitted = await tasks.submit(Purge())
    dead = await tasks.claim("dead")
    assert isinstance(dead, TaskLease)
    await tasks.save(dead, Progress(2, 3, "2"))
    await database.fetch("UPDATE tasks SET leased_until = clock_timestamp()")
    runner = TaskRunner(tasks, counting(3, seen), worker="job", pace=PACE)
    row = await runner.run_one(submitted.id, asyncio.Event(), tell=lambda _: None)
    assert (row.state, seen) == (TaskState.DONE, [2])


async def test_whoever_asked_is_stopped_within_its_time_and_goes_on_later(tasks: Tasks):
    stop = asyncio.Event()

    async def steps(lease: TaskLease) -> Steps:
        yield Progress(1, 2, "half")
        stop.set()
        await asyncio.sleep(3600)

    submitted = await tasks.submit(Purge())
    runner = TaskRunner(tasks, steps, worker="job", pace=PACE)
    async with asyncio.timeout(2):
        row = await runner.run_one(submitted.id, stop, tell=lambda _: None)
    assert (row.state, row.worker, row.done) == (TaskState.PENDING, "", 1)
