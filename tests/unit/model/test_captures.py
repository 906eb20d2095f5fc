"""Captures as archives list them: odd timestamps kept, identities exact."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.capture import (
    EMPTY_DIGEST,
    NO_DIGEST,
    TRANSITIONS,
    Capture,
    FetchState,
    Timestamp14,
)

CAPTURE = Capture(
    urlkey="com,example)/",
    timestamp=Timestamp14("20010203040506"),
    original="http://example.com/",
    mimetype="text/html",
    statuscode="200",
    digest="A" * 32,
)


@given(st.from_regex(r"[0-9]{14}", fullmatch=True))
def test_any_fourteen_digits_are_kept_and_have_a_nearest_moment(text):
    stamp = Timestamp14(text)
    assert stamp.text == text
    assert stamp.impossible == (Timestamp14.of(stamp.instant) != stamp)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("20010032000000", datetime(2001, 1, 31, tzinfo=UTC)),
        ("20011345256199", datetime(2001, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("20010229120000", datetime(2001, 2, 28, 12, tzinfo=UTC)),
        ("00000000000000", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_impossible_timestamp_is_moved_to_the_nearest_moment(text, nearest):
    stamp = Timestamp14(text)
    assert stamp.impossible
    assert stamp.instant == nearest


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(-12, 14))
def test_a_moment_in_any_zone_gives_its_utc_digits_back(seconds, hours):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    if 2 <= moment.year <= 9998:
        stamp = Timestamp14.of(moment.astimezone(timezone(timedelta(hours=hours))))
        assert stamp.instant == moment
        assert not stamp.impossible


@pytest.mark.parametrize(
    "text", ["", "2001", "2001020304050", "200102030405061", "2001020304050x", "２" * 14]
)
def test_what_is_not_fourteen_digits_is_no_timestamp(text):
    with pytest.raises(ValueError, match="14-digit"):
        Timestamp14(text)


@given(st.lists(st.from_regex(r"[0-9]{14}", fullmatch=True), min_size=2, max_size=5))
def test_timestamps_sort_as_their_digits(texts):
    assert [stamp.text for stamp in sorted(map(Timestamp14, texts))] == sorted(texts)


@pytest.mark.parametrize(
    "other",
    [
        {"timestamp": Timestamp14("20010203040507")},
        {"original": "https://example.com/"},
        {"digest": "B" * 32},
        {"statuscode": "-"},
        {"mimetype": "warc/revisit"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_captures_that_differ_in_what_identifies_them_have_other_keys(other):
    assert replace(CAPTURE, **other).key != CAPTURE.key


def test_captures_that_differ_only_in_what_was_derived_are_the_same():
    assert replace(CAPTURE, urlkey="x", length=5, locator="w.gz:1").key == CAPTURE.key
    assert len(CAPTURE.key) == 16


def test_fields_cannot_run_into_each_other():
    left = replace(CAPTURE, digest="A", statuscode="AB")
    right = replace(CAPTURE, digest="AA", statuscode="B")
    assert left.key != right.key


def test_a_broken_original_still_has_a_key():
    assert len(replace(CAPTURE, original="http://\ud800/" + "x" * 10_000).key) == 16


@pytest.mark.parametrize("digest", [EMPTY_DIGEST, NO_DIGEST, ""])
def test_digests_that_name_no_bytes_are_never_shared(digest):
    assert not replace(CAPTURE, digest=digest).shareable
    assert CAPTURE.shareable


def test_a_revisit_is_known_by_its_type():
    assert replace(CAPTURE, mimetype="warc/revisit").is_revisit
    assert not CAPTURE.is_revisit


def test_states_are_stored_under_their_names():
    assert [state.value for state in FetchState] == [
        *("pending", "stored", "gone", "refused", "failed", "cancelled")
    ]


def test_every_fetch_state_has_its_moves_and_stored_is_for_ever():
    assert set(TRANSITIONS) == set(FetchState)
    assert TRANSITIONS[FetchState.STORED] == frozenset()


@pytest.mark.parametrize(
    "state", [s for s in FetchState if s not in (FetchState.STORED, FetchState.PENDING)]
)
def test_an_ended_fetch_can_only_be_tried_again(state):
    assert TRANSITIONS[state] == {FetchState.PENDING}
