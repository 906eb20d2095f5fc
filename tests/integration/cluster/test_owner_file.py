"""Whether the owner that `owner.json` names is still there, whatever clock and pids do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import PIPE

import orjson
import psutil
import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray.cli import owner
from chrono_ray.cluster.birth import birth_of
from chrono_ray.cluster.owner import STATE_FILE, Running, address_of, archives_chosen, running
from chrono_ray.model.errors import EmbeddedError

LINUX = sys.platform.startswith("linux")
NAMED = "import pathlib; pathlib.Path('/proc/self/comm').write_text(') Z 1 (')"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Its name ends the name in /proc/PID/stat, and seems to begin the fields after it."""
    program = f"{NAMED if LINUX else ''}\nprint(flush=True)\ninput()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, start_new_session=True) as started:
        started.stdout.readline()
        yield started
        started.kill()


@pytest.fixture
def told(process: subprocess.Popen[bytes], tmp_path: Path) -> Running:
    birth = birth_of(process.pid)
    rest = dict.fromkeys(
        ("database_url", "redis_url", "ray_address", "dashboard", "token", "api", "api_error"), ""
    )
    found = Running(
        pid=process.pid, boot=birth.boot, born=birth.since, archives="", ephemeral=False, **rest
    )
    tell(tmp_path, found)
    return found


def test_it_lives_until_it_has_ended(process, told, tmp_path):
    assert running(tmp_path) == told
    process.kill()
    ended(process)
    assert running(tmp_path) is None, "a process that nobody has waited for is dead too"
    process.wait()
    assert running(tmp_path) is None


def test_an_owner_that_does_not_try_its_api_again_is_named_before_the_wait_is_over(
    told, tmp_path, monkeypatch
):
    monkeypatch.setattr(owner, "BEGIN_SECONDS", 0.1)
    monkeypatch.setattr(owner, "START_SECONDS", 1.5)
    settings = chrono_settings.load({"CHRONO_DATA_DIR": str(tmp_path)})
    found = replace(told, api_error="its port was taken", archives=archives_chosen(settings))
    tell(tmp_path, found)
    said: list[str] = []
    with pytest.raises(EmbeddedError, match="older version"):
        owner.ensure(settings, api=True, tell=said.append)
    assert said == [f"Nothing begins yet; {owner.OLDER}"]


def test_the_api_has_a_url_whatever_it_listens_on():
    for host, url in (("127.0.0.1", "http://127.0.0.1:8000"), ("::", "http://[::]:8000")):
        assert address_of(host, 8000) == url


def test_a_clock_that_was_set_kills_nobody(told, tmp_path, monkeypatch):
    if not LINUX:
        pytest.skip("the kernel notes the time of day there, once")
    booted = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted - 3600)
    assert running(tmp_path) == told


def test_a_later_process_of_its_pid_is_another(told, tmp_path):
    tell(tmp_path, replace(told, born=told.born - 0.01))
    assert running(tmp_path) is None
    tell(tmp_path, replace(told, boot="another boot"))
    assert running(tmp_path) is None


def test_a_file_that_is_none_names_nobody(tmp_path):
    assert running(tmp_path) is None
    for content in (b"", b"{", b"[]", b'{"pid": 1}'):
        (tmp_path / STATE_FILE).write_bytes(content)
        assert running(tmp_path) is None


def tell(folder: Path, found: Running) -> None:
    (folder / STATE_FILE).write_bytes(orjson.dumps(asdict(found)))


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has ended, and leave it unwaited for."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_who_starts_all_or_asks_who_runs_imports_no_ray():
    """Ray and Serve are a second of a core, and every command would pay it."""
    code = "import sys, chrono_ray.cluster.owner; print({'ray', 'fastapi'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, stdout=PIPE, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "set()"
