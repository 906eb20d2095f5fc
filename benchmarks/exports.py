"""A project's rows streamed over HTTP: how fast, and how much memory whoever serves them takes.

    python -m benchmarks.exports [--rows 1000000] [--json]

The API is a process of its own under bare uvicorn, over a throw-away
PostgreSQL. Every stream is read to its end, each line of JSONL counted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import httpx2
import psutil

from benchmarks.beside import beside, serve
from benchmarks.record import Postgres, postgres, scratch, subfolder
from benchmarks.report import Figure, Report, show, versions
from benchmarks.usage import MIB
from chrono_ray import settings as chrono_settings
from chrono_ray.api.app import create_app
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.perf.catalogue import Target
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects
from tests.support.accounts import admin_key, bearer

DOCUMENTS: Final = 1_000
SAMPLED: Final = 0.05
WARM: Final = 0.2
"""Memory at this part of a stream is what its end is compared with."""
RISE_GOAL: Final = Target(20, at_least=False)
REAL: Final = (
    "Real: rows and texts in PostgreSQL, rights, uvicorn, loopback. Pages share 1,000 documents of",
    "2.1 KB. Not there: the cache, TLS, distance. Reader, server and PostgreSQL share the cores.",
)
FORMS: Final = {"JSONL": "jsonl", "CSV": "csv", "JSONL with texts": "jsonl?text=true"}
DOCUMENTS_SQL: Final = """
WITH y AS (
    INSERT INTO payloads (sha256, sha1, size)
    SELECT sha256(n::text::bytea), md5(n::text), 9000 FROM generate_series(1, $1::int) n
    RETURNING id
)
INSERT INTO documents (payload_id, extractor, charset, media_type, title, text, author, language,
                       words, description, canonical, links, flags, replaced)
SELECT id, 'benchmark/1', 'utf-8', 'text/html', 'A page about matters no. ' || id,
       repeat('some words of a text ', 100), '', 'en', 500, '', '', '[]', '{}', 0 FROM y
"""
PAGES_SQL: Final = """
INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id,
                   first_seen, last_seen, captures)
SELECT d.project_id, d.id, sha256(n::text::bytea), 'example,a)/' || n, 'http://a.example/' || n,
       t.payload_id, t.id, '2001-01-01Z'::timestamptz + n * interval '1 minute',
       '2012-01-01Z', 1
  FROM generate_series(1, $1::int) n JOIN domains d ON true
  JOIN (SELECT row_number() OVER (ORDER BY id) AS place, id, payload_id FROM documents) t
    ON t.place = 1 + n % $2
"""


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Streamed:
    """Bytes and lines that came, in so many seconds; memory of the server in MiB."""

    size: int
    lines: int
    seconds: float
    warm: float
    most: float


async def seed(url: str, rows: int) -> int:
    """The project's id."""
    record = Database(url, pool_size=1)
    scope = Scope("http://a.example/", MatchType.DOMAIN)
    await Projects(record).domain(scope, project="exported")
    await record.aclose()
    connection = await asyncpg.connect(url)
    await connection.execute(DOCUMENTS_SQL, DOCUMENTS)
    await connection.execute(PAGES_SQL, rows, DOCUMENTS)
    await connection.execute("ANALYZE")
    found = await connection.fetchval("SELECT id FROM projects")
    await connection.close()
    return int(found)


async def stream(served: Served, path: str, key: str) -> Streamed:
    """All of one, read as fast as it comes."""
    memory: list[float] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            memory.append(served.process.memory_info().rss / MIB)
            await asyncio.sleep(SAMPLED)

    watching, began, size, lines = asyncio.create_task(watch()), time.perf_counter(), 0, 0
    async with (
        httpx2.AsyncClient(headers=bearer(key), timeout=60) as http,
        http.stream("GET", f"{served.url}{path}") as answer,
    ):
        answer.raise_for_status()
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
            lines += chunk.count(b"\n")
    seconds = time.perf_counter() - began
    done.set()
    await watching
    return Streamed(size, lines, seconds, memory[int(len(memory) * WARM)], max(memory))


async def measure(
    server: Postgres, folder: Path, *, rows: int, forms: Sequence[str] = tuple(FORMS)
) -> Report:
    url = await server.fresh("exports")
    project, key = await seed(url, rows), await admin_key(url)
    found: list[Figure] = []
    with beside("benchmarks.exports", url, subfolder(folder, "data")) as (address, pid):
        served = Served(address, psutil.Process(pid))
        for name in forms:
            path = f"/api/v1/projects/{project}/export.{FORMS[name]}"
            came = await stream(served, path, key)
            if came.lines != rows + 1:
                raise RuntimeError(f"{came.lines} lines of {rows} rows")
            found += [
                Figure(f"{name}: rows/s", rows / came.seconds, "rows/s"),
                Figure(f"{name}: size", came.size / MIB, "MiB"),
                Figure(f"{name}: memory, most", came.most, "MiB"),
                Figure(f"{name}: rise after a fifth", came.most - came.warm, "MiB", RISE_GOAL),
            ]
    return Report(f"{rows:,} rows streamed", found, REAL, versions(postgresql=server.version))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--form", action="append", choices=list(FORMS), help="only this one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.beside:
        asyncio.run(serve(create_app(chrono_settings.load())))
        return 0
    with scratch() as folder, postgres(folder) as server:
        report = asyncio.run(
            measure(server, folder, rows=options.rows, forms=options.form or tuple(FORMS))
        )
    show(report, json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
