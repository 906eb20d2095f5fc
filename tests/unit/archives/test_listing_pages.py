"""Listing answers understood, without a wire: Wayback's arrays, pywb's lines."""

from __future__ import annotations

from urllib.parse import quote_plus

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.archives.pywb import PywbArchive
from chrono_ray.archives.wayback import FIELDS, WaybackArchive
from chrono_ray.model.errors import ArchiveUnavailable
from chrono_ray.model.memento import ListingPage

DIGEST = "OSSAPWJ23L56IYVRW3GFEAR4MCJMGPTB"


def row(number: int = 0, stamp: str = "20010101000000", **change: str) -> list[str]:
    values = {
        "urlkey": f"example,harbour)/{number}",
        "timestamp": stamp,
        "original": f"http://harbour.example/{number}",
        "mimetype": "text/html",
        "statuscode": "200",
        "digest": DIGEST,
        "length": "1234",
    }
    return [str({**values, **change}[name]) for name in FIELDS]


def body(*rows: object) -> bytes:
    return b"[" + b",\n".join(orjson.dumps(one) for one in ([*FIELDS], *rows)) + b"]\n"


def parse(raw: bytes) -> ListingPage:
    return WaybackArchive("http://archive.example", "tests").parse(raw)


def test_a_row_is_a_capture():
    (capture,) = parse(body(row(7))).captures
    assert capture.urlkey == "example,harbour)/7"
    assert capture.timestamp.text == "20010101000000"
    assert (capture.statuscode, capture.digest, capture.length) == ("200", DIGEST, 1234)
    assert capture.locator == ""


def test_no_captures_is_an_empty_array_and_nothing_else():
    for raw in (b"[]", b"[]\n", b"  []\n"):
        page = parse(raw)
        assert (page.captures, page.bad_rows, page.next_key) == ((), (), "")
    for raw in (b"", b"\n", b"{}", b"null", b'"[]"', b"[[]]", b'[["urlkey"]]', b"[1]"):
        with pytest.raises(ArchiveUnavailable):
            parse(raw)


def test_columns_are_found_by_their_names():
    names = [*reversed(FIELDS), "extra"]
    raw = orjson.dumps([names, [*reversed(row(3)), "more"]])
    assert parse(raw).captures == parse(body(row(3))).captures


@pytest.mark.parametrize("length", ["-", "", "many", "-5", "9" * 30, "١٢"])
def test_a_length_that_is_none_is_unknown(length):
    (capture,) = parse(body(row(length=length))).captures
    assert capture.length in (None, 12)


@pytest.mark.parametrize("stamp", ["20010000000000", "20011301000000", "20010231256199"])
def test_impossible_timestamps_are_kept(stamp):
    (capture,) = parse(body(row(stamp=stamp))).captures
    assert capture.timestamp.text == stamp
    assert capture.timestamp.impossible


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (["example,harbour)/", "2001", "http://harbour.example/"], "missing fields"),
        ([], "missing fields"),
        (row(stamp="2001"), "not a 14-digit timestamp"),
        (row(stamp="2001010100000x"), "not a 14-digit timestamp"),
        (row(stamp="٢٠٠١٠١٠١٠٠٠٠٠٠"), "not a 14-digit timestamp"),
        (row(original="http://x/\0"), "a NUL character"),
        (row(original=""), "a missing field"),
        (row(urlkey=""), "a missing field"),
        ([1, 2, 3, 4, 5, 6, 7], "not text"),
        ([None] * 7, "not text"),
        ({"urlkey": "x"}, "missing fields"),
        ("a string", "not JSON"),
        (None, "not text"),
    ],
)
def test_a_bad_row_is_named_and_its_neighbours_kept(bad, reason):
    page = parse(body(row(1), bad, row(2)))
    assert [capture.urlkey[-1] for capture in page.captures] == ["1", "2"]
    (found,) = page.bad_rows
    assert found.line == 2
    assert found.reason.startswith(reason)


