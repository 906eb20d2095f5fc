"""Bring the record to this version's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import alembic.command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import text

from chrono_ray.model.errors import SettingsError
from chrono_ray.model.priority import QueueClass, patterns
from chrono_ray.storage.database import Database

FOLDER: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x6368726F6E6F
"""Advisory lock: two starters migrate one after the other."""
OLDEST_SERVER: Final = 150_000


async def migrate(database: Database) -> str:
    """Run what is missing, in one transaction; returns the schema's revision.

    Safe to run from many processes at once. Raises `SettingsError` when the
    server is older than PostgreSQL 15 or the schema is newer than this program.
    """
    async with database.engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        version = (await connection.execute(text("SHOW server_version_num"))).scalar_one()
        if int(version) < OLDEST_SERVER:
            raise SettingsError(
                "PostgreSQL is too old", why=f"version {version}", fix="Use PostgreSQL 15 or newer"
            )
        return await connection.run_sync(_upgrade)


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
