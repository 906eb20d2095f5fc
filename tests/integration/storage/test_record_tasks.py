"""Tasks in the record: submitted once, shared out by class and weight, fenced, ended once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from chrono_ray.model.errors import Conflict, LeaseLost, NotFound
from chrono_ray.model.priority import WEIGHTS, QueueClass
from chrono_ray.model.task import ATTEMPTS, DeleteProject, Export, Finished, Part, Progress, Purge
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskLease, Tasks, TaskState, UnreadableTask
from tests.integration.storage.making import Record
from tests.integration.storage.test_record_plans import plan

SOON = timedelta(milliseconds=50)


@pytest.fixture
def tasks(database: Database) -> Tasks:
    return Tasks(database)


async def claimed(tasks: Tasks, *classes: QueueClass) -> TaskLease:
    lease = await tasks.claim("worker", classes) if classes else await tasks.claim("worker")
    assert isinstance(lease, TaskLease)
    return lease


async def fill(database: Database, project_id: int, queue_class: QueueClass, n: int) -> None:
    await database.fetch(
        "INSERT INTO tasks (key, kind, class, project_id, arguments)"
        " SELECT format('%s %s %s', $1::int, $2::int, n), 'purge', $1::int, $2::int, '{}'"
        " FROM generate_series(1, $3::int) n",
        list(QueueClass).index(queue_class), project_id, n,
    )  # fmt: skip


async def expire(database: Database) -> None:
    await database.fetch("UPDATE tasks SET leased_until = '-infinity' WHERE token IS NOT NULL")


async def test_the_same_task_twice_is_one_until_it_has_ended(tasks: Tasks):
    first, again = await tasks.submit(Purge()), await tasks.submit(Purge())
    assert (again.id, first.joined, again.joined) == (first.id, False, True)
    assert (await tasks.submit(Purge(5.0))).id != first.id
    await tasks.finish(await claimed(tasks), Finished({"payloads": 2}))
    assert (await tasks.task(first.id)).result == {"payloads": 2}
    assert not (await tasks.submit(Purge())).joined


async def test_many_who_submit_the_same_at_once_get_one_task(tasks: Tasks):
    submitted = await asyncio.gather(*(tasks.submit(Purge()) for _ in range(8)))
    assert len({each.id for each in submitted}) == 1
    assert sum(not each.joined for each in submitted) == 1


async def test_backlogged_classes_share_190_claims_as_their_weights(
    tasks: Tasks, database: Database
):
    for queue_class in QueueClass:
        await fill(database, 0, queue_class, 120)
    got: Counter[int] = Counter()
    for _ in range(190):
        row = await database.fetchrow("SELECT class FROM claim_task('w', '1 minute', 15)")
        assert row is not None
        got[row["class"]] += 1
    assert {name: got[n] for n, name in enumerate(QueueClass)} == {
        name: 10 * weight for name, weight in WEIGHTS.items()
    }


async def test_projects_share_a_class_by_weight_however_many_tasks_each_has(
    tasks: Tasks, database: Database
):
    await database.fetch("INSERT INTO projects (name, weight) VALUES ('heavy', 3), ('light', 1)")
    await fill(database, 1, QueueClass.DEFAULT, 100)
    await fill(database, 2, QueueClass.DEFAULT, 400)
    rows = [
        await database.fetchrow("SELECT project_id FROM claim_task('w', '1 minute', 15)")
        for _ in range(100)
    ]
    shares = Counter(row["project_id"] for row in rows if row)
    assert abs(shares[1] - 75) <= 2


async def test_a_task_has_the_share_of_the_project_it_is_about(tasks: Tasks, record: Record):
    run = await record.start("a.example", project="town")
    of_run = await tasks.submit(Export("town", "/x", run_id=run))
    of_nobody = await tasks.submit(Export("nowhere", "/x"))
    rows = await record.database.fetch("SELECT id, project_id, run_id FROM tasks ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [(of_run.id, 1, run), (of_nobody.id, 0, None)]
    assert (await tasks.task(of_run.id)).project == "town"


async def test_claimers_at_once_never_get_the_same_task(tasks: Tasks, database: Database):
    await fill(database, 0, QueueClass.DEFAULT, 40)
    leases = await asyncio.gather(*(claimed(tasks) for _ in range(40)))
    assert len({lease.id for lease in leases}) == 40
    assert await tasks.claim("worker") is None


async def test_only_the_classes_asked_for_are_given(tasks: Tasks):
    await tasks.submit(Purge())
    assert await tasks.claim("worker", [QueueClass.CRITICAL]) is None
    urgent = await tasks.submit(Purge(9.0), queue_class=QueueClass.CRITICAL)
    assert (await claimed(tasks, QueueClass.CRITICAL)).id == urgent.id


async def test_a_task_is_not_due_before_its_time(tasks: Tasks):
    await tasks.submit(Purge(), delay=3600)
    assert await tasks.claim("worker") is None


async def test_a_safe_point_is_where_the_next_worker_goes_on(tasks: Tasks):
    await tasks.submit(Purge())
    lease = await claimed(tasks)
    await tasks.save(lease, Progress(3, 10, "page 3", Part("a", 1, 2, b"x")))
    await tasks.release(lease)
    again = await claimed(tasks)
    assert (again.position, again.done, again.total, again.attempts) == ("page 3", 3, 10, 0)
    assert [part async for part in tasks.parts(again.id)] == [Part("a", 1, 2, b"x")]
    with pytest.raises(LeaseLost):
        await tasks.save(lease, Progress(4, 10, "late"))
    with pytest.raises(LeaseLost):
        await tasks.finish(lease, Finished({}))


async def test_a_dead_worker_s_task_goes_on_elsewhere_until_it_has_killed_three(
    tasks: Tasks, database: Database
):
    submitted = await tasks.submit(Purge())
    for _ in range(ATTEMPTS):
        assert (await tasks.task(submitted.id)).state is TaskState.PENDING
        await claimed(tasks)
        await expire(database)
        assert await tasks.rescue() == 1
    ended = await tasks.task(submitted.id)
    assert (ended.state, ended.reason) == (TaskState.FAILED, "crashed")
    assert await tasks.claim("worker") is None


async def test_progress_between_crashes_is_no_guilt(tasks: Tasks, database: Database):
    submitted = await tasks.submit(Purge())
    for n in range(ATTEMPTS + 1):
        await tasks.save(await claimed(tasks), Progress(n, 9, str(n)))
        await expire(database)
        await tasks.rescue()
    assert (await tasks.task(submitted.id)).state is TaskState.PENDING


async def test_three_time_outs_end_it(tasks: Tasks):
    submitted = await tasks.submit(Purge())
    for _ in range(ATTEMPTS):
        await tasks.charge(await claimed(tasks), "timeout", "too slow", delay=0)
    ended = await tasks.task(submitted.id)
    assert (ended.state, ended.reason, ended.detail) == (TaskState.FAILED, "timeout", "too slow")


async def test_cancelled_means_that_its_worker_writes_nothing_more(tasks: Tasks):
    submitted = await tasks.submit(Purge())
    lease = await claimed(tasks)
    await tasks.cancel(submitted.id)
    await tasks.cancel(submitted.id)
    assert await tasks.renew([lease.token]) == set()
    with pytest.raises(LeaseLost):
        await tasks.save(lease, Progress(1, 1, "x"))
    assert (await tasks.task(submitted.id)).state is TaskState.CANCELLED


async def test_a_delete_that_has_begun_goes_to_its_end(tasks: Tasks, record: Record):
    await record.start("a.example")
    submitted = await tasks.submit(DeleteProject("p", 1))
    await claimed(tasks)
    with pytest.raises(Conflict, match="half a project"):
        await tasks.cancel(submitted.id)
    with pytest.raises(NotFound):
        await tasks.cancel(submitted.id + 1)


async def test_no_run_begins_in_a_project_that_is_being_deleted(tasks: Tasks, record: Record):
    run_id = await record.start("a.example")
    project_id = await record.database.fetchval("SELECT project_id FROM runs WHERE id = $1", run_id)
    submitted = await tasks.submit(DeleteProject("p", project_id))
    with pytest.raises(Conflict, match="being deleted"):
        await record.start("b.example")
    await record.start("b.example", project="another")
    await tasks.cancel(submitted.id)
    await record.start("b.example")


async def test_what_another_version_wrote_is_said_and_not_guessed(tasks: Tasks, database: Database):
    await database.fetch(
        "INSERT INTO tasks (key, kind, class, arguments) VALUES ('k', 'dance', 3, '{}')"
    )
    lease = await tasks.claim("worker")
    assert isinstance(lease, UnreadableTask)
    await tasks.fail(lease, "task_arguments", lease.why)
    [ended] = await tasks.recent(5)
    assert (ended.state, ended.reason) == (TaskState.FAILED, "task_arguments")


async def test_the_claim_reads_only_what_is_due(tasks: Tasks, database: Database):
    """A hundred thousand that ended are not looked at."""
    await fill(database, 0, QueueClass.DEFAULT, 2000)
    await database.fetch(
        "INSERT INTO tasks (key, kind, class, arguments, state)"
        " SELECT 'old ' || n, 'purge', 3, '{}', 'done' FROM generate_series(1, 100000) n"
    )
    await database.fetch("ANALYZE tasks")
    found = await plan(
        database,
        "SELECT FROM tasks t WHERE t.state = 'pending' AND t.token IS NULL AND t.class = $1::int"
        " AND t.project_id = $2::int AND t.not_before <= clock_timestamp()"
        " ORDER BY t.id LIMIT 1 FOR UPDATE SKIP LOCKED",
        3, 0,
    )  # fmt: skip
    assert "tasks_due" in {node.get("Index Name") for node in found}
    assert not [node for node in found if node["Node Type"] in ("Seq Scan", "Sort")]
