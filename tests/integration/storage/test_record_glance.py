"""One look at the whole instance: what it tells is so."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import OPERATOR, Governor, Kind, Limit
from chrono_ray.storage.inspecting import Inspecting
from chrono_ray.storage.metrics import TABLES, Active, Glances
from chrono_ray.storage.migrate import newest
from chrono_ray.storage.projects import Projects


async def test_an_empty_record_is_told_too(database: Database) -> None:
    found = await Glances(database).glance()
    assert not any(each.count for each in found.depths)
    assert (found.holes, found.pages, found.lag) == (0, 0, 0)
    assert not any(found.captures.values())
    assert found.server.revision == newest()
    assert found.server.bytes > 0
    assert {each.name for each in found.tables} == set(TABLES)


async def test_a_run_that_lists_and_a_budget_that_is_left_alone(database: Database) -> None:
    governor = Governor(database, egress="default")
    await governor.configure(
        [
            Limit("wayback", Kind.REPLAY, 480),
            Limit("mine", Kind.REPLAY, 0),
            Limit("warc:/a/path", Kind.REPLAY, 0),
        ]
    )
    await governor.turn("wayback", Kind.REPLAY)
    scope = Scope("https://town.example/", MatchType.DOMAIN, "2001", "2002")
    await Projects(database).start_run(
        scope, project="town", archive="wayback", queue_class=QueueClass.CRITICAL
    )
    glances = Glances(database)
    found = await glances.glance()
    waiting = [each for each in found.depths if each.count]
    assert [(each.queue, each.work, each.state) for each in waiting] == [
        (QueueClass.CRITICAL, "listing", "waiting")
    ]
    assert found.runs == (Active(QueueClass.CRITICAL, silent=False, count=1),)
    mine, wayback = found.budgets
    assert (mine.archive, mine.rate, mine.left, mine.pause) == ("mine", None, None, 0)
    assert wayback.rate is not None
    assert wayback.left is not None
    assert 470 < wayback.rate <= 480
    assert 1 <= wayback.left <= 17
    await governor.pause("mine", 60)
    assert (await glances.glance()).runs == found.runs, "of another archive"
    await governor.pause("wayback", 60)
    found = await glances.glance()
    assert found.runs == (Active(QueueClass.CRITICAL, silent=True, count=1),)
    assert [each.state for each in found.depths if each.count] == ["silent"]
    _, paused = found.budgets
    assert (paused.reason, paused.left) == (OPERATOR, 0)
    assert 50 < paused.pause <= 60


async def begun(database: Database) -> int:
    """A run that lists."""
    scope = Scope("https://town.example/", MatchType.DOMAIN, "2001", "2002")
    return await Projects(database).start_run(
        scope, project="town", archive="wayback", queue_class=QueueClass.DEFAULT
    )


async def test_holes_of_a_cancelled_run_are_no_fault(database: Database) -> None:
    run, glances = await begun(database), Glances(database)
    await database.fetch("UPDATE slices SET state = 'hole' WHERE run_id = $1", run)
    assert (await glances.glance()).holes == 1
    await database.fetch("UPDATE runs SET state = 'cancelled' WHERE id = $1", run)
    assert (await glances.glance()).holes == 0


async def test_what_other_databases_hold_is_not_ours_to_have(database: Database) -> None:
    limit = await database.fetchval(
        "SELECT sum(setting::int) FILTER (WHERE name = 'max_connections')"
        " - sum(setting::int) FILTER (WHERE name <> 'max_connections') FROM pg_settings"
        " WHERE name IN"
        " ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
    )
    elsewhere = Database(database.url.rpartition("/")[0] + "/postgres", pool_size=2)
    async with elsewhere.connection(), elsewhere.connection(), asyncio.timeout(10):
        while True:  # other tests connect elsewhere too
            held = await database.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname <> current_database()"
                " AND backend_type = 'client backend'"
            )
            if (await Glances(database).glance()).server.connections_most == limit - held:
                break
    await elsewhere.aclose()
    assert held >= 2


async def test_a_session_is_a_clients(database: Database) -> None:
    """What works for a client beside it has no connection of its own."""

    async def in_parallel() -> None:
        async with database.connection() as connection:
            await connection.execute(
                "SET debug_parallel_query = on; SET max_parallel_workers_per_gather = 1"
            )
            await connection.execute("SELECT pg_sleep(20)")

    async with asyncio.timeout(10):
        task = asyncio.create_task(in_parallel())
        while not await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'"
            " AND datname = current_database()"
        ):
            await asyncio.sleep(0.02)
        found = await Glances(database).glance()
    task.cancel()
    await asyncio.wait({task})
    assert [each.count for each in found.sessions if each.state == "active"] == [1]


async def test_expired_leases_of_every_kind_are_told(database: Database) -> None:
    run = await begun(database)
    await database.fetch(
        "INSERT INTO tasks (key, kind, class, arguments, token, worker, leased_until)"
        " VALUES ('a', 'prune', 0, '{}', gen_random_uuid(), 'h:1', now() - interval '2 minutes')"
    )
    lease = (
        "UPDATE slices SET token = gen_random_uuid(),"
        " leased_until = clock_timestamp() + $2::interval WHERE id = $1"
    )
    [first] = await database.fetch("SELECT id FROM slices WHERE run_id = $1", run)
    await database.fetch(lease, first["id"], timedelta(minutes=-3))
    found = await Inspecting(database).expired()
    assert (found.leases, found.workers) == (2, 1)
    assert 170 < found.seconds < 200
    second = await database.fetchval("INSERT INTO slices (run_id) VALUES ($1) RETURNING id", run)
    await database.fetch(lease, second, timedelta(minutes=1))
    assert (await Inspecting(database).expired()).leases == 1, "whoever lists there takes it next"
