"""What a person typed: words, phrases, and the typos that are forgiven."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.search.words import Asked, edits, read_query, sayable, within

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=60)
WORD = st.text("abcd", max_size=9)


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("", Asked((), (), unfinished=False)),
        ("  one  two ", Asked(("one", "two"), (), unfinished=False)),
        ("one two", Asked(("one", "two"), (), unfinished=True)),
        ('a "b c" d', Asked(("a", "d"), ("b c",), unfinished=True)),
        ('"b c"', Asked((), ("b c",), unfinished=False)),
        ('"  b \t c "', Asked((), ("b c",), unfinished=False)),
        ('""', Asked((), (), unfinished=False)),
        ('"', Asked((), (), unfinished=False)),
        ('5" disk', Asked(("5", "disk"), (), unfinished=True)),
        ('"a b" "c d', Asked(("c", "d"), ("a b",), unfinished=True)),
        ("a AND -b", Asked(("a", "AND", "-b"), (), unfinished=True)),
        ("a\x00b\nc", Asked(("a", "b", "c"), (), unfinished=True)),
    ],
)
def test_only_quotes_mean_anything(typed: str, asked: Asked) -> None:
    assert read_query(typed) == asked


@given(ANYTHING)
def test_any_text_is_read_and_nothing_but_quotes_is_lost(typed: str) -> None:
    asked = read_query(typed)
    kept = "".join(sorted("".join((*asked.words, *asked.phrases)).replace(" ", "")))
    bare = "".join(char for char in sayable(typed) if char != '"')
    assert kept == "".join(
        sorted(char for char in bare if not char.isspace() and ord(char) not in (*range(32), 127))
    )
    assert all(word and '"' not in word for word in (*asked.words, *asked.phrases))


@given(ANYTHING)
def test_sayable_text_can_be_encoded(text: str) -> None:
    assert len(sayable(text).encode()) >= len(text)


@pytest.mark.parametrize(
    ("word", "count"),
    [("tower", 1), ("towe", 0), ("lighthouse", 2), ("12345", 0), ("собак", 1), ("", 0)],
)
def test_long_words_may_be_misspelt(word: str, count: int) -> None:
    assert edits(word) == count


def naive(one: str, other: str) -> int:
    """Optimal string alignment by its definition."""
    table = [
        [i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)
    ]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            same = one[i - 1] == other[j - 1]
            best = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (not same))
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                best = min(best, table[i - 2][j - 2] + 1)
            table[i][j] = best
    return table[-1][-1]


@given(WORD, WORD, st.integers(0, 3))
def test_within_agrees_with_the_definition(one: str, other: str, allowed: int) -> None:
    assert within(one, other, allowed) == (naive(one, other) <= allowed)
