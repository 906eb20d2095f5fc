"""How the client speaks with the server: one connection pool, one policy of trying again.

What may pass (the server is away, busy, or says when to come again) is tried
again within `patience`; a POST only where that changes nothing, or because it
carries an Idempotency-Key, by which the server does it once however often it is sent.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import Enum
from functools import cache
from ipaddress import ip_address
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import httpx2
from pydantic import TypeAdapter, ValidationError

from chrono_ray.model.errors import (
    ChronoError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Stale,
    TooOften,
    Unauthenticated,
    Unavailable,
)
from chrono_ray.model.retry import backoff

PREFIX: Final = "/api/v1"
IDEMPOTENCY: Final = "Idempotency-Key"
BUSY: Final = "idempotency_busy"
CONNECT_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 60.0
"""A stream may be silent so long: its heartbeats come every 20 s."""
FIRST_ROWS: Final = 100
PAGE_ROWS: Final = 1000
"""Of a list's first page, which often is enough, and of those behind it."""
READS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Safe to repeat: they ask, or say what is to be."""
OPEN: Final = frozenset({"/auth/login", "/auth/refresh", "/auth/register"})
"""Who asks is said in the body: a token that has expired must not go with them."""
KINDS: Final[Mapping[int, type[ChronoError]]] = {
    400: InvalidInput, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict,
    412: Stale, 413: InvalidInput, 415: InvalidInput, 416: InvalidInput, 422: InvalidInput,
}  # fmt: skip


class Unset(Enum):
    """What a caller did not say: it is not sent."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final[Literal[Unset.UNSET]] = Unset.UNSET


class Cut(Unavailable):
    """An answer broke off while it was read."""

    code = "cut"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `again`: sending it twice does no harm. `known`: errors that are answers."""

    method: str
    path: str
    query: dict[str, Any]
    headers: dict[str, Any]
    body: dict[str, Any] | None
    again: bool
    known: frozenset[int] = frozenset()


class Transport:
    """Requests of one user. Safe to use from several threads."""

    def __init__(
        self, url: str, *, token: str, timeout: float, patience: float, insecure: bool
    ) -> None:
        """`timeout` seconds for one try, `patience` for all tries of a request together.

        `InvalidInput` for what is no address, and for one that a token would be sent to in the
        clear over a network, unless `insecure`.
        """
        self._token = token
        self._patience = patience
        self._lock = threading.Lock()
        self._renew: Callable[[], str] | None = None
        soon = min(timeout, CONNECT_SECONDS)
        self._timeout = httpx2.Timeout(timeout, connect=soon)
        self._quiet = httpx2.Timeout(timeout, connect=soon, read=max(timeout, QUIET_SECONDS))
        base = f"{address(url, insecure=insecure)}{PREFIX}"
        # nobody's proxy: it would be told the token wherever the connection is not encrypted
        self._client = httpx2.Client(
            base_url=base, follow_redirects=False, trust_env=not base.startswith("http://")
        )

    def renewed_by(self, renew: Callable[[], str]) -> None:
        """When the token has expired, `renew` gives the next one: once for all threads."""
        self._renew = renew

    def use(self, token: str) -> None:
        """From now on this token."""
        self._token = token

    def call(
        self,
        method: str,
        path: str,
        answers: Mapping[int, Any],
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        once: bool = False,
        again: bool = False,
    ) -> Any:
        """The answer as its status' type. Raises the error that the server's problem names."""
        request = _request(method, path, query, headers, body, once=once, again=again)
        got = self._tried(replace(request, known=frozenset(answers)))
        kind = answers.get(got.status_code)
        if kind is None:
            raise _strange(got, f"{got.status_code} is no answer that this version knows")
        try:
            return _reader(kind).validate_json(got.content)
        except ValidationError as error:
            if got.status_code >= 400:
                raise problem(got) from None
            raise _strange(got, _reasons(error)) from None

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        once: bool = False,
        again: bool = False,
    ) -> None:
        """A request whose answer says nothing but that it was done."""
        got = self._tried(_request(method, path, query, headers, body, once=once, again=again))
        if got.status_code >= 300:
            raise _strange(got, f"{got.status_code} is no answer that this version knows")

    def pages(
        self, path: str, answer: type[Any], *, query: Mapping[str, object] | None = None
    ) -> Iterator[Any]:
        """Every item of a list, page by page, fetched as they are taken."""
        cursor: object = UNSET
        limit = min(FIRST_ROWS, PAGE_ROWS)
        while cursor is not None:
            asked = {**(query or {}), "cursor": cursor, "limit": limit}
            page = self.call("GET", path, {200: answer}, query=asked)
            yield from page.items
            cursor, limit = page.next, PAGE_ROWS

    @contextmanager
    def stream(
        self, path: str, *, query: Mapping[str, object], headers: Mapping[str, object]
    ) -> Iterator[httpx2.Response]:
        """An answer that is read while it comes; it is begun like any other request.

        Raises `Cut` when it breaks off: going on is for whoever reads it.
        """
        got = self._tried(_request("GET", path, query, headers, None), stream=True)
        try:
            yield got
        except httpx2.RequestError as error:
            raise Cut(
                "The answer broke off", why=_why(error), fix="Ask again", code="cut"
            ) from error
        finally:
            got.close()

    def close(self) -> None:
        """Close the connections. What is asked later fails."""
        self._client.close()

    def _tried(self, request: Request, *, stream: bool = False) -> httpx2.Response:
        until = time.monotonic() + self._patience
        attempt = 0
        while True:
            attempt += 1
            try:
                got = self._known(request, stream=stream)
            except Unavailable as error:
                failed: ChronoError = error
                delay: float | None = _spread(attempt)
            else:
                if got.status_code < 400 or got.status_code in request.known:
                    return got
                failed, delay = problem(got), _delay(got, attempt)
            if delay is None or not request.again or time.monotonic() + delay > until:
                raise failed
            time.sleep(delay)

    def _known(self, request: Request, *, stream: bool) -> httpx2.Response:
        """As who we are: with another token where this one has expired."""
        token = "" if request.path in OPEN else self._token
        got = self._sent(request, token, stream=stream)
        if got.status_code != 401 or not token or self._renew is None:
            return got
        with self._lock:  # of several threads one renews
            if self._token == token:
                self._token = self._renew()
        return self._sent(request, self._token, stream=stream)

    def _sent(self, request: Request, token: str, *, stream: bool) -> httpx2.Response:
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        made = self._client.build_request(
            request.method, request.path.lstrip("/"), params=request.query, json=request.body,
            headers=request.headers | bearer, timeout=self._quiet if stream else self._timeout,
        )  # fmt: skip
        try:
            got = self._client.send(made, stream=stream)
            if stream and got.status_code >= 400:
                got.read()
        except httpx2.RequestError as error:
            raise _away(error) from error
        return got


def address(url: str, *, insecure: bool) -> str:
    """A server's address without what we add to it; `InvalidInput` unless a token may go there."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.query:
        raise InvalidInput(
            "This is no address of a server", fix="Write http://host:port or https://host",
            code="server",
        )  # fmt: skip
    if parts.scheme == "http" and not insecure and not _is_here(host):
        raise InvalidInput(
            f"{host} is not asked by plain http", why="who listens on the way has the token then",
            fix="Use https, or say that the network is trusted (docs/client.md)", code="insecure",
        )  # fmt: skip
    return url.rstrip("/").removesuffix(PREFIX)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _request(
    method: str,
    path: str,
    query: Mapping[str, object] | None,
    headers: Mapping[str, object] | None,
    body: Mapping[str, object] | None,
    *,
    once: bool = False,
    again: bool = False,
) -> Request:
    key = {IDEMPOTENCY: uuid.uuid4().hex} if once else {}
    return Request(
        method, path, _given(query or {}), _given(headers or {}) | key,
        None if body is None else _said(body), method in READS or once or again,
    )  # fmt: skip


