"""What an archive answers: listing pages and replayed payloads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chrono_ray.model.capture import Capture, Timestamp14


class MatchType(StrEnum):
    """Which URLs belong to a scope, in the words of the CDX API."""

    EXACT = "exact"
    PREFIX = "prefix"
    HOST = "host"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True)
class Scope:
    """What to list: a canonical URL, how it matches, and an inclusive span of time.

    `start` and `end` are 14 digits, or empty for "as far as the archive goes".
    """

    url: str
    match: MatchType
    start: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A listed line that is no capture. Counted and kept, never dropped silently."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One answer of a listing.

    `raw` is the answer's body, kept so that a certificate can be recounted
    from what the archive said: `Archive.parse(raw)` gives the same captures
    and bad rows again. `next_key` continues the listing; empty at its end.
    """

    captures: tuple[Capture, ...]
    bad_rows: tuple[BadRow, ...]
    next_key: str
    raw: bytes
    requests: int


class DigestCheck(StrEnum):
    """Our own SHA-1 of the bytes against the digest the archive listed. Never a failure."""

    VERIFIED = "verified"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Memento:
    """One replayed payload.

    `body` is the archived entity with its content coding removed; `served` is
    the timestamp the archive really answered with, `served_url` its own address of what it
    served (the locator where there is no wire). `headers` are the original
    ones (prefix removed), `media_type` and `charset` what they declare.
    `redirects` are the hops that led here, as `(status, target)`.
    """

    body: bytes
    sha1: str
    check: DigestCheck
    served: Timestamp14
    served_url: str
    status: int
    media_type: str
    charset: str
    headers: tuple[tuple[str, str], ...]
    redirects: tuple[tuple[int, str], ...]
    requests: int

    @property
    def truncated(self) -> bool:
        """Whether the crawler kept less than came, by a header that archives of records add."""
        return any(name == "warc-truncated" for name, _ in self.headers)
