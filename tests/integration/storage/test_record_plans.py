"""The hot statements use the indexes they were designed around, with 50,000 rows behind them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from chrono_ray.model.priority import QueueClass
from chrono_ray.model.selection import CaptureSort, CaptureState, Selection
from chrono_ray.storage.capture_query import CaptureQuery, Place, in_order
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.governor import HORIZON
from chrono_ray.storage.metrics import COUNTED_MOST, TABLES, Depth, Glances
from tests.conftest import TEMPLATE, PostgresServer, run_apart
from tests.integration.storage.making import Record

ROWS = 50_000

VARIABLES = {
    "c_run": "bigint[]",
    "c_count": "int[]",
    "c_floor": "bigint[]",
    "c_budget": "int[]",
    "v_pick": "int",
    "v_tids": "tid[]",
    "v_token": "uuid",
    "v_now": "timestamptz",
    "b_start": "timestamptz[]",
    "b_step": "interval[]",
    "p_worker": "text",
    "p_lease": "interval",
}

FILL = f"""
INSERT INTO projects (name) SELECT 'p' || n FROM generate_series(1, 5) n;
INSERT INTO domains (project_id, url, match)
SELECT n, 'http://a' || n || '.example/', 'domain' FROM generate_series(1, 5) n;
INSERT INTO runs (project_id, domain_id, archive, ready)
SELECT n, n, 'wayback', true FROM generate_series(1, 5) n;
INSERT INTO slices (run_id, state)
SELECT 1 + n % 5, CASE WHEN n < {ROWS} - 5 THEN 'listed' ELSE 'pending' END
  FROM generate_series(1, {ROWS}) n;
INSERT INTO fetches (project_id, share_key, run_id, capture_id)
SELECT 1 + n % 5, decode(md5(n::text), 'hex'), 1 + n % 5, n FROM generate_series(1, {ROWS}) n;
INSERT INTO captures (domain_id, run_id, fetch_id, archive, key, url_id, urlkey, ts, instant,
                      original, mimetype, statuscode, digest)
SELECT 1 + n % 5, 1 + n % 5, n, 'wayback', decode(md5(n::text), 'hex'), decode(md5(n::text), 'hex'),
       'example,a)/' || n, '20100101000000', now(), 'http://a.example/' || n, 'text/html', '200',
       md5(n::text)
  FROM generate_series(1, {ROWS}) n;
INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype,
                   statuscode, digest, locator)
SELECT id, run_id, id, id, archive, urlkey, ts, original, mimetype, statuscode, digest, ''
  FROM captures ORDER BY id;
INSERT INTO outbox (page_id, op) SELECT n, 'upsert' FROM generate_series(1, {ROWS}) n;
INSERT INTO leases SELECT id, 1, id, 0, 0, false, id, gen_random_uuid(), 'w', 'infinity'
  FROM fetches WHERE id <= 20000;
INSERT INTO parked SELECT id, 1, id, 0, 0, id, 'x', 'infinity'
  FROM fetches WHERE id > 20000 AND id <= 40000;
VACUUM ANALYZE;
"""

STORE = (
    "UPDATE fetches SET state = 'stored', payload_id = id, document_id = id WHERE id > 40000",
    (
        "INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id,"
        " first_seen, last_seen, captures) SELECT d.project_id, d.id, c.url_id, c.urlkey,"
        " c.original, c.fetch_id, c.fetch_id, c.instant, c.instant, 1 FROM captures c"
        " JOIN domains d ON d.id = c.domain_id WHERE c.fetch_id > 40000"
    ),
    "ANALYZE pages",
    "ANALYZE fetches",
)


@pytest.fixture(scope="module")
def filled_template(postgres_server: PostgresServer) -> str:
    name = "template_filled"

    async def fill() -> None:
        await postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        connection = await asyncpg.connect(postgres_server.database(name))
        for statement in FILL.strip().removesuffix(";").split(";\n"):
            await connection.execute(statement)
        await connection.close()

    run_apart(fill)
    return name


@pytest.fixture
async def filled(postgres_server: PostgresServer, filled_template: str) -> AsyncIterator[Record]:
    async with postgres_server.fresh(template=filled_template) as url:
        database = Database(url, pool_size=2)
        yield Record(database)
        await database.aclose()


async def plan(database: Database, statement: str, *arguments: Any) -> list[dict[str, Any]]:
    """The plan's nodes, outermost first; nothing of the statement stays."""
    async with database.connection() as connection:
        inside = connection.transaction()
        await inside.start()
        try:
            await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            [root] = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
        finally:
            await inside.rollback()
    return list(nodes(root["Plan"]))


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from nodes(child)


