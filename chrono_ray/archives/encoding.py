"""Content codings undone, with a limit on what comes out.

A bomb is stopped by counting output, not by its ratio: 1 KB of brotli may hold
a gigabyte. Decoders are fed small pieces and asked for small pieces.

Archives often lose or misstate Content-Encoding, so one wrong coding is
repaired by the body's first bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Final

import brotli
import zstandard

from chrono_ray.model.errors import TransferFailed

BODY_LIMIT: Final = 10 * 1024 * 1024
CODINGS: Final = "gzip, deflate, br, zstd"
"""What to accept: all that can be undone, so that bodies arrive as they were stored."""

_PIECE: Final = 64 * 1024
_ZSTD_PIECE: Final = 256
_MEMBERS: Final = 1024
_LAYERS: Final = 2
_WINDOW: Final = 8 * 1024 * 1024  # RFC 9659: the largest window a zstd content coding may ask for
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_PLAIN: Final = frozenset({"", "identity", "none", "7bit", "8bit", "binary"})
_PACKED_TYPES: Final = (
    "gzip",
    "zip",
    "compress",
    "x-tar",
    "octet-stream",
    "zstd",
    "warc",
    "x-gtar",
)
_CONTROLS: Final = bytes(set(range(32)) - {8, 9, 10, 12, 13, 27})


class _Garbled(Exception):
    """The bytes are not of the coding that was tried."""


def decode(body: bytes, coding: str, *, media_type: str, limit: int = BODY_LIMIT) -> bytes:
    """The entity without its content coding.

    `coding` is the Content-Encoding header as sent. Raises `TransferFailed`:
    `too_large` when more than `limit` bytes would come out, `encoding` when
    the coding is neither what the header says nor to be told by the bytes.
    """
    codings = [name for name in _names(coding) if name not in _PLAIN]
    if len(codings) > _LAYERS:
        raise TransferFailed("Too many content codings", reason="encoding", why=coding[:100])
    entity = body
    for name in reversed(codings):
        entity = _undo(entity, name, limit)
    if entity.startswith(_GZIP_MAGIC) and not _is_packed(media_type) and len(codings) < _LAYERS:
        entity = _or_itself(entity, limit)
    if len(entity) > limit:
        raise _too_large(limit)
    return entity


def _names(coding: str) -> list[str]:
    return [name.strip().lower() for name in coding.split(",")] if coding else []


def _undo(body: bytes, name: str, limit: int) -> bytes:
    """One layer off; where the header lies, by the body's magic, else left as it is if readable."""
    if not body:
        return body
    if name in ("gzip", "x-gzip") and not body.startswith(_GZIP_MAGIC):
        return _as_found(body, limit)
    decoder = _DECODERS.get(name)
    if decoder is None:
        return _as_found(body, limit)
    try:
        return _join(decoder(body), limit)
    except _Garbled:
        if name in ("gzip", "x-gzip"):
            raise _undecodable(name) from None
        return _as_found(body, limit)


def _as_found(body: bytes, limit: int) -> bytes:
    for magic, name in ((_GZIP_MAGIC, "gzip"), (_ZSTD_MAGIC, "zstd")):
        if body.startswith(magic):
            try:
                return _join(_DECODERS[name](body), limit)
            except _Garbled:
                raise _undecodable(name) from None
    if not _is_readable(body):
        raise _undecodable("what the header says")
    return body


def _or_itself(entity: bytes, limit: int) -> bytes:
    """A second gzip layer that nobody declared; data that only begins like gzip is kept."""
    try:
        return _join(_gunzip(entity), limit)
    except _Garbled:
        return entity


def _join(pieces: Iterator[bytes], limit: int) -> bytes:
    out: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        out.append(piece)
    return out[0] if len(out) == 1 else b"".join(out)


def _gunzip(body: bytes) -> Iterator[bytes]:
    """All members of a gzip stream; what follows the last one is ignored unless it is gzip too."""
    position = 0
    for _ in range(_MEMBERS):
        inflate = zlib.decompressobj(wbits=31)
        used = yield from _inflate(inflate, body, position)
        position += used
        if not body.startswith(_GZIP_MAGIC, position):
            return
    raise TransferFailed("Too many gzip members", reason="encoding", why=f"over {_MEMBERS}")


def _inflate(inflate: zlib._Decompress, body: bytes, start: int) -> Generator[bytes, None, int]:
    """Pieces of one stream from `start`; returns how many bytes it took."""
    position = start
    while not inflate.eof:
        piece = inflate.unconsumed_tail or body[position : position + _PIECE]
        if not inflate.unconsumed_tail:
            position += len(piece)
        try:
            out = inflate.decompress(piece, _PIECE)
        except zlib.error:
            raise _Garbled from None
        if not (out or piece or inflate.eof):
            raise _Garbled
        if out:
            yield out
    return position - len(inflate.unused_data) - start


def _inflate_deflate(body: bytes) -> Iterator[bytes]:
    """`deflate` means zlib by the standard and raw deflate by much of the old web."""
    wrapped = body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    yield from _inflate(zlib.decompressobj(wbits=15 if wrapped else -15), body, 0)


def _unbrotli(body: bytes) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    try:
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            while out := decoder.process(piece, output_buffer_limit=_PIECE):
                yield out
                piece = b""
                if decoder.is_finished():
                    return
    except brotli.error:
        raise _Garbled from None
    if not decoder.is_finished():
        raise _Garbled


def _unzstd(body: bytes) -> Iterator[bytes]:
    position = 0
    for _ in range(_MEMBERS):
        position += yield from _unzstd_frame(body, position)
        if not body.startswith(_ZSTD_MAGIC, position):
            return
    raise TransferFailed("Too many zstd frames", reason="encoding", why=f"over {_MEMBERS}")


def _unzstd_frame(body: bytes, start: int) -> Generator[bytes, None, int]:
    """One frame; fed a few bytes at a time, for four of them may hold 128 KiB."""
    try:
        if zstandard.get_frame_parameters(body[start : start + 18]).window_size > _WINDOW:
            raise TransferFailed("The zstd window is too large", reason="too_large")
        frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        position = start
        while not frame.eof:
            piece = body[position : position + _ZSTD_PIECE]
            if not piece:
                raise _Garbled
            position += len(piece)
            yield frame.decompress(piece)
    except zstandard.ZstdError:
        raise _Garbled from None
    return position - len(frame.unused_data) - start


_DECODERS: Final[dict[str, Callable[[bytes], Iterator[bytes]]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate_deflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}


def _is_packed(media_type: str) -> bool:
    return any(word in media_type for word in _PACKED_TYPES)


def _is_readable(body: bytes) -> bool:
    """Whether the body could be text: no control characters at its beginning."""
    head = body[:1024]
    return len(head.translate(None, _CONTROLS)) == len(head)


def _undecodable(name: str) -> TransferFailed:
    return TransferFailed(
        "The content coding cannot be undone", reason="encoding", why=f"not {name}"
    )


def _too_large(limit: int) -> TransferFailed:
    return TransferFailed("The body is too large", reason="too_large", why=f"over {limit} bytes")
