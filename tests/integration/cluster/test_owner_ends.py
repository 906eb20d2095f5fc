"""An owner that starts no Ray: how it ends, and what it keeps and does meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from pathlib import Path

import orjson
import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray.cluster import owner as owning
from chrono_ray.cluster.head import _Noted, _put_away, _short_folder
from chrono_ray.cluster.owner import STATE_FILE, Owner
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.model.errors import EmbeddedError
from chrono_ray.storage import online
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import newest
from tests.integration.storage.making import until

STEP = "-- name: projects_once\nCREATE INDEX CONCURRENTLY projects_once ON projects (name)"
ELSEWHERE = {"CHRONO_REDIS_URL": "redis://127.0.0.1:1/0", "CHRONO_RAY_ADDRESS": "127.0.0.1:1"}


def owner(folder: Path, **chosen: str) -> Owner:
    return Owner(chrono_settings.load({"CHRONO_DATA_DIR": str(folder), **chosen}), api=False)


async def test_who_only_ends_what_was_left_starts_nothing(tmp_path: Path):
    """As `chrono down` does after a crash: the folder is free afterwards."""
    (tmp_path / STATE_FILE).write_text("a dead one's")
    async with asyncio.timeout(60):
        await owner(tmp_path).end_left_behind()
    assert names(tmp_path) == {"embedded", "owner.lock"}
    async with EmbeddedParts(tmp_path, postgres=False, valkey=False):
        pass


async def test_a_second_owner_of_a_folder_touches_nothing_of_the_first(tmp_path: Path):
    (tmp_path / STATE_FILE).write_text("the first one's")
    async with EmbeddedParts(tmp_path, postgres=False, valkey=False):
        with pytest.raises(EmbeddedError, match="in use"):
            await owner(tmp_path).run(asyncio.Event())
    assert (tmp_path / STATE_FILE).read_text() == "the first one's"
    assert not (tmp_path / "ray").exists()


async def test_logs_that_cannot_be_kept_keep_nothing_alive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """As where they come from another disk, and ours is full."""
    ray = tmp_path / "ray"
    short = _short_folder(ray)
    logs = short / "session_1" / "logs"
    logs.mkdir(parents=True)
    (short / "session_latest").symlink_to("session_1")
    ray.mkdir()
    (ray / "logs").write_text("no folder: nothing can be moved here")
    note = ray / "head.json"
    note.write_bytes(orjson.dumps(asdict(_Noted(999_999, "boot", 0.0, "127.0.0.1:1", "none"))))
    async with asyncio.timeout(60):
        await owner(tmp_path).end_left_behind()
    assert "ray.logs.lost" in caplog.messages
    assert not note.exists()
    assert not short.exists()
    async with EmbeddedParts(tmp_path, postgres=False, valkey=False):
        pass


def test_logs_that_are_kept_are_ours_alone(tmp_path: Path):
    session = tmp_path / "short" / "session_latest" / "logs"
    session.mkdir(parents=True)
    session.chmod(0o777)  # as Ray leaves it
    (session / "gcs.out").write_text("said")
    _put_away(tmp_path / "short", tmp_path / "logs")
    assert (tmp_path / "logs" / "gcs.out").read_text() == "said"
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "short").exists()


async def test_a_head_that_cannot_be_started_is_tried_again_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Nothing is left on a full disk: not even its log can be opened."""
    (tmp_path / "ray" / "head.log").mkdir(parents=True)
    keeper = owner(tmp_path)
    keeper._head._process = await asyncio.create_subprocess_exec("true")
    monkeypatch.setattr(owning, "HEAD_RESTARTS", 2)
    monkeypatch.setattr(owning, "HEAD_PAUSE", 0.01)
    monkeypatch.setattr(owning, "ROOM", 1 << 62)
    keeping = asyncio.create_task(keeper._keep_ray(asyncio.Event()))
    await until(partial(told, caplog, "ray.head.waits"))
    assert "ray.head.failed" not in caplog.messages
    monkeypatch.setattr(owning, "ROOM", 0)
    with pytest.raises(EmbeddedError, match="keeps dying"):
        await keeping
    assert caplog.messages.count("ray.head.failed") == 2


async def test_it_works_while_what_a_schema_leaves_is_done(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / f"{newest()}_online.sql").write_text(STEP)
    for each in (online.finish, online.finish_beside):
        monkeypatch.setitem(each.__kwdefaults__, "folder", tmp_path)
    keeper, stop = owner(tmp_path, **ELSEWHERE, CHRONO_DATABASE_URL=database.url), asyncio.Event()
    async with database.transaction() as old:  # no index is ready as long as it writes
        await old.execute("LOCK TABLE projects IN ROW EXCLUSIVE MODE")
        async with asyncio.timeout(20):
            await keeper._prepare_record()
        keeping = asyncio.create_task(keeper._keep(stop))
        await until(partial(has, database, "pg_locks WHERE NOT granted"))
    await until(partial(has, database, "schema_steps WHERE step = 'projects_once'"))
    assert not keeping.done()
    stop.set()
    async with asyncio.timeout(10):
        await keeping


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


async def told(caplog: pytest.LogCaptureFixture, event: str) -> bool:
    return event in caplog.messages


async def has(database: Database, rows: str) -> bool:
    return bool(await database.fetchval(f"SELECT EXISTS (SELECT FROM {rows})"))
