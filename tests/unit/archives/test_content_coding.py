from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.archives.encoding import decode
from chrono_ray.model.errors import TransferFailed

HTML = b"<html><title>Harbour</title><p>Words enough to be worth packing. " * 40
KIB = 1024


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACK = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def html(body: bytes, coding: str = "", limit: int = 10 * KIB * KIB) -> bytes:
    return decode(body, coding, media_type="text/html", limit=limit)


def reason(body: bytes, coding: str = "", limit: int = 10 * KIB * KIB) -> str:
    with pytest.raises(TransferFailed) as caught:
        html(body, coding, limit)
    return caught.value.reason


@pytest.mark.parametrize("coding", PACK)
@settings(max_examples=30, deadline=None)
@given(body=st.binary(min_size=1, max_size=4 * KIB))
def test_what_was_packed_comes_back(coding, body):
    packed = PACK[coding](body)
    assert decode(packed, coding, media_type="application/octet-stream") == body


@pytest.mark.parametrize("coding", PACK)
def test_large_bodies_come_back_whole(coding):
    body = bytes(range(256)) * 4 * KIB
    assert decode(PACK[coding](body), coding.upper(), media_type="application/pdf") == body


@pytest.mark.parametrize("coding", PACK)
def test_the_limit_is_on_what_comes_out(coding):
    body = bytes(100 * KIB)
    assert len(html(PACK[coding](body), coding, 100 * KIB)) == 100 * KIB
    assert reason(PACK[coding](body), coding, 100 * KIB - 1) == "too_large"


def test_the_limit_holds_for_plain_bodies_and_second_layers():
    assert reason(bytes(KIB), "", KIB - 1) == "too_large"
    assert reason(gzip.compress(gzip.compress(bytes(KIB))), "gzip", KIB - 1) == "too_large"


@pytest.mark.parametrize("coding", ["identity", "none", "", "  ", "Identity"])
def test_no_coding_at_all(coding):
    assert html(HTML, coding) == HTML


def test_raw_deflate_is_understood_too():
    assert html(raw_deflate(HTML), "deflate") == HTML


@pytest.mark.parametrize("coding", [*PACK, "utf-8", "sdch", "gzip, br"])
def test_a_coding_that_was_only_declared_is_passed_over(coding):
    assert html(HTML, coding) == HTML


@pytest.mark.parametrize("coding", ["", "deflate", "br", "zstd", "unknown"])
def test_gzip_is_told_by_its_magic_whatever_was_declared(coding):
    assert html(gzip.compress(HTML), coding) == HTML


def test_two_layers_are_undone_declared_once_or_twice():
    twice = gzip.compress(gzip.compress(HTML))
    assert html(twice, "gzip") == html(twice, "gzip, gzip") == HTML
    assert html(brotli.compress(gzip.compress(HTML)), "gzip, br") == HTML


def test_a_chain_is_refused_before_it_is_tried():
    body = HTML
    for _ in range(20):
        body = gzip.compress(body, 1)
    assert reason(body, ", ".join(["gzip"] * 20)) == "encoding"


def test_an_archived_gzip_file_stays_one():
    file = gzip.compress(HTML)
    assert decode(file, "", media_type="application/gzip") == file
    assert decode(file, "", media_type="application/x-gzip") == file
    assert decode(gzip.compress(file), "gzip", media_type="application/gzip") == file


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
def test_a_stream_that_ends_early_is_never_a_body(coding):
    packed = PACK[coding](HTML * 3)
    for end in (len(packed) // 2, len(packed) - 1):
        assert reason(packed[:end], coding) == "encoding"


def test_a_damaged_stream_is_never_a_body():
    packed = bytearray(gzip.compress(HTML))
    packed[-5] ^= 0xFF
    assert reason(bytes(packed), "gzip") == "encoding"


def test_members_are_joined_and_what_follows_them_is_not_content():
    assert html(gzip.compress(b"<p>one ") + gzip.compress(b"two"), "gzip") == b"<p>one two"
    assert html(gzip.compress(HTML) + b"\0" * 512, "gzip") == HTML


def test_too_many_members_are_refused():
    assert reason(gzip.compress(b"x") * 1025, "gzip") == "encoding"
    assert html(gzip.compress(b"x") * 1024, "gzip") == b"x" * 1024


def test_an_empty_body_has_no_coding_to_undo():
    assert html(b"", "gzip") == html(b"", "br") == b""


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=2 * KIB),
    magic=st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c"]),
    coding=st.sampled_from([*PACK, "", "gzip, gzip", "nonsense"]),
)
def test_any_bytes_give_a_body_or_a_named_failure(body, magic, coding):
    try:
        entity = html(magic + body, coding, 64 * KIB)
    except TransferFailed as error:
        assert error.reason in ("encoding", "too_large")  # noqa: PT017 - both ways are right
    else:
        assert len(entity) <= 64 * KIB
