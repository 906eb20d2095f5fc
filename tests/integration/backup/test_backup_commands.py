"""`chrono backup`, `restore` and `prune` as they are typed: what they say, and their exit codes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from chrono_ray.cli import backup as command
from chrono_ray.cli.prune import Asked, prune_and_print
from chrono_ray.embedded.binaries import find_clients
from chrono_ray.model.errors import EmbeddedError, InvalidInput
from chrono_ray.pipeline.backup import PROGRAM
from chrono_ray.pipeline.backup_place import Kept, Place, name_at
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from tests.conftest import TEMPLATE, PostgresServer, run_apart
from tests.integration.pipeline.indexed import MAKE
from tests.integration.storage.making import until

TOKEN = """
INSERT INTO api_tokens (user_id, kind, hash, family, scopes, expires_at)
SELECT u.id, $1, sha256(convert_to($1 || $2::interval::text, 'UTF8')),
       CASE WHEN $1 <> 'key' THEN gen_random_uuid() END, ARRAY['read'], now() + $2::interval
  FROM users u
"""
TASK = """
INSERT INTO tasks (key, kind, class, arguments, state, finished_at)
VALUES ($1, $2, 0, jsonb_build_object('to', $3::text), $4, now() - $5::interval) RETURNING id
"""
OLD, NEW = timedelta(days=100), timedelta(days=80)


@pytest.fixture
def record(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Callable[[Database], Awaitable[None]]], None]]:
    """Does something to the record that commands in this process work on."""
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path / "data"))
    with fresh(postgres_server, TEMPLATE) as url:
        monkeypatch.setenv("CHRONO_DATABASE_URL", url)
        yield lambda work: run_apart(lambda: over(url, work))


def test_a_backup_is_made_read_and_restored_and_its_pages_are_found(
    record, postgres_server, tmp_path, monkeypatch, capsys
) -> None:
    async def fill(database: Database) -> None:
        blobs = Blobs(str(tmp_path / "data/payloads"))
        pages = [row["page_id"] for row in await database.fetch(MAKE, 7)]
        digests = await blobs.put([str(page).encode() for page in pages])
        rows = await database.fetch("SELECT id FROM payloads ORDER BY id")
        for row, digest in zip(rows, digests, strict=True):
            await database.fetch("UPDATE payloads SET sha256 = $2 WHERE id = $1", row["id"], digest)
        await add_user(database)
        await database.fetch(TOKEN, "access", timedelta(days=1))
        await database.fetch(TOKEN, "key", timedelta(days=1))

    record(fill)
    place = str(tmp_path / "backups")
    assert command.backup(place, Kept(1, 0), json=True) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["rows"]["pages"], made["blobs"], made["missing"]) == (7, 7, 0)
    settings = (Path(made["backup"]) / "settings.json").read_text()
    assert '"CHRONO_DATABASE_URL": "(set)"' in settings
    assert command.verify(place, json=False) == 0
    assert "It is whole." in capsys.readouterr().out
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path / "elsewhere"))
    with fresh(postgres_server, "template0") as url:
        monkeypatch.setenv("CHRONO_DATABASE_URL", url)
        assert command.restore(place, replace=False, paused=False, json=True) == 0
        restored = json.loads(capsys.readouterr().out)
        assert (restored["indexed"], restored["index"], restored["new"]) == (7, "done", 7)
        run_apart(lambda: over(url, only_the_key_is_left))


async def only_the_key_is_left(database: Database) -> None:
    assert [row["kind"] for row in await database.fetch("SELECT kind FROM api_tokens")] == ["key"]


def test_a_backup_without_bytes_that_the_record_names_is_partial(record, tmp_path, capsys) -> None:
    async def name(database: Database) -> None:
        digest = hashlib.sha256(b"never stored").digest()
        await database.fetch("INSERT INTO payloads (sha256, sha1, size) VALUES ($1, '', 1)", digest)

    record(name)
    place = str(tmp_path / "backups")
    assert command.backup(place, None, json=False) == 3
    assert "MISSING 1 blobs" in capsys.readouterr().out
    backup = Place(tmp_path / "backups").names()[-1]
    (tmp_path / "backups" / backup / "blobs.sha256").write_bytes(bytes(32))
    later = tmp_path / "backups" / name_at(datetime.now(UTC) + timedelta(days=400))
    shutil.copytree(tmp_path / "backups" / backup, later)
    assert command.backup(place, Kept(1, 0), json=True) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["removed"], told["ahead"]) == ([], [later.name])
    assert f"{later.name}/blobs.sha256 changed" in told["not_removed"]
    shutil.rmtree(later)
    assert command.backup(place, Kept(1, 0), json=True) == 3
    told = json.loads(capsys.readouterr().out)
    assert (len(told["removed"]), told["ahead"], told["not_removed"]) == (2, [], "")
    backup = Path(told["backup"]).name
    (tmp_path / "backups" / backup / "settings.json").write_text("{}")
    assert command.verify(place, json=False) == 1
    assert "DAMAGED settings.json" in capsys.readouterr().out


def test_a_backup_that_is_told_to_end_ends_and_leaves_nothing(
    record, postgres_server, tmp_path
) -> None:
    place = tmp_path / "backups"

    async def end_it(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute("LOCK TABLE samples")  # pg_dump waits for it
            command = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "from chrono_ray.cli.main import main; main()",
                "backup", str(place), stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            await until(partial(waits, database), seconds=30)
            command.terminate()
            _, said = await asyncio.wait_for(command.communicate(), 20)
            assert command.returncode == 130, said
            assert b"No backup was made" in said
            assert not await waits(database), "pg_dump went with it"

    record(end_it)
    assert Place(place).names() == []
    assert [each.name for each in place.glob(".*")] == []


async def waits(database: Database) -> bool:
    found = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        " AND wait_event_type = 'Lock'", PROGRAM,
    )  # fmt: skip
    return bool(found)


def test_programs_that_nobody_has_are_named_with_what_was_found() -> None:
    with pytest.raises(EmbeddedError, match="PostgreSQL 99 or newer") as refused:
        find_clients(99)
    assert "pg_dump (PostgreSQL)" in refused.value.why


def test_a_bucket_is_refused_as_a_place() -> None:
    with pytest.raises(InvalidInput, match="kept in a folder"):
        command.backup("s3://bucket", None, json=False)


def test_of_an_old_export_only_its_own_files_go_and_none_where_a_newer_one_stands(
    record, tmp_path, capsys
) -> None:
    root = tmp_path / "data/exports"
    made = ("monthly", OLD), ("/monthly/./", None), ("1", OLD), ("two", OLD), ("two", OLD)
    for name in ("monthly/pages/part", "1/manifest.json", "1/pages/part", "1/aaaa/part", "two/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("rows")

    async def ask(database: Database) -> None:
        for n, (to, ago) in enumerate(made):
            ended = ("done", ago) if ago else ("pending", None)
            task = await database.fetchval(TASK, f"{n}", "export", f"{root}/{to}", *ended)
            await database.fetch(
                "INSERT INTO export_parts (task_id, name, rows, bytes, sha256)"
                " VALUES ($1, 'pages/part', 1, 4, '')", task,
            )  # fmt: skip

    record(ask)
    assert prune_and_print(Asked(90, True, "", Kept(7, 4), False), json=True) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["kinds"]["exports"]["rows"] == 3
    assert "export 1 stays" in told.err
    left = {str(each.relative_to(root)) for each in root.rglob("*") if each.is_file()}
    assert left == {"monthly/pages/part", "1/aaaa/part", "two/x"}
    assert not (root / "1/pages").exists()


def test_what_is_old_is_told_first_and_goes_then(record, tmp_path, capsys) -> None:
    exports = tmp_path / "data/exports/1/a"
    exports.mkdir(parents=True)
    place = Place(tmp_path / "backups")

    async def age(database: Database) -> None:
        await add_user(database)
        for kind, lasts in (("access", -2), ("key", -100), ("key", -80), ("refresh", 5)):
            await database.fetch(TOKEN, kind, timedelta(days=lasts))
        for n, (kind, to, state, ago) in enumerate(
            (("purge", "", "done", OLD), ("purge", "", "done", NEW), ("purge", "", "pending", OLD),
             ("export", str(exports), "done", OLD), ("export", "/elsewhere", "failed", OLD))
        ):  # fmt: skip
            await database.fetch(TASK, f"old {n}", kind, to, state, ago)
        for state, ago in (("done", 300), ("failed", 200), ("done", 150)):
            await database.fetch(
                "INSERT INTO index_rebuilds (state, finished_at) VALUES ($1, now() - $2::interval)",
                state, timedelta(days=ago),
            )  # fmt: skip
        await database.fetch(
            "INSERT INTO payloads (sha256, sha1, size, stored_at)"
            " VALUES (sha256('a'), '', 700, now() - interval '3 days'), (sha256('b'), '', 1, now())"
        )

    record(age)
    assert command.backup(str(place.folder), None, json=True) == 3
    capsys.readouterr()
    for day in (1, 2):
        shutil.copytree(
            place.folder / place.names()[-1], place.folder / f"2026030{day}T000000.000Z"
        )
    asked = Asked(90, True, str(place.folder), Kept(2, 0), True)
    assert prune_and_print(asked, json=True) == 0
    told = json.loads(capsys.readouterr().out)
    counts = {name: each["rows"] for name, each in told["kinds"].items()}
    expected = {"tasks": 1, "logins": 1, "keys": 1, "rebuilds": 2, "exports": 2}
    assert counts == {**expected, "payloads": 1, "blobs": 0}
    assert told["kinds"]["payloads"]["bytes"] == 700
    assert exports.exists()
    assert len(place.names()) == 3, "nothing has gone yet"
    assert prune_and_print(replace(asked, dry_run=False), json=True) == 0
    gone = json.loads(capsys.readouterr().out)
    assert {name: each["rows"] for name, each in gone["kinds"].items()} == counts
    assert not exports.exists()
    assert len(place.names()) == 2
    assert prune_and_print(asked, json=True) == 0
    left = json.loads(capsys.readouterr().out)
    assert {each["rows"] for each in left["kinds"].values()} == {0}

    async def what_is_left(database: Database) -> None:
        states = await database.fetch("SELECT state FROM tasks WHERE key LIKE 'old%' ORDER BY key")
        assert [row["state"] for row in states] == ["done", "pending"]
        assert await database.fetchval("SELECT max(id) FROM index_rebuilds") == 3
        assert await database.fetchval("SELECT count(*) FROM api_tokens") == 2

    record(what_is_left)


async def add_user(database: Database) -> None:
    await database.fetch(
        "INSERT INTO users (email, password, state) VALUES ('a@b.example', '', 'active')"
    )


async def over(url: str, work: Callable[[Database], Awaitable[None]]) -> None:
    database = Database(url, pool_size=2, name="test")
    try:
        await work(database)
    finally:
        await database.aclose()


@contextmanager
def fresh(server: PostgresServer, template: str) -> Iterator[str]:
    """A database for commands that bring their own event loop."""
    name = f"commands_{next(server.numbers)}"
    run_apart(lambda: server.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield server.database(name)
    finally:
        run_apart(lambda: server.execute(f"DROP DATABASE {name} WITH (FORCE)"))
