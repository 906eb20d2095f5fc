"""What extraction understood of a payload."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

TITLE_LIMIT: Final = 512
"""Characters; a longer title is cut and flagged `cut`."""

THIN_WORDS: Final = 50
"""Documents with fewer words are flagged `thin`: a fact about the page, not a failure."""


@dataclass(frozen=True, slots=True)
class Link:
    """One outgoing link as written in the page: `href` is raw, never resolved."""

    href: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One payload, understood once per extractor version, charset and type.

    `flags` is sorted and holds any of: thin, empty, cut, depth, replaced, truncated
    (the crawler kept a part of the payload).
    `replaced` counts the characters that became U+FFFD. Texts hold no NUL and
    no lone surrogate, so PostgreSQL takes them as they are.
    """

    extractor: str
    media_type: str
    charset: str
    title: str
    text: str
    author: str
    published: date | None
    language: str
    words: int
    description: str
    canonical: str
    links: tuple[Link, ...]
    flags: tuple[str, ...]
    replaced: int

    def flagged(self, flag: str) -> Document:
        """The same with one flag more."""
        return replace(self, flags=tuple(sorted({*self.flags, flag})))
