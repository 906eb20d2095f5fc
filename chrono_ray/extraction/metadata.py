"""What a page says about itself: title, author, date, description, canonical address.

Everything is read from one parsed tree. What is stated for machines (bibliographic
`meta`, JSON-LD, other `meta`) comes before what the markup shows to readers.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

import orjson
from selectolax.lexbor import LexborHTMLParser, LexborNode

from chrono_ray.extraction.dates import (
    EARLIEST_GUESS,
    EARLIEST_STATED,
    date_in_url,
    parse_date,
    plausible,
)

AUTHOR_LIMIT: Final = 256
METAS: Final = 500
"""`meta` elements read; a page with more is an attack or an accident."""
LD_BYTES: Final = 262_144
LD_NODES: Final = 2_000
TIMES: Final = 20

_BY: Final = re.compile(r"^\s*by[\s:]+", re.IGNORECASE)
_TITLE: Final = ("citation_title", "og:title", "dc.title", "dcterms.title")
_AUTHOR: Final = (
    "author", "citation_author", "article:author", "parsely-author", "sailthru.author",
    "dc.creator", "dcterms.creator", "dc.contributor", "byl", "authors",
)  # fmt: skip
_BIBLIOGRAPHIC: Final = (
    "citation_publication_date", "citation_date", "citation_online_date", "dc.date.issued",
    "dcterms.issued", "dc.date", "dcterms.date", "dc.date.created", "dcterms.created",
)  # fmt: skip
_PUBLISHED: Final = (
    "article:published_time", "og:published_time", "datepublished", "parsely-pub-date",
    "sailthru.date", "pubdate", "publishdate", "publish-date", "publication_date",
    "published-date", "pub_date", "article.published", "article_date_original", "date_published",
    "originalpublicationdate", "cxenseparse:recs:publishtime", "displaydate", "ptime",
    "rnews:datepublished", "bt:pubdate", "date", "datecreated",
)  # fmt: skip
_DESCRIPTION: Final = ("description", "og:description", "dc.description", "twitter:description")
_LANGUAGE: Final = ("content-language", "dc.language", "og:locale")
_WORKS: Final = (
    "article",
    "posting",
    "report",
    "blog",
    "webpage",
    "creativework",
    "book",
    "recipe",
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Raw texts, unbounded; `published` is already checked. `language` is the claimed tag."""

    title: str
    author: str
    published: date | None
    description: str
    canonical: str
    language: str


@dataclass(frozen=True, slots=True)
class _Statement:
    """What JSON-LD states about the page's main work."""

    author: str = ""
    published: str = ""


def read_metadata(tree: LexborHTMLParser, *, url: str, latest: date) -> Metadata:
    """What the page states; `latest` is the last day on which it can have been published."""
    metas = _metas(tree)
    stated = _statement(tree)
    return Metadata(
        title=_first(metas, _TITLE) or _text(tree, "title") or _text(tree, "h1"),
        author=_author(tree, metas, stated),
        published=_published(tree, metas, stated, url=url, latest=latest),
        description=_first(metas, _DESCRIPTION),
        canonical=_canonical(tree),
        language=_language(tree, metas),
    )


def _metas(tree: LexborHTMLParser) -> dict[str, str]:
    """First non-empty content by lower-case name, property, itemprop or http-equiv."""
    found: dict[str, str] = {}
    for node in tree.css("meta[content]")[:METAS]:
        attributes = node.attributes
        content = attributes.get("content")
        for key in ("name", "property", "itemprop", "http-equiv"):
            name = attributes.get(key)
            if name and content and not content.isspace():
                found.setdefault(name.strip().lower(), content)
    return found


def _first(metas: dict[str, str], names: tuple[str, ...]) -> str:
    return next((metas[name] for name in names if name in metas), "")


def _text(tree: LexborHTMLParser, selector: str) -> str:
    for node in tree.css(selector)[:3]:
        text = node.text(deep=True).strip()
        # An <svg> has titles too, of its shapes.
        if text and (selector != "title" or not _inside_svg(node)):
            return text
    return ""


def _inside_svg(node: LexborNode) -> bool:
    parent = node.parent
    return parent is not None and parent.tag in ("svg", "g", "path", "symbol", "a")


