"""A place of backups: which stay, what they share, and what a full disk leaves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chrono_ray.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from chrono_ray.pipeline.backup import BackupParts, back_up, check, forget
from chrono_ray.pipeline.backup_place import Kept, Manifest, Place, at, name_at, superfluous
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""
NAME_IT = "INSERT INTO payloads (sha256, sha1, size) VALUES ($1, '', 1)"


def silent(_line: str) -> None:
    return


def named(*ago: float) -> list[str]:
    return [name_at(NOON - timedelta(days=days)) for days in ago]


@pytest.mark.parametrize(
    ("kept", "there", "stay"),
    [
        (Kept(3, 0), (0, 0.25, 1, 2, 3), (0, 1, 2)),
        (Kept(2, 0), (9, 0, 30), (9, 0)),
        (Kept(1, 3), (0, 1, 2, 8, 15, 22), (0, 1, 8)),
        (Kept(7, 0), (), ()),
    ],
    ids=["the newest of each day", "days without one count for nothing", "and of weeks", "none"],
)
def test_the_newest_of_days_and_weeks_stay(
    kept: Kept, there: tuple[float, ...], stay: tuple[float, ...]
) -> None:
    assert superfluous(named(*there), kept) == sorted(set(named(*there)) - set(named(*stay)))


def test_to_keep_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="No backup would be kept"):
        superfluous(named(0), Kept(0, 0))


async def made(database: Database, source: Blobs, place: Place) -> Manifest:
    manifest, _ = await back_up(BackupParts(database, source, "1", {}), place, silent)
    return manifest


async def keep(database: Database, source: Blobs, *bodies: bytes) -> list[bytes]:
    """Store bytes, and have a row name them."""
    digests = await source.put(bodies)
    for each in digests:
        await database.fetch(NAME_IT, each)
    return digests


@pytest.fixture
def source(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path / "payloads"))


async def test_what_only_a_removed_backup_named_goes_with_it(
    database: Database, source: Blobs, tmp_path: Path
) -> None:
    place = Place(tmp_path / "backups")
    [gone, kept] = await keep(database, source, b"gone", b"kept")
    first = await made(database, source, place)
    await database.fetch("DELETE FROM payloads WHERE sha256 = $1", gone)
    await keep(database, source, b"new")
    manifest, copied = await back_up(BackupParts(database, source, "1", {}), place, silent)
    assert (copied.held, copied.new) == (2, 1), "what is there is not copied again"
    assert at(place.folder)[1] == manifest.name
    assert at(place.folder / first.name)[1] == first.name
    assert await forget(place, [first.name], silent) == 1
    assert place.names() == [manifest.name]
    assert await place.blobs.packed(kept)
    with pytest.raises(NotFound):
        await place.blobs.packed(gone)
    assert (await check(place, manifest.name, silent)).clean
    with pytest.raises(NotFound, match="There is no backup"):
        at(place.folder / first.name)


async def test_two_at_once_on_one_place_are_refused(
    database: Database, source: Blobs, tmp_path: Path
) -> None:
    place = Place(tmp_path / "backups")
    with place.alone(), pytest.raises(Conflict, match="Somebody else is at work"):
        await made(database, source, Place(place.folder))


async def test_a_full_disk_leaves_no_half_backup_and_the_next_one_goes_on(
    database: Database, source: Blobs, small_disk: Path
) -> None:
    await keep(database, source, *(bytes([n]) * 9 for n in range(20)))
    place = Place(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(
        bytes(shutil.disk_usage(small_disk).free - 300_000)
    )  # the record takes most of it
    await keep(database, source, (await incompressible(database)))
    with pytest.raises(Unavailable, match="No space left") as full:
        await made(database, source, place)
    assert "Free" in full.value.fix
    assert place.names() == []
    assert drafts(place) == []
    ballast.unlink()
    manifest = await made(database, source, place)
    assert (manifest.blobs, manifest.missing) == (21, 0)
    assert (await check(place, manifest.name, silent)).clean


async def incompressible(database: Database) -> bytes:
    drawn = await database.fetch(
        "SELECT sha256(convert_to(n::text, 'UTF8')) AS some FROM generate_series(1, 10000) n"
    )
    return b"".join(row["some"] for row in drawn)


def drafts(place: Place) -> list[str]:
    return [each.name for each in place.folder.glob(".*")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "chrono-tests", folder],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
