"""What a Meilisearch index holds of a page, and how values survive its normalisation.

Meilisearch compares filter values trimmed, decomposed (NFKD) and in lower case
(milli's `normalize_facet`), and cannot be told a backslash exactly. A page is
*exactly* of its project, so exact fields are written in an alphabet that this
leaves alone: lower-case ASCII as it is, everything else percent-encoded.

One attribute takes 65,535 word positions and drops the rest in silence, so a
long text goes on in `text_2`, `text_3`, ... of the same document: one document
per page, counts stay exact, and nothing has to be tidied when a text shrinks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from meilisearch_python_sdk.models.settings import (
    Faceting,
    MeilisearchSettings,
    MinWordSizeForTypos,
    Pagination,
    TypoTolerance,
)
from pydantic import BaseModel, Field

from chrono_ray.model.errors import DocumentRejected
from chrono_ray.model.query import BARS_MAX, VALUE_BYTES_MAX, WIDTHS, Hit, PageEntry
from chrono_ray.search.highlight import Match, character_spans, marked, snippet
from chrono_ray.search.words import day, sayable

PRIMARY_KEY: Final = "id"
VERSION_MARK: Final = "schema_3"
"""An attribute that no page has, filterable in every index of this version and in no other: whoever
asks for its absence is told of an index of another version. Raise its number with the fields."""
FACET_VALUES: Final = 100
"""Values of a facet that are told; the server's own bound must hold a histogram's bars."""
COUNTED: Final = 1_000_000
"""Totals are told up to here; the default of 1,000 would make every larger one a lie."""
CUTOFF: Final = 8_000
"""Milliseconds until it answers with what it has by then; its default is 1,500."""
POSITIONS: Final = 60_000
"""Word positions put into one attribute, below the 65,535 that Meilisearch keeps."""
PARTS: Final = 40
SHOWN_PARTS: Final = 3
"""Parts of a text that a search brings back for its snippet; matches further in are found only."""

_PART_CHARS: Final = 100_000
_EXACT: Final = ("project", "domain", "host", "language", "type")
_TEXTS: Final = ("text", *(f"text_{number}" for number in range(2, PARTS + 1)))
_PIECE: Final = re.compile(r"[^\W_]+|\n|[^\w\s]+|_+")
_HARD: Final = 8
"""Positions a sentence mark may take: Meilisearch sets words on its two sides that far apart."""
_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-._~/:+@;=,")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, str | int]
"""A document on the wire."""


class Position(BaseModel):
    """A match: `start` and `length` in bytes of the attribute's UTF-8."""

    start: int
    length: int


class FoundPage(BaseModel):
    """A hit as Meilisearch answers it."""

    id: int
    project: int
    domain: str
    url: str
    host: str
    title: str
    text: str
    text_2: str = ""
    text_3: str = ""
    language: str
    type: str
    first_seen: int
    last_seen: int
    captures: int
    matches: dict[str, list[Position]] = Field(default_factory=dict, alias="_matchesPosition")


class FoundId(BaseModel):
    """A hit of which only its id was asked for."""

    id: int


SHOWN: Final = [name for name in FoundPage.model_fields if name != "matches"]


def settings() -> MeilisearchSettings:
    """The index's settings. `sort` leads the ranking: newest first means just that."""
    return MeilisearchSettings(
        searchable_attributes=["title", "author", *_TEXTS, "url"],
        filterable_attributes=[
            *_EXACT,
            *(bucket.value for bucket in WIDTHS),
            "first_seen",
            "last_seen",
            PRIMARY_KEY,
            VERSION_MARK,
        ],
        sortable_attributes=["first_seen", "last_seen", PRIMARY_KEY],
        ranking_rules=["sort", "words", "typo", "proximity", "attribute", "exactness"],
        faceting=Faceting(max_values_per_facet=BARS_MAX, sort_facet_values_by={"*": "count"}),
        pagination=Pagination(max_total_hits=COUNTED),
        search_cutoff_ms=CUTOFF,
        typo_tolerance=TypoTolerance(
            disable_on_attributes=["url"],
            disable_on_numbers=True,
            min_word_size_for_typos=MinWordSizeForTypos(one_typo=5, two_typos=9),
        ),
    )


