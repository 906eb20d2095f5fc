"""Rows as lines: what a reader of CSV or JSON takes out is what was put in, and never a formula."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.pipeline.export_rows import (
    FORMULA,
    columns_of,
    csv_head,
    csv_lines,
    json_end,
    json_lines,
)
from chrono_ray.storage.exporting import CaptureRow, PageRow

MOMENT = datetime(2003, 4, 5, 6, 7, 8, tzinfo=UTC)
PAGE = PageRow(
    7, 3, "town", "http://a.example/", "http://a.example/1", "example,a)/1", MOMENT, MOMENT, 2,
    "A title", "A text", "", date(2003, 4, 1), "en", 2, "", "", "text/html", "utf-8",
    ["thin", "empty"], "test/1", "ab", "cd", 10,
)  # fmt: skip
CAPTURE = CaptureRow(
    9, 3, "town", "http://a.example/", 1, "wayback", "20030405060708", False, "http://a.example/1",
    "example,a)/1", "text/html", "200", "DIGEST", None, "", "stored", "", "", 1.0, "ab",
)  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def read(written: bytes, columns: tuple[str, ...]) -> list[dict[str, str]]:
    text = (csv_head(columns) + written).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
@settings(max_examples=200, deadline=None)
def test_inputs_54_and_55_any_text_comes_out_as_it_went_in_or_behind_an_apostrophe(pairs):
    columns = columns_of(PageRow)
    rows = [replace(PAGE, title=title, author=author) for title, author in pairs]
    found = [(row["title"], row["author"]) for row in read(csv_lines(rows, columns), columns)]
    safe = [tuple(f"'{t}" if t.startswith(FORMULA) else t for t in pair) for pair in pairs]
    assert found == safe
    assert not [text for pair in found for text in pair if text[:1] in FORMULA and text]


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_json_line_is_one_line_whatever_is_in_it(text):
    columns = columns_of(PageRow)
    written = json_lines([replace(PAGE, title=text), PAGE], columns)
    lines = written.split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["title"] for line in lines] == [text, PAGE.title]


def test_every_kind_of_value_has_its_form():
    columns = columns_of(PageRow)
    [row] = read(csv_lines([PAGE], columns), columns)
    assert (row["first_seen"], row["published"], row["flags"], row["size"]) == (
        "2003-04-05T06:07:08Z", "2003-04-01", "thin empty", "10",
    )  # fmt: skip
    told = json.loads(json_lines([PAGE], columns))
    assert (told["first_seen"], told["published"], told["flags"]) == (
        "2003-04-05T06:07:08Z", "2003-04-01", ["thin", "empty"],
    )  # fmt: skip
    columns = columns_of(CaptureRow)
    [row] = read(csv_lines([CAPTURE], columns), columns)
    assert (row["length"], row["impossible"], row["confidence"]) == ("", "false", "1.0")


def test_texts_may_be_left_out_and_nothing_else():
    assert set(columns_of(PageRow)) - set(columns_of(PageRow, texts=False)) == {"text"}
    assert columns_of(CaptureRow, texts=False) == tuple(each.name for each in fields(CaptureRow))
    assert json.loads(json_end(3)) == {"end": True, "rows": 3}
