"""The list of projects with what they hold, beside the query that counts it from the rows.

    python -m benchmarks.statistics [--projects 100] [--domains 2000] [--captures 1000000] [--json]

Ours is `ProjectStats.projects`: the whole list, from the totals that are kept
where things change. Measured as PostgreSQL says it (EXPLAIN ANALYZE, its
execution time), as a round trip of the statement, and as the call with what
Python makes of it; with everything folded, and with as many changes not folded
yet as ten scrapers leave between two sweeps. The naive query joins projects, domains, captures
and pages and counts each DISTINCT. Both are asked in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Final

import asyncpg
import orjson

from benchmarks.record import Postgres, postgres, scratch
from benchmarks.report import Figure, Report, median, show, versions
from chrono_ray.model.accounts import Actor, Role, Scope
from chrono_ray.perf.catalogue import Target
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.project_stats import ProjectStats, Wanted

RUNS_A_DOMAIN: Final = 3
CAPTURES_A_PAGE: Final = 4
IN_DATABASE: Final = Target(3, at_least=False)
FASTER: Final = Target(500, at_least=True)
UNFOLDED: Final = 2_500
"""Changes of totals that wait for the next sweep: ten busy scrapers leave as many in between."""
ADMIN: Final = Actor(1, Role.ADMIN, frozenset(Scope), 1, None)
EVERYTHING: Final = (1, True, "", False, None, None, 1000)
REAL: Final = (
    "Real: PostgreSQL with fsync, the migrated schema, its triggers and totals, ProjectStats over",
    "its own pool. Stands in: rows written by SQL, three runs a domain with ten counters each, a",
    "page for every fourth capture; nothing else asks the server meanwhile.",
)

# In the order of their references; the triggers count them as they come.
SEED: Final = (
    "INSERT INTO projects (name) SELECT 'project ' || n FROM generate_series(1, $1::int) n",
    """
INSERT INTO domains (project_id, url, match)
SELECT 1 + n % $1::int, 'http://d' || n || '.example/', 'domain' FROM generate_series(1, $2::int) n
""",
    """
INSERT INTO runs (project_id, domain_id, archive, state)
SELECT d.project_id, d.id, 'wayback',
       CASE WHEN d.id % 50 = 0 AND r = 1 THEN 'active' ELSE 'done' END
  FROM domains d CROSS JOIN generate_series(1, $1::int) r
""",
    """
INSERT INTO domain_counters (domain_id, run_id, state, reason, n)
SELECT r.domain_id, r.id, k.state, k.reason, k.n FROM runs r
 CROSS JOIN (VALUES ('discovered', '', 170), ('stored', '', 60), ('unchanged', '', 40),
                    ('known', '', 20), ('skipped', 'redirect', 20), ('skipped', 'not_found', 10),
                    ('gone', '', 10), ('failed', 'timeout', 5), ('request', 'cdx', 4),
                    ('request', 'replay', 80)) k (state, reason, n)
""",
    """
INSERT INTO captures (domain_id, run_id, fetch_id, archive, key, url_id, urlkey, ts, instant,
                      original, mimetype, statuscode, digest)
SELECT r.domain_id, r.id, n, 'wayback', decode(md5(n::text), 'hex'),
       decode(md5((n / 3)::text), 'hex'), 'example,d)/path/to/a/page/' || n / 3,
       (2000 + n % 25) || '0601120000', make_timestamptz(2000 + n::int % 25, 6, 1, 12, 0, 0, 'UTC'),
       'http://d.example/path/to/a/page/' || n / 3, 'text/html', '200', left(md5(n::text), 32)
  FROM generate_series($2::bigint, $3::bigint) n JOIN runs r ON r.id = 1 + n % $1::int
""",
    """
INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id, first_seen,
                   last_seen, captures)
SELECT d.project_id, d.id, c.url_id, c.urlkey, c.original, c.id, c.id, c.instant, c.instant, 1
  FROM captures c JOIN domains d ON d.id = c.domain_id WHERE c.id % $1::int = 0
""",
)  # fmt: skip
CHANGES: Final = """
INSERT INTO total_changes (project_id, domain_id, archive, state, reason, n)
SELECT d.project_id, d.id, 'wayback',
       CASE n % 3 WHEN 0 THEN 'stored' WHEN 1 THEN 'request' ELSE 'pages' END,
       CASE n % 3 WHEN 1 THEN 'replay' ELSE '' END, 1
  FROM generate_series(1, $1::int) n
  JOIN domains d ON d.id = 1 + n % (SELECT count(*) FROM domains)
"""
NAIVE: Final = """
SELECT p.id, p.name, count(DISTINCT d.id) AS domains, count(DISTINCT c.id) AS captures,
       count(DISTINCT g.id) AS pages
  FROM projects p
  LEFT JOIN domains d ON d.project_id = p.id
  LEFT JOIN captures c ON c.domain_id = d.id
  LEFT JOIN pages g ON g.domain_id = d.id AND g.url_id = c.url_id
 GROUP BY p.id ORDER BY p.name
