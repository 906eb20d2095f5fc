"""Framing of records: any bytes end, and what is whole is found behind what is not."""

from __future__ import annotations

import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.archives.payloads import without_chunks
from chrono_ray.archives.records import Damaged, Place, Reader, stamp


def warc(number: int, block: bytes = b"content") -> bytes:
    return (
        (
            b"WARC/1.0\r\nWARC-Type: resource\r\nWARC-Target-URI: http://e/%d\r\n"
            b"WARC-Date: 2001-01-01T00:00:0%dZ\r\nContent-Length: %d\r\n\r\n"
            % (number, number % 10, len(block))
        )
        + block
        + b"\r\n\r\n"
    )


def arc(number: int, block: bytes = b"content") -> bytes:
    return (
        b"http://e/%d 1.2.3.4 20010101000000 text/html %d\n" % (number, len(block)) + block + b"\n"
    )


START = Place("v")


def walk(raw: bytes, place: Place = START) -> tuple[list[str], list[str]]:
    """The URLs found and the damage met; fails when there is no end to it."""
    reader = Reader(io.BufferedReader(io.BytesIO(raw)), place)
    urls, damage = [], []
    for _ in range(len(raw) + 10):
        try:
            record = reader.next()
            if record is None:
                return urls, damage
            reader.finish(record)
            urls.append(record.head.url)
        except Damaged as error:
            damage.append(str(error))
            reader.resync()
    raise AssertionError("no end")


MAKERS = pytest.mark.parametrize("make", [warc, arc])
PACKERS = pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])


@MAKERS
@PACKERS
def test_every_record_is_found_in_order(make, pack):
    raw = b"".join(pack(make(number)) for number in range(5))
    assert walk(raw) == ([f"http://e/{number}" for number in range(5)], [])


@MAKERS
@PACKERS
def test_every_place_is_a_place_to_go_on_from(make, pack):
    raw = b"".join(pack(make(number)) for number in range(5))
    reader = Reader(io.BufferedReader(io.BytesIO(raw)), Place("v"))
    number = 0
    while record := reader.next():
        assert walk(raw, Place.read(str(reader.place)))[0][0] == f"http://e/{number}"
        reader.finish(record)
        number += 1
    assert number == 5


@MAKERS
def test_records_that_share_a_member_have_places_of_their_own(make):
    raw = gzip.compress(b"".join(make(number) for number in range(4))) + gzip.compress(make(4))
    assert walk(raw)[0] == [f"http://e/{number}" for number in range(5)]
    for number in range(4):
        assert walk(raw, Place("v", 0, number))[0][0] == f"http://e/{number}"
    assert walk(raw, Place("v", 0, 4))[0] == ["http://e/4"]


@MAKERS
@PACKERS
def test_damage_in_the_middle_keeps_both_sides(make, pack):
    parts = [pack(make(number, bytes(range(256)) * 4)) for number in range(3)]
    half = parts[1][: len(parts[1]) // 2] + b"\n" * (make is arc)
    for spoilt in (b"\xff" * 9 + parts[1][9:], half, b"noise\n"):
        urls, damage = walk(parts[0] + spoilt + parts[2])
        assert urls == ["http://e/0", "http://e/2"]
        assert damage


PIECES = [
    b"WARC/1.0\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999\r\n",
    b"http://e/ 1.2.3.4 20010101000000 text/html 3\n",
    b"\r\n",
    b"\n",
    b"abc",
    b"\0" * 10,
    b"\x1f\x8b\x08",
    warc(3),
    warc(4)[:60],
    gzip.compress(b""),
    gzip.compress(warc(1)),
    gzip.compress(warc(2))[:40],
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_any_bytes_come_to_an_end(pieces):
    walk(b"".join(pieces))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.booleans())
def test_a_cut_file_gives_its_whole_records_and_says_that_it_was_cut(cut, packed):
    parts = [(gzip.compress if packed else bytes)(warc(number)) for number in range(3)]
    raw = b"".join(parts)[: -(cut + 1)]
    whole = 0
    while whole < 3 and sum(map(len, parts[: whole + 1])) <= len(raw):
        whole += 1
    urls, damage = walk(raw)
    assert len(urls) in (whole, whole + 1)  # a lost line break behind a record is no loss
    if len(urls) == whole and sum(map(len, parts[:whole])) < len(raw):
        assert len(damage) == 1


def test_places_are_read_as_they_are_written():
    for place in (Place("a.warc.gz", 17), Place("x@y!archive/b.warc", 0, 3), Place("", 0)):
        assert Place.read(str(place)) == place
    for text in ("", "a", "a@", "a@b", "a@1.x"):
        with pytest.raises(ValueError, match="invalid literal"):
            Place.read(text)


@pytest.mark.parametrize(
    ("date", "digits"),
    [
        ("2001-02-03T04:05:06Z", "20010203040506"),
        ("2001-02-03T04:05:06.789123Z", "20010203040506"),
        ("20010203040506", "20010203040506"),
        ("2001-02-03", "20010203"),
        ("never", ""),
    ],
)
def test_dates_become_digits(date, digits):
    assert stamp(date) == digits


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6))
def test_chunks_are_put_together(pieces):
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert without_chunks(chunked) == b"".join(pieces)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_what_only_looks_chunked_is_itself_or_damage(body):
    try:
        found = without_chunks(body)
    except Damaged:
        return
    assert found == body or len(found) < len(body)