def segment(value: object) -> str:
    """A part of a path, whatever it holds. `InvalidInput` for one that would lead elsewhere."""
    text = str(value)
    if text in ("", ".", ".."):
        raise InvalidInput(f"{text!r} cannot be asked for", why="it is no name", code="segment")
    return quote(text, safe="")


def problem(got: httpx2.Response) -> ChronoError:
    """The server's problem (RFC 9457) as the error it was there."""
    try:
        said = got.json()
        what, why = str(said["title"]), str(said.get("detail", ""))
        fix, code = str(said.get("fix", "")), str(said["code"])
    except (ValueError, KeyError, TypeError):
        what, why, fix, code = f"The server answers {got.status_code}", "", "", ""
    else:
        why = why or "; ".join(f"{e['field']}: {e['message']}" for e in said.get("errors", []))
    if got.status_code == 429:
        return TooOften(what, retry_after=_retry_after(got) or 1.0, why=why, fix=fix, code=code)
    kind = KINDS.get(got.status_code, Unavailable if got.status_code >= 500 else ChronoError)
    return kind(what, why=why, fix=fix, code=code)


def _delay(got: httpx2.Response, attempt: int) -> float | None:
    """Seconds until the next try of what was refused; None when trying again changes nothing."""
    match got.status_code:
        case 429:
            return _retry_after(got) or 1.0
        case 502 | 503 | 504:
            return _retry_after(got) or _spread(attempt)
        case 409 if problem(got).code == BUSY:
            return _retry_after(got) or 1.0
        case _:
            return None


def _spread(attempt: int) -> float:
    """A server of one's own is asked sooner than an archive."""
    return backoff(attempt, random.random()) / 8  # noqa: S311 (not for secrets)


def _retry_after(got: httpx2.Response) -> float | None:
    said = got.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else None


def _away(error: Exception) -> Unavailable:
    return Unavailable(
        "The server does not answer", why=_why(error), fix="Check its address, or try again",
        code="server_away",
    )  # fmt: skip


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _reasons(error: ValidationError) -> str:
    """Where it differs from what is described; not what stands there, which may be a secret."""
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:3])


def _strange(got: httpx2.Response, why: str) -> ChronoError:
    return ChronoError(
        f"The server's answer to {got.request.method} {got.request.url.path} cannot be read",
        why=why, fix="Use the client of the server's version", code="answer",
    )  # fmt: skip


def _given(values: Mapping[str, object]) -> dict[str, Any]:
    """Of a query or of headers, which have no word for None."""
    return {name: value for name, value in _said(values).items() if value is not None}


def _said(given: Mapping[str, object]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in given.items() if value is not UNSET}


def _plain(value: object) -> object:
    """As JSON and queries say it. A time without a zone is UTC, as everything of archives."""
    match value:
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case str() | bytes():
            return value
        case Mapping():
            return {name: _plain(each) for name, each in value.items()}
        case Sequence() | AbstractSet():
            return [_plain(each) for each in value]
        case _:
            return value


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
