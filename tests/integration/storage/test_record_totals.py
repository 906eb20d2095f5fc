"""What projects hold is told without counting, and is what a count of the rows says."""

from __future__ import annotations

import asyncio
import re

import asyncpg
import pytest

from chrono_ray.model.accounts import Actor, Role
from chrono_ray.model.accounts import Scope as Allowed
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.migrate import migrate
from chrono_ray.storage.project_stats import Numbers, ProjectStats, Wanted
from chrono_ray.storage.projects import RunState
from chrono_ray.storage.recounting import Recounting
from tests.integration.storage.first_record import make_first
from tests.integration.storage.making import Record, capture, gone, stored

ADMIN = Actor(1, Role.ADMIN, frozenset(Allowed), 1, None)
ADDED = """
INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
SELECT domain_id, id, 'stored', '', $2 FROM runs WHERE id = $1
ON CONFLICT (domain_id, run_id, state, reason) DO UPDATE SET n = domain_counters.n + excluded.n
"""
APART = """
SELECT project_id, state, reason, sum(n) FROM project_numbers GROUP BY 1, 2, 3 HAVING sum(n) <> 0
EXCEPT
SELECT project_id, CASE state WHEN 'years' THEN 'captures' ELSE state END,
       CASE state WHEN 'years' THEN '' ELSE reason END, sum(n)
  FROM domain_numbers GROUP BY 1, 2, 3 HAVING sum(n) <> 0
"""
SOON = "SET LOCAL lock_timeout = '2s'"


@pytest.fixture
async def record(database: Database) -> Record:
    made = Record(database)
    await made.unlimited("wayback")
    return made


async def numbers(database: Database) -> list[Numbers]:
    """Of every project, by name."""
    return [each.numbers for each in await ProjectStats(database).projects(ADMIN, Wanted())]


async def fold(database: Database) -> int:
    return int(await database.fetchval("SELECT fold_totals(1000000)"))


async def wrong(database: Database) -> list[tuple[object, ...]]:
    """Where the totals are not what the rows say, or a project's are not its domains'."""
    rows = [*await database.fetch("SELECT * FROM wrong_numbers"), *await database.fetch(APART)]
    return [tuple(row) for row in rows]


async def collect(record: Record, name: str) -> int:
    """A run with captures in three states."""
    run = await record.start(f"{name}.example", project=name)
    rows = [capture(f"http://{name}.example/{n}", f"{2000 + n}0101000000") for n in range(4)]
    await record.list_all(run, rows)
    leases = await record.claim()
    await record.settling.settle([*map(stored, leases[:2]), *map(gone, leases[2:])])
    return run


async def test_totals_follow_every_change_before_and_after_they_are_folded(record: Record):
    database = record.database
    first = await collect(record, "a")
    await collect(record, "b")
    unfolded = await numbers(database)
    assert [(each.captures, each.pages, each.states.gone) for each in unfolded] == [(4, 2, 2)] * 2
    assert unfolded[0].runs == {"active": 1}
    assert await wrong(database) == []
    assert await fold(database) > 10
    assert await database.fetchval("SELECT count(*) FROM total_changes") == 0
    assert await numbers(database) == unfolded
    await record.projects.change(first, RunState.CANCELLED)
    assert (await numbers(database))[0].runs == {"cancelled": 1}
    assert await wrong(database) == []


async def test_what_is_deleted_row_by_row_or_by_cascade_is_not_told_any_more(record: Record):
    database = record.database
    for name in ("a", "b", "c"):
        await collect(record, name)
    await fold(database)
    for statement in (
        "DELETE FROM pages WHERE project_id = 1", "DELETE FROM runs WHERE project_id = 1",
        "DELETE FROM domains WHERE project_id = 2",
    ):  # fmt: skip
        await database.fetch(statement)
        assert await wrong(database) == [], statement
    await fold(database)
    first, second, third = await numbers(database)
    assert (first.captures, first.pages, first.runs, first.domains) == (0, 0, {}, 1)
    assert (second.captures, second.pages, second.runs, second.domains) == (0, 0, {}, 0)
    await database.fetch("DELETE FROM projects WHERE id IN (1, 2)")
    await fold(database)
    assert await numbers(database) == [third]
    for table in ("project_totals", "domain_totals", "total_changes"):
        left = await database.fetch(f"SELECT DISTINCT project_id FROM {table}")
        assert {row["project_id"] for row in left} <= {3}, table


async def test_nobody_waits_for_another_who_works_on_the_same_project(record: Record):
    """Two settles of one project's runs, and a fold between them."""
    database = record.database
    one, two = [await record.start(f"{name}.example", project="p") for name in "ab"]
    await fold(database)
    async with database.transaction() as slow:
        await slow.execute(ADDED, one, 5)
        async with database.transaction() as quick:
            await quick.execute(SOON)
            await quick.execute(ADDED, two, 7)
        async with database.transaction() as folding:
            await folding.execute(SOON)
            assert await folding.fetchval("SELECT fold_totals(1000)") == 1
            assert await fold(database) == 0, "one folds at a time, the other does not wait"
        [told] = await numbers(database)
        assert told.states.stored == 7
    [told] = await numbers(database)
    assert told.states.stored == 12
    assert await wrong(database) == []


