"""Which crawls Common Crawl has, and when each of them was made, from its `collinfo.json`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import orjson

from chrono_ray.model.errors import ArchiveUnavailable
from chrono_ray.model.memento import Scope

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PATH: Final = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)+")
_MOMENT: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?Z?")
_NAMED: Final = re.compile(r"CC-MAIN-(\d{4})(?:-(\d{4}))?(?:-\d\d)?")
"""CC-MAIN-2024-10 is a week; the oldest are CC-MAIN-2012, CC-MAIN-2009-2010, CC-MAIN-2008-2009."""
_CRAWLS_MOST: Final = 10_000
_NOT_A_LIST: Final = "The list of crawls is not one"


@dataclass(frozen=True, slots=True, order=True)
class Crawl:
    """One crawl. `start` and `end` are 14 digits, empty where nobody knows; `path` is its index."""

    start: str
    end: str
    name: str
    path: str

    def overlaps(self, scope: Scope) -> bool:
        """Whether it may hold captures of the scope's span."""
        late = bool(scope.end and self.start) and self.start > scope.end
        early = bool(scope.start and self.end) and self.end < scope.start
        return not (late or early)

    def lies_in(self, scope: Scope) -> bool:
        """Whether the scope's span holds all of it."""
        begins = not scope.start or (bool(self.start) and self.start >= scope.start)
        ends = not scope.end or (bool(self.end) and self.end <= scope.end)
        return begins and ends


def crawls(collinfo: bytes) -> tuple[Crawl, ...]:
    """Every crawl, oldest first. Raises `ArchiveUnavailable` when one of them is not understood.

    An empty list is no answer either: the real one was seen empty in an outage
    (commoncrawl/cdx_toolkit#24).
    """
    try:
        entries = orjson.loads(collinfo)
    except orjson.JSONDecodeError as error:
        raise ArchiveUnavailable(_NOT_A_LIST, why=_shown(collinfo)) from error
    if not isinstance(entries, list) or not 0 < len(entries) <= _CRAWLS_MOST:
        raise ArchiveUnavailable(_NOT_A_LIST, why=_shown(collinfo))
    found = sorted(_crawl(entry) for entry in entries)
    if len({crawl.name for crawl in found}) < len(found):
        raise ArchiveUnavailable(_NOT_A_LIST, why="a crawl stands in it twice")
    return tuple(found)


def _crawl(entry: object) -> Crawl:
    if isinstance(entry, dict):
        name, api = entry.get("id"), entry.get("cdx-api")
        path = urlsplit(api).path if isinstance(api, str) else ""
        if isinstance(name, str) and _NAME.fullmatch(name) and _PATH.fullmatch(path):
            return Crawl(*_span(entry, name), name, path)
    raise ArchiveUnavailable(_NOT_A_LIST, why=f"an entry is {_shown(orjson.dumps(entry))}")


def _span(entry: dict[str, object], name: str) -> tuple[str, str]:
    """What the entry says, else what the crawl's name does."""
    start, end = _digits(entry.get("from")), _digits(entry.get("to"))
    if start and end and start <= end:
        return start, end
    found = _NAMED.fullmatch(name)
    if found is None:
        return "", ""
    # a week's crawl may begin in the year before, or end in the next
    first, last = int(found[1]), int(found[2] or found[1])
    return f"{first - 1}1201000000", f"{last + 1}0131235959"


def _digits(moment: object) -> str:
    found = _MOMENT.fullmatch(moment) if isinstance(moment, str) else None
    return "".join(found.groups()) if found else ""


def _shown(raw: bytes) -> str:
    return raw[:120].decode("utf-8", "replace")
