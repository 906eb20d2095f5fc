"""What the archive answers, before anybody writes it to a wire; and the log of who asked what."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `body` is what goes on the wire, already coded as `headers` say."""

    status: int
    headers: Headers
    body: bytes = b""


class Kind(StrEnum):
    """What a request counts against: listings and replays have budgets of their own."""

    LISTING = "listing"
    REPLAY = "replay"
    OTHER = "other"


LISTING_PATHS: Final = ("/cdx/", "/web/timemap/")


def kind_of(target: str) -> Kind:
    """Which budget a request target (path and query) belongs to."""
    if target.startswith(LISTING_PATHS):
        return Kind.LISTING
    return Kind.REPLAY if target.startswith("/web/") else Kind.OTHER


def text_reply(
    status: int,
    body: str,
    content_type: str = "text/plain; charset=utf-8",
    *,
    headers: Headers = (),
) -> Reply:
    return Reply(status, (("Content-Type", content_type), *headers), body.encode())


def gzipped(body: bytes) -> bytes:
    """One gzip member; the same bytes every time."""
    coder = zlib.compressobj(1, zlib.DEFLATED, 31)
    return coder.compress(body) + coder.flush()


@dataclass(frozen=True, slots=True)
class Logged:
    """One request as it arrived.

    `at` is seconds on the machine's monotonic clock; `status` is 0 while the
    request is being answered, and stays 0 when no whole answer was written.
    `behaviour` names what was done instead of an honest answer.
    """

    at: float
    kind: Kind
    target: str
    status: int
    behaviour: str


class RequestLog:
    """Every request in order of arrival."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._kind: list[Kind] = []
        self._target: list[str] = []
        self._status: list[int] = []
        self._behaviour: list[str] = []

    def arrived(self, kind: Kind, target: str) -> int:
        """Notes a request now; the number is for `answered`."""
        self._at.append(time.monotonic())
        self._kind.append(kind)
        self._target.append(target)
        self._status.append(0)
        self._behaviour.append("")
        return len(self._at) - 1

    def answered(self, number: int, status: int) -> None:
        self._status[number] = status

    def misbehaved(self, number: int, behaviour: str) -> None:
        self._behaviour[number] = behaviour

    def __len__(self) -> int:
        return len(self._at)

    def entries(self, start: int = 0) -> Iterator[Logged]:
        """The requests from number `start` on."""
        for number in range(start, len(self._at)):
            yield Logged(
                self._at[number],
                self._kind[number],
                self._target[number],
                self._status[number],
                self._behaviour[number],
            )

    def times(self, kind: Kind) -> list[float]:
        """When the requests of one kind arrived, ascending."""
        return [at for at, of in zip(self._at, self._kind, strict=True) if of is kind]

    def stats(self) -> Reply:
        """JSON: counts by kind and by status."""
        kinds = Counter(str(kind) for kind in self._kind)
        statuses = Counter(str(status) for status in self._status)
        counts = {"requests": len(self), "kinds": dict(kinds), "statuses": dict(statuses)}
        return Reply(200, (("Content-Type", "application/json"),), orjson.dumps(counts))

    def lines(self) -> Reply:
        """JSON lines, one request each."""
        body = b"".join(
            orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in self.entries()
        )
        return Reply(200, (("Content-Type", "application/x-ndjson"),), body)
