"""Payload bytes by content: whole or not at all, once, and never somebody else's."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chrono_ray.model.errors import NotFound, SettingsError, Unavailable
from chrono_ray.storage.blobs import Blobs


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


async def test_bytes_come_back_by_their_sha256(tmp_path: Path):
    blobs = Blobs(str(tmp_path / "payloads"))
    assert (tmp_path / "payloads").stat().st_mode & 0o777 == 0o700, "nobody else reads them"
    bodies = [b"", b"one", b"\0" * 100_000, os.urandom(5000)]
    digests = await blobs.put(bodies)
    assert digests == [hashlib.sha256(body).digest() for body in bodies]
    assert [await blobs.get(digest) for digest in digests] == bodies


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies=st.lists(st.binary(max_size=200), max_size=4))
async def test_any_bytes_come_back_in_order(tmp_path: Path, bodies: list[bytes]):
    blobs = Blobs(f"file://{tmp_path}")
    assert [await blobs.get(digest) for digest in await blobs.put(bodies)] == bodies


async def test_a_name_is_the_digest_and_no_half_file_stays(tmp_path: Path):
    [digest] = await Blobs(str(tmp_path)).put([b"one"])
    name = digest.hex()
    assert files(tmp_path) == [tmp_path / name[:2] / f"{name}.zst"]


async def test_the_same_bytes_are_one_file_whoever_writes_them(tmp_path: Path):
    stores = [Blobs(str(tmp_path)) for _ in range(4)]
    await asyncio.gather(*(store.put([b"one", b"two", b"one"]) for store in stores))
    assert len(files(tmp_path)) == 2
    assert await stores[0].get(hashlib.sha256(b"one").digest()) == b"one"


async def test_every_digest_is_listed_and_strangers_are_not(tmp_path: Path):
    blobs = Blobs(str(tmp_path))
    digests = await blobs.put([b"one", b"two"])
    (tmp_path / "notes.txt").write_text("not ours")
    assert {each async for each in blobs.digests()} == set(digests)


async def test_missing_bytes_are_named(tmp_path: Path):
    missing = hashlib.sha256(b"never put").digest()
    with pytest.raises(NotFound, match=missing.hex()):
        await Blobs(str(tmp_path)).get(missing)


@pytest.mark.parametrize("damage", ["cut", "garbage", "other bytes", "empty", "no size"])
async def test_damaged_bytes_are_named_and_never_returned(tmp_path: Path, damage: str):
    blobs = Blobs(str(tmp_path))
    [digest] = await blobs.put([b"the page" * 100])
    [file] = files(tmp_path)
    whole = file.read_bytes()
    streaming = zstandard.ZstdCompressor().compressobj()
    file.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "garbage": b"no zstd at all",
            "other bytes": zstandard.compress(b"somebody else's page"),
            "empty": b"",
            "no size": streaming.compress(b"x" * 1000) + streaming.flush(),
        }[damage]
    )
    with pytest.raises(NotFound, match=digest.hex()):
        await blobs.get(digest)


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path):
    blobs = Blobs(str(tmp_path / "store"))
    (tmp_path / "store").rmdir()
    (tmp_path / "store").write_text("a file where the folder was")
    with pytest.raises(Unavailable):
        await blobs.put([b"one"])


@pytest.mark.parametrize(
    "url", ["gopher://host/x", "s3://", "http//nothing://", "s3:///", "az://", "\0://x"]
)
def test_a_url_that_cannot_be_opened_is_refused_with_what_to_do(url: str):
    with pytest.raises(SettingsError, match="CHRONO_BLOBS_URL"):
        Blobs(url)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="CHRONO_BLOBS_URL"):
        Blobs(str(tmp_path / "file" / "below"))
