"""Only what was packed is unpacked, and only for the stamp that it was packed with."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.cache.entry import (
    Corrupt,
    Found,
    How,
    digest_of,
    name_of,
    packed,
    stamp_of,
    unpacked,
)

STAMP, OTHER = stamp_of((b"1", b"2")), stamp_of((b"1", b"3"))


@given(st.binary())
def test_what_is_packed_is_unpacked(body):
    value = packed("7", STAMP, Found(body, digest_of(body), How.MISS))
    assert unpacked("7", STAMP, value) == Found(body, digest_of(body), How.HIT)
    assert unpacked("7", OTHER, value) is None
    for version in ("", "6", "70"):
        with pytest.raises(Corrupt):
            unpacked(version, STAMP, value)


@given(st.binary(max_size=20), st.data())
def test_a_changed_byte_is_found_out(body, data):
    value = bytearray(packed("7", STAMP, Found(body, digest_of(body), How.MISS)))
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Corrupt):
        assert unpacked("7", STAMP, bytes(value)) is None, "of another stamp, then"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_are_none(value):
    try:
        found = unpacked("7", STAMP, value)
    except Corrupt:
        return
    assert found is None


@given(st.lists(st.text(max_size=5), unique=True, max_size=5))
def test_names_are_bounded_and_apart(texts):
    assert len({name_of(each) for each in texts}) == len(texts)
    assert {len(name_of(each)) for each in texts} <= {40}
