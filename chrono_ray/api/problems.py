"""Errors as RFC 9457 problems, each with a stable `code` and the request's id."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from chrono_ray.api.addresses import methods_of
from chrono_ray.api.field_errors import message_of
from chrono_ray.api.schemas import FieldError, Problem
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

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 5
REQUEST_ID: Final = "X-Request-Id"
ERRORS_SHOWN: Final = 20
ERRORS_TOLD: Final = 3
"""In the one line that says why."""
INTERNAL: Final = "internal"
IDEMPOTENCY_BUSY: Final = "idempotency_busy"

CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "media_type",
    416: "range",
    422: "invalid_request",
    426: "upgrade_required",
}
"""Codes of what the HTTP layer itself refuses; everything else has its error's own."""

WORDS: Final[Mapping[int, tuple[str, str, str]]] = {
    400: ("This is no request that is understood", "it is no HTTP, or not in UTF-8",
          "GET /api/v1/openapi.json describes what can be asked"),
    404: ("There is nothing at this address", "no route has it",
          "GET /api/v1/openapi.json names all addresses"),
    405: ("This address does not have that method", "it has others", "`Allow` names them"),
    413: ("The body is too large", "64 KiB are the most", "Ask in several requests"),
    415: ("The body is of a type that is not read here", "only application/json is",
          "Send JSON with `Content-Type: application/json`"),
    416: ("Nothing lies in this range", "it begins behind the end", "`Content-Range` has the size"),
    422: ("The request cannot be served", "a part of it is missing, unknown or out of its bounds",
          "Mend what `errors` names"),
    426: ("This address is a WebSocket's", "it was asked by plain HTTP",
          "Open it as a WebSocket, or GET /api/v1/live/events for the same by HTTP"),
    500: ("Something went wrong here", "it is no fault of the request",
          "Tell the operator the `request_id`: the log has what happened"),
}  # fmt: skip
"""Of what the HTTP layer itself refuses: what, why, and what to do."""

MEANT: Final[Mapping[type[ChronoError], tuple[str, str]]] = {
    InvalidInput: ("it breaks a rule of this field", "Ask otherwise"),
    NotFound: ("it does not exist, or you may not see it", "Look it up in its list"),
    Conflict: ("it is there already, or in another state", "Read it again, then decide"),
    Stale: ("somebody was faster", "Read it again, then decide"),
    Unauthenticated: ("no one here is known by it", "Log in: POST /api/v1/auth/login"),
    Forbidden: ("your rights do not reach so far", "Ask an admin, or the project's owner"),
    TooOften: ("there is a limit for everybody", "Wait as long as `Retry-After` says"),
    Unavailable: ("a part that this needs cannot answer now", "Try again"),
}
"""Why, and what to do, where an error does not say more."""

STATUSES: Final[Mapping[type[ChronoError], int]] = {
    InvalidInput: 422,
    NotFound: 404,
    Conflict: 409,
    Stale: 412,
    Unauthenticated: 401,
    Forbidden: 403,
    TooOften: 429,
    Unavailable: 503,
}
Ours = (
    InvalidInput
    | NotFound
    | Conflict
    | Stale
    | Unauthenticated
    | Forbidden
    | TooOften
    | Unavailable
)


def install(app: FastAPI) -> None:
    """Every error the application can end in becomes a problem."""
    app.add_exception_handler(ChronoError, _chrono)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def response(
    problem: Problem, *, headers: Mapping[str, str] | None = None, head: bool = False
) -> Response:
    """The problem as an answer."""
    sent = dict(headers or {})
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE or problem.code == IDEMPOTENCY_BUSY:
        sent["Retry-After"] = str(RETRY_SECONDS)
    body = b"" if head else problem.model_dump_json().encode()
    return Response(body, problem.status, sent, MEDIA_TYPE)


def plain(
    status: int, *, request_id: str, detail: str = "", title: str = "", code: str = ""
) -> Problem:
    """A problem of the HTTP layer; its code is that of the status unless one is given."""
    code = code or CODES.get(status, INTERNAL if status >= 500 else CODES[400])
    what, why, fix = WORDS.get(status, (HTTPStatus(status).phrase, "", ""))
    return Problem(
        type=_type(code), title=title or what, status=status, code=code, detail=detail or why,
        fix=fix, request_id=request_id,
    )  # fmt: skip


def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the problems that it answers with."""
    return {status: {"model": Problem} for status in statuses}


def request_id_of(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


async def _chrono(request: Request, error: Exception) -> Response:
    if isinstance(error, Ours):
        return response(_ours(error, request_id_of(request)), headers=_headers(error))
    return await _unexpected(request, error)


def _headers(error: Ours) -> dict[str, str]:
    match error:
        case Unauthenticated():
            return {"WWW-Authenticate": "Bearer"}
        case TooOften():
            return {"Retry-After": str(math.ceil(error.retry_after))}
        case _:
            return {}


def _ours(error: Ours, request_id: str) -> Problem:
    # where a part lives is for the operator's log, not for whoever asks
    kind = next(kind for kind in STATUSES if isinstance(error, kind))
    why, fix = MEANT[kind]
    detail = "" if kind is Unavailable else error.why
    if isinstance(error, Unavailable):
        log.warning("request.unavailable", extra={"request": request_id, "why": str(error)})
    return Problem(
        type=_type(error.code), title=error.what, status=STATUSES[kind], code=error.code,
        detail=detail or why, fix=error.fix or fix, request_id=request_id,
    )  # fmt: skip


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (Starlette's handlers take Exception)
    errors = [
        FieldError(field=_where(each["loc"]), code=each["type"], message=message_of(each))
        for each in error.errors()[:ERRORS_SHOWN]
    ]
    why = "; ".join(f"{each.field} {each.message}".strip() for each in errors[:ERRORS_TOLD])
    problem = plain(422, request_id=request_id_of(request), detail=why)
    return response(problem.model_copy(update={"errors": errors}))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (Starlette's handlers take Exception)
    problem = plain(error.status_code, request_id=request_id_of(request))
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (known := methods_of(request.scope)):
        headers["Allow"] = ", ".join(known)
    return response(problem, headers=headers, head=request.method == "HEAD")


async def _unexpected(request: Request, error: Exception) -> Response:
    request_id = request_id_of(request)
    log.error("request.failed", exc_info=error, extra={"request": request_id})
    return response(plain(500, request_id=request_id))


def _where(location: tuple[int | str, ...]) -> str:
    """`limit`, `host.0`: without where FastAPI found it; cut, since it may be the caller's text."""
    return ".".join(str(part) for part in location[1:])[:200]


def _type(code: str) -> str:
    return f"urn:chrono-ray:problem:{code}"
