"""How text becomes words for the embedded index, and where they are found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.search.tantivy_query import Wanted, best_places, places, wanted
from chrono_ray.search.tantivy_schema import analyzer, document, normal, stored, tokens
from chrono_ray.search.words import read_query
from tests.support.meilisearch.pages import page

WORDS = analyzer()
HAY = "hay and more of it " * 2000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, World", ["hello", "world"]),
        ("Ünï Café", ["uni", "cafe"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("第3回", ["第", "3", "回"]),
        ("ｶﾀｶﾅ Mu\u0308nchen", ["カ", "タ", "カ", "ナ", "munchen"]),
        ("한국어", ["한", "국", "어"]),
        ("Привет мир", ["привет", "мир"]),
        ("שלום", ["שלום"]),
        ("😀👍", ["😀", "👍"]),
        ("iPhone15 #5*", ["iphone15", "5"]),
        ("!?… -- “”", []),
        ("x" * 300, []),
    ],
)
def test_text_becomes_words(text: str, found: list[str]) -> None:
    assert [token.text for token in tokens(WORDS, normal(text))] == found


@given(st.text(max_size=80))
def test_tokens_lie_in_the_text_in_order(text: str) -> None:
    last = 0
    for token in tokens(WORDS, text):
        assert last <= token.start < token.end <= len(text)
        last = token.end


@pytest.mark.parametrize(
    ("typed", "wants"),
    [
        ("", ()),
        ("?!", ()),
        ("cat", (Wanted(("cat",), prefix=True),)),
        ("ca", (Wanted(("ca",)),)),
        ("cat ", (Wanted(("cat",)),)),
        ("tower x ", (Wanted(("tower",), typos=1), Wanted(("x",)))),
        ("foo-bar ", (Wanted(("foo",)), Wanted(("bar",)))),
        ('"a b" c ', (Wanted(("a", "b")), Wanted(("c",)))),
        ('"a"', (Wanted(("a",)),)),
        ('"?"', ()),
        ("東京", (Wanted(("東", "京")),)),
        ("a a a ", (Wanted(("a",)),)),
    ],
)
def test_what_is_wanted(typed: str, wants: tuple[Wanted, ...]) -> None:
    assert wanted(WORDS, read_query(typed)) == wants


def test_only_ten_words_may_be_misspelt() -> None:
    wants = wanted(WORDS, read_query(" ".join(f"letters{chr(97 + i)}" for i in range(26)) + " "))
    assert sum(want.typos > 0 for want in wants) == 10


@pytest.mark.parametrize(
    ("typed", "text", "found"),
    [
        ("tower ", "The Tower, towers, tover", ["Tower", "towers", "tover"]),
        ("tow", "tow towers stow", ["tow", "towers"]),
        ('"old mill"', "Old mill. old, mill; mill old", ["Old mill", "old, mill"]),
        ("東京", "京都東京東", ["東京"]),
        ("cafe ", "Café ＣＡＦＥ", ["Café", "ＣＡＦＥ"]),
        ("", "anything", []),
    ],
)
def test_matches_are_found_in_the_text_as_written(typed: str, text: str, found: list[str]) -> None:
    matches = places(WORDS, text, wanted(WORDS, read_query(typed)))
    assert [text[match.start : match.end] for match in matches] == found


@given(st.text(max_size=40), st.text(max_size=80))
def test_places_lie_in_any_text(typed: str, text: str) -> None:
    for match in places(WORDS, text, wanted(WORDS, read_query(typed))):
        assert 0 <= match.start < match.end <= len(text)


def test_an_entry_comes_back_as_it_was() -> None:
    entry = page(1, "títle\u0000", "text 😀")
    assert stored(document(entry)) == entry


@pytest.mark.parametrize(
    ("typed", "text", "found"),
    [
        ("needle thread ", f"{HAY} needle {HAY} thread needle {HAY}", ["thread", "needle"]),
        ("needle ", f"{HAY} needles concatneedle {HAY} needle.", ["needle"]),
        ("needel ", f"{HAY[:5000]} needle {HAY}", ["needle"]),
        ("cafe ", f"{HAY[:5000]} Café {HAY}", ["Café"]),
        ('"old mill" ', f"old {HAY} old mill {HAY}", ["old mill"]),
        ("東京", f"{'京都' * 3000}東京{'京都' * 3000}", ["東京"]),
        ("needle ", f"{'İ' * 3000} needle {HAY}", ["needle"]),
        ("absent ", HAY, []),
        ("hay ", "haystack " * 3000 + "hay", ["hay"]),
        ("hay", "strawhay " * 3000 + "haystack", ["haystack"]),
        ("needle 東京 ", f"needle {HAY} 東京 {HAY}", ["needle"]),
        ("needle café ", f"needle {HAY[:5000]} Café {HAY}", ["needle"]),
    ],
)
def test_the_best_part_of_a_long_text_is_found(typed: str, text: str, found: list[str]) -> None:
    wants = wanted(WORDS, read_query(typed))
    matches = best_places(WORDS, text, wants, size=200, known=set())
    assert [text[match.start : match.end] for match in matches] == found


def test_a_word_shown_in_the_title_is_not_looked_for_again() -> None:
    wants = wanted(WORDS, read_query("needel thread "))
    text = f"needle {HAY} thread"
    assert len(best_places(WORDS, text, wants, size=200, known=set())) == 1
    (match,) = best_places(WORDS, text, wants, size=200, known={"needel"})
    assert text[match.start : match.end] == "thread"
