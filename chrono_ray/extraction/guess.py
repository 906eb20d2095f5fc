"""A date of publication for pages that state none, from what the page shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Final

from htmldate import find_date
from lxml.etree import LxmlError

from chrono_ray.extraction.dates import EARLIEST_GUESS
from chrono_ray.extraction.metadata import Metadata

MARKUP_LIMIT: Final = 1_000_000
"""Characters of markup searched; larger pages without a stated date stay undated."""

LIBRARY_FAULTS: Final = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
    AssertionError, LxmlError,
)  # fmt: skip
"""What pure-Python parsers are known to raise on hostile markup, beside their documented errors."""


def guess_date(metadata: Metadata, markup: str, *, latest: date) -> Metadata:
    """`metadata` with the date that htmldate's quick search finds, if it finds one."""
    if len(markup) > MARKUP_LIMIT:
        return metadata
    try:
        found = find_date(
            markup,
            extensive_search=False,
            original_date=True,
            min_date=EARLIEST_GUESS.isoformat(),
            max_date=latest.isoformat(),
        )
    except LIBRARY_FAULTS:
        return metadata
    return replace(metadata, published=date.fromisoformat(found)) if found else metadata