def document(entry: PageEntry) -> Row:
    """An entry as Meilisearch takes it; `DocumentRejected` when it would lose a part of it."""
    row: Row = {"id": entry.id, "captures": entry.captures, "version": entry.version}
    exact = (str(entry.project_id), entry.domain, entry.host, entry.language, entry.type)
    for name, value in zip(_EXACT, exact, strict=True):
        row[name] = _fitting(name, value, entry.id)
    row |= {"url": sayable(entry.url), "title": sayable(entry.title)}
    row["author"] = sayable(entry.author)
    row["first_seen"] = _seconds(entry.first_seen)
    row["last_seen"] = _seconds(entry.last_seen)
    row |= {bucket.value: day(entry.first_seen)[:width] for bucket, width in WIDTHS.items()}
    row["text"] = ""
    parts = list(split(sayable(entry.text)))
    if len(parts) > PARTS:
        raise _rejected(entry.id, f"its text needs {len(parts)} parts, at most {PARTS}")
    return row | dict(zip(_TEXTS, parts, strict=False))


def hit(page: FoundPage) -> Hit:
    """A hit in our words; its snippet comes from the first part that matched."""
    texts = {"text": page.text, "text_2": page.text_2, "text_3": page.text_3}
    name = next((name for name in texts if page.matches.get(name)), "text")
    return Hit(
        id=page.id,
        project_id=page.project,
        domain=decode(page.domain),
        url=page.url,
        host=decode(page.host),
        language=decode(page.language),
        type=decode(page.type),
        first_seen=_moment(page.first_seen),
        last_seen=_moment(page.last_seen),
        captures=page.captures,
        title=marked(page.title, _matches(page, "title", page.title)),
        snippet=snippet(texts[name], _matches(page, name, texts[name])),
    )


def encode(value: str) -> str:
    """An exact value as it is filtered on; two different values never become the same."""
    raw = sayable(value).encode()
    return "".join(chr(b) if b in _KEPT else f"%{b:02x}" for b in raw) or "%"


def decode(key: str) -> str:
    """The value behind `encode`."""
    if key == "%":
        return ""
    pieces = key.split("%")
    raw = pieces[0].encode()
    for piece in pieces[1:]:
        raw += bytes.fromhex(piece[:2]) + piece[2:].encode()
    return raw.decode("utf-8", "replace")


def split(text: str) -> Iterator[str]:
    """The text in parts that one attribute takes whole, cut between words."""
    start = used = 0
    for piece in _PIECE.finditer(text):
        cost = _positions(piece.group())
        if used and (used + cost > POSITIONS or piece.end() - start > _PART_CHARS):
            yield text[start : piece.start()]
            start, used = piece.start(), 0
        used += cost
    if start < len(text):
        yield text[start:]


def _positions(piece: str) -> int:
    """Never less than what Meilisearch counts: each character may be a word in some scripts."""
    if piece[0].isalnum():
        return 1 if piece.isascii() else len(piece)
    return _HARD


def _fitting(name: str, value: str, page_id: int) -> str:
    key = encode(value)
    if len(key) > VALUE_BYTES_MAX:
        raise _rejected(page_id, f"its {name} takes {len(key)} bytes, at most {VALUE_BYTES_MAX}")
    return key


def _rejected(page_id: int, why: str) -> DocumentRejected:
    return DocumentRejected("Meilisearch cannot hold the page", page_id=page_id, why=why)


def _matches(page: FoundPage, name: str, text: str) -> list[Match]:
    positions = [(one.start, one.length) for one in page.matches.get(name, ())]
    spans = character_spans(text, positions)
    return [Match(start, end, text[start:end].casefold()) for start, end in spans]


def _seconds(moment: datetime) -> int:
    return math.floor((moment - _EPOCH).total_seconds())


def _moment(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
