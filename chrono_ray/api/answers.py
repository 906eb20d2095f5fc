"""Answers that are kept: ETag, 304, what the cache said, and how long they hold.

A route names what its answer depends on (`Kept`) and how to make it; a hit or
a 304 asks nothing of the record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response

from chrono_ray.api.parts import Parts
from chrono_ray.cache.entry import Found, digest_of
from chrono_ray.cache.redis import Place, Ttl

CACHE_CONTROL: Final = "private, max-age=0, must-revalidate"
READS: Final = ("GET", "HEAD")
VARY: Final = "Authorization, Accept-Encoding"
OFF: Final = "off"
"""What `X-Cache` says where there is no cache, or the answer is not one to keep."""
LEARN: Final = "learn"
"""Of a request's state: who is told where its answer is kept. See `recall`."""

Learn = Callable[[Place], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an answer is kept: `key` holds all it depends on, the asker's rights above all.

    `tags` name what it tells of (`project:7`, `run:9`, `user:3`): a change of
    any of them ends it at once. See chrono_ray/cache/tags.py.
    """

    key: str
    ttl: Ttl
    tags: tuple[str, ...]


async def answered(
    request: Request, parts: Parts, kept: Kept, compute: Callable[[], Awaitable[bytes]]
) -> Response:
    """The kept answer or a computed one, 304 when the asker has it already.

    Who sends `Cache-Control: no-cache` gets a computed one.
    """
    if parts.cache is None:
        return tagged(request, await compute(), x_cache=OFF)
    place = parts.cache.place(kept.key, kept.ttl, kept.tags)
    learn: Learn | None = request.scope["state"].get(LEARN)
    if learn:
        learn(place)
    found = await parts.cache.answer_at(place, compute, anew=wants_anew(request.headers))
    return answer_of(found, _conditions(request))


def answer_of(found: Found, asked: Headers) -> Response:
    """A kept or computed answer, to a request with these headers."""
    return _answer(asked, found.body, f'"{found.digest}"', x_cache=found.how)


def wants_anew(asked: Headers) -> bool:
    """Whether a kept answer will not do."""
    wanted = asked.get("cache-control", "")
    return "no-cache" in [each.strip().lower() for each in wanted.split(",")]


def tagged(request: Request, body: bytes, *, x_cache: str = OFF) -> Response:
    """JSON with its content's ETag; 304 without a body when the asker has it already."""
    return _answer(_conditions(request), body, f'"{digest_of(body)}"', x_cache=x_cache)


def _conditions(request: Request) -> Headers:
    """304 is an answer to a read alone (RFC 9110, 13.1.2)."""
    return request.headers if request.method in READS else Headers()


def is_known(etag: str, header: str) -> bool:
    """Whether an `If-None-Match` holds this ETag, compared weakly (RFC 9110, 13.1.2)."""
    known = [each.strip().removeprefix("W/") for each in header.split(",")]
    return etag.removeprefix("W/") in known or known == ["*"]


def _answer(asked: Headers, body: bytes, etag: str, *, x_cache: str) -> Response:
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "Vary": VARY, "X-Cache": x_cache}
    known = asked.get("if-none-match")
    if known is not None and is_known(etag, known):
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")
