"""Bring the record to this version's schema."""

from __future__ import annotations

import asyncio
import logging
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
from sqlalchemy.ext.asyncio import AsyncConnection

from chrono_ray.model.errors import SettingsError, Unavailable
from chrono_ray.model.priority import QueueClass, patterns
from chrono_ray.storage.database import RECORD_AWAY, Database

FOLDER: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x6368726F6E6F
"""Advisory lock: two starters migrate one after the other."""
OLDEST_SERVER: Final = 150_000
TURN_SECONDS: Final = 0.1
TELL_SECONDS: Final = 15.0
SILENT_MOST: Final = 4
"""So often in a row the server may not say what becomes of a migration before it is given up."""
TABLE_SECONDS: Final = 10
"""Who waits for a table makes all others wait behind it."""

log = logging.getLogger(__name__)


async def migrate(database: Database) -> str:
    """Run what is missing, in one transaction; returns the schema's revision.

    A large record takes minutes. Safe to run from many processes at once:
    one does it, the others wait. Raises `SettingsError` when the server is
    older than PostgreSQL 15 or the schema is newer than this program, and
    `Unavailable` when the server is away or somebody uses a table for long.
    """
    async with database.begin_unhurried() as connection:
        await _have_turn(connection)
        version = (await connection.execute(text("SHOW server_version_num"))).scalar_one()
        if int(version) < OLDEST_SERVER:
            raise SettingsError(
                "PostgreSQL is too old", why=f"version {version}", fix="Use PostgreSQL 15 or newer"
            )
        await connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_SECONDS}s'"))
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        return await _watched(database, pid, asyncio.create_task(_run(connection)))


async def _have_turn(connection: AsyncConnection) -> None:
    """Wait for whoever migrates now, and say so from time to time."""
    began, told = time.monotonic(), -TELL_SECONDS
    lock = {"lock": LOCK}
    while not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock):
        waited = time.monotonic() - began
        if waited - told >= TELL_SECONDS:
            told = waited
            log.warning("record.migrated_by_another", extra={"waited": round(waited)})
        await asyncio.sleep(TURN_SECONDS)


async def _run(connection: AsyncConnection) -> str:
    try:
        return await connection.run_sync(_upgrade)
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable(
            "The record cannot be migrated now",
            why=f"another transaction has held a table for {TABLE_SECONDS} s",
            fix="Nothing was changed. Stop what works on the record, or try again later",
        ) from error


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
            log.info("record.migrating", extra={"seconds": round(time.monotonic() - began)})
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


def newest() -> str:
    """The revision this program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _upgrade(connection: SyncConnection) -> str:
    config = _config()
    script = ScriptDirectory.from_config(config)
    known = {each.revision for each in script.walk_revisions()}
    current = _current(connection)
    if current is not None and current not in known:
        raise SettingsError(
            "The record is newer than this program",
            why=f"its schema is {current}, this program knows {newest()}",
            fix="Upgrade chrono_ray",
        )
    if current != newest():
        log.info("record.migrate", extra={"before": current or "empty", "after": newest()})
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
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


def _current(connection: SyncConnection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config
