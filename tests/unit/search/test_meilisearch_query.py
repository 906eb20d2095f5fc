"""How a query and a page are written for Meilisearch."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.query import And, CapturedBetween, Equals, Field, Filter, Not, Or
from chrono_ray.search.meilisearch_query import NOTHING, filter_text, query_text
from chrono_ray.search.meilisearch_schema import POSITIONS, decode, encode, split
from tests.support.meilisearch import words
from tests.support.meilisearch.filters import parse

VALUE = st.text(max_size=30)
ON_HOST = Equals(Field.HOST, ("a",))
NOON = datetime(2001, 2, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (And(()), None),
        (Or(()), NOTHING),
        (Not(And(())), NOTHING),
        (Not(Or(())), f"NOT ({NOTHING})"),
        (Or((ON_HOST, And(()))), None),
        (And((ON_HOST,)), 'host IN ["a"]'),
        (Equals(Field.HOST, ()), "host IN []"),
        (Equals(Field.HOST, ("a", "B")), 'host IN ["a", "%42"]'),
        (And((ON_HOST, Not(ON_HOST))), '(host IN ["a"]) AND (NOT (host IN ["a"]))'),
        (CapturedBetween(None, None), None),
        (CapturedBetween(NOON, None), "last_seen >= 981201600"),
        (CapturedBetween(NOON, NOON), "(last_seen >= 981201600) AND (first_seen <= 981201600)"),
    ],
)
def test_a_filter_is_built_from_its_tree(tree: Filter, text: str | None) -> None:
    assert filter_text(tree) == text
    if text is not None:
        parse(text, {"host", "project", "first_seen", "last_seen"})


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("", " "),
        ("a b", "a b"),
        ("a b ", "a b "),
        ('a "b c" d', '"b c" a d'),
        ('"b c"', '"b c" '),
        ("-a --b －c —d", "a b c d"),
        ("a-b - c", "a-b c"),
        ('"', " "),
    ],
)
def test_no_operator_of_meilisearch_is_sent(typed: str, asked: str) -> None:
    assert query_text(typed) == asked


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_no_text_excludes_anything(typed: str) -> None:
    asked = query_text(typed)
    assert not [term for term in words.terms(asked) if term.excluded]
    asked.encode()


@given(VALUE)
def test_an_exact_value_comes_back(value: str) -> None:
    assert decode(encode(value)) == value


@given(VALUE)
def test_an_encoded_value_survives_what_meilisearch_does_to_values(value: str) -> None:
    key = encode(value)
    assert key, "an empty value would not be indexed"
    assert unicodedata.normalize("NFKD", key.strip()).lower() == key
    assert not set(key) & set("\"'\\ ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one",
        "word " * 200_000,
        "a. " * 50_000,
        "東京。" * 40_000,
        "x" * 500_000,
        "\n" * 100_000,
        "!?" * 50_000,
    ],
)
def test_a_long_text_is_split_so_that_no_word_is_dropped(text: str) -> None:
    parts = list(split(text))
    assert "".join(parts) == text
    for part in parts:
        found = words.words(part)
        assert all(word.position <= POSITIONS for word in found)
    together = [word.text for part in parts for word in words.words(part)]
    assert len(text) > 400_000 or together[-1:] == [w.text for w in words.words(text[-50:])][-1:]


@given(st.text(st.sampled_from("ab .\n東é_"), max_size=300))
def test_splitting_loses_no_character(text: str) -> None:
    assert "".join(split(text)) == text
