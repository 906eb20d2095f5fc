"""`chrono search`: hits with highlights, in a terminal or as JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.api.search_schemas import SearchAnswer, chosen, sort_of, told_of
from chrono_ray.cli.remote import server
from chrono_ray.cli.task import asked as ask
from chrono_ray.model.query import Field, Fragment, Hit, Query, Results
from chrono_ray.settings import Settings
from chrono_ray.storage.named import project_named
from chrono_ray.storage.searching import ProjectNames


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
    query_of(asked, None)  # what cannot be asked is refused before anything is looked up
    if c := server():
        from chrono_ray.cli import remote_rows

        with c:
            results, whole = remote_rows.search(c, asked)
        return _show(results, asked, whole if json else "")
    among = _project(asked.project) if asked.project else None
    results = asyncio.run(_search(chrono_settings.load(), query_of(asked, among)))
    if json:
        found = told_of(results)
        names = ask(lambda record: ProjectNames(record).of(found)) if found else {}
        return _show(results, asked, SearchAnswer.of(results, names).model_dump_json())
    return _show(results, asked, "")


def _show(results: Results, asked: Asked, json: str) -> int:
    if json:
        sys.stdout.write(json + "\n")
        return 0
    shown = f"{asked.offset + 1}-{asked.offset + len(results.hits)} of " if results.hits else ""
    sys.stdout.write(f"{shown}{results.total:,} pages, {results.milliseconds:.1f} ms\n")
    for hit in results.hits:
        sys.stdout.writelines(f"{line}\n" for line in _lines(hit, colour=sys.stdout.isatty()))
    return 0


def query_of(asked: Asked, among: Collection[int] | None) -> Query:
    """The query tree, in these projects alone; `InvalidInput` for what cannot be asked."""
    typed = {Field.HOST: asked.host, Field.LANGUAGE: asked.language}
    values = {field: [value] for field, value in typed.items() if value}
    tree = chosen(values, among=among, start=asked.start, end=asked.end)
    return Query(asked.words, tree, (), sort_of(asked.sort), asked.offset, asked.limit)


def _project(name: str) -> tuple[int, ...]:
    """`NotFound` when there is none."""
    return (ask(lambda record: project_named(record, name)),)


async def _search(settings: Settings, query: Query) -> Results:
    index = wiring.index(settings, "reader")
    try:
        return await index.search(query)
    finally:
        await index.aclose()


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
