"""Fragments: plain pieces of the text, with ranges that lie where the matches are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.search.highlight import Match, character_spans, densest, marked, snippet

TEXT = st.text(st.sampled_from("ab é東😀\n<>&"), max_size=400)


@st.composite
def matched(draw: st.DrawFn) -> tuple[str, list[Match]]:
    text = draw(TEXT)
    spot = st.integers(0, len(text))
    spans = draw(st.lists(st.tuples(spot, spot, st.sampled_from("xyz")), max_size=8))
    return text, [Match(min(a, b), max(a, b), key) for a, b, key in spans]


@given(matched(), st.integers(20, 120))
def test_a_snippet_is_a_piece_of_the_text_no_longer_than_asked(
    case: tuple[str, list[Match]], size: int
) -> None:
    text, matches = case
    fragment = snippet(text, matches, size=size)
    assert fragment.text in text
    assert len(fragment.text) <= size
    assert len(fragment.text) >= min(len(text), size - 50)


@given(matched(), st.integers(20, 120))
def test_ranges_are_sorted_apart_and_inside(case: tuple[str, list[Match]], size: int) -> None:
    text, matches = case
    for fragment in (snippet(text, matches, size=size), marked(text, matches)):
        last = -1
        for start, end in fragment.matches:
            assert last < start < end <= len(fragment.text)
            last = end


@given(matched())
def test_marked_covers_exactly_the_matched_characters(case: tuple[str, list[Match]]) -> None:
    text, matches = case
    fragment = marked(text, matches)
    covered = {spot for start, end in fragment.matches for spot in range(start, end)}
    assert fragment.text == text
    assert covered == {spot for match in matches for spot in range(match.start, match.end)}


def test_the_snippet_lies_where_most_words_are() -> None:
    text = "apple " * 50 + "apple and pear " + "filler " * 200 + "pear " * 30
    spots = [
        Match(at, at + len(word), word)
        for word in ("apple", "pear")
        for at in range(len(text))
        if text.startswith(word, at)
    ]
    fragment = snippet(text, spots, size=100)
    found = {fragment.text[start:end] for start, end in fragment.matches}
    assert found == {"apple", "pear"}


def test_a_snippet_begins_and_ends_between_words() -> None:
    text = "some words stand here " * 40 + "needle " + "and then more words follow " * 40
    at = text.index("needle")
    fragment = snippet(text, [Match(at, at + 6, "n")], size=120)
    assert f" {fragment.text.strip()} " in text


@given(
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from("vwxyz")), max_size=12),
    st.integers(4, 80),
)
def test_the_densest_group_fits_and_none_covers_more_words(
    spots: list[tuple[int, str]], size: int
) -> None:
    """For matches that do not contain each other, as words never do."""
    matches = [Match(at, at + 4, key) for at, key in spots]
    best = densest(matches, size)
    kinds = {match.key for match in best}
    assert bool(best) == bool(matches)
    for first in matches:
        reach = first.start + size
        near = {one.key for one in matches if first.start <= one.start and one.end <= reach}
        assert len(near) <= len(kinds)
    assert not best or best[-1].end - best[0].start <= size


@given(TEXT, st.data())
def test_byte_positions_become_character_ranges(text: str, data: st.DataObject) -> None:
    spot = st.integers(0, len(text))
    pairs = data.draw(st.lists(st.tuples(spot, spot).filter(lambda p: p[0] < p[1]), max_size=5))
    positions = [
        (len(text[:start].encode()), len(text[start:end].encode())) for start, end in pairs
    ]
    assert character_spans(text, positions) == tuple(pairs)


@pytest.mark.parametrize("position", [(0, 99), (-1, 2), (0, 0), (50, 1), (3, -1)])
def test_positions_outside_the_text_are_dropped(position: tuple[int, int]) -> None:
    assert character_spans("äbc", [position]) == ()


def test_a_position_inside_a_character_grows_to_the_whole() -> None:
    assert character_spans("a😀b", [(2, 2)]) == ((1, 2),)
