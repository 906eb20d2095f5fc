"""The one HTTP session that archives are spoken to through.

Bodies come back whole or not at all. Every hop of a redirect is checked by
the address policy and takes its own turn. There are no cookies, no proxy from
the environment, no retry: what went out on the wire is what was counted.

aiohttp 3.14 is relied on for refusing long or too many headers and bodies
that end before their declared length.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final, overload
from urllib.parse import quote, urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from chrono_ray.archives.addresses import AddressDenied, AddressPolicy, Endpoint, PolicyResolver
from chrono_ray.archives.base import Turn
from chrono_ray.archives.encoding import BODY_LIMIT, CODINGS, decode
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    RequestRefused,
    TransferFailed,
)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_COOKIE_LINES: Final = 10_240
"""Set-Cookie lines are dropped, not counted: a site that sets thousands is still a page."""
_LINKING: Final = frozenset({"link", "location", "content-location"})
_ANY_CODING: Final = {"Accept-Encoding": CODINGS}
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}
_READ_BUFFER: Final = 256 * 1024
_URL_SAFE: Final = "".join(chr(code) for code in range(33, 127) if chr(code) not in '"<>\\^`{|}#')
_ABSOLUTE: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*:")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one answer may cost. Times in seconds, sizes in bytes.

    `link_line` is for headers that are made of URLs: a memento's Link names the archived
    one eight times over. An index may search for a minute before a listing's head comes:
    `listing_head` is for those.
    """

    connect: float = 10.0
    head: float = 30.0
    listing_head: float = 120.0
    header_line: int = 8190
    link_line: int = 32 * 1024
    headers: int = 128
    hops: int = 5
    connections: int = 0


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `body` is as transferred, content coding and all; see `entity`.

    `url` is where it came from after `redirects`; `requests` went out for it.
    """

    url: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    redirects: tuple[tuple[int, str], ...]
    requests: int

    def entity(self, limit: int = BODY_LIMIT) -> bytes:
        """The body without its content coding; raises `TransferFailed`, see `encoding.decode`."""
        media_type = self.headers.get("Content-Type", "").lower()
        coding = self.headers.get("Content-Encoding", "")
        try:
            return decode(self.body, coding, media_type=media_type, limit=limit)
        except ArchiveError as error:
            error.requests = self.requests
            raise


Follow = Callable[[int, CIMultiDictProxy[str]], bool]
"""Whether a redirect (status, headers) is the archive's own, to be followed."""


def always(_status: int, _headers: CIMultiDictProxy[str]) -> bool:
    """Follow every redirect."""
    return True


def never(_status: int, _headers: CIMultiDictProxy[str]) -> bool:
    """Take a redirect for an answer."""
    return False


