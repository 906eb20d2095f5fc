"""Records of WARC and ARC files, one by one, the good ones kept where others are damaged.

Framing is done here and not by fastwarc, whose iterator ends at the first
damaged record and does not notice a cut one (2.0.1, measured); fastwarc
parses the heads. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from fastwarc.warc import HeaderMap

from chrono_ray.archives.replay import sha1_bytes
from chrono_ray.archives.volumes import Buffered

_PIECE: Final = 64 * 1024
_HEAD_LIMIT: Final = 128 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_ARC_LINE: Final = re.compile(
    rb"(?P<url>[a-zA-Z][a-zA-Z0-9+.\-]*:\S.*?) \S+ "
    rb"(?P<date>\d{8,18}) (?P<type>\S+) (?P<length>\d{1,18})\s*"
)
_WARC_LINE: Final = re.compile(rb"WARC/\d\.\d+\s*\Z")
_LENGTH_DIGITS: Final = 18
_NOT_DIGITS: Final = re.compile(r"\D+")


class Damaged(Exception):
    """A record that cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record starts: a byte offset, and which it is in a gzip member that holds several."""

    volume: str
    offset: int = 0
    nth: int = 0

    def __str__(self) -> str:
        return f"{self.volume}@{self.offset}" + (f".{self.nth}" if self.nth else "")

    @classmethod
    def read(cls, text: str) -> Place:
        """The inverse of `str`; raises `ValueError`."""
        volume, _, number = text.rpartition("@")
        offset, _, nth = number.partition(".")
        return cls(volume, int(offset), int(nth or 0))


@dataclass(frozen=True, slots=True)
class Head:
    """What a record says of itself before its block. Texts are empty where it says nothing."""

    kind: str
    url: str
    date: str
    length: int
    content_type: str
    payload_digest: str = ""
    block_digest: str = ""
    record_id: str = ""
    refers_to: str = ""
    refers_to_url: str = ""
    refers_to_date: str = ""
    truncated: str = ""
    """Why the crawler kept less than came: length, time, disconnect."""

    @property
    def is_http(self) -> bool:
        return self.kind in ("response", "revisit") and self.url[:4].lower() == "http"


class Block:
    """A record's content, read forward once. `sha1` is of what was read."""

    def __init__(self, stream: Buffered, length: int) -> None:
        self._stream = stream
        self.left = length
        self.sha1 = hashlib.sha1(usedforsecurity=False)

    def read(self, size: int = _PIECE) -> bytes:
        """Up to `size` bytes, empty at the end; raises `Damaged` when the file ends before."""
        if not self.left:
            return b""
        piece = self._stream.read(min(size, self.left))
        if not piece:
            raise Damaged("cut off")
        self.left -= len(piece)
        self.sha1.update(piece)
        return piece

    def line(self, limit: int) -> bytes:
        line = self._stream.readline(min(limit, self.left))
        self.left -= len(line)
        self.sha1.update(line)
        return line

    def drain(self) -> None:
        while self.read():
            pass


@dataclass(frozen=True, slots=True)
class Record:
    place: Place
    head: Head
    block: Block


class _Gunzipped(io.RawIOBase):
    """One gzip member, unpacked."""

    def __init__(self, file: Buffered, start: int) -> None:
        file.seek(start)
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._fed = start

    def readable(self) -> bool:
        return True

    @property
    def end(self) -> int:
        """Where the next member starts, once this one was read to its end."""
        return self._fed - len(self._inflate.unused_data)

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        while not self._inflate.eof:
            piece = self._inflate.unconsumed_tail
            if not piece:
                piece = self._file.read(_PIECE)
                self._fed += len(piece)
            try:
                out = self._inflate.decompress(piece, len(target))
            except zlib.error as error:
                raise Damaged(f"bad gzip: {error}") from None
            if out:
                target[: len(out)] = out
                return len(out)
            if not piece:
                raise Damaged("cut off")
        return 0


class Reader:
    """Walks a volume's records from a place on.

    `next` gives a record, or None at the end; `finish` ends it and says
    whether it stops where it should. Both raise `Damaged` about the record at
    `place`; `resync` then goes on to where the next one seems to start.
    """

    def __init__(self, file: Buffered, place: Place) -> None:
        self._file = file
        self._packed = _is_gzip(file, 0)
        self._move(place.offset, place.volume)
        self._ahead = place.nth
        self.place = place

    def next(self) -> Record | None:
        while self._ahead and (record := self._read()):
            self._ahead -= 1
            record.block.drain()
            _skip_breaks(self._stream)
        return self._read()

    def finish(self, record: Record) -> int | None:
        """Returns the record's length in the file, None in a member shared with others."""
        record.block.drain()
        if not _skip_breaks(self._stream) and self._stream.peek(1):
            raise Damaged("wrong length")
        digest = sha1_bytes(record.head.block_digest)
        if digest and digest != record.block.sha1.digest():
            raise Damaged("wrong block digest")
        start, nth = self.place.offset, self.place.nth
        if self._member is None:
            self.place = Place(self.place.volume, self._stream.tell())
            return self.place.offset - start
        if self._stream.peek(1):
            self.place = Place(self.place.volume, start, nth + 1)
            return None
        self._move(self._member.end, self.place.volume)
        return None if nth else self.place.offset - start

    def resync(self) -> None:
        self._ahead = 0
        found = self._scan_members() if self._packed else self._scan_lines()
        self._move(found, self.place.volume)

    def _read(self) -> Record | None:
        while not self._stream.peek(1):
            if self._member is None:
                return None
            self._move(self._member.end, self.place.volume)
        head = _read_head(self._stream)
        return Record(self.place, head, Block(self._stream, head.length))

    def _move(self, offset: int, volume: str) -> None:
        self.place = Place(volume, offset)
        packed = _is_gzip(self._file, offset)
        self._file.seek(offset)
        self._member: _Gunzipped | None = _Gunzipped(self._file, offset) if packed else None
        self._stream: Buffered = (
            io.BufferedReader(self._member, _PIECE) if self._member else self._file
        )

    def _scan_members(self) -> int:
        for offset in _find(self._file, self.place.offset + 1, _GZIP_MAGIC):
            if _begins_record(_first_line(self._file, offset)):
                return offset
        return self._file.seek(0, io.SEEK_END)

    def _scan_lines(self) -> int:
        self._file.seek(self.place.offset)
        self._file.readline(_HEAD_LIMIT)
        while True:
            offset = self._file.tell()
            line = self._file.readline(_HEAD_LIMIT)
            if not line or _ARC_LINE.fullmatch(line):
                return offset
            # A record may follow a broken one without a line break between them.
            if found := _WARC_LINE.search(line):
                return offset + found.start()


