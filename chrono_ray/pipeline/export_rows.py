"""Rows as lines: JSON, one object a line, or CSV as RFC 4180 has it.

A spreadsheet takes a cell that begins like a formula for one, whatever its
quotes: such a text gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final

import orjson

from chrono_ray.storage.exporting import CaptureRow, PageRow

Row = PageRow | CaptureRow
Cell = int | float | bool | str | datetime | list[str] | None

BOM: Final = "\ufeff".encode()
"""By which some spreadsheets know UTF-8."""
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
TEXT: Final = "text"


def columns_of(kind: type[Row], *, texts: bool = True) -> tuple[str, ...]:
    """The names of a row's values, in order; without `texts` those of the pages are left out."""
    return tuple(field.name for field in fields(kind) if texts or field.name != TEXT)


def json_lines(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    """One object a line, each line ended."""
    option = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    return b"".join(
        orjson.dumps({name: getattr(row, name) for name in columns}, option=option) for row in rows
    )


def json_end(rows: int) -> bytes:
    """The last line: so many came before it, and none is missing."""
    return orjson.dumps({"end": True, "rows": rows}, option=orjson.OPT_APPEND_NEWLINE)


def csv_head(columns: Sequence[str], *, bom: bool = False) -> bytes:
    """The line with the names of the columns."""
    return (BOM if bom else b"") + ",".join(columns).encode() + b"\r\n"


def csv_lines(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    """A record a row, ended by CR LF; lists by spaces, moments in UTC, nothing for nothing."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([_cell(getattr(row, name)) for name in columns] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Cell) -> str:
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(FORMULA) else value
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case list():
            return " ".join(value)
        case _:
            return str(value)
