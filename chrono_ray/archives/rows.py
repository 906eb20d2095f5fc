"""Listed rows as captures, fast: the listing of a domain has millions of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final

import orjson

from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.memento import BadRow

SHOWN: Final = 2000
"""Characters of a bad row that are kept."""

_FIELDS: Final = 7
_LENGTH_DIGITS: Final = 18

Row = Sequence[str]
"""What an archive sent as a row; that it is one is only known once it was read."""

Pick = Callable[[Row], Row]
"""Takes urlkey, timestamp, original, mimetype, statuscode, digest and length out of a row."""


def picker(header: Row, fields: tuple[str, ...]) -> Pick | None:
    """What takes `fields` out of a row, by the header row; None when it is no such header."""
    if not isinstance(header, list) or any(field not in header for field in fields):
        return None
    return itemgetter(*(header.index(field) for field in fields))


def captures(
    table: Iterable[Row], pick: Pick, *, first_line: int
) -> tuple[tuple[Capture, ...], tuple[BadRow, ...]]:
    """The captures of a table and its rows that are none."""
    good: list[Capture] = []
    bad: list[BadRow] = []
    for line, row in enumerate(table, first_line):
        try:
            good.append(capture(pick(row)))
        except (ValueError, TypeError, LookupError) as error:
            bad.append(bad_row(line, row, error))
    return tuple(good), tuple(bad)


def fields(entry: dict[str, str]) -> Row:
    """Of a line of JSON as pywb and Common Crawl write it; what they do not know is left out."""
    return (
        entry["urlkey"],
        entry["timestamp"],
        entry["url"],
        entry.get("mime", "-"),
        entry.get("status", "-"),
        entry.get("digest", "-"),
        entry.get("length", ""),
    )


def capture(row: Row, locator: str = "") -> Capture:
    """One row; raises `ValueError` or `TypeError` when it is none."""
    urlkey, stamp, original, mimetype, statuscode, digest, length = row
    if "\0" in "".join(row):
        raise ValueError("a NUL character")
    if not (urlkey and original):
        raise ValueError("a missing field")
    size = int(length) if length.isdecimal() and len(length) <= _LENGTH_DIGITS else None
    return Capture(
        urlkey, Timestamp14(stamp), original, mimetype, statuscode, digest, size, locator
    )


def bad_row(line: int, row: Row, error: Exception) -> BadRow:
    """A row that is no capture, with what is wrong about it in a few words."""
    if isinstance(row, str):
        return BadRow(line, "not JSON", row[:SHOWN])
    text = orjson.dumps(row).decode("utf-8")[:SHOWN]
    if isinstance(error, LookupError) or (isinstance(row, list) and len(row) < _FIELDS):
        return BadRow(line, "missing fields", text)
    reason = "not text" if isinstance(error, TypeError) else str(error)
    return BadRow(line, reason[:SHOWN], text)
