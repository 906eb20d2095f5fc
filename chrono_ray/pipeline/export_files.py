"""The files of an export: each whole or not at all, in a folder or an object store.

A part is written aside on this machine, closed, hashed, and only then put in
its place: moved in a folder, uploaded to a store. The same rows give the same
bytes, so writing a part again changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, fields
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, Protocol, get_type_hints

import obstore
import orjson
import zstandard
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from chrono_ray.model.errors import Conflict, InvalidInput, SettingsError, Unavailable
from chrono_ray.model.task import Form, Part
from chrono_ray.pipeline.export_rows import Row, columns_of, csv_head, csv_lines, json_lines
from chrono_ray.storage.exporting import PageRow

PRIVATE: Final = 0o700
ROW_GROUP: Final = 5_000
ROW_GROUP_BYTES: Final = 16 * 1024 * 1024
HASHED: Final = 1024 * 1024
LEVEL: Final = 6


class RowWriter(Protocol):
    """Rows into an open file. Blocks."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class Target:
    """Where an export goes. Every method blocks; raises `Unavailable` when it cannot be reached."""

    def __init__(self, url: str) -> None:
        """`url` is an absolute folder, a file:// URL, or one that obstore knows."""
        local = url.startswith("file://") or "://" not in url
        self.folder = Path(url.removeprefix("file://")) if local else None
        self._store = None if local else _store(url)

    def holds(self, name: str) -> bool:
        """Whether a file of that name stands there."""
        if self.folder is not None:
            return (self.folder / name).exists()
        try:
            obstore.head(self._object_store, name)
        except FileNotFoundError:
            return False
        except (OSError, BaseError) as error:
            raise _away(error) from error
        return True

    def aside(self, name: str) -> Path:
        """A place on this machine to write that file to, before `place`."""
        if self.folder is None:
            handle, path = tempfile.mkstemp(prefix="chrono-export-")
            os.close(handle)
            return Path(path)
        target = self.folder / name
        try:
            _make(target.parent)
            for left in target.parent.glob(f".{target.name}.*"):  # by a writer that was killed
                left.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(error) from error
        return target.with_name(f".{target.name}.{os.getpid()}")

    def place(self, aside: Path, name: str) -> None:
        """Put the closed file in its place; one of that name is replaced."""
        try:
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            if self.folder is not None:
                aside.replace(self.folder / name)
            else:
                obstore.put(self._object_store, name, aside)
                aside.unlink()
        except (OSError, BaseError) as error:
            raise _away(error) from error

    @property
    def _object_store(self) -> ObjectStore:
        if self._store is None:
            raise SettingsError("A folder is no object store")
        return self._store


@dataclass(slots=True)
class OpenPart:
    """A part under way. Every method blocks."""

    name: str
    target: Target
    aside: Path
    rows: int
    writer: RowWriter

    @classmethod
    def begin(cls, target: Target, name: str, form: Form, kind: type[Row]) -> OpenPart:
        """A file that is not seen under its name before `finish`."""
        aside = target.aside(name)
        try:
            return cls(name, target, aside, 0, _writer(aside, form, kind))
        except OSError as error:
            raise _unusable(error) from error

    def write(self, rows: Sequence[Row]) -> None:
        self.writer.write(rows)
        self.rows += len(rows)

    def finish(self) -> Part:
        """Close it and put it in its place."""
        self.writer.close()
        part = Part(self.name, self.rows, self.aside.stat().st_size, _sha256(self.aside))
        self.target.place(self.aside, self.name)
        return part

    def abandon(self) -> None:
        """As if it had never been begun."""
        self.writer.close()
        self.aside.unlink(missing_ok=True)


def write_manifest(
    target: Target, name: str, head: dict[str, str | int], parts: Iterable[Part]
) -> None:
    """The export's last file: what it holds, with the SHA-256 of every part. Blocks."""
    listed = [
        {"name": p.name, "rows": p.rows, "bytes": p.size, "sha256": p.sha256.hex()} for p in parts
    ]
    aside = target.aside(name)
    whole = {
        **head,
        "rows": sum(p["rows"] for p in listed if isinstance(p["rows"], int)),
        "parts": listed,
    }
    aside.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")
    target.place(aside, name)


