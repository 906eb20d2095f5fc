"""Payload bytes: zstd, named by their SHA-256, durable before a row names them.

A folder, or S3, GCS or Azure by URL, through obstore. Writing the same bytes
twice is one object. A local file is fsynced, and its folder, before `put`
returns; object stores are durable when they answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import obstore
import zstandard
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from chrono_ray.model.errors import NotFound, SettingsError, Unavailable

PRIVATE: Final = 0o700
"""Of a folder that is made: nobody else on the machine reads payloads."""
LEVEL: Final = 3
"""zstd-3: 0.45 ms for a 182 KB page, ratio 5.1 (research: performance, section 4)."""
WRITERS: Final = 4
"""Files of one batch that are written at a time."""
LARGEST: Final = 256 * 1024 * 1024
SECONDS: Final = 60
PIECE: Final = 256 * 1024
"""Of a body that is read piece by piece."""
FED: Final = 16 * 1024
"""Of a packed body at a time: what it unpacks to is in memory."""
LISTED: Final = 1000
"""Objects of one listing answer."""
BLOB_NAME: Final = re.compile(r"[0-9a-f]{64}\.zst")


class Blobs:
    """Bytes by content. Raises `Unavailable` when the store is away."""

    def __init__(self, url: str) -> None:
        """`url` is a folder's path, a file:// URL, or one that obstore knows (s3://, gs://, az://)."""
        self._folder = _local_folder(url)
        self._store = _open(url, self._folder)

    @property
    def folder(self) -> Path | None:
        """Where the bytes are on this machine; None in an object store."""
        return self._folder

    async def put(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Keep each body; returns their SHA-256 in order. Durable when it returns."""
        digests, packed = await asyncio.to_thread(_pack, bodies)
        await self._keep(packed, anew=False)
        return digests

    async def keep(self, packed: dict[bytes, bytes]) -> None:
        """The same for bodies as `packed` gave them, by their SHA-256; over what stands there."""
        await self._keep(packed, anew=True)

    async def _keep(self, packed: dict[bytes, bytes], *, anew: bool) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                if self._folder is not None:
                    await self._write(self._folder, packed, anew=anew)
                else:
                    for digest, body in packed.items():
                        await obstore.put_async(self._store, _path(digest), body)
        except (OSError, BaseError, TimeoutError) as error:
            raise _away(error) from error

    async def _write(self, folder: Path, packed: dict[bytes, bytes], *, anew: bool) -> None:
        """Side by side: a disk syncs several files in little more time than one."""
        items = list(packed.items())
        parts = [dict(items[first::WRITERS]) for first in range(min(WRITERS, len(items)))]
        await asyncio.gather(
            *(asyncio.to_thread(_write_files, folder, part, anew=anew) for part in parts)
        )

    async def get(self, digest: bytes) -> bytes:
        """The body of this SHA-256; `NotFound` when there is none, or its bytes are not that."""
        return await asyncio.to_thread(_unpack, digest, await self._packed(digest))

    async def packed(self, digest: bytes) -> bytes:
        """The body as it is stored, found to be whole; `NotFound` as `get`."""
        found = await self._packed(digest)
        await asyncio.to_thread(_check, digest, found)
        return found

    async def pieces(self, digest: bytes, part: range) -> AsyncGenerator[bytes, None]:
        """A part of the body, unpacked as it is taken: what waits in memory is the packed one.

        `NotFound` as `get`; a body of more than one piece (`PIECE`) that turns
        out not to be that ends too early, with a `NotFound`.
        """
        found = _unpacked(digest, await self._packed(digest), part)
        return _chained(await anext(found, b""), found)

    async def _packed(self, digest: bytes) -> bytes:
        try:
            async with asyncio.timeout(SECONDS):
                answer = await obstore.get_async(self._store, _path(digest))
                return bytes(await answer.bytes_async())
        except FileNotFoundError as error:
            raise NotFound("The payload's bytes are missing", why=digest.hex()) from error
        except (OSError, BaseError, TimeoutError) as error:
            raise _away(error) from error

    async def digests(self) -> AsyncIterator[bytes]:
        """Every SHA-256 the store holds, in any order."""
        async for chunk in obstore.list(self._store):
            for entry in chunk:
                name = Path(entry["path"]).name.removesuffix(".zst")
                if re.fullmatch(r"[0-9a-f]{64}", name):
                    yield bytes.fromhex(name)

    async def sizes(self, first: int) -> dict[bytes, int]:
        """Every SHA-256 the store holds that begins with this byte, with its bytes as stored."""
        found: dict[str, int] = {}
        try:
            async for chunk in obstore.list(self._store, prefix=f"{first:02x}", chunk_size=LISTED):
                found.update((Path(each["path"]).name, each["size"]) for each in chunk)
        except (OSError, BaseError) as error:
            raise _away(error) from error
        return {bytes.fromhex(n[:64]): size for n, size in found.items() if BLOB_NAME.fullmatch(n)}

    async def older(self, age: timedelta) -> AsyncIterator[list[bytes]]:
        """Every SHA-256 that nobody has put for so long, a few at a time, in any order.

        Files that a killed writer left aside are removed on the way.
        """
        before = datetime.now(UTC) - age
        try:
            async for chunk in obstore.list(self._store, chunk_size=LISTED):
                old = [each for each in chunk if each["last_modified"] < before]
                names = [Path(each["path"]).name for each in old]
                yield [bytes.fromhex(n[:64]) for n in names if BLOB_NAME.fullmatch(n)]
                for each, name in zip(old, names, strict=True):
                    if name.startswith(".") and BLOB_NAME.fullmatch(name[1:69]):
                        await obstore.delete_async(self._store, each["path"])
        except (OSError, BaseError) as error:
            raise _away(error) from error

    async def remove(self, digests: Sequence[bytes], *, age: timedelta) -> int:
        """Forget these bytes where nobody has put them for so long; returns how many went.

        In a folder a `put` at the same moment wins. An object store knows no
        such condition: there the age is looked at right before.
        """
        before = datetime.now(UTC) - age
        try:
            async with asyncio.timeout(SECONDS):
                if self._folder is not None:
                    seconds = before.timestamp()
                    return await asyncio.to_thread(_remove_files, self._folder, digests, seconds)
                return sum([await self._remove_object(_path(each), before) for each in digests])
        except (OSError, BaseError, TimeoutError) as error:
            raise _away(error) from error

    async def _remove_object(self, path: str, before: datetime) -> bool:
        try:
            found = await obstore.head_async(self._store, path)
            if found["last_modified"] >= before:
                return False
            await obstore.delete_async(self._store, path)
        except FileNotFoundError:
            return False
        return True


def _pack(bodies: Sequence[bytes]) -> tuple[list[bytes], dict[bytes, bytes]]:
    """The digest of each body, and what is to be written."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    digests = [hashlib.sha256(body).digest() for body in bodies]
    unique = dict(zip(digests, bodies, strict=True))
    return digests, {digest: compressor.compress(body) for digest, body in unique.items()}


def _unpack(digest: bytes, packed: bytes) -> bytes:
    try:
        body = zstandard.ZstdDecompressor().decompress(packed, max_output_size=LARGEST)
    except zstandard.ZstdError as error:
        raise NotFound("The payload's bytes are damaged", why=f"{digest.hex()}: {error}") from error
    if hashlib.sha256(body).digest() != digest:
        raise NotFound("The payload's bytes are damaged", why=f"{digest.hex()} does not match")
    return body


def _check(digest: bytes, packed: bytes) -> None:
    """`_unpack` without the body: a large one is only passed through."""
    unpacking, found = zstandard.ZstdDecompressor().decompressobj(), hashlib.sha256()
    try:
        for start in range(0, len(packed), FED):
            found.update(unpacking.decompress(packed[start : start + FED]))
            if unpacking.eof:
                break
    except zstandard.ZstdError as error:
        raise NotFound("The payload's bytes are damaged", why=f"{digest.hex()}: {error}") from error
    if not unpacking.eof or found.digest() != digest:
        raise NotFound("The payload's bytes are damaged", why=f"{digest.hex()} does not match")


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for piece in rest:
        yield piece


async def _unpacked(digest: bytes, packed: bytes, part: range) -> AsyncIterator[bytes]:
    """Each takes a fifth of a millisecond to unpack; one is held back until all are known good."""
    reader = zstandard.ZstdDecompressor().stream_reader(packed)
    held, read, found = b"", 0, hashlib.sha256()
    try:
        while read < part.stop and (piece := reader.read(PIECE)):
            found.update(piece)
            wanted = piece[max(part.start - read, 0) : max(part.stop - read, 0)]
            read += len(piece)
            if held:
                yield held
            held = wanted
    except zstandard.ZstdError as error:
        raise NotFound("The payload's bytes are damaged", why=f"{digest.hex()}: {error}") from error
    whole = part.start == 0 and not reader.read(1)
    if read < part.stop or (whole and found.digest() != digest):
        raise NotFound("The payload's bytes are damaged", why=f"{digest.hex()} does not match")
    if held:
        yield held


def _path(digest: bytes) -> str:
    name = digest.hex()
    return f"{name[:2]}/{name}.zst"


def _write_files(folder: Path, packed: dict[bytes, bytes], *, anew: bool) -> None:
    """Each file whole or not at all: written aside, synced, renamed; folders synced once each."""
    folders: set[Path] = set()
    for digest, body in packed.items():
        target = folder / _path(digest)
        # also for a file that stands already: whoever wrote it may not have synced its folder yet
        folders.update((target.parent, folder))
        if not anew and _touched(target, len(body)):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
        with aside.open("xb") as file:
            file.write(body)
            file.flush()
            os.fdatasync(file.fileno())
        aside.rename(target)
    for each in folders:
        _sync_folder(each)


def _touched(target: Path, size: int) -> bool:
    """Whether the file stands in full; it is as new as one just written, and no purge takes it."""
    try:
        os.utime(target)
        return target.stat().st_size == size
    except FileNotFoundError:
        return False


def _remove_files(folder: Path, digests: Sequence[bytes], before: float) -> int:
    return sum(_remove_file(folder / _path(digest), before) for digest in digests)


def _remove_file(target: Path, before: float) -> bool:
    """Moved aside before the last look at its age: whoever touched it first keeps it."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        if target.stat().st_mtime >= before:
            return False
        target.rename(aside)
    except FileNotFoundError:
        return False
    if aside.stat().st_mtime >= before:
        aside.rename(target)
        return False
    aside.unlink()
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _local_folder(url: str) -> Path | None:
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if "://" in url else Path(url)


def _open(url: str, folder: Path | None) -> ObjectStore:
    try:
        if folder is not None:
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            return LocalStore(prefix=folder)
        return from_url(url)
    except (BaseError, OSError, ValueError) as error:
        raise SettingsError(
            "The blob store cannot be opened",
            why=str(error).splitlines()[0],
            fix="Set CHRONO_BLOBS_URL to a folder or an s3://, gs:// or az:// URL",
        ) from error


def _away(error: BaseException) -> Unavailable:
    return Unavailable(
        "The blob store does not answer",
        why=f"{type(error).__name__}: {error}",
        fix="Check its disk or address; nothing is lost",
        code="blobs_away",
    )