class HttpSession:
    """Connections to one archive.

    `allowed` are the endpoints beyond the public Internet's ports 80 and 443
    that an operator listed for this archive. `user_agent` names the project
    and a contact. `resolver` replaces the system's name resolution.
    """

    def __init__(
        self,
        user_agent: str,
        *,
        allowed: frozenset[Endpoint] = frozenset(),
        limits: Limits = LIMITS,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._policy = AddressPolicy(allowed)
        self._limits = limits
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self,
        url: str,
        *,
        deadline: float,
        turn: Turn,
        limit: int = BODY_LIMIT,
        follow: Follow = always,
    ) -> Answer:
        """A whole answer, its body at most `limit` bytes as transferred.

        `deadline` is for all hops together and stands still while a turn is
        awaited. Raises `RequestRefused`, `ConnectionRefused`,
        `ArchiveUnavailable` or `TransferFailed`; the status is the caller's to judge.
        """
        exchange = partial(
            self._exchange, read=partial(_read, limit=limit), headers=_ANY_CODING,
            head=self._limits.head,
        )  # fmt: skip
        return await self._walk(url, _Stopwatch(deadline), turn, follow, exchange)

    async def listing(
        self, url: str, *, deadline: float, turn: Turn, limit: int, follow: Follow = always
    ) -> Answer:
        """As `get`, from an index, which may search long before it answers."""
        exchange = partial(
            self._exchange, read=partial(_read, limit=limit), headers=_ANY_CODING,
            head=self._limits.listing_head,
        )  # fmt: skip
        return await self._walk(url, _Stopwatch(deadline), turn, follow, exchange)

    async def save(
        self, url: str, file: BinaryIO, *, deadline: float, turn: Turn, limit: int
    ) -> Answer:
        """As `listing`, with the body written to `file` piece by piece; the answer's is empty."""
        exchange = partial(
            self._exchange, read=partial(_write, file=file, limit=limit), headers=_AS_IT_IS,
            head=self._limits.listing_head,
        )  # fmt: skip
        return await self._walk(url, _Stopwatch(deadline), turn, always, exchange)

    async def part(
        self, url: str, wanted: range, *, deadline: float, turn: Turn, limit: int
    ) -> Answer:
        """As `get`, for these bytes of a file; no redirect is followed."""
        exchange = partial(
            self._exchange, read=partial(_read, limit=limit),
            headers={**_AS_IT_IS, "Range": f"bytes={wanted.start}-{wanted.stop - 1}"},
            head=self._limits.head,
        )  # fmt: skip
        return await self._walk(url, _Stopwatch(deadline), turn, never, exchange)

    async def aclose(self) -> None:
        """Close every connection. The session may be used again and then opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _walk(
        self, url: str, clock: _Stopwatch, turn: Turn, follow: Follow, exchange: _Exchange
    ) -> Answer:
        """From hop to hop, each checked and each in its turn."""
        redirects: list[tuple[int, str]] = []
        sent = 0
        try:
            while True:
                target = _target(url)
                self._policy.check_url(target)
                await turn()
                sent += 1
                with clock:
                    status, headers, body = await exchange(target, clock)
                location = _location(url, status, headers)
                if not location or not follow(status, headers):
                    return Answer(url, status, headers, body, tuple(redirects), sent)
                redirects.append((status, location))
                self._check_hops(redirects)
                url = location
        except ArchiveError as error:
            error.requests = sent
            raise

    def _check_hops(self, redirects: list[tuple[int, str]]) -> None:
        targets = [target for _, target in redirects]
        if len(redirects) > self._limits.hops or targets[-1] in targets[:-1]:
            raise TransferFailed(
                "Redirected too often", reason="redirects", why=f"{len(redirects)} hops"
            )

    async def _exchange(
        self, url: URL, clock: _Stopwatch, *, read: _Read, headers: Mapping[str, str], head: float
    ) -> _Raw:
        refusals = _Refusals()
        _REFUSALS.set(refusals)
        try:
            async with asyncio.timeout(min(clock.left, head)):
                response = await self._opened().get(url, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            raise _no_answer(error, url, refused=refusals.met) from error
        try:
            self._check_headers(response.headers)
            async with asyncio.timeout(clock.left):
                body = await read(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _no_body(error, url) from error
        finally:
            response.close()
        return response.status, response.headers, body

    def _check_headers(self, headers: CIMultiDictProxy[str]) -> None:
        count = len(headers)
        if count > self._limits.headers:
            count -= len(headers.getall("Set-Cookie", []))
        if count > self._limits.headers:
            raise TransferFailed("Too many headers", reason="protocol", why=f"{count}")
        for name, value in headers.items():
            if len(value) > self._limits.header_line and name.lower() not in _LINKING:
                raise TransferFailed("A header is too long", reason="protocol", why=name[:100])

    def _opened(self) -> aiohttp.ClientSession:
        """The session, made on first use because it belongs to the running loop."""
        if self._session is None:
            self._session = self._new_session()
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        limits = self._limits
        connector = aiohttp.TCPConnector(
            limit=limits.connections,
            socket_factory=partial(self._policy.open_socket, make=_TellingSocket),
            resolver=PolicyResolver(self._policy, self._resolver or aiohttp.ThreadedResolver()),
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=_NoCookies(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BUFFER,
            max_line_size=limits.header_line,
            max_field_size=limits.link_line,
            max_headers=_COOKIE_LINES + limits.headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect),
            headers={"User-Agent": self._user_agent},
        )
        # aiohttp sends a GET again when a kept-alive connection turns out dead: a request
        # that took no turn. The switch has no public name (aiohttp 3.14 client.py).
        session._retry_connection = False
        return session


_Raw = tuple[int, CIMultiDictProxy[str], bytes]
_Read = Callable[[aiohttp.ClientResponse], Awaitable[bytes]]


class _NoCookies(aiohttp.DummyCookieJar):
    """Takes no cookie, and does not even read it."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        pass


