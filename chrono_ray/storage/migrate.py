"""Bring the record to this version's schema."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path
from typing import Final

import alembic.command
import asyncpg
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from chrono_ray.model.errors import SettingsError, Unavailable
from chrono_ray.model.priority import QueueClass, patterns
from chrono_ray.storage.database import RECORD_AWAY, Database
from chrono_ray.storage.online import finish, have_turn
from chrono_ray.storage.restoring import refuse_unfinished

FOLDER: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x6368726F6E6F
"""Advisory lock: two starters migrate one after the other."""
OLDEST_SERVER: Final = 150_000
TURN_SECONDS: Final = 0.1
TELL_SECONDS: Final = 15.0
SILENT_MOST: Final = 4
"""So often in a row the server may not say what becomes of a migration before it is given up."""
LOCK_MILLISECONDS: Final = 500
"""Who waits for a table makes all others wait behind it: better to step back and try again."""
TABLE_SECONDS: Final = 30.0
"""So long it is tried again."""
MIGRATING: Final = "record.migrating"
MIGRATED_BY_ANOTHER: Final = "record.migrated_by_another"
TABLE_IN_USE: Final = "record.table_in_use"
SIGNS: Final = frozenset({MIGRATING, MIGRATED_BY_ANOTHER, TABLE_IN_USE})
"""Events that show a migration at work, or in wait for its turn: one every `TELL_SECONDS`."""

log = logging.getLogger(__name__)


async def migrate(database: Database, *, restoring: bool = False) -> str:
    """Run all that is missing; returns the schema's revision.

    `migrate_schema`, then what it leaves to be done beside the work
    (storage/online.py), and it raises what these do.
    """
    revision = await migrate_schema(database, restoring=restoring)
    await finish(database, revision)
    return revision


async def migrate_schema(database: Database, *, restoring: bool = False) -> str:
    """What every program needs before it works on the record; returns the schema's revision.

    One transaction, which never waits for a table for longer than
    `LOCK_MILLISECONDS`; what takes long is left (`finish`). Safe to run from
    many processes at once: one does it, the others wait. A schema that is
    newer than this program is left alone where its promise is that this
    program works with it.

    Raises `SettingsError` when the server is older than PostgreSQL 15 or the
    schema too new for this program, `Conflict` for a record that is not whole
    since a restore (which itself says that it is `restoring`), and
    `Unavailable` when the server is away or somebody uses a table for long.
    """
    if not restoring:
        await refuse_unfinished(database)
    began = time.monotonic()
    while True:
        try:
            return await _migrate_once(database)
        except (asyncpg.LockNotAvailableError, DBAPIError) as error:
            if not _is_lock(error):
                raise
            if time.monotonic() - began > TABLE_SECONDS:
                raise _in_use() from error
            log.info(TABLE_IN_USE)
            await asyncio.sleep(random.uniform(0.5, 1.5) * TURN_SECONDS)  # noqa: S311


def _is_lock(error: asyncpg.LockNotAvailableError | DBAPIError) -> bool:
    """A script speaks with the driver, other statements through SQLAlchemy, which wraps it."""
    said = error.driver_exception if isinstance(error, DBAPIError) else error
    return isinstance(said, asyncpg.LockNotAvailableError)


def _in_use() -> Unavailable:
    return Unavailable(
        "The record cannot be migrated now",
        why=f"another transaction has held a table for {TABLE_SECONDS:g} s",
        fix="Nothing was changed. Stop what works on the record, or try again later",
    )


async def _migrate_once(database: Database) -> str:
    async with database.begin_unhurried() as connection:
        await _have_turn(connection)
        version = (await connection.execute(text("SHOW server_version_num"))).scalar_one()
        if int(version) < OLDEST_SERVER:
            raise SettingsError(
                "PostgreSQL is too old", why=f"version {version}", fix="Use PostgreSQL 15 or newer"
            )
        await connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}"))
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        running = asyncio.create_task(connection.run_sync(_upgrade))
        return await _watched(database, pid, running)


async def _have_turn(connection: AsyncConnection) -> None:
    """Wait for whoever migrates now, and say so from time to time."""
    lock = {"lock": LOCK}

    async def taken() -> bool:
        return bool(await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock))

    await have_turn(taken, MIGRATED_BY_ANOTHER, every=TELL_SECONDS)


async def _watched(database: Database, pid: int, running: asyncio.Task[str]) -> str:
    """The task's result; `Unavailable` when the server no longer says that it is at work."""
    began, silent = time.monotonic(), 0
    try:
        while not (await asyncio.wait({running}, timeout=TELL_SECONDS))[0]:
            silent = 0 if await _is_at_work(database, pid) else silent + 1
            if silent == SILENT_MOST:
                raise Unavailable(
                    "PostgreSQL does not answer", why="it was migrating the record",
                    fix="Nothing was changed; migrate again when it is back", code=RECORD_AWAY,
                )  # fmt: skip
            log.info(MIGRATING, extra={"seconds": round(time.monotonic() - began)})
        return running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _is_at_work(database: Database, pid: int) -> bool:
    try:
        async with asyncio.timeout(TELL_SECONDS):
            found = await database.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)
    except (Unavailable, TimeoutError):
        return False
    return found is not None


