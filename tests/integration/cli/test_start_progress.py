"""What `chrono up` hears while it waits: each part that begins, and a migration that goes on."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import orjson
import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray.cli import owner
from chrono_ray.cluster.owner import RECORD, STARTS
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import LOCK, MIGRATING, newest, revision
from tests.conftest import PostgresServer
from tests.integration.storage.making import until

OWNER = (
    "from chrono_ray.storage import migrate; migrate.TELL_SECONDS = 0.1;"
    "from chrono_ray.cluster.owner import main; main()"
)


class Begins(Exception):
    """Ray is next: the record was brought to its schema."""


def test_each_part_is_told_once_when_its_line_is_whole(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / owner.LOG_FILE).write_bytes(orjson.dumps({"event": STARTS, "part": "old"}) + b"\n")
    ray = orjson.dumps({"event": STARTS, "part": "Ray"})
    with (
        owner._listening(tmp_path, told.append) as heard,
        heard.log.open("ab", buffering=0) as says,
    ):
        says.write(b"a server's own words\n[1]\n" + orjson.dumps({"event": "other"}) + b"\n")
        says.write(ray[:9])
        assert not heard.migrating()
        assert told == []
        says.write(ray[9:] + b"\n")
        assert not heard.migrating()
        says.write(orjson.dumps({"event": MIGRATING, "seconds": 15}) + b"\n")
        assert heard.migrating()
        assert not heard.migrating()
        assert heard.last_words().startswith('{"event":"record.migrating"')
    assert told == ["Starting Ray ...", "The record is being migrated, for 15 s now ..."]


def test_a_migration_by_itself_is_named_only_where_one_was_at_work(tmp_path: Path) -> None:
    """A record that is marked refuses it as well."""
    events = ({"event": STARTS, "part": RECORD}, {"event": MIGRATING, "seconds": 15})
    with (
        owner._listening(tmp_path, lambda _line: None) as heard,
        heard.log.open("ab", buffering=0) as says,
    ):
        named = []
        for event in (*events, {"event": STARTS, "part": "Ray"}):
            says.write(orjson.dumps(event) + b"\n")
            named.append("chrono migrate" in owner._not_started(heard, "it ended").fix)
    assert named == [False, True, False]


async def test_whoever_waits_for_a_start_waits_as_long_as_a_migration_goes_on(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it has to wait for another one, and says so as it tells of its own."""
    async with postgres_server.fresh(template="template0") as url:
        chosen, record = _chosen(url, tmp_path), Database(url, pool_size=1)
        with owner._listening(tmp_path, _until_ray) as heard, _starting(chosen, heard) as process:
            async with record.transaction() as another:
                await another.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
                await until(partial(_migrates, heard), seconds=60)
                monkeypatch.setattr(owner, "START_SECONDS", 1.5)
                monkeypatch.setattr(owner, "STOP_SECONDS", 0.0)
                settings = chrono_settings.load(chosen)
                ready = asyncio.to_thread(
                    owner._wait_until_ready, settings, process, heard, api=True
                )
                with (tmp_path / "start.lock").open("w") as ours:
                    fcntl.flock(ours, fcntl.LOCK_EX)
                    waits = [asyncio.ensure_future(ready), asyncio.create_task(_second(tmp_path))]
                    done, _ = await asyncio.wait(waits, timeout=2.5)
                    assert not done
            with pytest.raises(Begins):
                await waits[0]
            await waits[1]
            assert heard.part == "Ray"
        assert await revision(record) == newest()
        await record.aclose()


def test_a_start_that_is_interrupted_returns_when_its_owner_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes the folder next would remove it under a server that still writes there."""
    ended = tmp_path / "ended"
    monkeypatch.setattr(owner, "PROGRAM", ("-c", f"""
import pathlib, signal, sys, time
def end(*_):
    time.sleep(0.3)
    pathlib.Path({str(ended)!r}).touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print('{{"event": "{STARTS}", "part": "Ray"}}', flush=True)
time.sleep(60)
"""))  # fmt: skip

    def interrupt(line: str) -> None:
        if line.startswith("Starting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        owner._start(
            chrono_settings.load({"CHRONO_DATA_DIR": str(tmp_path)}), api=True, tell=interrupt
        )
    assert ended.exists()


def _chosen(url: str, folder: Path) -> dict[str, str]:
    """Everything elsewhere, so that no server is started; hardly anything is logged."""
    return {
        "CHRONO_DATABASE_URL": url, "CHRONO_REDIS_URL": "redis://127.0.0.1:1/0",
        "CHRONO_RAY_ADDRESS": "127.0.0.1:1", "CHRONO_DATA_DIR": str(folder),
        "CHRONO_LOG_LEVEL": "error",
    }  # fmt: skip


@contextmanager
def _starting(chosen: dict[str, str], heard: owner.Listener) -> Iterator[subprocess.Popen[bytes]]:
    with heard.log.open("ab") as says:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER], env={**os.environ, **chosen}, stdout=says, stderr=says,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


async def _migrates(heard: owner.Listener) -> bool:
    return heard.migrating()


async def _second(folder: Path) -> None:
    def enter() -> None:
        with owner._one_at_a_time(folder):
            pass

    await asyncio.to_thread(enter)


def _until_ray(line: str) -> None:
    if line == "Starting Ray ...":
        raise Begins
