"""Bodies made to hurt: compressed bombs, and documents that parsers choke on."""

from __future__ import annotations

import gzip
import zlib
from enum import StrEnum
from functools import lru_cache
from typing import Final

import brotli

_MIB: Final = 2**20


class PayloadKind(StrEnum):
    """Documents; the comment is the usual size and what it counts."""

    DEEP_NESTING = "deep_nesting"  # 10,000 nested div
    ATTRIBUTES = "attributes"  # 1,000,000 attributes of one element
    TEXT_NODE = "text_node"  # 50 MB in one text node
    COMMENTS = "comments"  # 100,000 comments that never close
    ENTITIES = "entities"  # an XML entity bomb
    NUL = "nul"  # NUL bytes in the text
    UTF7 = "utf7"  # a script hidden in UTF-7
    UTF16 = "utf16"  # UTF-16 without a byte order mark
    SURROGATES = "surrogates"  # lone surrogates as UTF-8 would write them
    COMBINING = "combining"  # 1 MB of combining marks on one letter
    SHIFT_JIS = "shift_jis"  # Japanese, declared nowhere
    LONG_TITLE = "long_title"  # 1 MB of title
    SCRIPT_TITLE = "script_title"  # markup in title and text
    FRAMESET = "frameset"  # no words at all
    JAVASCRIPT = "javascript"  # words only in a script
    BROKEN_PDF = "broken_pdf"  # a PDF whose cross-reference points nowhere
    IMAGE = "image"  # a GIF that says it is HTML


_USUAL: Final = {
    PayloadKind.DEEP_NESTING: 10_000,
    PayloadKind.ATTRIBUTES: 1_000_000,
    PayloadKind.TEXT_NODE: 50_000_000,
    PayloadKind.COMMENTS: 100_000,
    PayloadKind.ENTITIES: 12,
    PayloadKind.COMBINING: 500_000,
    PayloadKind.LONG_TITLE: 1_000_000,
}
_WORDS: Final = (
    "The herring are back, and the smokehouse has ordered oak shavings for three months. "
)


def make_payload(kind: PayloadKind, size: int = 0) -> tuple[str, bytes]:
    """Content type and body; `size` 0 takes the usual one."""
    return _made(kind, size or _USUAL.get(kind, 0))


@lru_cache(maxsize=8)
def _made(kind: PayloadKind, size: int) -> tuple[str, bytes]:
    html, words = "text/html", _WORDS.encode()
    match kind:
        case PayloadKind.DEEP_NESTING:
            body = _page(b"<div>" * size + words + b"</div>" * size)
        case PayloadKind.ATTRIBUTES:
            body = _page(b"<p %s>x</p>" % b" ".join(b"a%d=1" % i for i in range(size)))
        case PayloadKind.TEXT_NODE:
            body = _page(b"<p>" + b"word " * (size // 5) + b"</p>")
        case PayloadKind.COMMENTS:
            body = _page(words + b"<!-- <p> " * size)
        case PayloadKind.COMBINING:
            html, body = f"{html}; charset=utf-8", _page(b"<p>a" + "\u0301".encode() * size)
        case PayloadKind.LONG_TITLE:
            body = b"<title>" + b"t" * size + b"</title><p>" + words
        case PayloadKind.ENTITIES:
            html, body = "application/xhtml+xml", _entities(size)
        case _:
            html, body = _small(kind)
    return html, body


def _small(kind: PayloadKind) -> tuple[str, bytes]:
    words = _WORDS.encode()
    small = {
        PayloadKind.NUL: ("text/html", _page(b"<p>" + words.replace(b" ", b"\0 ") + b"</p>")),
        PayloadKind.UTF7: (
            "text/html; charset=utf-7",
            b"+ADw-script+AD4-alert(1)</script>" + words,
        ),
        PayloadKind.UTF16: ("text/html", _page(words).decode().encode("utf-16-le")),
        PayloadKind.SURROGATES: (
            "text/html; charset=utf-8",
            _page(b"<p>" + "\ud800 \udfff".encode("utf-8", "surrogatepass") + words),
        ),
        PayloadKind.SHIFT_JIS: (
            "text/html",
            _page(("<p>" + "灯台の光は遠い。" * 40).encode("shift_jis")),
        ),
        PayloadKind.SCRIPT_TITLE: (
            "text/html",
            b"<title><script>alert(1)</script></title><p>&lt;img src=x onerror=alert(1)&gt; "
            + words,
        ),
        PayloadKind.FRAMESET: (
            "text/html",
            b'<html><frameset cols="20%,80%"><frame src="a.html"><frame src="b.html"></frameset>',
        ),
        PayloadKind.JAVASCRIPT: ("text/html", _page(b"<script>document.write('words')</script>")),
        PayloadKind.BROKEN_PDF: (
            "application/pdf",
            b"%PDF-1.4\n1 0 obj\nstartxref\n99999\n%%EOF\n",
        ),
        PayloadKind.IMAGE: ("text/html", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"),
    }
    return small[kind]


def _page(body: bytes) -> bytes:
    return b"<!DOCTYPE html><html><head><title>A page</title></head><body>" + body


def _entities(levels: int) -> bytes:
    lines = ["<?xml version='1.0'?>", "<!DOCTYPE html [", "<!ENTITY e0 'ha'>"]
    lines += [f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, levels)]
    lines += ["<!ENTITY file SYSTEM 'file:///etc/hostname'>", "]>"]
    lines += [
        f"<html xmlns='http://www.w3.org/1999/xhtml'><body>&e{levels - 1};&file;</body></html>"
    ]
    return "\n".join(lines).encode()


@lru_cache(maxsize=8)
def make_bomb(coding: str, size: int, window_log: int = 23) -> bytes:
    """At least `size` zeros (whole MiB), compressed by `coding`: gzip, br or zstd."""
    blocks = max(-(-size // _MIB), 1)
    match coding:
        case "gzip":
            return _gzip_bomb(blocks)
        case "br":
            return _brotli_bomb(blocks)
        case "zstd":
            return _zstd_bomb(blocks, window_log)
        case _:
            raise ValueError(f"no such coding: {coding}")


def _gzip_bomb(blocks: int) -> bytes:
    """One member. A full flush makes each MiB independent, so one packed block serves for all."""
    zeros = bytes(_MIB)
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = coder.compress(zeros) + coder.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(blocks):
        checksum = zlib.crc32(zeros, checksum)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    tail = checksum.to_bytes(4, "little") + (blocks * _MIB % 2**32).to_bytes(4, "little")
    return head + block * blocks + b"\x03\x00" + tail


def _brotli_bomb(blocks: int) -> bytes:
    coder = brotli.Compressor(quality=1)
    zeros = bytes(_MIB)
    packed: list[bytes] = [coder.process(zeros) for _ in range(blocks)]
    return b"".join([*packed, coder.finish()])


def _zstd_bomb(blocks: int, window_log: int) -> bytes:
    """Written by hand (RFC 8878): a frame of run-length blocks, 4 bytes for each 128 KiB."""
    run = 128 * 1024
    count = blocks * _MIB // run
    head = b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3])
    middle = (run << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (run << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    return head + middle * (count - 1) + last


def tiny_members(members: int) -> bytes:
    """Empty gzip members, 20 bytes each."""
    return gzip.compress(b"", mtime=0) * members


def gzip_chain(body: bytes, depth: int) -> bytes:
    """Compressed `depth` times over."""
    for _ in range(depth):
        body = gzip.compress(body, 1, mtime=0)
    return body
