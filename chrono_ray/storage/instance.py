"""What every process of one instance knows, and nobody else."""

from __future__ import annotations

from chrono_ray.model.errors import SettingsError
from chrono_ray.storage.database import Database


async def secret(database: Database, name: str) -> bytes:
    """32 random bytes that the first migration that knew of them made."""
    value = await database.fetchval("SELECT value FROM instance_secrets WHERE name = $1", name)
    if value is None:
        raise SettingsError(
            f"The record has no secret {name!r}", fix="Restore instance_secrets from the backup"
        )
    return bytes(value)
