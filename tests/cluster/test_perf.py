"""`chrono perf` against what `chrono up` started: one JSON object, a page, nothing left."""

from __future__ import annotations

from pathlib import Path

import pytest

from chrono_ray.perf.catalogue import ROWS
from tests.cluster.conftest import IN_THE_LONG_RUN, Served

pytestmark = pytest.mark.timeout(300)
MINE = "SELECT count(*) FROM users WHERE email LIKE '%@performance.invalid'"
LEFT = "chrono_performance_1000000_ab"
"""By one that was killed, long ago."""
DATABASES = "SELECT count(*) FROM pg_database WHERE datname LIKE 'chrono_performance_%'"


@IN_THE_LONG_RUN
def test_a_running_instance_is_measured_by_its_command(cluster: Served, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    cluster.machine.fetch(f"CREATE DATABASE {LEFT}")
    only = [part for name in ("api", "claim", "memory") for part in ("--only", name)]
    said = cluster.machine.chrono(
        "perf", *only, "--seconds", "1", "--json", "--html", str(page), seconds=200
    )
    told = said.json
    assert [each["name"] for each in told["figures"]] == [row.name for row in ROWS]
    found = {each["name"]: each for each in told["figures"]}
    for name in ("api.list.cold", "api.statistics.cached", "claim.p99", "memory.api"):
        assert found[name]["value"] > 0, found[name]["why"]
    assert found["users.p95"]["verdict"] == "not_measured"
    missed = [each for each in told["figures"] if each["verdict"] == "missed"]
    assert said.code == (3 if missed else 0), said.err
    assert told["verdict"] == ("missed" if missed else "met")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert cluster.machine.value(MINE) == 0
    assert cluster.machine.value(DATABASES) == 0
