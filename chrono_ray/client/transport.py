"""How the client speaks with the server: one connection pool, one policy of trying again.

What may pass (the server is away, busy, or says when to come again) is tried
again within `patience`; a POST only because it carries an Idempotency-Key, by
which the server does it once however often it is sent.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, Final, Literal
from urllib.parse import quote

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
PAGE_ROWS: Final = 1000
READS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Safe to repeat: they ask, or say what is to be."""
KINDS: Final[Mapping[int, type[ChronoError]]] = {
    400: InvalidInput, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict,
    412: Stale, 413: InvalidInput, 415: InvalidInput, 416: InvalidInput, 422: InvalidInput,
}  # fmt: skip


class Unset(Enum):
    """What a caller did not say: it is not sent."""

    UNSET = "unset"


UNSET: Final[Literal[Unset.UNSET]] = Unset.UNSET


class Transport:
    """Requests of one user. Safe to use from several threads."""

    def __init__(self, url: str, *, token: str, timeout: float, patience: float) -> None:
        """`timeout` seconds for one try, `patience` for all tries of a request together."""
        self._token = token
        self._patience = patience
        self._lock = threading.Lock()
        self._renew: Callable[[], str] | None = None
        self._client = httpx2.Client(
            base_url=f"{url.rstrip('/')}{PREFIX}", follow_redirects=False,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        )  # fmt: skip

    def renewed_by(self, renew: Callable[[], str]) -> None:
        """When the token has expired, `renew` gives the next one: once for all threads."""
        self._renew = renew

    def use(self, token: str) -> None:
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
    ) -> Any:
        """The answer as its status' type. Raises the error that the server's problem names."""
        got = self._tried(method, path, query=query, headers=headers, body=body, once=once)
        kind = answers.get(got.status_code)
        if kind is None:
            raise _strange(got, "no answer that this version knows")
        try:
            return _reader(kind).validate_json(got.content)
        except ValidationError as error:
            raise _strange(got, str(error).splitlines()[0]) from error

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        once: bool = False,
    ) -> None:
        """A request whose answer says nothing but that it was done."""
        self._tried(method, path, query=query, headers=headers, body=body, once=once)

    def pages(
        self, path: str, answer: type[Any], *, query: Mapping[str, object] | None = None
    ) -> Iterator[Any]:
        """Every item of a list, page by page, fetched as they are taken."""
        cursor: object = UNSET
        while cursor is not None:
            asked = {**(query or {}), "cursor": cursor, "limit": PAGE_ROWS}
            page = self.call("GET", path, {200: answer}, query=asked)
            yield from page.items
            cursor = page.next

    @contextmanager
    def stream(
        self, path: str, *, query: Mapping[str, object], headers: Mapping[str, object]
    ) -> Iterator[httpx2.Response]:
        """An answer that is read while it comes. Trying again is for whoever reads it."""
        sent = _said(headers) | self._bearer()
        try:
            with self._client.stream("GET", path, params=_said(query), headers=sent) as got:
                if got.status_code >= 400:
                    got.read()
                    raise problem(got)
                yield got
        except httpx2.TransportError as error:
            raise _away(error) from error

    def close(self) -> None:
        self._client.close()

    def _tried(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None,
        headers: Mapping[str, object] | None,
        body: Mapping[str, object] | None,
        once: bool,
    ) -> httpx2.Response:
        key = {IDEMPOTENCY: uuid.uuid4().hex} if once else {}
        request = {
            "params": _said(query or {}), "headers": _said(headers or {}) | key,
            "json": None if body is None else _said(body),
        }  # fmt: skip
        again, until = method in READS or once, time.monotonic() + self._patience
        attempt = 0
        while True:
            attempt += 1
            try:
                got = self._once(method, path, request)
            except Unavailable as error:
                failed: ChronoError = error
                delay: float | None = _spread(attempt)
            else:
                if got.status_code < 400:
                    return got
                failed, delay = problem(got), _delay(got, attempt)
            if delay is None or not again or time.monotonic() + delay > until:
                raise failed
            time.sleep(delay)

    def _once(self, method: str, path: str, request: dict[str, Any]) -> httpx2.Response:
        token = self._token
        got = self._sent(method, path, request, token)
        if got.status_code == 401 and token and self._renew:
            with self._lock:  # of several threads one renews
                if self._token == token:
                    self._token = self._renew()
            got = self._sent(method, path, request, self._token)
        return got

    def _sent(self, method: str, path: str, request: dict[str, Any], token: str) -> httpx2.Response:
        headers = {**request["headers"], **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            return self._client.request(method, path, **{**request, "headers": headers})
        except httpx2.TransportError as error:
            raise _away(error) from error

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


def segment(value: object) -> str:
    """A part of a path, whatever it holds."""
    return quote(str(value), safe="")


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
        "The server does not answer", why=f"{type(error).__name__}: {error}",
        fix="Check its address, or try again", code="server_away",
    )  # fmt: skip


def _strange(got: httpx2.Response, why: str) -> ChronoError:
    return ChronoError(
        f"The server's answer to {got.request.method} {got.request.url.path} cannot be read",
        why=why, fix="Use the client of the server's version", code="answer",
    )  # fmt: skip


def _said(given: Mapping[str, object]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in given.items() if value is not UNSET}


def _plain(value: object) -> object:
    """As JSON and queries say it."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case tuple() | list():
            return [_plain(each) for each in value]
        case _:
            return value


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
