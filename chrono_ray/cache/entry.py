"""What stands in Redis for an answer: its JSON behind a line that says what it is.

The line holds the schema's version, the stamp of its tags when it was computed
and a digest. Bytes of which any of these is wrong are no answer, and never run
as code: nothing here is pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Final

VALUE_BYTES_MAX: Final = 1024 * 1024
"""Larger answers are not kept: reading them back would break the deadline."""
_DIGEST: Final = 16
_STAMP: Final = 8
_NAME: Final = 20


class How(StrEnum):
    """Where an answer came from."""

    HIT = "hit"
    MISS = "miss"
    STALE = "stale"
    """Its time is up; somebody else computes it anew just now."""
    BYPASS = "bypass"
    """The cache could not be asked, or not be believed."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer; `digest` is its content's, in hexadecimal."""

    body: bytes
    digest: str
    how: How


class Corrupt(Exception):
    """Bytes that are no answer of this version."""


def digest_of(body: bytes) -> str:
    return blake2b(body, digest_size=_DIGEST).hexdigest()


def stamp_of(tokens: tuple[bytes, ...]) -> bytes:
    """What the tags stand at, in few bytes."""
    return blake2b(b"\n".join(tokens), digest_size=_STAMP).hexdigest().encode()


def name_of(text: str) -> str:
    """A bounded name for any text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_NAME).hexdigest()


def packed(version: str, stamp: bytes, found: Found) -> bytes:
    return b"%s%s %s\n%s" % (_mark(version), stamp, found.digest.encode(), found.body)


def unpacked(version: str, stamp: bytes, value: bytes) -> Found | None:
    """The answer; None for one of other tags, which a change has ended. Raises `Corrupt`."""
    mark = _mark(version)
    begin = len(mark) + 2 * _STAMP + 1 + 2 * _DIGEST + 1
    of, _, digest = value[len(mark) : begin - 1].partition(b" ")
    if not value.startswith(mark) or len(of) != 2 * _STAMP or value[begin - 1 : begin] != b"\n":
        raise Corrupt
    if of != stamp:
        return None
    body = value[begin:]
    found = Found(body, digest_of(body), How.HIT)
    if found.digest.encode() != digest:
        raise Corrupt
    return found


def _mark(version: str) -> bytes:
    return f"chrono-json {version}\n".encode()
