"""Bytes to text: which encoding a page is really in, whatever it says.

Archived pages lie: a server's default header says ISO-8859-1, the markup says
Shift_JIS, and the bytes are UTF-8. Evidence counts in this order: a byte order
mark, the pattern of NULs that only UTF-16 makes, bytes that are valid UTF-8,
a declared multi-byte encoding that decodes without error, a declared
single-byte one (every byte string decodes as that, so it proves nothing),
detection, and at last windows-1252.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

REPLACEMENT: Final = "\ufffd"
PRESCAN: Final = 4096
"""Bytes searched for a declaration; the standard says 1,024, old pages put it later."""
DETECTION_BYTES: Final = 131_072
SMALL_SAMPLE: Final = 3
"""Fewer non-ASCII characters than this may be valid UTF-8 by accident."""
TOLERATED: Final = 0.01
"""Share of unreadable characters that damage, not a wrong label, explains."""

_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16le"), (b"\xfe\xff", "utf-16be"))
_META: Final = re.compile(
    rb"""<meta[^>]{0,400}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.()-]{2,40})""", re.IGNORECASE
)
_XML: Final = re.compile(
    rb"""^\s{0,20}<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_.:-]{2,40})["']""", re.IGNORECASE
)
_ESCAPES: Final = (b"\x1b$", b"\x1b(")

_CODECS: Final = {
    "utf-8": "utf-8",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "windows-1252": "cp1252",
    "windows-874": "cp874",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "iso-2022-jp": "iso2022_jp_2",
    "x-mac-cyrillic": "mac_cyrillic",
    "macintosh": "mac_roman",
}
"""Standard name -> Python codec, where they differ or the codec must be a superset."""

_NAMES: Final = {
    "cp1252": "windows-1252",
    "iso8859-11": "windows-874",
    "euc_kr": "euc-kr",
    "euc_jp": "euc-jp",
    "iso2022_jp": "iso-2022-jp",
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
    "mac-roman": "macintosh",
    "cp866": "ibm866",
    "cp874": "windows-874",
}
"""What the label table answers -> the encoding standard's name."""