async def revision(database: Database) -> str:
    """The schema's revision now; empty where there is none."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(_current) or ""


async def fits(database: Database) -> bool:
    """Whether this program works with the schema as it is: its own, or one that promises so.

    Raises `Conflict` for a record that is not whole since a restore.
    """
    await refuse_unfinished(database)
    async with database.engine.connect() as connection:
        return await connection.run_sync(_fits)


def newest() -> str:
    """The revision this program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def known_revisions() -> frozenset[str]:
    """Every revision up to this program's."""
    script = ScriptDirectory.from_config(_config())
    return frozenset(each.revision for each in script.walk_revisions())


def _fits(connection: SyncConnection) -> bool:
    now = _current(connection)
    return now == newest() or (now is not None and _is_newer(connection, now))


def _is_newer(connection: SyncConnection, now: str) -> bool:
    """True for a newer schema with which this program works; too new a one: `SettingsError`."""
    known = known_revisions()
    if now in known:
        return False
    if connection.scalar(text("SELECT to_regclass('schema_promise')")) is not None:
        promised = connection.scalar(text("SELECT works_with FROM schema_promise"))
        if promised in known:
            return True
    raise SettingsError(
        "The record is newer than this program",
        why=f"its schema is {now}, this program knows {newest()}", fix="Upgrade chrono_ray",
    )  # fmt: skip


def _upgrade(connection: SyncConnection) -> str:
    current = _current(connection)
    if current is not None and _is_newer(connection, current):
        log.info("record.newer", extra={"schema": current, "program": newest()})
        return current
    config = _config()
    if current != newest():
        log.info("record.migrate", extra={"before": current or "empty", "after": newest()})
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
    _promise(connection)
    number = {name: bit for bit, name in enumerate(QueueClass)}
    for mask, pattern in patterns().items():
        connection.execute(
            text(
                "INSERT INTO class_pattern (mask, pattern) VALUES (:mask, :pattern)"
                " ON CONFLICT (mask) DO UPDATE SET pattern = excluded.pattern"
                " WHERE class_pattern.pattern <> excluded.pattern"
            ),
            {"mask": mask, "pattern": [number[name] for name in pattern]},
        )
    return newest()


def works_with() -> str:
    """The oldest revision whose program works with this schema (`works_with` of the revisions)."""
    script = ScriptDirectory.from_config(_config())
    modules = (each.module for each in script.walk_revisions())
    return max(str(getattr(module, "works_with", "")) for module in modules)


def _promise(connection: SyncConnection) -> None:
    connection.execute(
        text(
            "INSERT INTO schema_promise (works_with) VALUES (:oldest)"
            " ON CONFLICT (one) DO UPDATE SET works_with = excluded.works_with"
            " WHERE schema_promise.works_with <> excluded.works_with"
        ),
        {"oldest": works_with()},
    )


def _current(connection: SyncConnection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config
