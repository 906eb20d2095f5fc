"""A query tree as tantivy queries, and the places in a text that it matches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

import tantivy
from tantivy import Occur

from chrono_ray.model.query import And, CapturedBetween, Equals, Filter, Not, Or
from chrono_ray.search.highlight import Match, densest
from chrono_ray.search.tantivy_schema import Token, normal, seconds, tokens
from chrono_ray.search.words import Asked, edits, sayable, within

_BOOSTS: Final = (("title", 3.0), ("text", 1.0), ("author", 1.5), ("url", 0.8))
_FORGIVING: Final = ("title", "text", "author")
_FORGIVEN_WORDS: Final = 10
"""Typos are looked up in the whole dictionary, so only for as many words as Meilisearch takes."""
_PREFIX_FROM: Final = 3
_NEARLY: Final = 0.3
"""What a prefix or a word with a typo scores: always less than the word itself."""
_WINDOW: Final = 20_000
_READ_AT_MOST: Final = 200_000
"""Characters of one page read for its snippet; a match further in is found but not shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing asked for: a word, or several in a row. `typos` and `prefix` are for words only."""

    words: tuple[str, ...]
    typos: int = 0
    prefix: bool = False


def wanted(words: tantivy.TextAnalyzer, asked: Asked) -> tuple[Wanted, ...]:
    """What must be found for a query, all of it; empty when nothing typed is a word."""
    phrases = [_phrase(words, phrase) for phrase in asked.phrases]
    runs = list(_runs(tokens(words, normal(" ".join(asked.words)))))
    loose = [
        _loose(run, place < _FORGIVEN_WORDS, asked.unfinished and place == len(runs) - 1)
        for place, run in enumerate(runs)
    ]
    return tuple(want for want in dict.fromkeys((*phrases, *loose)) if want.words)


def text_query(schema: tantivy.Schema, wants: Sequence[Wanted]) -> tantivy.Query:
    """Every wanted thing must stand in some field; title counts most."""
    return tantivy.Query.boolean_query([(Occur.Must, _anywhere(schema, want)) for want in wants])


def filter_query(schema: tantivy.Schema, tree: Filter) -> tantivy.Query:
    """The tree, part by part; values are terms, never text to be parsed."""
    match tree:
        case Equals(field, values):
            exact = [sayable(value) for value in values]
            return tantivy.Query.term_set_query(schema, field.value, exact)
        case CapturedBetween(start, end):
            return _captured_between(schema, start, end)
        case And(parts):
            return _all_of([filter_query(schema, part) for part in parts])
        case Or(parts):
            return _any_of([filter_query(schema, part) for part in parts])
        case Not(part):
            everything = tantivy.Query.all_query()
            but = filter_query(schema, part)
            return tantivy.Query.boolean_query([(Occur.Must, everything), (Occur.MustNot, but)])
        case _ as never:
            assert_never(never)


def places(words: tantivy.TextAnalyzer, text: str, wants: Sequence[Wanted]) -> list[Match]:
    """Where a short text (a title) matches."""
    return list(_matches(tokens(words, sayable(text)), wants))


def best_places(
    words: tantivy.TextAnalyzer, text: str, wants: Sequence[Wanted], *, size: int
) -> tuple[Match, ...]:
    """The matches of the best `size` characters of a long text, read only as far as needed."""
    best: tuple[Match, ...] = ()
    kinds = 0
    for start in range(0, min(len(text), _READ_AT_MOST) if wants else 0, _WINDOW):
        found = _matches(tokens(words, text[start : start + _WINDOW]), wants)
        near = densest([Match(m.start + start, m.end + start, m.key) for m in found], size)
        if (here := len({match.key for match in near})) > kinds:
            best, kinds = near, here
        if kinds == len(wants):
            break
    return best


def _runs(found: Iterable[Token]) -> Iterator[tuple[str, ...]]:
    """Tokens with nothing between them belong together: 東京, or 第3回."""
    run: list[str] = []
    end = -1
    for token in found:
        if run and token.start != end:
            yield tuple(run)
            run = []
        run.append(token.text)
        end = token.end
    if run:
        yield tuple(run)


def _phrase(words: tantivy.TextAnalyzer, phrase: str) -> Wanted:
    return Wanted(tuple(token.text for token in tokens(words, normal(phrase))))


def _loose(run: tuple[str, ...], forgiven: bool, unfinished: bool) -> Wanted:
    if len(run) > 1:
        return Wanted(run)
    prefix = unfinished and len(run[0]) >= _PREFIX_FROM
    return Wanted(run, typos=edits(run[0]) if forgiven else 0, prefix=prefix)


def _anywhere(schema: tantivy.Schema, want: Wanted) -> tantivy.Query:
    fields = [
        tantivy.Query.boost_query(_exactly(schema, name, want.words), boost)
        for name, boost in _BOOSTS
    ]
    return tantivy.Query.disjunction_max_query([*fields, *_nearly(schema, want)])


def _exactly(schema: tantivy.Schema, field: str, words: tuple[str, ...]) -> tantivy.Query:
    if len(words) == 1:
        return tantivy.Query.term_query(schema, field, words[0])
    return tantivy.Query.phrase_query(schema, field, list(words))


def _nearly(schema: tantivy.Schema, want: Wanted) -> Iterator[tantivy.Query]:
    for field in _FORGIVING:
        for distance, prefix in ((want.typos, False), (0, want.prefix)):
            if distance or prefix:
                near = tantivy.Query.fuzzy_term_query(
                    schema, field, want.words[0], distance, prefix=prefix
                )
                yield tantivy.Query.const_score_query(near, _NEARLY)


def _captured_between(
    schema: tantivy.Schema, start: datetime | None, end: datetime | None
) -> tantivy.Query:
    parts: list[tantivy.Query] = []
    if start is not None:
        parts.append(_range(schema, "last_seen", math.ceil(start.timestamp()), None))
    if end is not None:
        parts.append(_range(schema, "first_seen", None, seconds(end)))
    return _all_of(parts)


def _range(schema: tantivy.Schema, field: str, low: int | None, high: int | None) -> tantivy.Query:
    return tantivy.Query.range_query(schema, field, tantivy.FieldType.Integer, low, high)


def _all_of(parts: Sequence[tantivy.Query]) -> tantivy.Query:
    if not parts:
        return tantivy.Query.all_query()
    return tantivy.Query.boolean_query([(Occur.Must, part) for part in parts])


def _any_of(parts: Sequence[tantivy.Query]) -> tantivy.Query:
    if not parts:
        return tantivy.Query.empty_query()
    return tantivy.Query.boolean_query([(Occur.Should, part) for part in parts])


def _matches(found: Sequence[Token], wants: Sequence[Wanted]) -> Iterator[Match]:
    known: dict[str, tuple[Wanted, ...]] = {}
    for place, token in enumerate(found):
        if token.text not in known:
            known[token.text] = tuple(want for want in wants if _begins(want, token.text))
        for want in known[token.text]:
            last = place + len(want.words)
            if tuple(one.text for one in found[place + 1 : last]) == want.words[1:]:
                yield Match(token.start, found[last - 1].end, " ".join(want.words))


def _begins(want: Wanted, word: str) -> bool:
    first = want.words[0]
    if len(want.words) > 1:
        return word == first
    return (want.prefix and word.startswith(first)) or within(first, word, want.typos)
