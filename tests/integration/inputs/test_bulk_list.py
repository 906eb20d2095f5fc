"""A list with bad lines, through the bulk job: each is reported by number, the good ones run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chrono_ray.storage.database import Database

ROOT = Path(__file__).resolve().parents[3]
HALF_BAD = (
    b"\xef\xbb\xbfhttp://one.example/\r\n"
    b"127.1\r\n"
    b"# a comment\r\n"
    b"two.example host 2002 2003\r\n"
    b"http://u:pw@three.example/\r\n"
    b"\xff\xfe\r\n"
    b"four.example exact 2005 2001\r\n"
    b"three.example\r\n"
    b"one.example/\r\n"
    b"five.example domain 20231301\n"
)


@asynccontextmanager
async def bulk_job(
    folder: Path, database_url: str, *typed: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    base = {k: v for k, v in os.environ.items() if not k.startswith(("CHRONO_", "RAY_"))}
    ours = {
        "PYTHONPATH": str(ROOT),
        "CHRONO_DATA_DIR": str(folder / "data"),
        "CHRONO_DATABASE_URL": database_url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "jobs" / "bulk_scrape.py"), *typed, cwd=folder,
        env={**base, **ours}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_input_75_good_lines_run_and_bad_ones_are_reported(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    path = tmp_path / "sites.txt"
    path.write_bytes(HALF_BAD)
    async with bulk_job(tmp_path, database_url, "--list", str(path), "--from", "2001") as job:
        async with asyncio.timeout(30):
            while await database.fetchval("SELECT count(*) FROM runs") < 3:
                assert job.returncode is None, await job.communicate()
                await asyncio.sleep(0.05)
            job.send_signal(signal.SIGTERM)
            out, err = (part.decode() for part in await job.communicate())
    assert job.returncode == 130, err
    assert out == ""
    told = [line.split(": ")[:2] for line in err.splitlines() if line.startswith("line ")]
    assert told == [
        ["line 2", "url_host"],
        ["line 5", "url_userinfo"],
        ["line 6", "encoding"],
        ["line 7", "date_range"],
        ["line 10", "timestamp"],
    ]
    rows = await database.fetch(
        "SELECT d.url, d.match, r.start_ts, r.end_ts, r.state"
        "  FROM runs r JOIN domains d ON d.id = r.domain_id ORDER BY r.id"
    )
    assert [tuple(row) for row in rows] == [
        ("http://one.example/", "domain", "20010101000000", "", "paused"),
        ("http://two.example/", "host", "20020101000000", "20031231235959", "paused"),
        ("http://three.example/", "domain", "20010101000000", "", "paused"),
    ]


async def test_input_75_a_list_without_a_good_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sites.txt"
    path.write_bytes(b"127.1\r\n\xff\xfe\n")
    nowhere = "postgresql://nobody@127.0.0.1:9/none"
    async with bulk_job(tmp_path, nowhere, "--list", str(path)) as job, asyncio.timeout(30):
        out, err = (part.decode() for part in await job.communicate())
    assert (job.returncode, out) == (2, "")
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "line 1", "line 2", "bulk_scrape"
    ]  # fmt: skip
    assert "nothing to collect" in err
