"""What is inside a record's block: the HTTP head and the payload, as CDX indexers see them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chrono_ray.archives.encoding import BODY_LIMIT, decode
from chrono_ray.archives.records import Block, Damaged, Head, Record, header_map, pairs
from chrono_ray.archives.replay import base32, charset_of, compare, media_type_of
from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.errors import TransferFailed
from chrono_ray.model.memento import Memento

_LINE: Final = 16 * 1024
_STATUS_LINE: Final = re.compile(rb"(?:HTTP/\d(?:\.\d)?|ICY)\s+(\d{3})\b.*", re.DOTALL)
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_UNKNOWN_TYPE: Final = "unk"
_NO_STATUS: Final = "-"


@dataclass(frozen=True, slots=True)
class HttpHead:
    """The archived answer's head; status 0 where its status line has none."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        return next((value for known, value in self.headers if known == name), "")


NO_HEAD: Final = HttpHead(0, ())


@dataclass(frozen=True, slots=True)
class Payload:
    """A record's content. `stored` is as archived, `entity` without transfer and content coding."""

    head: HttpHead
    stored: bytes
    transferred: bytes
    entity: bytes


EMPTY: Final = Payload(NO_HEAD, b"", b"", b"")


def read_http_head(record: Record) -> HttpHead:
    """The HTTP head at the beginning of a block; none where the record holds bare content."""
    if not record.head.is_http or not record.block.left:
        return NO_HEAD
    if "text/dns" in record.head.content_type:
        return NO_HEAD
    first = record.block.line(_LINE)
    headers = header_map(first, _lines(record.block))
    found = _STATUS_LINE.fullmatch(first)
    return HttpHead(int(found[1]) if found else 0, pairs(headers))


def _lines(block: Block) -> Iterator[bytes]:
    while block.left:
        yield block.line(_LINE)
    yield b""  # a head without a body may lack its blank line


def listed_type(record: Record, http: HttpHead) -> str:
    """The CDX field mimetype, as pywb's indexer derives it."""
    if record.head.kind == "revisit":
        return "warc/revisit"
    own = record.head.content_type
    declared = http.get("content-type") or ("" if own.startswith("application/http") else own)
    return re.split("[; ]", declared, maxsplit=1)[0] or _UNKNOWN_TYPE


def listed_status(record: Record, http: HttpHead) -> str:
    return str(http.status) if record.head.kind == "response" and http.status else _NO_STATUS


def listed_digest(record: Record) -> str:
    """The record's own payload digest, else SHA-1 of the payload as stored, read for it."""
    declared = record.head.payload_digest
    if declared or record.head.kind == "revisit":
        return declared.removeprefix("sha1:") or "-"
    sha1 = hashlib.sha1(usedforsecurity=False)
    while piece := record.block.read():
        sha1.update(piece)
    return base32(sha1.digest())


def read_payload(record: Record, limit: int = BODY_LIMIT) -> Payload:
    """The whole content, decoded. Raises `TransferFailed` (too_large, encoding) or `Damaged`."""
    http = read_http_head(record)
    if record.block.left > limit:
        raise TransferFailed("The record is too large", reason="too_large", why=f"over {limit}")
    stored = record.block.read(limit)
    if record.block.left:
        raise Damaged("cut off")
    transferred = stored
    if "chunked" in http.get("transfer-encoding").lower():
        transferred = without_chunks(stored)
    media_type = media_type_of(http.get("content-type") or record.head.content_type)
    coding = http.get("content-encoding")
    entity = decode(transferred, coding, media_type=media_type, limit=limit)
    return Payload(http, stored, transferred, entity)


def without_chunks(stored: bytes) -> bytes:
    """A chunked body put together; as it is where crawlers undid the chunks and kept the header."""
    found = _CHUNK.match(stored)
    if found is None:
        return stored
    pieces: list[bytes] = []
    while found is not None:
        start, size = found.end(), int(found[1], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(stored[start : start + size])
        found = _CHUNK.match(stored, start + size + _break(stored, start + size))
    raise Damaged("cut off between its chunks")


def _break(stored: bytes, at: int) -> int:
    return 2 if stored.startswith(b"\r\n", at) else 1


def memento(
    capture: Capture, head: Head, own: Payload, original: Payload, *, where: str, requests: int
) -> Memento:
    """A record as a memento. `own` is what it holds; a revisit's payload is `original`'s.

    What the crawler cut short is told by a header of ours, `warc-truncated`.
    """
    http = own.head if own.head.headers or own.head.status else original.head
    content_type = http.get("content-type") or head.content_type
    if head.kind == "revisit" and not http.get("content-type"):
        content_type = original.head.get("content-type")
    sha1, check = compare(capture.digest, (original.stored, original.transferred, original.entity))
    cut = (("warc-truncated", head.truncated),) if head.truncated else ()
    return Memento(
        body=original.entity,
        sha1=sha1,
        check=check,
        served=Timestamp14(head.date),
        served_url=where,
        status=http.status or 200,
        media_type=media_type_of(content_type),
        charset=charset_of(content_type),
        headers=(*http.headers, *cut),
        redirects=(),
        requests=requests,
    )
