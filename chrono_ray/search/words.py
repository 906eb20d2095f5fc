"""What a person typed, read the same way for every index: words, "phrases", and nothing else.

No character but the double quote means anything, so AND, -, *, : and the like
are text. What neither index can find (punctuation alone) is no word at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

COMPARED: Final = 16_384
"""Pairs of words that are remembered: the hits of one search share most of theirs."""
_UNSAYABLE: Final = re.compile(r"[\ud800-\udfff]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Asked:
    """`words` as typed, in order; `phrases` are what stood between quotes.

    `unfinished` says that the last word was still being typed: it stands at
    the very end, outside quotes, so an index may match it as a prefix.
    """

    words: tuple[str, ...]
    phrases: tuple[str, ...]
    unfinished: bool


def sayable(text: str) -> str:
    """The text without lone surrogates, which no encoding and no index can hold."""
    return _UNSAYABLE.sub("\ufffd", text)


def day(moment: datetime) -> str:
    """The ISO date in UTC, as histograms count it."""
    return moment.astimezone(UTC).date().isoformat()


def read_query(text: str) -> Asked:
    """Split a search box's text; a quote without a partner is dropped."""
    pieces = _CONTROL.sub(" ", sayable(text)).split('"')
    if len(pieces) % 2 == 0:
        pieces[-2:] = [f"{pieces[-2]} {pieces[-1]}"]
    words = [word for piece in pieces[::2] for word in piece.split()]
    phrases = [" ".join(piece.split()) for piece in pieces[1::2]]
    tail = pieces[-1]
    return Asked(
        words=tuple(words),
        phrases=tuple(phrase for phrase in phrases if phrase),
        unfinished=bool(tail.strip()) and not tail[-1].isspace(),
    )


def edits(word: str) -> int:
    """How many typos are forgiven: 1 from five letters, 2 from nine, none in numbers.

    The lengths are Meilisearch's defaults, taken for both indexes.
    """
    if word.isdigit() or len(word) < 5:
        return 0
    return 1 if len(word) < 9 else 2


@lru_cache(maxsize=COMPARED)
def within(one: str, other: str, allowed: int) -> bool:
    """True when at most `allowed` edits (swapped neighbours count once) part the two words."""
    if one == other:
        return True
    if allowed == 0 or abs(len(one) - len(other)) > allowed:
        return False
    if len(set(one) - set(other)) > allowed:
        return False
    return _distance(one, other, allowed) <= allowed


def _distance(one: str, other: str, limit: int) -> int:
    """Optimal string alignment, given up as soon as a whole row exceeds the limit."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        row = [i]
        for j, right in enumerate(other, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
        before, last = last, row
    return last[-1]
