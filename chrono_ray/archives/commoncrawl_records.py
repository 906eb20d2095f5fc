"""Where a capture's record lies in Common Crawl's files, and that record read from its bytes."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass
from typing import Final

from chrono_ray.archives.encoding import BODY_LIMIT
from chrono_ray.archives.payloads import Payload, read_payload
from chrono_ray.archives.records import Damaged, Head, Place, Reader
from chrono_ray.model.errors import TransferFailed

_FILE: Final = re.compile(r"(?:(?!\.\.?/)[A-Za-z0-9._=-]+/)*[A-Za-z0-9._=-]+\.(?:warc|arc)\.gz")
_FILE_CHARS: Final = 500
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_HEADS_LIMIT: Final = 512 * 1024
"""The record's own head and the archived answer's, beside the payload."""


@dataclass(frozen=True, slots=True)
class Locator:
    """One gzip member: `file` is below the data host, the rest counts bytes."""

    file: str
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.file}@{self.offset}+{self.length}"

    @classmethod
    def of(cls, file: str, offset: str, length: str) -> Locator:
        """From what an index says. Raises `ValueError` for what cannot be a member's place.

        The file's name becomes part of a URL: only plain relative paths of
        WARC and ARC files pass.
        """
        if len(file) > _FILE_CHARS or not _FILE.fullmatch(file):
            raise ValueError(f"not a file's name: {file[:200]!r}")
        if not (_NUMBER.fullmatch(offset) and _NUMBER.fullmatch(length)) or length == "0":
            raise ValueError(f"not an offset and a length: {offset[:20]!r}, {length[:20]!r}")
        return cls(file, int(offset), int(length))

    @classmethod
    def read(cls, text: str) -> Locator:
        """The inverse of `str`; raises `ValueError`."""
        file, _, place = text.rpartition("@")
        offset, _, length = place.partition("+")
        return cls.of(file, offset, length)

    @property
    def bytes(self) -> range:
        return range(self.offset, self.offset + self.length)


def read_member(member: bytes) -> tuple[Head, Payload]:
    """The one record in a gzip member; raises `Damaged`, `TransferFailed` (too_large, encoding)."""
    data = _inflated(member)
    reader = Reader(io.BufferedReader(io.BytesIO(data)), Place(""))
    record = reader.next()
    if record is None:
        raise Damaged("an empty member")
    payload = read_payload(record)
    reader.finish(record)
    if reader.place.offset != len(data):
        raise Damaged("more than one record")
    return record.head, payload


def _inflated(member: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    limit = BODY_LIMIT + _HEADS_LIMIT
    try:
        data = inflate.decompress(member, limit)
    except zlib.error as error:
        raise Damaged(f"bad gzip: {error}") from None
    if inflate.unconsumed_tail:
        raise TransferFailed("The record is too large", reason="too_large", why=f"over {limit}")
    if not inflate.eof:
        raise Damaged("cut off")
    if inflate.unused_data:
        raise Damaged("wrong length: another member follows")
    return data
