"""Texts that every store takes: no NUL, no lone surrogate, no hostile runs, bounded length."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TEXT_LIMIT: Final = 2_000_000
"""Characters of a document's text; more is cut and flagged `cut`."""

_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_MARKS: Final = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{30})"
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_WORD: Final = re.compile(r"\w+")
_UNSPACED: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
CHARACTERS_PER_WORD: Final = 2
"""Chinese and Japanese are written without spaces; a word is about two characters."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`cut` says that something was taken away to fit."""

    text: str
    cut: bool


def clean(text: str, limit: int) -> Cleaned:
    """`text` as a store takes it, at most `limit` characters."""
    whole = _FORBIDDEN.sub(_mend, text)
    calm = whole if whole.isascii() else _MARKS.sub(r"\1", whole)
    kept = calm[:limit].rstrip() if len(calm) > limit else calm
    return Cleaned(kept, len(kept) < len(whole))


def one_line(text: str, limit: int) -> Cleaned:
    """`text` on one line, runs of white space made one space."""
    return clean(" ".join(text[: limit * 40].split()), limit)


def count_words(text: str) -> int:
    """Words of `text`; unspaced scripts count by characters."""
    if text.isascii():
        return len(text.split())
    unspaced = len(_UNSPACED.findall(text))
    spaced = len(_WORD.findall(_UNSPACED.sub(" ", text) if unspaced else text))
    return spaced + unspaced // CHARACTERS_PER_WORD


def _mend(match: re.Match[str]) -> str:
    return "\ufffd" if match[0] >= "\ud800" else ""
