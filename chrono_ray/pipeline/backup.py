"""Backup: the record as one snapshot sees it, then every blob that this snapshot names.

Runs go on meanwhile. Blobs never change and are forgotten last, and while a
backup is made none is forgotten (storage/backups.py), so all that the snapshot
names is still there when it is copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import orjson

from chrono_ray.embedded.binaries import find_clients
from chrono_ray.embedded.clients import Wanted, dump
from chrono_ray.model.errors import Conflict
from chrono_ray.pipeline.backup_blobs import Copied, copy, damaged
from chrono_ray.pipeline.backup_place import (
    DIGESTS,
    DUMP,
    NAMED_MOST,
    SETTINGS,
    Manifest,
    Place,
    reachable,
    summed,
    write,
)
from chrono_ray.storage.backups import Backups, Snapshot
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database

PROGRAM: Final = "chrono backup pg_dump"
"""What the server knows pg_dump as."""
WANTED: Final = "wanted.sha256"
"""In a draft: what the snapshot names."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BackupParts:
    """What is backed up: the record, its bytes, and what was set (without secrets)."""

    record: Database
    blobs: Blobs
    version: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup held against its own manifest. `damaged` are names of files and blobs."""

    name: str
    files: int
    blobs: int
    missing: int
    damaged: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not self.damaged


@dataclass(frozen=True, slots=True)
class _Dumped:
    """The snapshot that the record was written from."""

    schema: str
    at: datetime
    server: str
    client: int
    rows: Mapping[str, int]


async def back_up(parts: BackupParts, place: Place, tell: Tell) -> tuple[Manifest, Copied]:
    """Make one backup; it has its name when it is whole, and else it is not there.

    Blobs that the place has from earlier ones, whole or not, are not copied
    again. Raises `Conflict` while another is made, `InvalidInput` for a place
    whose blobs are the blob store itself, `EmbeddedError` when pg_dump fails,
    `Unavailable` when the place or a part is away.
    """
    backups = Backups(parts.record)
    place.check_apart(parts.blobs.folder)
    with place.alone(), place.draft() as draft:
        place.mark()
        async with backups.alone():
            dumped = await _dump(parts, backups, draft, tell)
            copied = await _copy(parts.blobs, place.blobs, draft, tell)
        with reachable():
            write(draft / SETTINGS, orjson.dumps(parts.settings, option=orjson.OPT_INDENT_2))
        sums = {n: await asyncio.to_thread(summed, draft / n) for n in (DUMP, DIGESTS, SETTINGS)}
        manifest = Manifest(
            parts.version, dumped.schema, dumped.at, dumped.server, dumped.client, dumped.rows,
            copied.held, len(copied.missing), tuple(copied.missing[:NAMED_MOST]), sums,
        )  # fmt: skip
        await asyncio.to_thread(place.finish, draft, manifest)
    return manifest, copied


async def check(place: Place, name: str, tell: Tell) -> Checked:
    """Read all of a backup: its files and its blobs against what they must hash to.

    Damaged blobs are moved aside, so that the next backup copies them anew.
    """
    manifest = place.manifest(name)
    bad = await damaged_files(place, name, manifest)
    blobs, lost = 0, list[str]()
    if DIGESTS not in bad:
        blobs, lost = await damaged(place.blobs, place.path(name, DIGESTS), tell)
        if moved := await asyncio.to_thread(place.set_aside, lost):
            tell(f"damaged blobs: {moved:,} moved aside; the next backup copies them anew")
    return Checked(name, len(manifest.files), blobs, manifest.missing, (*bad, *lost))


async def damaged_files(place: Place, name: str, manifest: Manifest) -> list[str]:
    """Those of its files that are not what its manifest says."""
    return [each for each in manifest.files if await _changed(place, name, manifest, each)]


async def _changed(place: Place, name: str, manifest: Manifest, file: str) -> bool:
    path = place.path(name, file)
    return not path.exists() or await asyncio.to_thread(summed, path) != manifest.files.get(file)


async def forget(place: Place, names: list[str], tell: Tell, *, living: Blobs) -> int:
    """Remove these backups, then the blobs that no other names; how many blobs went.

    `living` is the blob store, which is never forgotten from. Raises `InvalidInput`
    where the place's blobs are those, and `Conflict` when it cannot be told which
    blobs the other backups name: nothing is removed then.
    """
    place.check_apart(living.folder)
    with place.alone():
        place.check_marked()
        await _check_lists(place, [each for each in place.names() if each not in names])
        for name in names:
            await asyncio.to_thread(place.remove, name)
            tell(f"backup {name} is removed")
        return await _forget_unnamed(place)


async def _check_lists(place: Place, names: list[str]) -> None:
    """What a list leaves out would be forgotten."""
    for name in names:
        if await _changed(place, name, place.manifest(name), DIGESTS):
            raise Conflict(
                "No backup is removed",
                why=f"{place.path(name, DIGESTS)} changed since it was made: the blobs that this"
                " backup names would go too",
                fix=f"Bring that file back, or take the folder {name} away, and do it again",
            )  # fmt: skip


async def _forget_unnamed(place: Place) -> int:
    names, blobs, gone = place.names(), place.blobs, 0
    for first in range(256):
        named = await asyncio.to_thread(place.named, names, first)
        lost = sorted((await blobs.sizes(first)).keys() - named)
        gone += await blobs.remove(lost, age=timedelta(0)) if lost else 0
    return gone


async def _dump(parts: BackupParts, backups: Backups, draft: Path, tell: Tell) -> _Dumped:
    async with backups.snapshot() as snapshot:
        wanted = await _list_blobs(snapshot, draft / WANTED)
        rows = await snapshot.counted()
        tell(f"record: {rows['captures']:,} captures, {rows['pages']:,} pages, {wanted:,} blobs")
        programs = await asyncio.to_thread(find_clients, snapshot.major)
        # in a transaction of the same snapshot, so whatever ends meanwhile is not in it
        await dump(
            programs, Wanted(parts.record.url, PROGRAM, backups.is_connected),
            snapshot=snapshot.name, to=draft / DUMP,
        )  # fmt: skip
        size = (draft / DUMP).stat().st_size
        tell(f"record: written, {size:,} bytes")
        return _Dumped(snapshot.revision, snapshot.at, snapshot.server, programs.major, rows)


async def _list_blobs(snapshot: Snapshot, path: Path) -> int:
    listed = 0
    with reachable(), path.open("xb") as file:
        async for digests in snapshot.digests():
            file.writelines(digests)
            listed += len(digests)
    return listed


async def _copy(source: Blobs, target: Blobs, draft: Path, tell: Tell) -> Copied:
    with reachable(), (draft / DIGESTS).open("xb") as file:
        copied = await copy(
            source, target, draft / WANTED, tell, take=file.writelines, by_size=True
        )
    (draft / WANTED).unlink()
    return copied