def scans_of(found: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    return [n for n in found if n.get("Relation Name") == table and "Scan" in n["Node Type"]]


def claim_inside() -> str:
    """The statement inside the claim function, with its variables as parameters."""
    folder = resources.files("chrono_ray.storage") / "migrations" / "versions"
    text = (folder / "0009_rescue.sql").read_text("utf-8")
    body = re.search(r"RETURN QUERY\s+(WITH pick AS MATERIALIZED.*?);", text, re.DOTALL)
    assert body is not None, "the claim has changed: change this test with it"
    inside = body.group(1)
    for place, name in enumerate(VARIABLES, 1):
        inside = re.sub(rf"\b{name}\b", f"(${place}::{VARIABLES[name]})", inside)
    return inside


async def test_the_claim_reads_the_queue_in_its_order_and_deletes_by_place(filled: Record):
    now = datetime.now(UTC)
    found = await plan(
        filled.database, claim_inside(), [1, 2], [16, 16], [100, 100], [1, 1], 1, None, uuid4(),
        now, [now], [timedelta(0)], "w", timedelta(seconds=60),
    )  # fmt: skip
    [limit] = [n for n in found if n["Node Type"] == "Limit"]
    [locks] = limit["Plans"]
    [scan] = locks["Plans"]
    assert [locks["Node Type"], scan["Node Type"]] == ["LockRows", "Index Scan"]
    assert scan["Index Name"] == "queue_take"
    assert "run_id" in scan["Index Cond"]
    assert "order_key" in scan["Index Cond"]
    assert not [n for n in nodes(limit) if "Sort" in n["Node Type"]]
    [delete] = [n for n in found if n.get("Operation") == "Delete"]
    assert [n["Node Type"] for n in delete["Plans"] if n.get("Relation Name") == "queue"] == [
        "Tid Scan"
    ]


async def test_the_claim_stays_one_short_read_with_a_dead_front(filled: Record):
    """A floor that the sweep raised starts the scan behind what is gone."""
    await filled.unlimited("wayback")
    await filled.database.fetch("TRUNCATE leases, parked")
    await filled.database.fetch(f"DELETE FROM queue WHERE order_key < {ROWS - 500}")
    await filled.frontier().sweep()
    floors = await filled.database.fetch("SELECT floor_key FROM runs")
    assert min(row["floor_key"] for row in floors) >= ROWS - 500
    assert len(await filled.claim(64)) == 64


@pytest.mark.parametrize("name", ["count_captures", "put_pages", "note_pages", "other_captures"])
async def test_settling_finds_a_fetch_s_captures_by_index(filled: Record, name: str):
    arguments: list[Any] = [list(range(1, 129))]
    match name:
        case "count_captures":
            arguments += [1, None]
        case "put_pages":
            arguments += [None]
        case "note_pages":
            arguments += [None]
            for statement in STORE:
                await filled.database.fetch(statement)
        case _:
            arguments += [[1] * 128, 5]
    found = await plan(filled.database, statements("settle")[name], *arguments)
    scans = scans_of(found, "captures")
    assert scans
    assert {n.get("Index Name") for n in scans if n["Node Type"] != "Bitmap Heap Scan"} | {
        n.get("Index Name") for n in found if n["Node Type"] == "Bitmap Index Scan"
    } >= {"captures_fetch"}
    assert not [n for n in scans if n["Node Type"] == "Seq Scan"]


async def test_a_slice_is_claimed_among_the_pending_ones_only(filled: Record):
    found = await plan(
        filled.database,
        statements("listings")["claim_slice"],
        timedelta(seconds=60),
        ["wayback"],
        timedelta(days=1),
        uuid4(),
    )
    indexes = {n["Index Name"] for n in found if "Index Name" in n}
    assert "slices_pending" in indexes
    assert not [n for n in scans_of(found, "slices") if n["Node Type"] == "Seq Scan"]


@pytest.mark.parametrize(
    ("file", "name", "index", "arguments"),
    [
        ("frontier", "unpark", "parked_until", ()),
        ("outbox", "backlog", "outbox_pkey", (100,)),
        ("settle", "lock_fetches", "fetches_pkey", ([1, 2, 3], timedelta(days=1))),
        ("control", "find_capture", "captures_url", (1, bytes(16), "u", "0", "9", "")),
        ("control", "next_window", "queue_take", (1, 0, 10_000)),
        ("control", "retry_ids", "captures_fetch", (1, ["failed"], None, [], 1, 9, False, 100)),
    ],
)
async def test_what_runs_beside_the_claim_finds_its_rows_by_index(
    filled: Record, file: str, name: str, index: str, arguments: tuple[Any, ...]
):
    found = await plan(filled.database, statements(file)[name], *arguments)
    assert index in {n["Index Name"] for n in found if "Index Name" in n}


async def test_the_sweep_of_a_large_queue_is_short(filled: Record):
    async with filled.database.transaction() as connection:
        await connection.execute("SET LOCAL statement_timeout = '5s'")
        for name in ("silenced", "turn_aside", "lock_stale_hints", "lock_finishable"):
            await connection.fetch(statements("frontier")[name])
        await connection.fetch(statements("frontier")["waiting"], True)
        await connection.fetch(statements("frontier")["take_over"], [1], True)


@pytest.mark.parametrize(
    ("file", "name", "arguments"),
    [
        ("frontier", "lease_cancelled", (uuid4(), "w", 250)),
        ("frontier", "finish_runs", ([5],)),
        ("control", "go_on", (5,)),
        ("deleting", "drop_work", (5, 2_000)),
        ("deleting", "work_left", (5,)),
    ],
)
async def test_what_ended_runs_left_is_found_without_reading_what_others_queued(
    filled: Record, file: str, name: str, arguments: tuple[Any, ...]
):
    """They have nothing left, as after every cancel: none of the rows of the others is met."""
    await filled.database.fetch(
        "INSERT INTO runs (project_id, domain_id, archive, state)"
        " SELECT 5, 5, 'wayback', 'cancelled' FROM generate_series(1, 20)"
    )
    await filled.database.fetch("DELETE FROM queue WHERE run_id = 5")
    await filled.database.fetch("VACUUM ANALYZE")
    found = await plan(filled.database, statements(file)[name], *arguments)
    for table, index in (("queue", "queue_take"), ("parked", "parked_run")):
        scans = [n for n in scans_of(found, table) if n["Node Type"] != "Tid Scan"]
        assert [n.get("Index Name") for n in scans] == [index]
        assert "run_id" in scans[0]["Index Cond"]


HELD = (
    *({"states": (state,)} for state in CaptureState if state is not CaptureState.KNOWN),
    {"states": (CaptureState.KNOWN,), "run": 1},
    {"reasons": ("deadline", "print")},
    {"states": (CaptureState.FAILED, CaptureState.SKIPPED), "reasons": ("deadline",)},
    {"start": "20010101000000", "end": "20091231235959"},
    {"places": (("example,a)", "example,a,"),)},
    {"mimetypes": ("image/png", "text/html")},
    {"statuscodes": ("404",)},
    {"archives": ("pywb",)},
    {"domain": 1},
    {"run": 1},
    {"states": (CaptureState.PENDING,), "domain": 1, "mimetypes": ("x",), "start": "2" + "0" * 13},
    {},
)


async def test_no_filter_of_a_list_reads_all_captures_or_fetches(filled: Record):
    """Whatever is asked, in whatever order, each walk is by the one index that has its order."""
    behind = Place(datetime(2005, 1, 1, tzinfo=UTC), 7)
    for sort in (CaptureSort.OLDEST, CaptureSort.LISTED_LAST):
        for held in HELD:
            query, selection = CaptureQuery(), Selection(**held)
            place = query.place(7, 1, selection, admin=False)
            found = query.found(selection, sort=sort, after=behind, limit=101)
            whole = f"WITH place AS MATERIALIZED ({place}), {found} {query.rows(sort)}"
            async with filled.database.transaction() as connection:
                [[told]] = await in_order(connection, query, f"EXPLAIN (FORMAT JSON) {whole}")
            every = list(nodes(told[0]["Plan"]))
            for table in ("captures", "fetches", "queue"):
                read = {n["Node Type"] for n in scans_of(every, table)}
                assert read <= {"Index Scan", "Index Only Scan"}, (sort, held, table)
            used = {n["Index Name"] for n in every if "Index Name" in n}
            assert ("captures_time" if sort.by_time else "captures_listed") in used
            single = [n for n in every if n.get("Index Name") in ("captures_pkey", "fetches_pkey")]
            assert all(re.match(r"\(id = ", n["Index Cond"]) for n in single), (sort, held)


async def test_a_glance_at_the_whole_record_looks_no_further_than_it_counts(filled: Record):
    """Of what grows for ever nothing is read; of what waits, so much and no more."""
    asked = (COUNTED_MOST, HORIZON, list(TABLES))
    found = await plan(filled.database, statements("metrics")["glance"], *asked)
    read = {each["Relation Name"] for each in found if "Relation Name" in each}
    assert read.isdisjoint({"captures", "fetches", "pages", "documents", "payloads", "attempts"})
    assert read.isdisjoint({"domain_counters", "domain_totals", "listing_pages"})
    for table, index in [
        ("queue", "queue_take"), ("outbox", "outbox_pkey"), ("slices", "slices_pending")
    ]:  # fmt: skip
        scans = scans_of(found, table)
        assert scans
        assert "Seq Scan" not in {each["Node Type"] for each in scans}, table
        assert index in {each.get("Index Name") for each in found}
    counted = {(each.queue, each.state): each.count for each in await depths(filled.database)}
    assert counted[QueueClass.SCRAPING, "waiting"] == COUNTED_MOST < ROWS
    assert counted[QueueClass.SCRAPING, "leased"] == COUNTED_MOST


async def depths(database: Database) -> list[Depth]:
    """Of fetches."""
    return [each for each in (await Glances(database).glance()).depths if each.work == "fetch"]