@dataclass(slots=True)
class _Refusals:
    """Whether a connection was refused while one request was under way, and none made since."""

    met: bool = False


_REFUSALS: Final[ContextVar[_Refusals]] = ContextVar("refusals of this request")


class _TellingSocket(socket.socket):
    """Notes when its peer refuses, and when it does not: what fails then is TLS, or time.

    A host has several addresses. Of what they answered aiohttp keeps a text without an
    errno, the last one's answer, or only that the time was over (3.14, aiohappyeyeballs 2.7).
    """

    def connect(self, address: Any, /) -> None:
        try:
            super().connect(address)
        except ConnectionRefusedError:
            _REFUSALS.get().met = True
            raise
        _REFUSALS.get().met = False

    @overload
    def getsockopt(self, level: int, name: int, /) -> int: ...
    @overload
    def getsockopt(self, level: int, name: int, size: int, /) -> bytes: ...
    def getsockopt(self, level: int, name: int, /, *size: int) -> int | bytes:
        """Where the loop learns what became of a connection that was under way."""
        found: int | bytes = super().getsockopt(level, name, *size)
        if name == socket.SO_ERROR and found in (0, errno.ECONNREFUSED):
            _REFUSALS.get().met = found != 0
        return found


class _Stopwatch:
    """Seconds left, counted only while running."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._since = 0.0

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._left -= time.monotonic() - self._since

    @property
    def left(self) -> float:
        return self._left - (time.monotonic() - self._since)


_Exchange = Callable[[URL, _Stopwatch], Awaitable[_Raw]]


def _target(url: str) -> URL:
    what = f"Refused to ask {url[:200]}"
    try:
        target = URL(url, encoded=True)
        place = (target.host, target.port)  # looked at now, for they raise when they are
    except ValueError as error:
        raise RequestRefused(what, reason="scheme", why=str(error)[:200]) from None
    if None in place:
        raise RequestRefused(what, reason="scheme", why="no host and port")
    return target


def ascii_url(url: str) -> str:
    """A URL fit for the wire: what a request line cannot hold is escaped, the rest untouched."""
    return quote(url.encode("utf-8", "surrogateescape"), safe=_URL_SAFE)


def _location(url: str, status: int, headers: CIMultiDictProxy[str]) -> str:
    """The absolute target of a redirect, its path left as written; empty when there is none."""
    location = headers.get("Location", "").strip() if status in _REDIRECTS else ""
    if not location:
        return ""
    location = ascii_url(location.partition("#")[0])
    if _ABSOLUTE.match(location):
        return location
    base = URL(url, encoded=True)
    if location.startswith("//"):
        return f"{base.scheme}:{location}"
    # urljoin would fold the `//` and `..` of the archived URL inside the path.
    return f"{base.origin()}{location}" if location.startswith("/") else urljoin(url, location)


async def _read(response: aiohttp.ClientResponse, *, limit: int) -> bytes:
    declared = _declared(response, limit)
    async with _watched(response):
        if declared is not None:
            return await response.read()
        return b"".join([piece async for piece in _pieces(response, limit)])


async def _write(response: aiohttp.ClientResponse, *, file: BinaryIO, limit: int) -> bytes:
    file.seek(0)
    file.truncate()  # of what a redirect left there
    _declared(response, limit)
    if coding := response.headers.get("Content-Encoding"):
        raise TransferFailed("A coding was not asked for", reason="encoding", why=coding[:100])
    async with _watched(response):
        async for piece in _pieces(response, limit):
            file.write(piece)
    return b""


def _declared(response: aiohttp.ClientResponse, limit: int) -> int | None:
    declared = response.content_length
    if declared is not None and declared > limit:
        raise _too_large(limit)
    return declared


@asynccontextmanager
async def _watched(response: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """While a body is read: an end for the reader whenever the connection ends.

    A parse error in the middle of a body closes the connection without waking
    its reader, and bytes beyond the declared length go unmentioned (aiohttp
    3.14, `ResponseHandler.data_received`).
    """
    connection = response.connection
    protocol = connection.protocol if connection is not None else None
    closed = protocol.closed if protocol is not None else None
    if protocol is None or closed is None:  # the body came with the head, or nothing will
        yield
        return
    wake = _Wake(response.content)
    closed.add_done_callback(wake)
    try:
        yield
    finally:
        closed.remove_done_callback(wake)
    if isinstance(protocol.exception(), HttpProcessingError):
        raise TransferFailed("More bytes came than declared", reason="truncated")


class _Wake:
    """Ends a body that is not complete when its connection closes."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __call__(self, closed: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # seen, so that the loop does not report it
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("The body broke off"))


