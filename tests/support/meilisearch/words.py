"""How words are found, typos forgiven and phrases met: Meilisearch's rules, written down naively.

Read from milli's `parse_query.rs`, `matching_words.rs` and charabia: a minus
before a word excludes it, quotes make phrases, the last word is a prefix unless
something follows it, ten words count, and an attribute keeps 65,535 positions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

WORDS_MAX = 10
POSITIONS_MAX = 65_535
_APART = "぀-ヿ㐀-䶿一-鿿豈-﫿ー々"
_EMOJI = "\U0001f000-\U0001faff☀-➿"
_WORD = re.compile(rf"[{_APART}{_EMOJI}]|(?:[^\W_{_APART}]|[̀-ͯ])+")


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: int
    end: int
    position: int


@dataclass(frozen=True, slots=True)
class Term:
    """One thing asked for: a word, or several in a row."""

    words: tuple[str, ...]
    typos: int = 0
    prefix: bool = False
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A match: character range, and how many typos it took."""

    start: int
    end: int
    typos: int


def normal(word: str) -> str:
    """A word as it is indexed and asked for: lower case, without accents."""
    plain = unicodedata.normalize("NFKD", word.lower())
    return "".join(char for char in plain if not unicodedata.combining(char))


def words(text: str) -> list[Word]:
    found, position, last = [], 0, 0
    for match in _WORD.finditer(text):
        gap = text[last : match.start()]
        position += 8 if re.search(r"[^\w\s]|\n", gap) else 1
        if position > POSITIONS_MAX:
            break
        found.append(Word(normal(match.group()), match.start(), match.end(), position))
        last = match.end()
    return found


def terms(query: str) -> list[Term]:
    """What a query asks for, operators and all."""
    pieces = query.split('"')
    found: list[Term] = []
    for number, piece in enumerate(pieces):
        minus = number > 0 and bool(re.search(r"(^|\s)-$", pieces[number - 1]))
        if number % 2:
            run = tuple(word.text for word in words(piece))
            found += [Term(run, excluded=minus)] if run else []
        else:
            found += _loose(piece, last=number == len(pieces) - 1)
    asked = [term for term in found if not term.excluded][:WORDS_MAX]
    return asked + [term for term in found if term.excluded]


def find(text: list[Word], term: Term) -> Iterator[Found]:
    """Where a term stands in an attribute."""
    size = len(term.words)
    for at, word in enumerate(text):
        run = text[at : at + size]
        if size > 1:
            if tuple(one.text for one in run) == term.words and _together(run):
                yield Found(word.start, run[-1].end, 0)
        elif (typos := _typos(term, word.text)) is not None:
            yield Found(word.start, word.end, typos)


def _loose(piece: str, *, last: bool) -> Iterator[Term]:
    found = words(piece)
    run: list[str] = []
    for number, word in enumerate(found):
        run.append(word.text)
        follower = found[number + 1] if number + 1 < len(found) else None
        if follower and follower.start == word.end:
            continue
        minus = re.search(r"(^|\s)-$", piece[: word.start]) is not None
        final = last and follower is None and piece.endswith(piece[word.start : word.end])
        yield Term(
            tuple(run),
            typos=_allowed(word.text) if len(run) == 1 else 0,
            prefix=final and len(run) == 1,
            excluded=minus,
        )
        run = []


def _allowed(word: str) -> int:
    if word.isdigit() or len(word) < 5:
        return 0
    return 1 if len(word) < 9 else 2


def _together(run: list[Word]) -> bool:
    return all(b.position - a.position == 1 for a, b in pairwise(run))


def _typos(term: Term, word: str) -> int | None:
    asked = term.words[0]
    if word == asked or (term.prefix and word.startswith(asked)):
        return 0
    distance = _distance(asked, word, term.typos) if term.typos else term.typos + 1
    return distance if distance <= term.typos else None


def _distance(one: str, other: str, limit: int) -> int:
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    table = {(i, -1): i + 1 for i in range(-1, len(one))}
    table |= {(-1, j): j + 1 for j in range(-1, len(other))}
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            best = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
            if i and j and a == other[j - 1] and one[i - 1] == b:
                best = min(best, table[i - 2, j - 2] + 1)
            table[i, j] = best
    return table[len(one) - 1, len(other) - 1]
