"""Where people find a memento: as the archive shows it, not the raw bytes that we ask for.

It stands apart from the archives: whoever cites needs none of what fetches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_SAFE: Final = "!$%&'()*+,-./:;=?@[]_~#"
_LOCATOR: Final = re.compile(r"([A-Za-z0-9._=/-]+)@([0-9]{1,15})\+([0-9]{1,15})")
"""How a place in Common Crawl's files is written: see commoncrawl_records.py."""


@dataclass(frozen=True, slots=True)
class Mementos:
    """By the archives' own addresses: replays of two, files of the third; empty: not used."""

    wayback: str
    pywb: str
    commoncrawl: str

    def address(self, archive: str, *, timestamp: str, original: str, locator: str) -> str:
        """A URL of that capture; empty where its archive shows none. `timestamp` has 14 digits."""
        shown = quote(original.encode("utf-8", "surrogatepass"), safe=_SAFE)
        if archive == "wayback" and self.wayback:
            return f"{self.wayback.rstrip('/')}/web/{timestamp}/{shown}"
        if archive == "pywb" and self.pywb:
            return f"{self.pywb.rstrip('/')}/{timestamp}/{shown}"
        found = _LOCATOR.fullmatch(locator) if archive == "commoncrawl" else None
        if found is None or not self.commoncrawl:
            return ""
        start, length = int(found[2]), int(found[3])  # its file's bytes: it shows nothing else
        return f"{self.commoncrawl.rstrip('/')}/{found[1]}#bytes={start}-{start + length - 1}"