def _author(tree: LexborHTMLParser, metas: dict[str, str], stated: _Statement) -> str:
    for candidate in (stated.author, *(metas.get(name, "") for name in _AUTHOR)):
        if candidate and "://" not in candidate and len(candidate) <= AUTHOR_LIMIT:
            return _BY.sub("", candidate)
    for node in tree.css('[rel~="author"], [itemprop~="author"]')[:3]:
        text = node.text(deep=True, separator=" ").strip()
        if text and len(text) <= AUTHOR_LIMIT // 2:
            return _BY.sub("", text)
    return ""


def _published(
    tree: LexborHTMLParser, metas: dict[str, str], stated: _Statement, *, url: str, latest: date
) -> date | None:
    for name in _BIBLIOGRAPHIC:
        day = _dated(metas.get(name, ""), EARLIEST_STATED, latest)
        if day:
            return day
    for text in (stated.published, *(metas.get(name, "") for name in _PUBLISHED)):
        day = _dated(text, EARLIEST_GUESS, latest)
        if day:
            return day
    return plausible(date_in_url(url), earliest=EARLIEST_GUESS, latest=latest) or _shown_date(
        tree, latest
    )


def _shown_date(tree: LexborHTMLParser, latest: date) -> date | None:
    """The first `time` that is marked as publication, else the first one of an article."""
    marked = tree.css('time[pubdate], time[itemprop~="datePublished"], [itemprop~="datePublished"]')
    shown = tree.css("article time, header time, main time, time[datetime]")
    for node in (*marked[:TIMES], *shown[:TIMES]):
        attributes = node.attributes
        text = attributes.get("datetime") or attributes.get("content") or node.text(deep=True)
        day = _dated(text, EARLIEST_GUESS, latest)
        if day:
            return day
    return None


def _dated(text: str, earliest: date, latest: date) -> date | None:
    return plausible(parse_date(text), earliest=earliest, latest=latest) if text else None


def _canonical(tree: LexborHTMLParser) -> str:
    node = tree.css_first('link[rel~="canonical" i][href]')
    return (node.attributes.get("href") or "").strip() if node is not None else ""


def _language(tree: LexborHTMLParser, metas: dict[str, str]) -> str:
    root = tree.root
    attributes = root.attributes if root is not None else {}
    return attributes.get("lang") or attributes.get("xml:lang") or _first(metas, _LANGUAGE)


def _statement(tree: LexborHTMLParser) -> _Statement:
    """The first JSON-LD node that is a written work and says when or by whom."""
    best = _Statement()
    for node in _ld_nodes(tree):
        kinds = str(node.get("@type", "")).lower()
        if not any(work in kinds for work in _WORKS):
            continue
        published = node.get("datePublished") or node.get("dateCreated")
        author = _names(node.get("author") or node.get("creator"))
        best = _Statement(
            best.author or author,
            best.published or (published if isinstance(published, str) else ""),
        )
        if best.author and best.published:
            break
    return best


def _ld_nodes(tree: LexborHTMLParser) -> Iterator[dict[str, object]]:
    """JSON objects of every JSON-LD block, outermost first; broken blocks are passed over."""
    todo: list[object] = []
    for script in tree.css('script[type="application/ld+json" i]')[:TIMES]:
        text = script.text(deep=True)
        if len(text) <= LD_BYTES:
            todo.extend(_parsed(text))
    for count, node in enumerate(todo):
        if count >= LD_NODES:
            return
        if isinstance(node, dict):
            yield node
            todo.extend(value for value in node.values() if isinstance(value, dict | list))
        elif isinstance(node, list):
            todo.extend(value for value in node if isinstance(value, dict | list))


def _parsed(text: str) -> tuple[object, ...]:
    try:
        return (orjson.loads(text),)
    except orjson.JSONDecodeError:
        pass
    try:
        # Raw line breaks inside strings, and CDATA marks, are the usual faults.
        mended = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
        return (orjson.loads(mended.replace("<![CDATA[", "").replace("]]>", "").strip("/* ")),)
    except orjson.JSONDecodeError:
        return ()


def _names(value: object) -> str:
    """Author names of a JSON-LD value: a text, a person, or a list of either."""
    people = value if isinstance(value, list) else [value]
    names = []
    for person in people[:10]:
        name = person.get("name") if isinstance(person, dict) else person
        if isinstance(name, str) and name.strip() and "://" not in name:
            names.append(html.unescape(name.strip()))
    return ", ".join(dict.fromkeys(names))