_MULTIBYTE: Final = frozenset({"shift_jis", "euc-jp", "iso-2022-jp", "gbk", "big5", "euc-kr"})
_GAPS: Final = {"x-mac-cyrillic": "x-mac-cyrillic", "x-mac-ukrainian": "x-mac-cyrillic"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """`charset` is the encoding standard's name of what was used.

    `replaced` counts the characters that became U+FFFD, without those that
    the page itself holds.
    """

    text: str
    charset: str
    replaced: int


def decode(body: bytes, declared: str) -> Decoded:
    """The text of `body`; `declared` is the transport's charset, or empty. Never fails."""
    for mark, name in _BOMS:
        if body.startswith(mark):
            return _lenient(body[len(mark) :], name)
    wide = _wide(body, declared)
    if wide:
        return _lenient(body, wide)
    if body.isascii() and not any(escape in body for escape in _ESCAPES):
        return Decoded(body.decode("ascii"), "utf-8", 0)
    return _from_labels(body, [*_labels(body, declared)])


def label(text: str) -> str:
    """The encoding standard's name for a label; empty where it has none (UTF-7, nonsense)."""
    wanted = text.strip().strip("\"'").lower()
    if wanted in _GAPS:
        return _GAPS[wanted]
    mapped = map_encoding_to_html5(wanted, fallback_utf8=False) if wanted.isascii() else None
    if mapped is None:
        return ""
    return _NAMES.get(mapped, _windows(mapped))


def _windows(codec: str) -> str:
    if codec.startswith("cp125"):
        return "windows-" + codec[2:]
    return codec.replace("iso8859", "iso-8859").replace("_", "-").replace("shift-jis", "shift_jis")


def _labels(body: bytes, declared: str) -> Iterator[str]:
    """Declared names, the transport's first. UTF-16 in markup is a lie: it was read as bytes."""
    name = label(declared)
    if name:
        yield name
    for pattern in (_XML, _META):
        found = pattern.search(body[:PRESCAN])
        name = label(found[1].decode("ascii")) if found else ""
        if name and not name.startswith("utf-16"):
            yield name


def _wide(body: bytes, declared: str) -> str:
    """UTF-16 without a byte order mark: half of its markup's bytes are NUL."""
    head = body[:1024]
    if len(head) >= 4 and b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        half = len(head) // 2
        if odd > half * 0.3 and even < half * 0.1:
            return "utf-16le"
        if even > half * 0.3 and odd < half * 0.1:
            return "utf-16be"
    name = label(declared)
    return name if name.startswith("utf-16") and _plausible_wide(body, name) else ""


def _plausible_wide(body: bytes, name: str) -> bool:
    """Text without ASCII holds no NULs, so a UTF-16 header is believed if nothing contradicts."""
    return len(body) % 2 == 0 and _strict(body, name) is not None and _strict(body, "utf-8") is None


def _from_labels(body: bytes, names: list[str]) -> Decoded:
    utf8 = _lenient(body, "utf-8")
    multibyte = [name for name in names if name in _MULTIBYTE]
    if not utf8.replaced:
        return _valid_utf8(body, utf8, multibyte)
    for name in multibyte:
        text = _strict(body, name)
        if text is not None:
            return Decoded(text, name, 0)
    if _mostly_utf8(utf8):
        return utf8
    for name in multibyte:
        damaged = _lenient(body, name)
        if damaged.replaced <= len(damaged.text) * TOLERATED:
            return damaged
    return _single_byte(body, [name for name in names if name not in _MULTIBYTE])


def _valid_utf8(body: bytes, utf8: Decoded, multibyte: list[str]) -> Decoded:
    """Valid UTF-8 is UTF-8, but for a few characters, or escapes, that a label explains better."""
    ascii_only = body.isascii()
    guesses = multibyte or (["iso-2022-jp"] if ascii_only else [])
    many = not ascii_only and sum(char > "\x7f" for char in utf8.text[:4096]) >= SMALL_SAMPLE
    for name in guesses:
        text = None if many else _strict(body, name)
        if text is not None:
            return Decoded(text, "utf-8" if text == utf8.text else name, 0)
    return utf8


def _mostly_utf8(utf8: Decoded) -> bool:
    """More characters read well than badly: a damaged UTF-8 page, not another encoding."""
    good = len(utf8.text.encode("utf-8", "replace")) - len(utf8.text) - 2 * utf8.replaced
    return good > 4 * utf8.replaced


def _single_byte(body: bytes, names: list[str]) -> Decoded:
    """Two different claims, or none, are settled by detection."""
    claims = list(dict.fromkeys(name for name in names if name != "utf-8"))
    if len(claims) == 1:
        return _lenient(body, claims[0])
    detected = label(detect_encoding(body, max_len=DETECTION_BYTES) or "")
    if claims:
        return _lenient(body, detected if detected in claims else claims[0])
    if detected in _MULTIBYTE and _lenient(body, detected).replaced > len(body) * TOLERATED:
        detected = ""
    return _lenient(body, detected if detected not in ("", "utf-8") else "windows-1252")


def _strict(body: bytes, name: str) -> str | None:
    try:
        return body.decode(_CODECS.get(name, name))
    except UnicodeDecodeError:
        return None


def _lenient(body: bytes, name: str) -> Decoded:
    text = body.decode(_CODECS.get(name, name), "replace")
    replaced = text.count(REPLACEMENT)
    if replaced and name == "utf-8":
        replaced -= body.count(b"\xef\xbf\xbd")
    if replaced and name == "windows-1252":
        # The standard maps the five holes of windows-1252 to control characters.
        return Decoded(text.replace(REPLACEMENT, ""), name, 0)
    return Decoded(text, name, replaced)