async def _pieces(response: aiohttp.ClientResponse, limit: int) -> AsyncIterator[bytes]:
    size = 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        yield piece


def _no_answer(error: aiohttp.ClientError | OSError, url: URL, *, refused: bool) -> ArchiveError:
    """What it means that no head came; `refused`: one of its host's addresses refused."""
    where = url.host or ""
    match error:
        case aiohttp.ClientConnectorError():
            return _no_connection(error.os_error, where, refused=refused)
        case aiohttp.ServerTimeoutError():
            return _no_connection(TimeoutError("timed out"), where, refused=refused)
        case TimeoutError():
            return TransferFailed(f"No answer from {where} in time", reason="deadline")
        case aiohttp.ClientResponseError():
            return _not_http(str(error.__cause__ or error), where)
        case aiohttp.InvalidURL():
            return RequestRefused("Not a URL to be asked", reason="scheme", why=str(error)[:200])
        case _:
            return ArchiveUnavailable(f"{where} broke the connection", why=str(error)[:200])


def _not_http(cause: str, where: str) -> TransferFailed:
    """Bytes beyond the declared length look like the beginning of a nonsensical next answer."""
    beyond = "Data after" in cause or "Bad status line" in cause
    reason = "truncated" if beyond else "protocol"
    return TransferFailed(f"{where} does not speak HTTP", reason=reason, why=cause[:200])


def _no_connection(error: OSError, where: str, *, refused: bool) -> ArchiveError:
    if isinstance(error, AddressDenied):
        return RequestRefused(f"Refused to ask {where}", reason="address", why=str(error))
    if refused:
        return ConnectionRefused(f"{where} refused the connection")
    return ArchiveUnavailable(f"No connection to {where}", why=str(error)[:200])


def _no_body(error: aiohttp.ClientError | OSError, url: URL) -> ArchiveError:
    """What it means that a head came, but not the whole body."""
    what = f"The answer of {url.host} broke off"
    if isinstance(error, TimeoutError):
        return TransferFailed(what, reason="deadline", why="the deadline passed")
    if isinstance(error, aiohttp.ClientPayloadError) and not isinstance(
        error.__cause__, (ContentLengthError, OSError)
    ):
        return TransferFailed(what, reason="protocol", why=str(error)[:200])
    return TransferFailed(what, reason="truncated", why=str(error)[:200])


def _too_large(limit: int) -> TransferFailed:
    return TransferFailed("The body is too large", reason="too_large", why=f"over {limit} bytes")
