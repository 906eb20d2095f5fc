"""What the record says to whoever watches: in order, and over time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from chrono_ray.storage.database import Database
from chrono_ray.storage.live import FROM_NOW, Live
from chrono_ray.storage.projects import Projects, RunState
from tests.integration.api.listening import begin

HOUR = timedelta(hours=1)


async def count(database: Database, run_id: int, state: str, n: int, reason: str = "") -> None:
    await database.fetch(
        "INSERT INTO domain_counters SELECT domain_id, id, $2, $4, $3 FROM runs WHERE id = $1"
        " ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + $3",
        run_id, state, n, reason,
    )  # fmt: skip


async def test_of_two_looks_the_greater_version_saw_the_later_record(database):
    """Also where they are taken at once, by anybody."""
    run_id, live, going = await begin(database), Live(database), True
    seen: list[tuple[int, int]] = []

    async def write() -> None:
        while going:
            await count(database, run_id, "discovered", 1)

    async def look(since: int | None) -> None:
        for _ in range(40):
            pulse = await live.pulse(since, runs=[run_id])
            seen.append((pulse.version, pulse.runs[0].progress.captures.discovered))

    writing = asyncio.create_task(write())
    await asyncio.gather(look(None), look(FROM_NOW), look(0), look(None))
    going = False
    await writing
    assert len({version for version, _ in seen}) == 160
    listed = [n for _, n in sorted(seen)]
    assert listed == sorted(listed)
    assert listed[-1] > listed[0]
    await database.fetch("SELECT setval('live_version', last_value + 3600000000) FROM live_version")
    later = [await live.pulse(None) for _ in range(3)]
    assert sorted(each.version for each in later) == [each.version for each in later]
    assert later[0].version > max(seen)[0] + 3_600_000_000, "whatever the clock does"


async def test_a_look_holds_up_nobody_when_it_is_given_up(database):
    live = Live(database)
    async with database.connection() as holder:
        await holder.execute("SELECT pg_advisory_lock(7120483652019)")
        looking = asyncio.create_task(live.pulse(FROM_NOW))
        await asyncio.sleep(0.2)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await holder.execute("SELECT pg_advisory_unlock(7120483652019)")
    async with asyncio.timeout(5):
        await live.pulse(FROM_NOW)
        await live.pulse(FROM_NOW)


async def test_what_changed_is_found_and_what_did_not_is_not(database):
    live, projects = Live(database), Projects(database)
    active, paused, ended = [await begin(database, name) for name in ("a", "b", "c")]
    await projects.change(paused, RunState.PAUSED)
    await projects.change(ended, RunState.CANCELLED)
    now = await live.pulse(FROM_NOW)
    assert {each.progress.run_id for each in now.runs} == {active, paused, ended}
    await database.fetch("UPDATE runs SET changed_at = changed_at - interval '2 hours'")
    await projects.change(active, RunState.ACTIVE)
    assert [each.progress.run_id for each in (await live.pulse(now.version)).runs] == [active]
    back = now.version - 3 * 3_600_000_000
    assert len((await live.pulse(back)).runs) == 3
    assert [each.progress.run_id for each in (await live.pulse(None, runs=[ended])).runs] == [ended]
    assert (await live.pulse(None)).runs == ()


async def test_tasks_are_told_until_they_have_ended(database):
    live = Live(database)
    [made] = await database.fetch(
        "INSERT INTO tasks (key, kind, class, arguments, done, total)"
        " VALUES ('k', 'purge', 1, '{}', 3, 9) RETURNING id"
    )
    [task] = (await live.pulse(FROM_NOW)).tasks
    assert (task.id, task.state, task.done, task.total, task.working) == (
        made["id"], "pending", 3, 9, False
    )  # fmt: skip
    ended = "UPDATE tasks SET state = 'done', finished_at = clock_timestamp()"
    await database.fetch(ended)
    [task] = (await live.pulse(FROM_NOW)).tasks
    assert task.state == "done"
    await database.fetch("UPDATE tasks SET finished_at = finished_at - interval '1 hour'")
    assert (await live.pulse(FROM_NOW)).tasks == ()
    assert len((await live.pulse(None, tasks=[made["id"]])).tasks) == 1


async def test_throughput_is_what_was_done_in_between(database):
    live, run_id = Live(database), await begin(database)
    project = await database.fetchval("SELECT project_id FROM runs")
    await count(database, run_id, "discovered", 10)
    await count(database, run_id, "request", 2, "cdx")
    assert await live.sample() == 1
    assert await live.sample() == 0, "once a minute, whoever does it"
    await database.fetch("UPDATE samples SET minute = minute - interval '5 minutes'")
    await count(database, run_id, "stored", 4)
    await count(database, run_id, "failed", 1, "truncated")
    await live.sample()
    now = datetime.now(UTC)

    async def since(span: timedelta, projects: list[int] | None) -> list[tuple[int, int, int, int]]:
        found = await live.throughput(
            projects, since=now - span, until=now + HOUR, step=timedelta(minutes=1)
        )
        return [(each.listed, each.stored, each.failed, each.listing_requests) for each in found]

    assert await since(HOUR, [project]) == [(10, 0, 0, 2), (0, 4, 1, 0)]
    assert await since(timedelta(minutes=3), None) == [(0, 4, 1, 0)]
    assert await since(HOUR, []) == []
    await Projects(database).change(run_id, RunState.CANCELLED)
    await database.fetch("UPDATE runs SET changed_at = changed_at - interval '1 hour'")
    await database.fetch("UPDATE samples SET minute = minute - interval '2 minutes'")
    assert await live.sample() == 0, "idle projects have no samples"


async def test_samples_are_thinned_to_hours_and_nothing_of_the_sum_is_lost(database):
    live, run_id = Live(database), await begin(database)
    project = await database.fetchval("SELECT project_id FROM runs")
    await database.fetch(
        "INSERT INTO samples (project_id, minute, stored)"
        " SELECT $1, date_trunc('hour', now()) - interval '4 days' + n * interval '1 minute', n"
        " FROM generate_series(0, 239) n",
        project,
    )
    await count(database, run_id, "stored", 239)
    await live.sample()
    kept = await database.fetch("SELECT stored FROM samples WHERE hourly ORDER BY minute")
    assert [row["stored"] for row in kept] == [59, 119, 179, 239]
    now = datetime.now(UTC)
    found = await live.throughput(None, since=now - 5 * 24 * HOUR, until=now, step=24 * HOUR)
    assert sum(each.stored for each in found) == 239 - 59
