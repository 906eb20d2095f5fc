"""The main text of a page."""

from __future__ import annotations

from typing import Final

import trafilatura

from chrono_ray.extraction.guess import LIBRARY_FAULTS

ALGORITHM: Final = "trafilatura-fast"

DEPTH_LIMIT: Final = 250
"""libxml2 silently drops what is nested deeper than 256 elements."""
MARKUP_LIMIT: Final = 4_000_000
"""Characters of markup; beyond, a second parse costs more memory than a child has."""


def main_text(markup: str, *, visible: str, depth: int) -> str:
    """The page's own words without navigation; `visible` where nothing stands out."""
    if depth > DEPTH_LIMIT or len(markup) > MARKUP_LIMIT:
        return visible
    return _trafilatura(markup) or visible


def _trafilatura(markup: str) -> str:
    try:
        found = trafilatura.bare_extraction(markup, fast=True, include_comments=False)
    except LIBRARY_FAULTS:
        return ""
    return (found.text or "") if isinstance(found, trafilatura.settings.Document) else ""
