"""Answers that are kept: ETag, 304, what the cache said, and how long they hold.

A route names what its answer depends on (`Kept`) and how to make it; a hit or
a 304 asks nothing of the record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from fastapi import Request
from starlette.responses import Response

from chrono_ray.api.parts import Parts
from chrono_ray.cache.redis import Ttl

CACHE_CONTROL: Final = "private, max-age=0, must-revalidate"


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an answer is kept: `key` holds all it depends on, the asker's rights above all.

    `tags` name what it tells of (`project:7`, `run:9`, `user:3`): a change of
    any of them ends it at once. See `tag_of_...` in chrono_ray/cache/tags.py.
    """

    key: str
    ttl: Ttl
    tags: tuple[str, ...]


async def answered(
    request: Request, parts: Parts, kept: Kept, compute: Callable[[], Awaitable[bytes]]
) -> Response:
    """The kept answer or a computed one, 304 when the asker has it already."""
    told = "off"
    if parts.cache is None:
        body = await compute()
    else:
        told = "hit"

        async def computed() -> bytes:
            nonlocal told
            told = "miss"
            return await compute()

        body = await parts.cache.get_or_compute(
            kept.key, computed, ttl=kept.ttl, tags=kept.tags
        )
    return tagged(request, body, x_cache=told)


def tagged(request: Request, body: bytes, *, x_cache: str) -> Response:
    """JSON with its ETag; 304 without a body when the asker has it already."""
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "X-Cache": x_cache}
    if etag in _known(request.headers.get("if-none-match", "")):
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")


def _known(header: str) -> set[str]:
    return {each.strip().removeprefix("W/") for each in header.split(",")}
