"""Which part of a body is asked for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Final

from fastapi import HTTPException

_ONE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
_CHARS_MAX: Final = 100


def part_of(header: str, size: int) -> range | None:
    """The one range of a `Range` header; None for the whole.

    Several ranges, or what is no range, are answered with the whole, as the
    RFC allows. 416 when nothing of it is there.
    """
    found = _ONE.fullmatch(header) if len(header) <= _CHARS_MAX else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    if first:
        part = range(int(first), min(int(last) + 1, size) if last else size)
    else:
        part = range(max(size - int(last), 0), size)
    if not part:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
    return part
