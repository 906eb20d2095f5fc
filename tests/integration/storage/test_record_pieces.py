"""A payload is read piece by piece, any part of it; a damaged one is never told whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import zstandard

from chrono_ray.model.errors import NotFound
from chrono_ray.storage.blobs import PIECE, Blobs

SIZE = 3 * PIECE + 17
BODY = random.Random(7).randbytes(SIZE // 2) * 2 + bytes(SIZE % 2)


@pytest.fixture
async def kept(tmp_path: Path) -> tuple[Blobs, bytes, Path]:
    blobs = Blobs(str(tmp_path))
    [digest] = await blobs.put([BODY])
    return blobs, digest, file_in(tmp_path)


def file_in(folder: Path) -> Path:
    [path] = folder.rglob("*.zst")
    return path


async def read(blobs: Blobs, digest: bytes, part: range) -> bytes:
    return b"".join([piece async for piece in await blobs.pieces(digest, part)])


async def read_into(told: bytearray, blobs: Blobs, digest: bytes) -> None:
    async for piece in await blobs.pieces(digest, range(SIZE)):
        told += piece


async def test_any_part_of_a_payload_can_be_read(kept):
    blobs, digest, _ = kept
    for start, stop in [
        (0, SIZE), (0, 1), (SIZE - 1, SIZE), (PIECE - 1, PIECE + 1), (PIECE, 2 * PIECE),
        (5, SIZE - 5), (2 * PIECE, SIZE),
    ]:  # fmt: skip
        assert await read(blobs, digest, range(start, stop)) == BODY[start:stop]
    [nothing] = await blobs.put([b""])
    assert await read(blobs, nothing, range(0)) == b""


async def test_what_is_not_the_payload_is_never_told_whole(kept):
    blobs, digest, path = kept
    whole = path.read_bytes()
    other = zstandard.ZstdCompressor().compress(BODY[:-1] + b"x")
    for damaged in (whole[: len(whole) // 2], other, whole[:-1] + bytes([whole[-1] ^ 1]), b"x"):
        path.write_bytes(damaged)
        told = bytearray()
        with pytest.raises(NotFound):
            await read_into(told, blobs, digest)
        assert len(told) < SIZE
        with pytest.raises(NotFound):
            await read(blobs, digest, range(1, SIZE + 1))
    path.unlink()
    with pytest.raises(NotFound):
        await blobs.pieces(digest, range(SIZE))


async def test_a_small_payload_that_is_damaged_is_told_before_its_first_byte(tmp_path):
    blobs = Blobs(str(tmp_path))
    [digest] = await blobs.put([b"small"])
    file_in(tmp_path).write_bytes(zstandard.ZstdCompressor().compress(b"smell"))
    with pytest.raises(NotFound):
        await blobs.pieces(digest, range(5))
