"""What an instance holds that can be read: its pages, and words that stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from chrono_ray.client import Chrono

PAGES: Final = 20
WORDS: Final = 20
UNKNOWN: Final = (
    "harbour", "mayor", "archive", "lantern", "school", "bridge", "museum", "ferry", "council",
    "festival", "library", "storm", "station", "market", "choir", "garden", "letter", "harvest",
    "painter", "winter",
)  # fmt: skip
"""Searched for where nothing is held."""
_WORD: Final = re.compile(r"[^\W\d_]{4,20}")


@dataclass(frozen=True, slots=True)
class Holdings:
    """Pages by number, none where nothing was collected; words to search for."""

    pages: tuple[int, ...]
    words: tuple[str, ...]


def holdings(c: Chrono) -> Holdings:
    """What a first look at what this user may read finds."""
    hits = list(islice(c.search("", most=PAGES), PAGES))
    texts = (text for each in hits for text in (each.title.text, each.snippet.text))
    return Holdings(tuple(each.id for each in hits), words_of(texts))


def words_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Words that occur, as many as are wanted; filled up with some that may not."""
    found = dict.fromkeys(
        word.casefold() for text in texts for word in _WORD.findall(text)
    )  # in the order of their coming
    return tuple(islice(dict.fromkeys([*found, *UNKNOWN]), WORDS))
