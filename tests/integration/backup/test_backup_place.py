"""A place of backups: which stay, what they share, and what a full disk leaves."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chrono_ray.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from chrono_ray.pipeline.backup import BackupParts, back_up, check, forget
from chrono_ray.pipeline.backup_blobs import copy
from chrono_ray.pipeline.backup_place import Kept, Manifest, Place, at, name_at, superfluous
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from tests.support.disk import small_disk

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
        (Kept(1, 0), (0, 1, -400), (0, -400)),
    ],
    ids=[
        "the newest of each day",
        "days without one count for nothing",
        "and of weeks",
        "none",
        "one of a time that has not come is nobody's newest",
    ],
)
def test_the_newest_of_days_and_weeks_stay(
    kept: Kept, there: tuple[float, ...], stay: tuple[float, ...]
) -> None:
    gone = superfluous(named(*there), kept, now=name_at(NOON))
    assert gone == sorted(set(named(*there)) - set(named(*stay)))


def test_to_keep_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="No backup would be kept"):
        superfluous(named(0), Kept(0, 0), now=name_at(NOON))


def test_the_newest_is_not_guessed_where_a_clock_was_ahead(tmp_path: Path) -> None:
    then, later = named(0)[0], name_at(datetime.now(UTC) + timedelta(days=300))
    for name in (then, later):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    with pytest.raises(Conflict, match=f"{later} is of a time that has not come.*{then}"):
        at(tmp_path)
    assert at(tmp_path / later)[1] == later


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
    listed = place.path(manifest.name, "blobs.sha256")
    whole = listed.read_bytes()
    listed.write_bytes(whole[:32])
    with pytest.raises(Conflict, match=f"No backup is removed: {listed}"):
        await forget(place, [first.name], silent, living=source)
    assert place.names() == [first.name, manifest.name]
    listed.write_bytes(whole)
    assert await forget(place, [first.name], silent, living=source) == 1
    assert place.names() == [manifest.name]
    assert await place.blobs.packed(kept)
    with pytest.raises(NotFound):
        await place.blobs.packed(gone)
    assert (await check(place, manifest.name, silent)).clean
    with pytest.raises(NotFound, match="There is no backup"):
        at(place.folder / first.name)


@pytest.mark.parametrize("store", ["blobs", "blobs/below", "", "link"])
async def test_living_bytes_are_no_place_s_blobs(
    database: Database, tmp_path: Path, store: str
) -> None:
    place = Place(tmp_path / "place")
    (place.folder / "blobs").mkdir(parents=True)
    (place.folder / "link").symlink_to(place.folder / "blobs")
    living = Blobs(str(place.folder / store))
    [digest] = await living.put([b"living"])
    with pytest.raises(InvalidInput, match="apart from CHRONO_BLOBS_URL"):
        await made(database, living, place)
    with pytest.raises(InvalidInput, match="apart from CHRONO_BLOBS_URL"):
        await forget(place, [], silent, living=living)
    assert await living.get(digest)


async def test_nothing_goes_from_blobs_that_no_backup_called_its_own(
    database: Database, source: Blobs, tmp_path: Path
) -> None:
    place, other = Place(tmp_path / "place"), Blobs(str(tmp_path / "place" / "blobs"))
    [theirs] = await other.put([b"of another record"])
    with pytest.raises(Conflict, match="holds something else"):
        await made(database, source, place)
    shutil.rmtree(tmp_path / "place")
    manifest = await made(database, source, place)
    (place.folder / "blobs" / "BACKUPS").unlink()  # as it was before there were marks
    [theirs] = await other.put([b"of another record"])
    with pytest.raises(Conflict, match="No backup is removed"):
        await forget(place, [manifest.name], silent, living=source)
    assert place.names() == [manifest.name]
    assert await other.get(theirs)
    kept = await made(database, source, place)
    assert await forget(place, [manifest.name], silent, living=source) == 1
    assert place.names() == [kept.name]


async def test_what_rots_in_a_place_is_copied_anew(
    database: Database, source: Blobs, tmp_path: Path
) -> None:
    place = Place(tmp_path / "backups")
    cut, rotten = await keep(database, source, b"cut", b"rotten")
    await made(database, source, place)
    change(place.folder / "blobs", cut, lambda body: body[:-3])
    manifest, copied = await back_up(BackupParts(database, source, "1", {}), place, silent)
    assert (copied.new, manifest.missing) == (1, 0), "another size is seen without reading"
    change(place.folder / "blobs", rotten, lambda body: bytes(len(body)))
    assert (await check(place, manifest.name, silent)).damaged == (rotten.hex(),)
    assert (place.folder / "damaged" / f"{rotten.hex()}.zst").exists()
    assert (await made(database, source, place)).missing == 0
    assert (await check(place, manifest.name, silent)).clean


async def test_what_rots_in_a_blob_store_is_brought_back_and_fetching_again_heals_it(
    source: Blobs, tmp_path: Path
) -> None:
    bodies = [b"cut", b"rotten", b"whole"]
    digests = sorted(await source.put(bodies))
    (tmp_path / "listed").write_bytes(b"".join(digests))
    store = Blobs(str(tmp_path / "store"))
    cut, rotten, _ = await store.put(bodies)
    change(tmp_path / "store", cut, lambda body: body[:0])
    change(tmp_path / "store", rotten, lambda body: bytes(len(body)))
    copied = await copy(source, store, tmp_path / "listed", silent)
    assert (copied.held, copied.new, copied.missing) == (3, 2, [])
    assert sorted([await store.get(each) for each in digests]) == sorted(bodies)
    change(tmp_path / "store", cut, lambda body: body[:0])
    await store.put([b"cut"])
    assert await store.get(cut) == b"cut"


def change(folder: Path, digest: bytes, how: Callable[[bytes], bytes]) -> None:
    file = folder / digest.hex()[:2] / f"{digest.hex()}.zst"
    file.write_bytes(how(file.read_bytes()))


async def test_a_removal_that_is_killed_leaves_nothing_for_long(
    database: Database, source: Blobs, tmp_path: Path
) -> None:
    place = Place(tmp_path / "backups")
    name = (await made(database, source, place)).name
    killed = (
        "import os, shutil, signal, sys; from pathlib import Path\n"
        "shutil.rmtree = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from chrono_ray.pipeline.backup_place import Place\n"
        "Place(Path(sys.argv[1])).remove(sys.argv[2])"
    )
    command = [sys.executable, "-c", killed, place.folder, name]
    ended = await asyncio.to_thread(subprocess.run, command, check=False, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    assert not (place.folder / name).exists()
    kept = (await made(database, source, place)).name
    assert {each.name for each in place.folder.iterdir()} == {kept, "blobs"}


async def test_two_at_once_on_one_place_are_refused(
    database: Database, source: Blobs, tmp_path: Path
) -> None:
    place = Place(tmp_path / "backups")
    with place.alone(), pytest.raises(Conflict, match="Somebody else is at work"):
        await made(database, source, Place(place.folder))


async def test_a_full_disk_leaves_no_half_backup_and_the_next_one_goes_on(
    database: Database, source: Blobs, small: Path
) -> None:
    await keep(database, source, *(bytes([n]) * 9 for n in range(20)))
    place = Place(small)
    ballast = small / "ballast"
    ballast.write_bytes(
        bytes(shutil.disk_usage(small).free - 300_000)
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
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "size=2m") as folder:
        yield folder
