"""One whole cluster for the session, its API included, over the demo archive."""

from __future__ import annotations

import asyncio
import os
import socket
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
from chrono_ray.embedded.ports import LOOPBACK, free_port
from chrono_ray.settings import Settings
from tests.support.accounts import admin_key
from tests.support.cluster import (
    ROOT,
    START_SECONDS,
    Cluster,
    Spoken,
    cluster_folder,
    until,
)

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
    ups: tuple[Spoken, Spoken]
    """What `chrono up` said: while somebody had the API's port, and then."""

    @property
    def api(self) -> str:
        return f"{self.running.api}/api/v1"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Served]:
    """Everything `chrono up` starts and `chrono down` ends. The port was taken at first."""
    with socket.create_server((LOOPBACK, free_port())) as port:
        chosen = {"CHRONO_SERVING__PORT": str(port.getsockname()[1])}
        with _archive() as archive, cluster_folder(chosen | _chosen(archive)) as machine:
            refused = machine.chrono("up", "--json", seconds=START_SECONDS)
            port.close()
            had = machine.chrono("up", "--json", seconds=START_SECONDS)
            assert had.code == 0, f"{refused}\n{had}\n{machine.log()}"
            yield _served(machine, archive, (refused, had))
            assert machine.down().json == {"state": "stopped"}


def _served(machine: Cluster, archive: str, ups: tuple[Spoken, Spoken]) -> Served:
    found = machine.running
    settings = attached(chrono_settings.load(machine.environment), found)
    environment = cluster_environment(found, machine.environment)
    key = asyncio.run(admin_key(found.database_url))
    return Served(settings, environment, found, archive, machine, key, ups)


def _chosen(archive: str) -> dict[str, str]:
    return {
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