class _Lines:
    """One JSON object a line, or a CSV record under the names of its columns."""

    def __init__(self, path: Path, form: Form, kind: type[Row]) -> None:
        self._open = ExitStack()
        file = self._open.enter_context(path.open("wb"))
        self._file = self._open.enter_context(_packed(file, form))
        self._columns = columns_of(kind)
        self._lines = csv_lines if form is Form.CSV else json_lines
        if form is Form.CSV:
            self._file.write(csv_head(self._columns))

    def write(self, rows: Sequence[Row]) -> None:
        self._file.write(self._lines(rows, self._columns))

    def close(self) -> None:
        self._open.close()


def _packed(file: IO[bytes], form: Form) -> AbstractContextManager[Any]:
    match form:
        case Form.JSONL_GZIP:
            # without name and time: the same rows are the same bytes
            return gzip.GzipFile("", "wb", LEVEL, file, mtime=0)
        case Form.JSONL_ZSTD:
            return zstandard.ZstdCompressor(LEVEL).stream_writer(file, closefd=False)
        case _:
            return io.BufferedWriter(_Raw(file))


class _Raw(io.RawIOBase):
    """A file that somebody else closes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


class _Parquet:
    """Row groups of a few thousand rows, or fewer long ones."""

    def __init__(self, path: Path, kind: type[Row]) -> None:
        pa = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
        self._pa = pa
        types = {
            int: pa.int64(), int | None: pa.int64(), str: pa.string(), bool: pa.bool_(),
            float: pa.float64(), datetime: pa.timestamp("us", tz="UTC"),
            date | None: pa.date32(), list[str]: pa.list_(pa.string()),
        }  # fmt: skip
        self._names = [field.name for field in fields(kind)]
        hints = _hints(kind)
        self._schema = pa.schema([(name, types[hints[name]]) for name in self._names])
        self._writer = parquet.ParquetWriter(str(path), self._schema, compression="zstd")
        self._waiting: list[Row] = []
        self._bytes = 0

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._waiting.append(row)
            self._bytes += len(row.text) if isinstance(row, PageRow) else 0
            if len(self._waiting) >= ROW_GROUP or self._bytes >= ROW_GROUP_BYTES:
                self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = {name: [getattr(row, name) for row in self._waiting] for name in self._names}
        self._writer.write_table(self._pa.Table.from_pydict(columns, schema=self._schema))
        self._waiting, self._bytes = [], 0


def check_free(target: Target, manifest: str) -> None:
    """`Conflict` when another export stands there."""
    if target.holds(manifest):
        raise Conflict(
            "An export stands there already", why=f"there is a {manifest}",
            fix="Choose another folder", code="export_exists",
        )  # fmt: skip


def _writer(path: Path, form: Form, kind: type[Row]) -> RowWriter:
    return _Parquet(path, kind) if form is Form.PARQUET else _Lines(path, form, kind)


def _hints(kind: type[Row]) -> dict[str, Any]:
    return get_type_hints(kind)


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASHED):
            digest.update(piece)
    return digest.digest()


def _store(url: str) -> ObjectStore:
    try:
        return from_url(url)
    except (BaseError, OSError, ValueError) as error:
        raise InvalidInput(
            "The export's place cannot be used", why=str(error).splitlines()[0],
            fix="Give an absolute folder, or an s3://, gs:// or az:// URL", code="export_to",
        ) from error  # fmt: skip


def _unusable(error: OSError) -> InvalidInput:
    return InvalidInput(
        "The export's folder cannot be written", why=f"{error.filename}: {error.strerror}",
        fix="Give a folder that whoever exports may write to", code="export_to",
    )  # fmt: skip


def _away(error: BaseException) -> Unavailable:
    return Unavailable(
        "The export's place does not answer", why=f"{type(error).__name__}: {error}",
        fix="What is written stays; the export goes on when it is back", code="export_away",
    )  # fmt: skip


def _make(folder: Path) -> None:
    """With what lacks above it; nobody but us may look into what is made."""
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir(mode=PRIVATE, exist_ok=True)
