"""A query as Meilisearch is asked: its text without operators, its filter built from the tree."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Final, assert_never

from chrono_ray.model.query import And, CapturedBetween, Equals, Filter, Not, Or, Sort
from chrono_ray.search.meilisearch_schema import PRIMARY_KEY, VERSION_MARK, encode
from chrono_ray.search.words import read_query

NOTHING: Final = "project IN []"
SORTS: Final = {
    Sort.RELEVANCE: None,
    Sort.NEWEST: ["last_seen:desc"],
    Sort.OLDEST: ["first_seen:asc"],
}


def query_text(text: str, *, typos: bool = True) -> str:
    """The words and phrases typed; the minus that would exclude a word is taken off.

    A finished last word gets a space after it, or Meilisearch would take it
    for a prefix. Only the first ten words and phrases count there. Without
    `typos` each word is a phrase, in which Meilisearch forgives nothing.
    """
    asked = read_query(text)
    words = [word for word in map(_without_minus, asked.words) if word]
    exact = asked.phrases if typos else (*asked.phrases, *words)
    parts = [*(f'"{each}"' for each in exact), *(words if typos else ())]
    return " ".join(parts) + ("" if asked.unfinished and typos else " ")


def whole_filter(tree: Filter, *, after: int | None = None) -> str:
    """The filter of a search: an index of another version refuses it, and says so."""
    beyond = None if after is None else f"{PRIMARY_KEY} > {after}"
    parts = [f"{VERSION_MARK} NOT EXISTS", beyond, filter_text(tree)]
    return " AND ".join(f"({part})" for part in parts if part is not None)


def filter_text(tree: Filter) -> str | None:
    """The tree in Meilisearch's language; None when it lets everything through."""
    match tree:
        case Equals(field, values):
            keys = ", ".join(f'"{encode(value)}"' for value in values)
            return f"{field.value} IN [{keys}]"
        case CapturedBetween(start, end):
            return _captured_between(start, end)
        case And(parts):
            return _joined([filter_text(part) for part in parts], " AND ", empty=None)
        case Or(parts):
            wanted = [filter_text(part) for part in parts]
            return None if None in wanted else _joined(wanted, " OR ", empty=NOTHING)
        case Not(part):
            inner = filter_text(part)
            return NOTHING if inner is None else f"NOT ({inner})"
        case _ as never:
            assert_never(never)


def _captured_between(start: datetime | None, end: datetime | None) -> str | None:
    since = None if start is None else f"last_seen >= {math.ceil(start.timestamp())}"
    until = None if end is None else f"first_seen <= {math.floor(end.timestamp())}"
    return _joined([since, until], " AND ", empty=None)


def _joined(parts: Sequence[str | None], word: str, *, empty: str | None) -> str | None:
    wanted = [part for part in parts if part is not None]
    if len(wanted) < 2:
        return wanted[0] if wanted else empty
    return word.join(f"({part})" for part in wanted)


def _without_minus(word: str) -> str:
    start = 0
    while start < len(word) and _is_dash(word[start]):
        start += 1
    return word[start:]


def _is_dash(char: str) -> bool:
    return unicodedata.category(char) == "Pd" or unicodedata.normalize("NFKC", char) == "-"
