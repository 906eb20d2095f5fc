"""One whole cluster for the session, its API included, over the demo archive."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray.cluster.owner import Running, attached, cluster_environment
from chrono_ray.settings import Settings
from tests.support.accounts import admin_key
from tests.support.cluster import ROOT, Cluster, owned_cluster, until

ARCHIVE_SECONDS = 30.0
IN_THE_LONG_RUN = pytest.mark.skipif(
    not os.environ.get("CHRONO_TEST_FAULT_SEEDS"), reason="in the long run: make faults"
)
"""What takes long beside others that prove the most of it in every run."""
REPLAYS_PER_MINUTE = 1800
"""Slow enough to be caught in the middle of a run, fast enough to wait for its end."""


@dataclass(frozen=True, slots=True)
class Served:
    """`settings` know every URL; a process with `environment` finds Ray, the record and the API."""

    settings: Settings
    environment: Mapping[str, str]
    running: Running
    archive: str
    machine: Cluster
    key: str
    """An admin's API key."""

    @property
    def api(self) -> str:
        return f"{self.running.api}/api/v1"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Served]:
    """Everything `chrono up` starts, on a port of its own choice."""
    with _archive() as archive, owned_cluster(_chosen(archive), api=True) as machine:
        found = machine.running
        assert not found.api_error, found.api_error
        settings = attached(chrono_settings.load(machine.environment), found)
        environment = cluster_environment(found, machine.environment)
        key = asyncio.run(admin_key(found.database_url))
        yield Served(settings, environment, found, archive, machine, key)


def _chosen(archive: str) -> dict[str, str]:
    return {
        "CHRONO_SERVING__PORT": "0",
        "CHRONO_INDEXING__LEASE": "5",
        "CHRONO_ARCHIVES__WAYBACK__URL": archive,
        "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
        "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS_PER_MINUTE),
    }


@contextmanager
def _archive() -> Iterator[str]:
    """The demo archive as a process of its own; its URL."""
    with tempfile.TemporaryDirectory(prefix="chrono-archive-") as folder:
        ready = Path(folder) / "url"
        process = subprocess.Popen(
            [sys.executable, "-m", "chrono_ray.demo", "--ready-file", str(ready)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        try:
            yield until(lambda: _url(ready), ARCHIVE_SECONDS, "the demo archive listens")
        finally:
            process.terminate()
            process.wait(10)


def _url(ready: Path) -> str:
    return ready.read_text().strip() if ready.exists() else ""
