"""What an archive holds: a capture together with what its replay gives back."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from chrono_ray.model.capture import EMPTY_DIGEST, Capture, Timestamp14
from chrono_ray.model.urls import surt


@dataclass(frozen=True, slots=True)
class Origin:
    """The answer of the live web server, as it was crawled."""

    status: int
    mimetype: str
    headers: tuple[tuple[str, str], ...]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One listed capture and its origin. `lost`: listed, but replay answers 404."""

    capture: Capture
    origin: Origin
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Records in the archive's order: by urlkey, then timestamp, then the rest of the row."""

    domain: str
    records: tuple[Record, ...]

    @classmethod
    def of(cls, domain: str, records: Iterable[Record]) -> Site:
        return cls(domain, tuple(sorted(records, key=_order)))


def digest_of(payload: bytes) -> str:
    """base32 SHA-1, as archives list it."""
    if not payload:
        return EMPTY_DIGEST
    return base64.b32encode(hashlib.sha1(payload, usedforsecurity=False).digest()).decode()


def record(url: str, stamp: str, origin: Origin, *, lost: bool = False) -> Record:
    """A capture of `url` at `stamp` (14 digits) that was answered with `origin`."""
    capture = Capture(
        urlkey=surt(url),
        timestamp=Timestamp14(stamp),
        original=url,
        mimetype=origin.mimetype,
        statuscode=str(origin.status),
        digest=digest_of(origin.payload),
        length=len(origin.payload) // 3 + 350,
    )
    return Record(capture, origin, lost)


def revisit(earlier: Record, stamp: str) -> Record:
    """A later visit that found the same bytes: listed as warc/revisit, replayed as the earlier."""
    old = earlier.capture
    capture = Capture(
        urlkey=old.urlkey,
        timestamp=Timestamp14(stamp),
        original=old.original,
        mimetype="warc/revisit",
        statuscode="-",
        digest=old.digest,
        length=402,
    )
    return Record(capture, earlier.origin)


def _order(item: Record) -> tuple[str, str, str, str, str, str]:
    row = item.capture
    return (
        row.urlkey,
        row.timestamp.text,
        row.original,
        row.digest,
        row.statuscode,
        row.mimetype,
    )
