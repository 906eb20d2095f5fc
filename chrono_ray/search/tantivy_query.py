"""A query tree as tantivy queries, and the places in a text that it matches."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
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
"""What a prefix or a word with a typo scores."""
_EXACTLY: Final = 100.0
"""What a word as typed scores besides: more than any other difference, as Meilisearch ranks."""
_READ_AT_MOST: Final = 20_000
"""Characters cut into words for a snippet when plain search does not find the place."""
_CANDIDATES: Final = 50


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing asked for: a word, or several in a row. `typos` and `prefix` are for words only."""

    words: tuple[str, ...]
    typos: int = 0
    prefix: bool = False

    @property
    def key(self) -> str:
        """What its matches are called."""
        return " ".join(self.words)


def wanted(words: tantivy.TextAnalyzer, asked: Asked, *, typos: bool = True) -> tuple[Wanted, ...]:
    """What must be found for a query, all of it; empty when nothing typed is a word."""
    phrases = [_phrase(words, phrase) for phrase in asked.phrases]
    runs = list(_runs(tokens(words, normal(" ".join(asked.words)))))
    unfinished = typos and asked.unfinished
    loose = [
        _loose(run, typos and place < _FORGIVEN_WORDS, unfinished and place == len(runs) - 1)
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
    words: tantivy.TextAnalyzer,
    text: str,
    wants: Sequence[Wanted],
    *,
    size: int,
    known: AbstractSet[str],
) -> tuple[Match, ...]:
    """The matches of the best `size` characters of a long text.

    Words are cut only where plain search says that the best place may be, if it
    cannot tell by itself, and, when a want is still missing (a typo, an
    accent), in the text's beginning. `known` are the keys of wants that the
    title has already shown.
    """
    if not wants:
        return ()
    likely = list(_likely(text, wants))
    best = densest(likely, size)
    shown = {want.key for want in wants} <= {match.key for match in likely} | known
    if best and shown and all(want.key.isascii() for want in wants):
        return best
    near = _near(words, text, wants, best[0].start, best[-1].end, size) if best else ()
    if near and shown:
        return near
    begun = _near(words, text, wants, 0, _READ_AT_MOST, size)
    return max(near, begun, key=lambda found: len({match.key for match in found}))


def _likely(text: str, wants: Sequence[Wanted]) -> Iterator[Match]:
    """Where a want may stand, by plain search in the lowered text."""
    low = text.lower()
    for want in wants if len(low) == len(text) else ():
        for needle in _needles(want):
            for found in islice(_needle(needle, want.prefix).finditer(low), _CANDIDATES):
                yield Match(found.start(), found.end(), want.key)


def _needles(want: Wanted) -> tuple[str, ...]:
    """Words of scripts without spaces stand close together."""
    return (want.key,) if want.key.isascii() else (want.key, "".join(want.words))


def _needle(text: str, prefix: bool) -> re.Pattern[str]:
    """A whole word, to its end where only its beginning is asked for; anything in other scripts."""
    if not text.isascii():
        return re.compile(re.escape(text))
    return re.compile(rf"(?<![^\W_]){re.escape(text)}" + (r"[^\W_]*" if prefix else r"(?![^\W_])"))


def _near(
    words: tantivy.TextAnalyzer,
    text: str,
    wants: Sequence[Wanted],
    start: int,
    end: int,
    size: int,
) -> tuple[Match, ...]:
    """The densest matches around [start, end), cut into words from one gap to another."""
    low = max(0, text.rfind(" ", 0, max(0, start - size)))
    high = text.find(" ", end + size)
    piece = text[low : high if high >= 0 else len(text)]
    found = _matches(tokens(words, piece), wants)
    return densest([Match(one.start + low, one.end + low, one.key) for one in found], size)


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
    nearly = list(_nearly(schema, want))
    if not nearly:
        return tantivy.Query.disjunction_max_query(fields)
    exact = tantivy.Query.const_score_query(_any_of(fields), _EXACTLY)
    found = tantivy.Query.disjunction_max_query([*fields, *nearly])
    return _any_of([exact, found])


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
                yield Match(token.start, found[last - 1].end, want.key)


def _begins(want: Wanted, word: str) -> bool:
    first = want.words[0]
    if len(want.words) > 1:
        return word == first
    return (want.prefix and word.startswith(first)) or within(first, word, want.typos)
