"""The headers of requests and answers, as the contract describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ASKED: Final[Mapping[str, Mapping[str, str]]] = {
    "kept": {
        "If-None-Match": "The ETag of an answer that one has: 304 while it holds",
        "Cache-Control": "`no-cache`: an answer that is made now",
    },
    "file": {
        "If-None-Match": "The ETag of the bytes that one has: 304 while they are the same",
        "Range": "`bytes=0-99`: one part of the bytes",
        "If-Range": "The part is only wanted of the bytes with this ETag; else all of them",
    },
}
"""What may be asked by headers; what a route takes itself stands in its parameters."""

_ETAG: Final = "Stands for this answer; for If-None-Match, or If-Match of a change"
SENT: Final[Mapping[str, Mapping[str, str]]] = {
    "always": {
        "X-Request-Id": "The request's id, as it was sent or made here; the log has it",
        "X-Response-Time": "Until the answer began",
        "Cache-Control": "private and to be asked again, or no-store",
    },
    "kept": {
        "ETag": _ETAG,
        "X-Cache": "Where it came from: hit, miss, stale, bypass or off",
        "Vary": "What else it depends on",
    },
    "versioned": {"ETag": _ETAG},
    "once": {"Idempotency-Replayed": "true: it was done before, and is answered as it was then"},
    "busy": {"Retry-After": "Of `idempotency_busy`: seconds to wait"},
    "stream": {"Content-Disposition": "A name for the file"},
    "file 200": {
        "ETag": _ETAG,
        "Accept-Ranges": "bytes",
        "Content-Disposition": "A name for the file",
    },
    "file 206": {
        "ETag": _ETAG,
        "Content-Range": "Which bytes, and of how many",
        "Content-Disposition": "A name for the file",
    },
    "file 304": {"ETag": _ETAG},
    "status 401": {"WWW-Authenticate": "Bearer"},
    "status 416": {"Content-Range": "How many bytes there are"},
    "status 429": {"Retry-After": "Seconds to wait"},
    "status 503": {"Retry-After": "Seconds to wait"},
}