def test_a_line_that_is_no_json_is_a_bad_row():
    raw = body(row(1), row(2), row(3)).replace(b'"example,harbour)/2"', b'"example,harb')
    page = parse(raw)
    assert [capture.urlkey[-1] for capture in page.captures] == ["1", "3"]
    assert [(bad.line, bad.reason) for bad in page.bad_rows] == [(2, "not JSON")]
    broken_bytes = body(row(1), row(2)).replace(b"text/html", b"text/\xff\xfe", 1)
    assert len(parse(broken_bytes).bad_rows) == 1


def test_a_lone_surrogate_is_a_bad_row_for_nothing_can_store_it():
    raw = body(row(1), row(2)).replace(b"harbour.example/1", b"harbour.example/\\ud800")
    page = parse(raw)
    assert (len(page.captures), len(page.bad_rows)) == (1, 1)


def test_the_resume_key_follows_an_empty_row():
    page = parse(body(row(1), row(2), [], ["opaque key"]))
    assert (len(page.captures), page.bad_rows, page.next_key) == (2, (), "opaque key")


def test_a_wayback_key_leaves_its_last_second_to_the_next_page():
    twins = [
        row(5, original="http://harbour.example/5"),
        row(5, original="https://harbour.example/5"),
    ]
    key = quote_plus("example,harbour)/5 20010101000001")
    page = parse(body(row(1), *twins, [], [key]))
    assert [capture.urlkey[-1] for capture in page.captures] == ["1"]
    assert page.next_key == quote_plus("example,harbour)/5 20010101000000")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_listing_cut_anywhere_is_never_a_listing(data):
    raw = body(*(row(n, original=f"http://h.example/?a[]=[[{n}]]") for n in range(3))).rstrip()
    length = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(ArchiveUnavailable):
        parse(raw[:length])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.text(max_size=20), max_size=9), max_size=6))
def test_every_row_is_a_capture_or_a_bad_row(rows):
    raw = body(*rows, ["end"] * 9)
    page = parse(raw)
    if not page.next_key:
        assert len(page.captures) + len(page.bad_rows) == len(rows) + 1
    assert parse(page.raw) == page


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_answer_is_a_page_or_an_absence(raw):
    for archive in (
        WaybackArchive("http://archive.example", "tests"),
        PywbArchive("http://archive.example/c", "tests"),
    ):
        try:
            page = archive.parse(raw)
        except ArchiveUnavailable:
            continue
        assert page.raw == raw


def lines(*entries: object) -> bytes:
    return b"".join(orjson.dumps(entry) + b"\n" for entry in entries)


def entry(number: int, **change: str) -> dict[str, str]:
    names = ("urlkey", "timestamp", "url", "mime", "status", "digest", "length")
    return {**dict(zip(names, row(number), strict=True)), "filename": "a.warc.gz", **change}


def pywb(raw: bytes) -> ListingPage:
    return PywbArchive("http://archive.example/c", "tests").parse(raw)


def test_pywb_lines_are_captures_and_what_is_left_out_is_unknown():
    revisit = {
        k: v for k, v in entry(2, mime="warc/revisit").items() if k not in ("status", "length")
    }
    page = pywb(lines(entry(1), revisit))
    assert [c.statuscode for c in page.captures] == ["200", "-"]
    assert [c.length for c in page.captures] == [1234, None]
    assert page.captures[1].is_revisit


def test_pywb_bad_lines_are_named_and_the_rest_kept():
    raw = (
        lines(entry(1))
        + b'{"urlkey": "x\n'
        + lines({"urlkey": "x"}, entry(2, timestamp="1"), entry(3))
    )
    page = pywb(raw)
    assert [c.urlkey[-1] for c in page.captures] == ["1", "3"]
    assert [(bad.line, bad.reason[:14]) for bad in page.bad_rows] == [
        (2, "not JSON"),
        (3, "missing fields"),
        (4, "not a 14-digit"),
    ]


@pytest.mark.parametrize("raw", [b"<html>Error</html>\n", b"[]\n", lines(entry(1))[:-5]])
def test_what_is_no_pywb_listing_is_asked_again_later(raw):
    with pytest.raises(ArchiveUnavailable):
        pywb(raw)