"""
PART: Final = 200_000


@dataclass(frozen=True, slots=True)
class Size:
    projects: int
    domains: int
    captures: int
    times: int
    naive: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds: PostgreSQL's own, of the round trip, and of the call."""

    inside: tuple[float, ...]
    trips: tuple[float, ...]
    calls: tuple[float, ...]


async def seed(connection: asyncpg.Connection, size: Size) -> None:
    """Everything but the changes that are not folded yet."""
    projects, domains, runs, counters, captures, pages = SEED
    await connection.execute(projects, size.projects)
    await connection.execute(domains, size.projects, size.domains)
    await connection.execute(runs, RUNS_A_DOMAIN)
    await connection.execute(counters)
    for first in range(0, size.captures, PART):
        last = min(first + PART, size.captures) - 1
        await connection.execute(captures, size.domains * RUNS_A_DOMAIN, first, last)
    await connection.execute(pages, CAPTURES_A_PAGE)
    await connection.execute("SELECT fold_totals(2147483647)")
    await connection.execute("VACUUM ANALYZE")


async def explained(connection: asyncpg.Connection, statement: str, *arguments: object) -> float:
    """The execution time that the server tells, in milliseconds."""
    plan = await connection.fetchval(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *arguments
    )
    return float(orjson.loads(plan)[0]["Execution Time"])


async def ours(connection: asyncpg.Connection, record: Database, times: int) -> Measured:
    statement, stats = statements("project_stats")["by_name"], ProjectStats(record)
    inside, trips, calls = [], [], []
    for _ in range(times):
        inside.append(await explained(connection, statement, *EVERYTHING))
        began = time.perf_counter()
        await connection.fetch(statement, *EVERYTHING)
        trips.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        await stats.projects(ADMIN, Wanted(limit=1000))
        calls.append((time.perf_counter() - began) * 1000)
    return Measured(tuple(inside), tuple(trips), tuple(calls))


def figures(label: str, measured: Measured) -> list[Figure]:
    return [
        Figure(f"{label}: in the database, median", statistics.median(measured.inside), "ms",
               IN_DATABASE),
        Figure(f"{label}: in the database, p99", p99(measured.inside), "ms", IN_DATABASE),
        Figure(f"{label}: round trip, median", statistics.median(measured.trips), "ms"),
        Figure(f"{label}: round trip, p99", p99(measured.trips), "ms"),
        Figure(f"{label}: the call, median", statistics.median(measured.calls), "ms"),
    ]  # fmt: skip


def p99(values: tuple[float, ...]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


async def told_the_same(connection: asyncpg.Connection, record: Database) -> Figure:
    """Projects whose totals are not what the naive query counts."""
    counted = {row["id"]: (row["domains"], row["captures"], row["pages"])
               for row in await connection.fetch(NAIVE)}  # fmt: skip
    listed = await ProjectStats(record).projects(ADMIN, Wanted(limit=1000))
    told = {each.head.id: (each.numbers.domains, each.numbers.captures, each.numbers.pages)
            for each in listed}  # fmt: skip
    wrong = sum(told.get(number) != seen for number, seen in counted.items())
    return Figure("projects told otherwise", wrong, "projects", Target(0, at_least=False))


async def measure(server: Postgres, size: Size) -> Report:
    """Seeded anew, in a database of its own."""
    url = await server.fresh("statistics")
    record = Database(url, pool_size=1)
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    try:
        await seed(connection, size)
        wrong = await told_the_same(connection, record)
        naive: list[float] = []
        parts: list[Measured] = []
        for _ in range(size.naive):
            naive.append(await explained(connection, NAIVE))
            parts.append(await ours(connection, record, size.times // size.naive))
        folded = Measured(
            tuple(each for part in parts for each in part.inside),
            tuple(each for part in parts for each in part.trips),
            tuple(each for part in parts for each in part.calls),
        )
        await connection.execute(CHANGES, UNFOLDED)
        waiting = await ours(connection, record, size.times)
    finally:
        await connection.close()
        await record.aclose()
    slow, fast = statistics.median(naive), statistics.median(folded.inside)
    found = [
        Figure("naive : ours, in the database", slow / fast, "x", FASTER), wrong,
        median("naive: in the database", naive, "ms"), *figures("ours", folded),
        *figures(f"ours, {UNFOLDED:,} changes not folded", waiting),
    ]  # fmt: skip
    title = (
        f"Projects with what they hold: {size.projects:,} projects, {size.domains:,} domains,"
        f" {size.captures:,} captures"
    )
    return Report(title, found, REAL, versions(postgresql=server.version))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=100)
    parser.add_argument("--domains", type=int, default=2_000)
    parser.add_argument("--captures", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=300, help="the list is asked for")
    parser.add_argument("--naive", type=int, default=3, help="times the rows are counted")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = Size(options.projects, options.domains, options.captures, options.times, options.naive)
    with scratch() as folder, postgres(folder) as server:
        report = asyncio.run(measure(server, size))
    show(report, json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