async def test_whoever_reads_while_others_write_and_fold_misses_and_doubles_nothing(record: Record):
    database = record.database
    runs = [await record.start(f"{name}.example", project="p") for name in "abc"]
    committed, writing = 0, True

    async def write(run: int) -> None:
        nonlocal committed
        for _ in range(40):
            await database.fetch(ADDED, run, 1)
            committed += 1

    async def folding() -> None:
        while writing:
            await fold(database)

    async def reading() -> None:
        while writing:
            before = committed
            [told] = await numbers(database)
            assert before <= told.states.stored <= committed + len(runs)

    async with asyncio.TaskGroup() as group:
        others = [group.create_task(folding()), group.create_task(reading())]
        await asyncio.gather(*(write(run) for run in runs))
        writing = False
        await asyncio.gather(*others)
    assert (await numbers(database))[0].states.stored == 120
    assert await wrong(database) == []


async def test_a_sweep_folds_and_a_mend_makes_right_what_was_changed_behind_the_triggers(
    record: Record,
):
    database = record.database
    run = await collect(record, "a")
    await record.frontier().sweep()
    assert await database.fetchval("SELECT count(*) FROM total_changes") == 0
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("DELETE FROM pages")
        await connection.execute(ADDED, run, 3)
    assert len(await wrong(database)) == 2
    counted = await database.fetchval("SELECT count(*) FROM run_pages")
    assert counted > 0, "its run counts them still"
    recounting = Recounting(database)
    assert await recounting.totals(mend=False) == 2 + counted
    assert await recounting.totals(mend=True) == 2 + counted
    assert await recounting.totals(mend=False) == 0
    assert await wrong(database) == []
    [told] = await numbers(database)
    assert (told.pages, told.states.stored) == (0, 5)


async def test_a_record_of_before_has_its_totals(postgres_server):
    async with postgres_server.fresh(template="template0") as url:
        older = Database(url, pool_size=2)
        try:
            await make_first(older)
            await migrate(older)
            [told] = await numbers(older)
            assert told.captures == await older.fetchval("SELECT count(*) FROM captures") > 0
            assert (told.domains, sum(told.runs.values())) == (2, 2)
            assert await wrong(older) == []
        finally:
            await older.aclose()


CROWD = """
INSERT INTO users (email, password) VALUES ('a@example.org', '');
INSERT INTO projects (name, owner_id) SELECT 'p' || n, 1 FROM generate_series(1, 300) n;
INSERT INTO domains (project_id, url, match)
SELECT p.id, 'http://d' || n || '.example/', 'domain'
  FROM projects p CROSS JOIN generate_series(1, 5) n;
INSERT INTO runs (project_id, domain_id, archive, state)
SELECT project_id, id, 'wayback', 'done' FROM domains;
INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
SELECT r.domain_id, r.id, s, '', 3
  FROM runs r CROSS JOIN unnest(ARRAY['discovered', 'stored', 'unchanged', 'gone']) s;
SELECT fold_totals(1000000);
INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
SELECT 1 + n % 300, 1, 'wayback', 'stored', '', 1 FROM generate_series(1, 3000) n;
ANALYZE
"""


READS = {
    "by_name": (1, False, "", False, None, None, 100),
    "by_number": (1, False, "", False, None, None, 100, "captures"),
    "statistics": (1, True, 7, 200),
    "domains": (1, False, 7, "", None, None, 100),
    "domain": (1, False, 7, 31),
}
COUNTED = {"captures", "pages", "domain_counters", "runs", "slices", "fetches"}


async def test_no_row_of_what_is_counted_is_read(record: Record):
    """And of the totals those of what is shown, by their indexes."""
    async with record.database.connection() as connection:
        await connection.execute(CROWD)
    for name, arguments in READS.items():
        statement = f"EXPLAIN {statements('project_stats')[name]}"
        rows = await record.database.fetch(statement, *arguments)
        scans = [found for row in rows for found in re.findall(r"(\w+ )Scan .*?on (\w+)", row[0])]
        tables = {table for _, table in scans}
        assert tables & {"project_totals", "domain_totals"}, name
        assert tables.isdisjoint(COUNTED), name
        whole = {table for kind, table in scans if kind == "Seq "}
        assert whole <= {"projects", "users", "project_members", "tasks", "redecisions"}, name


async def test_every_table_that_is_counted_has_its_triggers(database: Database):
    """A new way to change what is counted is counted too: by the table, not by the statement."""
    rows = await database.fetch(
        "SELECT tgname, tgrelid::regclass::text AS held FROM pg_trigger WHERE NOT tgisinternal"
    )
    found = {(row["held"], re.sub("_.*", "", row["tgname"])) for row in rows}
    assert {("domain_counters", "counters"), ("pages", "pages"), ("captures", "captures"),
            ("runs", "runs"), ("slices", "holes"), ("domains", "domains")} <= found  # fmt: skip


async def test_a_failed_change_counts_nothing(record: Record):
    database = record.database
    run = await collect(record, "a")
    before = await numbers(database)

    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(ADDED, run, 3)
        await connection.execute("SELECT 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await database.transact(work)
    assert await numbers(database) == before
