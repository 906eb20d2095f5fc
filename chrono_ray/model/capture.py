"""What an archive lists: captures, their timestamps, and the states they end in.

A capture's state is never stored twice: it is its own decision (`skipped`)
or that of the fetch it points at (see `FetchState`).
"""

from __future__ import annotations

import calendar
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from chrono_ray.model.priority import CapturePriority

EMPTY_DIGEST: Final = "3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"
"""base32 SHA-1 of zero bytes: redirects and lost bodies share it, so it names nothing."""

NO_DIGEST: Final = "-"
REVISIT_TYPES: Final = frozenset({"warc/revisit"})


@dataclass(frozen=True, slots=True, order=True)
class Timestamp14:
    """The archive's 14 digits, kept as text even where they name no moment.

    Real indexes hold month 00 and day 32 (seen in Wayback listings), so
    `instant` is the nearest valid moment and `impossible` says it was moved.
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text) != 14 or not (self.text.isascii() and self.text.isdigit()):
            raise ValueError(f"not a 14-digit timestamp: {self.text[:40]!r}")

    @property
    def instant(self) -> datetime:
        """The moment meant, in UTC, each field moved to the nearest legal value."""
        return self._exact() or self._nearest()

    def _exact(self) -> datetime | None:
        year, month, day = int(self.text[:4]), int(self.text[4:6]), int(self.text[6:8])
        hour, minute, second = int(self.text[8:10]), int(self.text[10:12]), int(self.text[12:])
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            return None

    def _nearest(self) -> datetime:
        year = min(max(int(self.text[:4]), 1), 9999)
        month = min(max(int(self.text[4:6]), 1), 12)
        day = min(max(int(self.text[6:8]), 1), calendar.monthrange(year, month)[1])
        hour, minute, second = (int(self.text[i : i + 2]) for i in (8, 10, 12))
        return datetime(
            year, month, day, min(hour, 23), min(minute, 59), min(second, 59), tzinfo=UTC
        )

    @property
    def impossible(self) -> bool:
        """True when the digits name no moment, so that `instant` is only near it."""
        return self._exact() is None

    @classmethod
    def of(cls, moment: datetime) -> Timestamp14:
        """The 14 digits of a moment (any zone)."""
        return cls(moment.astimezone(UTC).strftime("%Y%m%d%H%M%S").rjust(14, "0"))


class FetchState(StrEnum):
    """Where a wanted payload stands. `leased` is derived (a row in `leases`), never stored."""

    PENDING = "pending"
    STORED = "stored"
    GONE = "gone"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Final[dict[FetchState, frozenset[FetchState]]] = {
    FetchState.PENDING: frozenset(FetchState),
    FetchState.STORED: frozenset(),
    FetchState.GONE: frozenset({FetchState.PENDING}),
    FetchState.REFUSED: frozenset({FetchState.PENDING}),
    FetchState.FAILED: frozenset({FetchState.PENDING}),
    FetchState.CANCELLED: frozenset({FetchState.PENDING}),
}
"""Legal moves. Only a person's retry, or a later run, takes an ended fetch back to pending."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One listed row.

    `statuscode` is text because archives write `-` for revisits. `length` is
    the archive's (compressed record) length, None when not given. `locator`
    is what the archive needs besides url and timestamp to find the bytes
    (WARC name, offset and length); empty where url and timestamp suffice.
    """

    urlkey: str
    timestamp: Timestamp14
    original: str
    mimetype: str
    statuscode: str
    digest: str
    length: int | None = None
    locator: str = ""

    @property
    def key(self) -> bytes:
        """16 bytes that two rows share exactly when they are the same capture.

        Covers timestamp, original, digest, statuscode and mimetype: real
        listings hold several rows for one second that differ only in scheme
        or digest. A hash, because a URL may exceed what a btree can hold.
        """
        parts = (self.timestamp.text, self.original, self.digest, self.statuscode, self.mimetype)
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).digest()

    @property
    def is_revisit(self) -> bool:
        return self.mimetype in REVISIT_TYPES

    @property
    def shareable(self) -> bool:
        """Whether the digest names bytes, so that one response can serve every such capture."""
        return self.digest not in (EMPTY_DIGEST, NO_DIGEST, "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The capture's payload is to be fetched (or shared with a capture of the same digest).

    `rule` is empty unless a rule of the domain says so.
    """

    priority: CapturePriority = CapturePriority.NORMAL
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The capture stays as an event in the timeline; nothing is requested for it."""

    reason: str
    rule: str
    confidence: float = 1.0


Decision = Wanted | Skipped
