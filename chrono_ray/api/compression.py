"""Large answers in few bytes: zstd or gzip, whichever the asker takes.

Compressed are whole texts over 1 KiB. What is sent piece by piece, an
attachment or encoded already goes through as it is, and so does what may hold
a secret beside something that an attacker chose (BREACH, 2013): its length
would tell of it.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal

import zstandard
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Encoding = Literal["zstd", "gzip"]

BYTES_LEAST: Final = 1024
GZIP_LEVEL: Final = 4
ZSTD_LEVEL: Final = 1
"""25 KB of JSON take 60 us and 2.9 KB by zstd 1, 570 us and 3.8 KB by gzip 4: only the latter is
worth remembering."""
REMEMBERED: Final = 4 * 1024 * 1024
TYPES: Final = ("application/json", "application/problem+json", "text/")
SECRET: Final = ("/api/v1/auth/", "/api/v1/keys", "/api/v1/live/tickets")
ENCODINGS: Final[tuple[Encoding, ...]] = ("zstd", "gzip")
"""Best first."""


class Compression:
    """Plain ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._gzipped = Gzipped()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(SECRET):
            await self._app(scope, receive, send)
            return
        accepted = encoding_of(Headers(scope=scope).get("accept-encoding", ""))
        await self._app(scope, receive, _Answer(send, accepted, self._gzipped).send)


class _Answer:
    """Holds an answer's head back until its body is there."""

    def __init__(self, send: Send, accepted: Encoding | None, gzipped: Gzipped) -> None:
        self._send = send
        self._accepted = accepted
        self._gzipped = gzipped
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _may_be(message):
            self._head = message
            return
        head, self._head = self._head, None
        if head:
            message = self._smaller(head, message)
            await self._send(head)
        await self._send(message)

    def _smaller(self, head: Message, message: Message) -> Message:
        """The body as it goes out; the head says so then."""
        body = message.get("body", b"")
        if message.get("more_body") or len(body) < BYTES_LEAST:
            return message
        headers = MutableHeaders(scope=head)
        if "accept-encoding" not in headers.get("vary", "").lower():
            headers.add_vary_header("Accept-Encoding")
        if self._accepted is None:
            return message
        if self._accepted == "gzip":
            small = self._gzipped.of(body)
        else:
            small = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
        headers["Content-Encoding"] = self._accepted
        headers["Content-Length"] = str(len(small))
        etag = headers.get("etag", "")
        if etag and not etag.startswith("W/"):  # the same to whoever reads it, not byte by byte
            headers["ETag"] = f"W/{etag}"
        return {**message, "body": small}


class Gzipped:
    """What was compressed lately, by its content: `REMEMBERED` bytes at most."""

    def __init__(self) -> None:
        self.size = 0
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()

    def of(self, body: bytes) -> bytes:
        content = blake2b(body, digest_size=16).digest()
        if content in self._bodies:
            self._bodies.move_to_end(content)
            return self._bodies[content]
        small = self._bodies[content] = zlib.compress(body, GZIP_LEVEL, wbits=31)
        self.size += len(small)
        while self.size > REMEMBERED:
            self.size -= len(self._bodies.popitem(last=False)[1])
        return small


@lru_cache(256)
def encoding_of(header: str) -> Encoding | None:
    """What an `Accept-Encoding` takes best (RFC 9110, 12.5.3); None for the text as it is."""
    weights: dict[str, float] = {}
    for each in header.lower().split(","):
        name, _, parameter = each.partition(";")
        name = name.strip().removeprefix("x-")
        if name:
            weights[name] = _weight(parameter.strip())
    others = weights.get("*", 0.0)
    best = max(ENCODINGS, key=lambda each: weights.get(each, others))
    return best if weights.get(best, others) > 0 else None


def _weight(parameter: str) -> float:
    """Of `q=0.5`; none is 1, and nonsense 0."""
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    try:
        return float(value) if name.strip() == "q" and 0 <= float(value) <= 1 else 0.0
    except ValueError:
        return 0.0


def _may_be(head: Message) -> bool:
    headers = Headers(raw=head["headers"])
    return (
        head["status"] not in (204, 206, 304)
        and headers.get("content-type", "").startswith(TYPES)
        and not headers.get("content-type", "").startswith("text/event-stream")
        and "content-encoding" not in headers
        and "content-disposition" not in headers
    )
