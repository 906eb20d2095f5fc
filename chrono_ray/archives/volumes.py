"""Files that hold archived records: WARC and ARC, plain or gzip, loose or inside a WACZ."""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from chrono_ray.model.errors import InvalidInput

_SUFFIXES: Final = (".warc", ".warc.gz", ".arc", ".arc.gz", ".wacz")
_RECORDS: Final = (".warc", ".warc.gz", ".arc", ".arc.gz")
_LOCAL_HEADER: Final = struct.Struct("<26xHH")
Buffered = io.BufferedReader | io.BufferedRandom
INSIDE: Final = "!"
"""Stands between a WACZ's name and that of the file inside it."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One file of records. `name` is its path below the folder, `/` between its parts."""

    name: str
    path: Path
    entry: str = ""

    @contextmanager
    def open(self) -> Iterator[Buffered]:
        """The file's bytes, seekable. Blocks; raises `OSError` or `zipfile.BadZipFile`."""
        with self.path.open("rb") as file:
            if not self.entry:
                yield file
                return
            with zipfile.ZipFile(file) as packed, _unpacked(file, packed, self.entry) as inner:
                yield inner


def volumes(root: Path) -> tuple[Volume, ...]:
    """Every volume at or below `root`, by name. Blocks; a WACZ that is no ZIP counts as one."""
    if root.is_file():
        return tuple(_inside(Volume(root.name, root)))
    if not root.is_dir():
        raise InvalidInput("There are no archive files", why=f"{root} does not exist", code="path")
    files = (path for path in root.rglob("*") if path.name.lower().endswith(_SUFFIXES))
    loose = (Volume(path.relative_to(root).as_posix(), path) for path in files if path.is_file())
    found = (volume for file in loose for volume in _inside(file))
    return tuple(sorted(found, key=lambda volume: volume.name))


def volume_named(root: Path, name: str) -> Volume | None:
    """The volume of that name, without looking at the others; None when there is none. Blocks."""
    if root.is_file():
        return next((one for one in volumes(root) if one.name == name), None)
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        return None
    if (root / name).is_file():
        return Volume(name, root / name)
    end = name.lower().find(f".wacz{INSIDE}") + len(".wacz")
    path = root / name[:end]
    return Volume(name, path, name[end + 1 :]) if path.is_file() else None


def _inside(volume: Volume) -> Iterator[Volume]:
    """The files in a WACZ's `archive/` (where its specification has them), or the file itself."""
    if not zipfile.is_zipfile(volume.path):
        yield volume
        return
    with zipfile.ZipFile(volume.path) as packed:
        names = [
            name
            for name in packed.namelist()
            if name.startswith("archive/") and name.lower().endswith(_RECORDS)
        ]
    if not names:
        yield volume
    for name in names:
        yield Volume(f"{volume.name}{INSIDE}{name}", volume.path, name)


@contextmanager
def _unpacked(file: Buffered, packed: zipfile.ZipFile, entry: str) -> Iterator[Buffered]:
    """An entry as a seekable file: in place where it is stored, else a temporary copy."""
    if entry not in packed.NameToInfo:
        raise zipfile.BadZipFile(f"there is no {entry} inside")
    info = packed.getinfo(entry)
    if info.compress_type == zipfile.ZIP_STORED:
        file.seek(info.header_offset)
        name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        yield io.BufferedReader(_Window(file, start, info.file_size))
        return
    with tempfile.TemporaryFile() as copy:
        _unpack(packed, info, copy)
        copy.seek(0)
        yield copy


def _unpack(packed: zipfile.ZipFile, info: zipfile.ZipInfo, copy: Buffered) -> None:
    try:
        with packed.open(info) as source:
            shutil.copyfileobj(source, copy)
    except (RuntimeError, EOFError, zlib.error) as error:  # encrypted, unknown method, damaged
        raise zipfile.BadZipFile(f"{info.filename}: {error}") from error


class _Window(io.RawIOBase):
    """A part of a file as if it were a file."""

    def __init__(self, file: Buffered, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._start + self._at)
        piece = self._file.read(max(min(len(target), self._size - self._at), 0))
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
