"""Spans cut in two: nothing falls between the halves, and cutting ends at months."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    MementoGone,
    RequestRefused,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.spans import Span, halves, may_be_size, samples

NOW = Timestamp14("20261122073000")

moments = st.builds(
    lambda y, m, d, t: f"{y:04}{m:02}{d:02}{t:06}",
    st.integers(1990, 2026), st.integers(1, 12), st.integers(1, 28), st.integers(0, 235959),
)  # fmt: skip
spans = st.tuples(moments | st.just(""), moments | st.just("")).map(
    lambda sides: Span(*(sorted(sides) if all(sides) else sides))
)


def leaves(span: Span) -> list[Span]:
    parts = halves(span, now=NOW)
    return [span] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def test_both_halves_hold_the_second_of_the_cut():
    older, newer = halves(Span("20010101000000", "20041231235959"), now=NOW) or (None, None)
    assert older == Span("20010101000000", "20021231235959")
    assert newer == Span("20021231235959", "20041231235959")


def test_open_sides_stay_open():
    older, newer = halves(Span(), now=NOW) or (None, None)
    assert (older.start, newer.end) == ("", "")
    assert older.end == newer.start == "20110630235959"


@pytest.mark.parametrize(
    "span",
    [
        Span("20010201000000", "20010228235959"),
        Span("20010131235959", "20010228235959"),
        Span("20010205000000", "20010207000000"),
        Span("", "19960131235959"),
        Span("20261031235959", ""),
        Span("20261101000000", "20271231235959"),
        Span("20260101000000", "20250101000000"),
    ],
)
def test_a_month_is_not_cut(span: Span):
    assert halves(span, now=NOW) is None


@settings(max_examples=40, deadline=None)
@given(spans)
def test_the_parts_span_the_whole_without_a_gap(span: Span):
    parts = leaves(span)
    assert (parts[0].start, parts[-1].end) == (span.start, span.end)
    assert all(part.end == later.start for part, later in pairwise(parts))
    assert all(halves(part, now=NOW) is None for part in parts)


@settings(max_examples=60, deadline=None)
@given(spans, st.text("0123456789", min_size=14, max_size=14))
def test_no_digits_fall_between_the_halves(span: Span, digits: str):
    """Not even those that name no moment: archives compare them as text."""

    def holds(part: Span) -> bool:
        return part.start <= digits and (not part.end or digits <= part.end)

    assert any(holds(part) for part in leaves(span)) == holds(span)


@given(spans)
def test_samples_are_months_of_the_span(span: Span):
    assume(halves(span, now=NOW))
    for month in islice(samples(span, now=NOW), 20):
        assert month.start[:6] == month.end[:6]
        assert not span.start or span.start <= month.start
        assert not span.end or month.end <= span.end


def test_samples_are_the_ends_then_what_lies_far_apart():
    found = samples(Span("20010115000000", "20050615000000"), now=NOW)
    assert list(islice(found, 5)) == [
        Span("20010115000000", "20010131235959"),
        Span("20050601000000", "20050615000000"),
        Span("20030301000000", "20030331235959"),
        Span("20020201000000", "20020228235959"),
        Span("20040401000000", "20040430235959"),
    ]
    every = [month.start[:6] for month in samples(Span("20010101000000", ""), now=NOW)]
    assert len(every) == len(set(every)) == 26 * 12 - 1


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (ArchiveUnavailable("504"), True),
        (TransferFailed("late", reason="deadline"), True),
        (TransferFailed("cut", reason="truncated"), True),
        (TransferFailed("much", reason="too_large"), True),
        (TransferFailed("odd", reason="encoding"), False),
        (ArchiveUnavailable("a bug of ours", reason="unforeseen", requests=0), False),
        (ArchiveUnavailable("a disk that is ill", requests=0), False),
        (ConnectionRefused("down"), False),
        (Throttled("429", retry_after=None), False),
        (MementoGone("blocked", reason="blocked"), False),
        (RequestRefused("no"), False),
    ],
)
def test_what_less_may_mend(error: ArchiveError, *, may: bool):
    assert may_be_size(error) is may
