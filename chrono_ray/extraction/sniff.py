"""What the bytes are, whatever the archive's record says they are."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from chrono_ray.model.errors import ExtractionFailed


class Kind(StrEnum):
    """What can be read; the value is the document's media type."""

    HTML = "text/html"
    XHTML = "application/xhtml+xml"
    XML = "application/xml"
    TEXT = "text/plain"
    PDF = "application/pdf"


HEAD: Final = 1024
BINARY_SHARE: Final = 0.1
"""Text holds next to no control characters; WHATWG's sniffing allows none at all."""

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\0\0\1\0", "image/x-icon"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"RIFF", "media in RIFF (WebP, WAVE, AVI)"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "application/ogg"),
    (b"fLaC", "audio/flac"),
    (b"MThd", "audio/midi"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\0\0\1\xba", "video/mpeg"),
    (b"FLV\1", "video/x-flv"),
    (b"PK\3\4", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"OTTO\0", "font/otf"),
    (b"\0\1\0\0", "font/ttf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"%!PS", "application/postscript"),
    (b"{\\rtf", "application/rtf"),
    (b"\x7fELF", "application/x-executable"),
    (b"FWS", "application/x-shockwave-flash"),
    (b"CWS", "application/x-shockwave-flash"),
    (b"\0asm", "application/wasm"),
)
_MARKUP: Final = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|title|frameset|meta|script|style|link|table|div|h1|p|a|"
    rb"font|center|br|img|b|ul|iframe|!--)[\s>/-]",
    re.IGNORECASE,
)
_ROOT: Final = re.compile(rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_LEADING: Final = b" \t\r\n\x0c\0\xef\xbb\xbf\xff\xfe"
_CONTROLS: Final = bytes([*range(9), 11, *range(14, 27), *range(28, 32), 127])

_HTML_TYPES: Final = frozenset({"text/html", "application/vnd.wap.xhtml+xml"})
_UNKNOWN_TYPES: Final = frozenset(
    {"", "unk", "unknown", "unknown/unknown", "application/unknown", "no-type", "-",
     "application/octet-stream", "binary/octet-stream", "application/x-download",
     "application/force-download", "warc/revisit"}
)  # fmt: skip
_MEDIA: Final = frozenset({"image", "audio", "video", "font", "model"})
_UNREADABLE_TEXT: Final = frozenset(
    {"text/css", "text/javascript", "text/ecmascript", "text/calendar", "text/vcard"}
)


def sniff(body: bytes, media_type: str) -> Kind:
    """The real kind of `body`; raises ExtractionFailed(type) for what holds no text to read."""
    declared = media_type.partition(";")[0].strip().lower()
    head = body[:HEAD]
    if b"%PDF-" in head:
        return Kind.PDF
    _refuse_magic(head)
    plain = head.replace(b"\0", b"") if _looks_wide(head) else head
    if len(plain.translate(None, _CONTROLS)) < len(plain) * (1 - BINARY_SHARE):
        raise _unreadable(declared, "the bytes are binary")
    return _text_kind(plain.lstrip(_LEADING), declared)


def _text_kind(head: bytes, declared: str) -> Kind:
    if declared == Kind.XHTML:
        return Kind.XHTML
    if declared in _HTML_TYPES or _ROOT.search(head):
        return Kind.HTML
    if declared.partition("/")[0] in _MEDIA:
        raise _unreadable(declared, "it is not a text to be read")
    if head.startswith(b"<?xml") or declared.endswith(("/xml", "+xml")):
        return Kind.XML
    if declared in _UNKNOWN_TYPES and _MARKUP.match(head):
        return Kind.HTML
    if declared in _UNKNOWN_TYPES or _readable(declared):
        return Kind.TEXT
    raise _unreadable(declared, "it is not a text to be read")


def _readable(declared: str) -> bool:
    return declared.startswith("text/") and declared not in _UNREADABLE_TEXT


def _refuse_magic(head: bytes) -> None:
    binary = len(head.translate(None, _CONTROLS)) < len(head)
    for magic, name in _MAGIC:
        # A magic number that is a word ("ID3", "FWS") may also begin a text.
        if head.startswith(magic) and (binary or not magic.isalnum()):
            raise _unreadable(name, "known by its first bytes")
    if head[4:8] == b"ftyp":
        raise _unreadable("video/mp4", "known by its first bytes")


def _looks_wide(head: bytes) -> bool:
    """UTF-16: NULs in one half of the positions only (or a mark that says so)."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") or max(even, odd) > 8 * min(even, odd) + 1


def _unreadable(name: str, why: str) -> ExtractionFailed:
    return ExtractionFailed(f"No text in {name or 'an unnamed type'}", reason="type", why=why)
