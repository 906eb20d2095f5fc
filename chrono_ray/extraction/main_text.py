"""The main text of a page, by two methods that check each other.

Density (`density.py`) costs a tenth of trafilatura and is as good on average,
but where it errs it errs badly. Resiliparse's main content costs as little and errs
elsewhere. So unless the markup itself is clear, both are asked, and where they
disagree on the words, trafilatura decides.
"""

from __future__ import annotations

from typing import Final

import trafilatura
from resiliparse.extract.html2text import extract_plain_text
from trafilatura.settings import Document as Extracted

from chrono_ray.extraction.density import dense_text
from chrono_ray.extraction.guess import LIBRARY_FAULTS
from chrono_ray.extraction.survey import Survey

ALGORITHM: Final = "density+trafilatura"
AGREEMENT: Final = 0.7
"""Dice coefficient of the two word sets; from 0.6 to 0.8 the quality is the same."""
INDEX_SHARE: Final = 0.5
"""A page without prose is an index: trafilatura, made for articles, then finds next to nothing."""
DEPTH_LIMIT: Final = 250
"""libxml2 silently drops what is nested deeper than 256 elements; others take quadratic time."""
MARKUP_LIMIT: Final = 4_000_000
"""Characters of markup; beyond, a second parse costs more memory than a child has."""


def main_text(markup: str, found: Survey) -> str:
    """The page's own words without navigation; all that is visible where nothing stands out."""
    if not found.lines:
        return ""
    dense = dense_text(found)
    if found.depth > DEPTH_LIMIT or len(markup) > MARKUP_LIMIT:
        return dense.text or found.visible
    if dense.sure:
        return dense.text
    if not dense.prose:
        judged = _trafilatura(markup)
        enough = len(judged) >= len(dense.text) * INDEX_SHARE
        return (judged if enough else dense.text) or found.visible
    second = extract_plain_text(markup, main_content=True, alt_texts=False)
    if _agreement(dense.text, second) >= AGREEMENT:
        return dense.text
    return _trafilatura(markup) or dense.text


def _agreement(first: str, second: str) -> float:
    """Dice coefficient of the word sets: 1 when they hold the same words, 0 when none."""
    ours, theirs = set(first.lower().split()), set(second.lower().split())
    both = len(ours) + len(theirs)
    return 2 * len(ours & theirs) / both if both else 1.0


def _trafilatura(markup: str) -> str:
    try:
        found = trafilatura.bare_extraction(markup, fast=True, include_comments=False)
    except LIBRARY_FAULTS:
        return ""
    return (found.text or "") if isinstance(found, Extracted) else ""
