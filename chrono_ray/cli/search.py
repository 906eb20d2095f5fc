"""`chrono search`: hits with highlights, in a terminal or as JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.query import (
    And,
    CapturedBetween,
    Equals,
    Field,
    Filter,
    Fragment,
    Hit,
    Query,
    Results,
    Sort,
)
from chrono_ray.model.targets import moment
from chrono_ray.settings import Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed."""

    words: str
    project: str
    host: str
    language: str
    start: str
    end: str
    sort: str
    limit: int
    offset: int


def search_and_print(asked: Asked, *, json: bool) -> int:
    """0 with hits or without: an empty answer is an answer."""
    results = asyncio.run(_search(chrono_settings.load(), query_of(asked)))
    if json:
        sys.stdout.write(orjson.dumps(as_json(results)).decode() + "\n")
        return 0
    shown = f"{asked.offset + 1}-{asked.offset + len(results.hits)} of " if results.hits else ""
    sys.stdout.write(f"{shown}{results.total:,} pages, {results.milliseconds:.1f} ms\n")
    for hit in results.hits:
        sys.stdout.writelines(f"{line}\n" for line in _lines(hit, colour=sys.stdout.isatty()))
    return 0


def query_of(asked: Asked) -> Query:
    """The query tree; `InvalidInput` for what cannot be asked."""
    parts: list[Filter] = [
        Equals(field, (value,))
        for field, value in (
            (Field.PROJECT, asked.project),
            (Field.HOST, asked.host),
            (Field.LANGUAGE, asked.language),
        )
        if value
    ]
    if asked.start or asked.end:
        parts.append(CapturedBetween(_date(asked.start, late=False), _date(asked.end, late=True)))
    try:
        sort = Sort(asked.sort)
    except ValueError:
        raise InvalidInput(
            f"There is no sort {asked.sort!r}", fix=f"One of {', '.join(Sort)}", code="sort"
        ) from None
    return Query(asked.words, And(tuple(parts)), (), sort, asked.offset, asked.limit)


def as_json(results: Results) -> dict[str, object]:
    """The answer's stable form; matches are character ranges into the plain text beside them."""
    return {
        "total": results.total,
        "milliseconds": results.milliseconds,
        "hits": [hit_json(hit) for hit in results.hits],
        "facets": {field.value: counts for field, counts in results.facets.items()},
    }


def hit_json(hit: Hit) -> dict[str, object]:
    return {
        "page": hit.id, "url": hit.url, "project": hit.project, "domain": hit.domain,
        "host": hit.host, "language": hit.language, "type": hit.type,
        "first_seen": hit.first_seen, "last_seen": hit.last_seen, "captures": hit.captures,
        "title": {"text": hit.title.text, "matches": hit.title.matches},
        "snippet": {"text": hit.snippet.text, "matches": hit.snippet.matches},
    }  # fmt: skip


async def _search(settings: Settings, query: Query) -> Results:
    index = wiring.index(settings, "reader")
    try:
        return await index.search(query)
    finally:
        await index.aclose()


def _date(text: str, *, late: bool) -> datetime | None:
    if not text:
        return None
    return Timestamp14(moment(text, Timestamp14.of(datetime.now(UTC)), late=late)).instant


def _lines(hit: Hit, *, colour: bool) -> Iterator[str]:
    yield ""
    yield f"{_marked(hit.title, colour=colour) or '(no title)'}"
    yield (
        f"  {_safe(hit.url)}  seen {hit.first_seen:%Y-%m-%d} to {hit.last_seen:%Y-%m-%d},"
        f" {hit.captures} captures, {hit.language or 'unknown language'}"
    )
    yield f"  {_marked(hit.snippet, colour=colour)}"


def _marked(fragment: Fragment, *, colour: bool) -> str:
    """Matches in bold on a terminal, in [brackets] elsewhere; archived text is never an escape."""
    before, after = ("\x1b[1m", "\x1b[0m") if colour else ("[", "]")
    parts, at = [], 0
    for begin, end in fragment.matches:
        parts += [_safe(fragment.text[at:begin]), before, _safe(fragment.text[begin:end]), after]
        at = end
    return "".join([*parts, _safe(fragment.text[at:])])


def _safe(text: str) -> str:
    """Without control characters and direction overrides: a page must not steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
