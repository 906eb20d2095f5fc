"""One real cluster for the whole session: owner, PostgreSQL, Valkey, Ray, Serve, demo archive."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray.cluster.owner import Running, attached, cluster_environment, running
from chrono_ray.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
STOP_SECONDS = 60.0
REPLAYS_PER_MINUTE = 1800
"""Slow enough to be caught in the middle of a run, fast enough to wait for its end."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`settings` know every URL; a process with `environment` finds Ray, the record and the API."""

    settings: Settings
    environment: Mapping[str, str]
    running: Running
    archive: str

    @property
    def api(self) -> str:
        return f"{self.running.api}/api/v1"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Everything `chrono up` starts, in a folder of its own, over the demo archive."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-cluster-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with _archive(folder) as archive:
            environment = _environment(folder / "data", archive)
            with _owner(folder, environment) as found:
                settings = attached(chrono_settings.load(environment), found)
                yield Cluster(settings, cluster_environment(found, environment), found, archive)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(data: Path, archive: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CHRONO_", "RAY_"))}
    return {
        **clean,
        "CHRONO_DATA_DIR": str(data),
        "CHRONO_SERVING__PORT": "0",
        "CHRONO_ARCHIVES__WAYBACK__URL": archive,
        "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
        "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS_PER_MINUTE),
    }


@contextmanager
def _archive(folder: Path) -> Iterator[str]:
    ready = folder / "archive.url"
    process = subprocess.Popen(
        [sys.executable, "-m", "chrono_ray.demo", "--ready-file", str(ready)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    try:
        _until(lambda: ready.exists() and ready.read_text().strip() != "", process, 30.0)
        yield ready.read_text().strip()
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _owner(folder: Path, environment: dict[str, str]) -> Iterator[Running]:
    data = folder / "data"
    log = folder / "owner.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "chrono_ray.cluster.owner"], stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, env=environment, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
    try:
        _until(lambda: _ready(data), process, START_SECONDS, log)
        found = running(data)
        assert found is not None
        assert not found.api_error, found.api_error
        yield found
    finally:
        _end(process)


def _ready(data: Path) -> bool:
    found = running(data)
    return found is not None and bool(found.api or found.api_error)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _until(
    condition: Callable[[], bool],
    process: subprocess.Popen[bytes],
    seconds: float,
    log: Path | None = None,
) -> None:
    """Wait for a condition while the process lives; else fail with its last words."""
    ends = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > ends:
            words = log.read_text("utf-8", "replace")[-3000:] if log else ""
            pytest.fail(f"{process.args} is not ready after {seconds} s: {words}")
        time.sleep(0.05)