def _is_gzip(file: Buffered, offset: int) -> bool:
    file.seek(offset)
    return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


def _begins_record(line: bytes) -> bool:
    return bool(_WARC_LINE.fullmatch(line) or _ARC_LINE.fullmatch(line))


def _first_line(file: Buffered, offset: int) -> bytes:
    try:
        return io.BufferedReader(_Gunzipped(file, offset)).readline(_HEAD_LIMIT)
    except Damaged:
        return b""


def _find(file: Buffered, start: int, needle: bytes) -> Iterator[int]:
    """Every offset of `needle` from `start` on; `file` may be moved in between."""
    while True:
        file.seek(start)
        piece = file.read(_PIECE)
        at = piece.find(needle)
        while at >= 0:
            yield start + at
            at = piece.find(needle, at + 1)
        if len(piece) < _PIECE:
            return
        start += _PIECE - len(needle) + 1


def _skip_breaks(stream: Buffered) -> int:
    """Passes over line breaks; says how many bytes they were."""
    skipped = 0
    while ahead := stream.peek(_PIECE):
        breaks = len(ahead) - len(ahead.lstrip(b"\r\n"))
        skipped += len(stream.read(breaks))
        if breaks < len(ahead):
            break
    return skipped


def _read_head(stream: Buffered) -> Head:
    line = stream.readline(_HEAD_LIMIT)
    if found := _ARC_LINE.fullmatch(line):
        return _arc_head(found)
    if not _WARC_LINE.fullmatch(line):
        raise Damaged("not a record")
    return _warc_head(header_map(line, iter(partial(stream.readline, _HEAD_LIMIT), b"")))


def header_map(first: bytes, lines: Iterator[bytes]) -> HeaderMap:
    """A head from its lines, however they end; raises `Damaged` when no blank line ends it."""
    head = [first.rstrip(b"\r\n")]
    size = 0
    for line in lines:
        bare = line.rstrip(b"\r\n")
        if not bare:
            break
        head.append(bare)
        size += len(line)
        if size > _HEAD_LIMIT:
            raise Damaged("endless head")
    else:
        raise Damaged("cut off")
    parsed = HeaderMap("utf-8")
    parsed.parse(io.BytesIO(b"\r\n".join((*head, b"", b""))), True)
    return parsed


def text(headers: HeaderMap, name: str) -> str:
    """A header as UTF-8, else as Latin-1, as warcio reads it; empty when absent."""
    return _decoded(headers.get_bytes(name.encode("ascii")) or b"")


def pairs(headers: HeaderMap) -> tuple[tuple[str, str], ...]:
    return tuple((_decoded(name).lower(), _decoded(value)) for name, value in headers.items_bytes())


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _warc_head(headers: HeaderMap) -> Head:
    length = text(headers, "Content-Length")
    if not length.isdecimal() or len(length) > _LENGTH_DIGITS:
        raise Damaged("no length")
    return Head(
        kind=text(headers, "WARC-Type").lower(),
        url=text(headers, "WARC-Target-URI").removeprefix("<").removesuffix(">"),
        date=stamp(text(headers, "WARC-Date")),
        length=int(length),
        content_type=text(headers, "Content-Type"),
        payload_digest=text(headers, "WARC-Payload-Digest"),
        block_digest=text(headers, "WARC-Block-Digest"),
        record_id=text(headers, "WARC-Record-ID"),
        refers_to=text(headers, "WARC-Refers-To"),
        refers_to_url=text(headers, "WARC-Refers-To-Target-URI"),
        refers_to_date=stamp(text(headers, "WARC-Refers-To-Date")),
        truncated=text(headers, "WARC-Truncated"),
    )


def _arc_head(found: re.Match[bytes]) -> Head:
    url = _decoded(found["url"])
    return Head(
        kind="response" if url[:4].lower() == "http" else "arcinfo",
        url=url,
        date=stamp(found["date"].decode("ascii")),
        length=int(found["length"]),
        content_type=_decoded(found["type"]),
    )


def stamp(date: str) -> str:
    """The 14 digits of a record's date, to the second."""
    return _NOT_DIGITS.sub("", date)[:14]
