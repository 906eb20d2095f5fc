"""Locust drives an API that serves, with accounts and projects that go again."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import load
from chrono_ray.perf.instance import Here
from tests.conftest import PostgresServer
from tests.integration.api.served import served_in


async def test_users_of_locust_look_at_what_there_is(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    with served_in(tmp_path, postgres_server, "load") as served:
        here = Here(served.url, served.database_url, os.getpid(), scratch=False)
        found = {
            each.name: each.value
            for each in await load.measure(here, tmp_path, users=10, seconds=6)
        }
    assert found["errors"] == 0
    assert found["requests"] >= 10
    assert {"list, p95", "statistics, p95"} <= found.keys()
    assert 0 < found["answered by the cache"] <= 100
