"""How a memento is cited: what it is, who keeps it since when, where, and when it was had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from chrono_ray.model.capture import Timestamp14

KEEPERS: Final[Mapping[str, str]] = {
    "wayback": "the Internet Archive's Wayback Machine",
    "commoncrawl": "Common Crawl",
}
"""Archives that people know by another name."""
UNTITLED: Final = "Untitled page"


@dataclass(frozen=True, slots=True)
class Citation:
    """One capture of a page, to be cited. `memento` is where people find it, empty for nowhere.

    `locator` is the archive's own word for where it lies; empty where URL and time say it.
    `retrieved` is when its bytes came here.
    """

    title: str
    url: str
    archive: str
    timestamp: Timestamp14
    memento: str
    locator: str
    retrieved: datetime | None

    def __str__(self) -> str:
        """One line of plain text, to be shown as text: title and URL are the page's own."""
        place = f": {self.memento}" if self.memento else ""
        if self.locator and not self.memento:
            place = f": record {self.locator}"
        keeper = KEEPERS.get(self.archive, self.archive)
        parts = [
            f"\u201c{' '.join(self.title.split()) or UNTITLED}\u201d", self.url,
            f"Archived {_day(self.timestamp)} by {keeper}{place}",
        ]  # fmt: skip
        if self.retrieved:
            parts.append(f"Retrieved {self.retrieved.astimezone(UTC):%Y-%m-%d}")
        return ". ".join(parts) + "."


def _day(timestamp: Timestamp14) -> str:
    """As it was kept; digits that name no moment stay digits."""
    if timestamp.impossible:
        return timestamp.text
    text = timestamp.text
    return f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[8:10]}:{text[10:12]}:{text[12:]} UTC"
