"""`python -m chrono_ray.demo`: starts, says where it is, and ends when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEADLINE = 20.0


def wait_for(ready: Path) -> str:
    end = time.monotonic() + DEADLINE
    while not ready.exists():
        assert time.monotonic() < end, "the archive did not get ready"
        time.sleep(0.02)
    return ready.read_text()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal(tmp_path: Path, number: signal.Signals):
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "chrono_ray.demo", "--captures", "20", "--ready-file", ready]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = wait_for(ready)
            assert process.stdout is not None
            assert process.stdout.readline().strip() == url
            process.send_signal(number)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


def test_it_ends_when_its_parent_dies(tmp_path: Path):
    ready, pid_file = tmp_path / "ready", tmp_path / "pid"
    parent = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-m', 'chrono_ray.demo', '--captures', '20',"
        f" '--ready-file', {str(ready)!r}])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        try:
            wait_for(ready)
            child = int(pid_file.read_text())
            assert alive(child)
        finally:
            process.kill()
    end = time.monotonic() + DEADLINE
    while alive(child):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the archive outlived its parent")
        time.sleep(0.05)


def test_importing_the_demo_stays_light():
    code = (
        "import sys, chrono_ray.demo\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('aiohttp', 'ray', 'trafilatura', 'sqlalchemy', 'orjson')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
