"""The lock, the notes and the ports of a data folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.embedded.account import Account, Reach, blocking_folder, reach
from chrono_ray.embedded.folder import (
    Credentials,
    OwnedFolder,
    load_credentials,
    running_parts,
    store_credentials,
)
from chrono_ray.embedded.ports import HIGHEST, LOWEST, free_port, is_free
from chrono_ray.embedded.process import ServerProcess
from chrono_ray.model.errors import EmbeddedError


async def test_the_folder_has_one_owner_at_a_time(tmp_path):
    first = await OwnedFolder.claim(tmp_path, mode=0o700)
    with pytest.raises(EmbeddedError, match=f"process {os.getpid()} owns"):
        await OwnedFolder.claim(tmp_path, mode=0o700)
    first.release()
    second = await OwnedFolder.claim(tmp_path, mode=0o700)
    second.release()


async def test_a_lock_of_a_process_that_is_gone_is_told_as_such(tmp_path):
    first = await OwnedFolder.claim(tmp_path, mode=0o700)
    (first.path / "owner.lock").write_text("999999999")
    with pytest.raises(EmbeddedError, match=r"process 999999999 is gone.*chrono doctor"):
        await OwnedFolder.claim(tmp_path, mode=0o700)
    first.release()


async def test_a_child_that_lives_on_does_not_keep_the_lock(tmp_path):
    first = await OwnedFolder.claim(tmp_path, mode=0o700)
    child = start(["/bin/cat"])
    first.release()
    second = await OwnedFolder.claim(tmp_path, mode=0o700)
    second.release()
    child.communicate()


async def test_a_deleted_folder_can_be_owned_anew(tmp_path):
    first = await OwnedFolder.claim(tmp_path / "data", mode=0o700)
    shutil.rmtree(tmp_path / "data")
    second = await OwnedFolder.claim(tmp_path / "data", mode=0o700)
    first.release()
    second.release()


async def test_what_is_published_is_private_and_withdrawn(tmp_path):
    owned = await OwnedFolder.claim(tmp_path, mode=0o700)
    owned.publish("postgresql://chrono:secret@127.0.0.1:1/chrono", None)
    running = running_parts(tmp_path)
    assert running is not None
    assert (running.owner, running.redis_url) == (os.getpid(), None)
    assert (owned.path / "running.json").stat().st_mode & 0o777 == 0o600
    assert owned.path.stat().st_mode & 0o777 == 0o700
    owned.release()
    assert running_parts(tmp_path) is None
    assert not (owned.path / "running.json").exists()


async def test_what_a_dead_owner_published_is_not_believed(tmp_path):
    owned = await OwnedFolder.claim(tmp_path, mode=0o700)
    owned.publish("postgresql://chrono:secret@127.0.0.1:1/chrono", None)
    text = (owned.path / "running.json").read_text()
    owned.release()
    (owned.path / "running.json").write_text(text)
    assert running_parts(tmp_path) is None


async def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match="cannot be used"):
        await OwnedFolder.claim(tmp_path / "file", mode=0o700)


def test_credentials_come_back_as_stored(tmp_path):
    path = tmp_path / "postgres.json"
    assert load_credentials(path) is None
    store_credentials(path, Credentials("secret", 5432))
    assert load_credentials(path) == Credentials("secret", 5432)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["postgres.json"]


@settings(database=None, deadline=None)
@given(st.binary() | st.from_regex(r'\{"password": .{0,9}, "port": .{0,9}\}').map(str.encode))
def test_damaged_credentials_are_an_error_of_ours(tmp_path_factory, damage):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(damage)
    try:
        read = load_credentials(path)
    except EmbeddedError:
        return
    assert isinstance(read, Credentials)


def test_a_port_is_remembered_unless_somebody_listens_there():
    port = free_port()
    assert LOWEST <= port < HIGHEST
    assert free_port(port) == port
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert not is_free(port)
        assert free_port(port) != port


def test_below_a_closed_folder_a_server_inherits_its_data_folder(open_dir):
    stranger = Account(os.geteuid() + 1, os.getegid() + 1, switch=True)
    closed = open_dir / "closed"
    data = closed / "data"
    data.mkdir(parents=True)
    assert blocking_folder(stranger, data) is None
    with reach(stranger, data) as reached:
        assert reached == Reach(str(data))
    closed.chmod(0o700)
    assert blocking_folder(stranger, data) == closed
    with reach(stranger, data) as reached:
        assert data.samefile(reached.name)
        assert reached.name == f"/proc/self/fd/{reached.inherited[0]}"
    closed.chmod(0o755)


def test_a_reused_pid_is_not_taken_for_the_server():
    child = start([sys.executable, "-c", "input()"])
    known = ServerProcess(child.pid)
    assert known.alive
    known._started = "another time"
    assert not known.alive
    child.communicate(b"\n")


async def test_a_zombie_is_dead():
    child = start(["/bin/true"])
    known = ServerProcess(child.pid)
    assert await known.wait_gone(10)
    child.communicate()


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, stdin=subprocess.PIPE)
