"""Restore: the blobs of a backup, then its record, all of it or nothing.

What was leased when the backup was made is nobody's any more and done again.
The index is asked for anew: the one that is here belongs to another record.
While it works the record is marked (storage/restoring.py), and nothing else
starts on it; what was there before comes back when it fails.
"""

from __future__ import annotations

import asyncio
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
from chrono_ray.storage.restoring import REPLACED, Restoring, drop_replaced

PROGRAM: Final = "chrono restore pg_restore"
"""What the server knows pg_restore as."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RestoreParts:
    """Where to. `name` is what the server knows our own connections as."""

    record: Database
    blobs: Blobs
    name: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What is there now. `rebuild` is the number of the fresh index that was asked for.

    `replaced`: what was there before waits for `drop_replaced`.
    """

    manifest: Manifest
    schema: str
    copied: Copied
    rebuild: int
    replaced: bool


async def restore(
    parts: RestoreParts,
    place: Place,
    name: str,
    tell: Tell,
    *,
    replace: bool,
    paused: bool = False,
    done: Callable[[Restored], None] = lambda _restored: None,
) -> Restored:
    """Bring a backup into an empty record; with `replace` what is there goes once it is in.

    With `paused` its runs and schedules wait: two records of one backup would
    both ask the archives. Cut off, all is as before, or marked until a restore
    or `undo` puts it back; `done` hears when it is over, whatever comes then.

    Raises `Conflict` for a record that is not empty or in use, and for a
    backup that is damaged, of a newer schema or of a newer PostgreSQL.
    """
    backups = Backups(parts.record)
    with place.reading():
        manifest = place.manifest(name)
        server = await _check_fits(backups, manifest)
        async with backups.alone() as held:
            restoring = Restoring(held, ours=parts.name, program=PROGRAM)
            replaced = await _make_free(parts.record, restoring, tell, replace=replace)
            await _check_whole(place, name, manifest)
            # bytes before the rows that name them, as always
            copied = await copy(place.blobs, parts.blobs, place.path(name, DIGESTS), tell)
            async with _undone_where_it_fails(restoring):
                await restoring.begin(f"the backup {name} of {place.folder}", replace=replaced)
                tell("record: is restored")
                await restore_dump(
                    find_clients(max(server, manifest.client)),
                    Wanted(parts.record.url, PROGRAM, backups.is_connected),
                    source=place.path(name, DUMP), server=server,
                )  # fmt: skip
                schema = await migrate(parts.record, restoring=True)
                await restoring.compress()
                await restoring.make_void(paused=paused)
                rebuild = await Rebuilds(parts.record).request(f"restored from the backup {name}")
                restored = Restored(manifest, schema, copied, rebuild, replaced)
                await _finish(restoring, lambda: done(restored))
    return restored


async def _finish(restoring: Restoring, done: Callable[[], None]) -> None:
    """Whether it is over is known at any moment: this is not stopped in its middle."""
    finishing = asyncio.create_task(restoring.finish())
    try:
        await asyncio.shield(finishing)
    finally:
        await asyncio.wait({finishing})
        if not finishing.exception():
            done()


async def undo(record: Database, name: str) -> bool:
    """Put back what was there before a restore that was cut off; False where none was.

    `name` as of `RestoreParts`. Raises `Conflict` while one works, or anything else.
    """
    async with Backups(record).alone() as held:
        restoring = Restoring(held, ours=name, program=PROGRAM)
        await restoring.end_leftover()
        await restoring.refuse_in_use()
        return await restoring.undo()


@asynccontextmanager
async def _undone_where_it_fails(restoring: Restoring) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await restoring.undo()
        raise


async def _make_free(record: Database, restoring: Restoring, tell: Tell, *, replace: bool) -> bool:
    """Whether there is something to replace, which must be wanted; nobody may be at work."""
    await restoring.end_leftover()
    await restoring.refuse_in_use()
    if await restoring.undo():
        tell("record: as it was before a restore that was cut off")
    if await restoring.is_empty():
        return False
    if not replace:
        raise Conflict(
            "There is a record already", why="a restore would replace all of it",
            fix="Restore into an empty database, or say --replace: what is there is lost then",
        )  # fmt: skip
    if not await drop_replaced(record):
        raise Conflict(
            "What an earlier restore replaced is still there", why="somebody reads it",
            fix=f"End who does, or: DROP SCHEMA {REPLACED} CASCADE",
        )  # fmt: skip
    return True


async def _check_whole(place: Place, name: str, manifest: Manifest) -> None:
    if bad := await damaged_files(place, name, manifest):
        raise Conflict(
            f"The backup {name} is damaged", why=f"{', '.join(bad)} changed since it was made",
            fix="Restore another one",
        )  # fmt: skip


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
