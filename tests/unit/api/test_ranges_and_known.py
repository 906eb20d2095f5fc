"""Ranges as they are read, and what a process remembers of pages."""

from __future__ import annotations

import time

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.api.known import KnownPages
from chrono_ray.api.ranges import part_of


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20))
def test_a_range_is_what_is_there_of_it(first, last, size):
    try:
        part = part_of(f"bytes={first}-{last}", size)
    except HTTPException as refused:
        assert first >= size
        assert refused.headers == {"Content-Range": f"bytes */{size}"}  # noqa: PT017
    else:
        wanted = range(first, last + 1)
        assert part == (None if last < first else range(first, min(wanted.stop, size)))


@given(st.text(max_size=40))
def test_whatever_is_sent_is_a_range_or_none(text):
    for header in (text, f"bytes={text}"):
        try:
            part = part_of(header, 10)
        except HTTPException as refused:
            assert refused.status_code == 416  # noqa: PT017
        else:
            assert part is None or (0 <= part.start < part.stop <= 10)


def test_a_long_header_costs_nothing():
    began = time.process_time()
    assert part_of("bytes=" + "0-0," * 10_000_000, 10) is None
    assert part_of("bytes=" + "9" * 10_000_000 + "-", 10) is None
    assert time.process_time() - began < 0.5


def test_the_first_learned_are_forgotten_first():
    known = KnownPages(3)
    known.learn([1, 2, 3], 7)
    known.learn([4, 5], 8)
    assert [known.project_of(n) for n in range(1, 6)] == [None, None, 7, 8, 8]


def test_nothing_is_left_of_an_empty_body():
    with pytest.raises(HTTPException):
        part_of("bytes=0-", 0)
