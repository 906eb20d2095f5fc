"""Restore: the blobs of a backup, then its record, all of it or nothing.

What was leased when the backup was made is nobody's any more and done again.
The index is asked for anew: the one that is here belongs to another record.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from chrono_ray.embedded.binaries import find_clients
from chrono_ray.embedded.clients import Wanted
from chrono_ray.embedded.clients import restore as restore_dump
from chrono_ray.model.errors import Conflict
from chrono_ray.pipeline.backup import damaged_files
from chrono_ray.pipeline.backup_blobs import Copied, copy
from chrono_ray.pipeline.backup_place import DIGESTS, DUMP, Manifest, Place
from chrono_ray.storage.backups import Backups, major_of
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import known_revisions, migrate
from chrono_ray.storage.rebuilds import Rebuilds

PROGRAM: Final = "chrono restore pg_restore"
"""What the server knows pg_restore as."""
SHOWN: Final = 5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RestoreParts:
    """Where to. `name` is what the server knows our own connections as."""

    record: Database
    blobs: Blobs
    name: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What is there now. `rebuild` is the number of the fresh index that was asked for."""

    manifest: Manifest
    schema: str
    copied: Copied
    rebuild: int


async def restore(
    parts: RestoreParts, place: Place, name: str, tell: Tell, *, replace: bool, paused: bool = False
) -> Restored:
    """Bring a backup into an empty record; with `replace` what is there goes once it is in.

    With `paused` its runs and schedules wait: two records of one backup would
    both ask the archives.

    Raises `Conflict` for a record that is not empty or in use, and for a
    backup that is damaged, of a newer schema or of a newer PostgreSQL.
    """
    backups = Backups(parts.record)
    with place.reading():
        manifest = place.manifest(name)
        server = await _check_fits(backups, manifest)
        replaced = await _check_free(backups, parts.name, replace=replace)
        if bad := await damaged_files(place, name, manifest):
            raise Conflict(
                f"The backup {name} is damaged", why=f"{', '.join(bad)} changed since it was made",
                fix="Restore another one",
            )  # fmt: skip
        # bytes before the rows that name them, as always
        copied = await copy(place.blobs, parts.blobs, place.path(name, DIGESTS), tell)
        async with _in_place_of(backups, replaced):
            tell("record: is restored")
            await restore_dump(
                find_clients(max(server, manifest.client)),
                Wanted(parts.record.url, PROGRAM, backups.is_connected),
                source=place.path(name, DUMP), server=server,
            )  # fmt: skip
            schema = await migrate(parts.record)
            await backups.compress()
            await backups.make_void(paused=paused)
            rebuild = await Rebuilds(parts.record).request(f"restored from the backup {name}")
    return Restored(manifest, schema, copied, rebuild)


@asynccontextmanager
async def _in_place_of(backups: Backups, replaced: bool) -> AsyncIterator[None]:
    """What is there is put back when the block fails, and goes when it ends."""
    if not replaced:
        yield
        return
    await backups.set_aside()
    try:
        yield
    except BaseException:
        await backups.put_back()
        raise
    await backups.drop_aside()


async def _check_fits(backups: Backups, manifest: Manifest) -> int:
    """The server's major version, when it can hold this backup."""
    if manifest.schema not in known_revisions():
        raise Conflict(
            "The backup is newer than this program",
            why=f"its schema is {manifest.schema}, made by chrono_ray {manifest.version}",
            fix="Upgrade chrono_ray",
        )
    server = await backups.server()
    if server < major_of(manifest.server):
        raise Conflict(
            "The backup is of a newer PostgreSQL",
            why=f"it was made from {manifest.server}, this one is {server}",
            fix=f"Restore into PostgreSQL {major_of(manifest.server)} or newer",
        )
    return server


async def _check_free(backups: Backups, ours: str, *, replace: bool) -> bool:
    """Whether there is something to replace, which must be wanted; and nobody may be at work."""
    if others := await backups.at_work(ours):
        raise Conflict(
            "chrono_ray works on this record", why=", ".join(others[:SHOWN]),
            fix="Stop it first: chrono down",
        )  # fmt: skip
    if await backups.is_empty():
        return False
    if not replace:
        raise Conflict(
            "There is a record already", why="a restore would replace all of it",
            fix="Restore into an empty database, or say --replace: what is there is lost then",
        )  # fmt: skip
    return True
