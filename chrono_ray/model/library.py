"""What people add to a page: tags, notes, and what they think of it."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import Final

from chrono_ray.model.errors import InvalidInput

TAG_CHARS_MAX: Final = 50
TAGS_MOST: Final = 50
"""Of one page."""
NOTE_CHARS_MAX: Final = 10_000
SEARCHES_MOST: Final = 500
"""Saved by one user."""

_JOINERS: Final = "\u200c\u200d"
"""Shape words in Persian and emoji in families, and change no direction."""


class Review(StrEnum):
    """What a project thinks of a page."""

    UNREVIEWED = "unreviewed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NEEDS_WORK = "needs_work"


def tag_of(text: str) -> str:
    """The tag as it is kept and compared: NFC, without blanks around it. `InvalidInput` for none.

    Upper and lower case are told apart. No control character, no slash, and
    nothing that turns the direction of the text around it.
    """
    tag = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(tag) <= TAG_CHARS_MAX:
        why = f"from 1 to {TAG_CHARS_MAX} characters"
    elif "/" in tag or not all(each.isprintable() or each in _JOINERS for each in tag):
        why = "no slash, no line break, no control character"
    else:
        return tag
    raise InvalidInput("That cannot be a tag", why=why, code="tag")
