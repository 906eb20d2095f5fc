"""The session's throw-away servers: quick, and gone with the test run."""

from __future__ import annotations

import json
import subprocess
import sys

import asyncpg
import pytest
from conftest import ROOT
from redis.asyncio import Redis

from chrono_ray.embedded.process import runs
from tests.support.embedded import start_session_parts

KILLED_RUN = """
import json, sys, time
from pathlib import Path
from tests.support.embedded import start_session_parts
parts = start_session_parts(Path(sys.argv[1]), fsync=False)
print(json.dumps({"url": parts.database_url, "owner": parts.owner.pid}), flush=True)
sys.stdin.read()
"""


async def test_they_serve_and_stop(tmp_path):
    with start_session_parts(tmp_path, valkey=True, fsync=False) as parts:
        connection = await asyncpg.connect(parts.database_url)
        assert await connection.fetchval("SHOW fsync") == "off"
        await connection.close()
        async with Redis.from_url(parts.redis_url) as client:
            assert await client.ping()
    assert parts.owner.returncode == 0
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await asyncpg.connect(parts.database_url)


async def test_durability_is_only_given_up_when_asked(tmp_path):
    with start_session_parts(tmp_path) as parts:
        connection = await asyncpg.connect(parts.database_url)
        assert await connection.fetchval("SHOW fsync") == "on"
        await connection.close()
        assert parts.redis_url is None


async def test_a_killed_run_leaves_nothing(tmp_path, eventually):
    run = start_run(tmp_path)
    told = json.loads(run.stdout.readline())
    data = tmp_path / "embedded" / "postgres"
    postmaster = int((data / "postmaster.pid").read_text().splitlines()[0])
    run.kill()
    run.communicate()
    await eventually(lambda: not runs(postmaster) and not runs(told["owner"]), seconds=40)


def start_run(folder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
