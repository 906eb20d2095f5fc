"""Bytes to document: pure, in this process. See `process.py` for the killable way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, assert_never

from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from chrono_ray.extraction.charset import Decoded, decode
from chrono_ray.extraction.guess import guess_date
from chrono_ray.extraction.language import language
from chrono_ray.extraction.links import HREF_LIMIT, LINK_TEXT_LIMIT, outgoing_links
from chrono_ray.extraction.main_text import ALGORITHM, DEPTH_LIMIT, main_text
from chrono_ray.extraction.metadata import AUTHOR_LIMIT, Metadata, read_metadata
from chrono_ray.extraction.pdf import PdfText, read_pdf
from chrono_ray.extraction.sniff import Kind, sniff
from chrono_ray.extraction.survey import Survey, survey
from chrono_ray.extraction.text import TEXT_LIMIT, clean, count_words, one_line
from chrono_ray.model.errors import ExtractionFailed
from chrono_ray.model.page import THIN_WORDS, TITLE_LIMIT, Document, Link

EXTRACTOR: Final = f"{ALGORITHM}/1"
"""Algorithm and version: documents of different extractors stand side by side."""
BODY_LIMIT: Final = 10 * 2**20
DESCRIPTION_LIMIT: Final = 1_000
ADDRESS_LIMIT: Final = 2_048
CLOCK_SLACK: Final = timedelta(days=1)
"""A page may be dated in a time zone that is already a day ahead of its capture."""

_SELF_CLOSED: Final = re.compile(
    r"<(script|style|title|textarea|iframe|noscript|a|div|p|span|i|b|em)\b([^<>]*?)/>",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Understood:
    """One kind's raw findings, before they are cleaned and bounded."""

    text: str
    metadata: Metadata
    links: tuple[Link, ...] = ()
    flags: frozenset[str] = frozenset()


def extract(
    body: bytes, *, media_type: str, charset: str, url: str, captured: date | None = None
) -> Document:
    """What `body` says, whatever it claims to be.

    `captured` is the day of any capture of these bytes: they cannot have been
    published later. Without it, today is the bound. Raises only
    ExtractionFailed, with reason type, parse, too_large or memory.
    """
    if len(body) > BODY_LIMIT:
        raise ExtractionFailed(
            "The page is too large", reason="too_large", why=f"{len(body)} of {BODY_LIMIT} bytes"
        )
    kind = sniff(body, media_type)
    latest = (captured or datetime.now(UTC).date()) + CLOCK_SLACK
    if kind is Kind.PDF:
        return _document(_from_pdf(read_pdf(body, latest=latest)), kind, Decoded("", "", 0))
    decoded = decode(body, charset)
    return _document(_from_text(decoded.text, kind, url, latest), kind, decoded)


def _from_text(text: str, kind: Kind, url: str, latest: date) -> _Understood:
    match kind:
        case Kind.HTML:
            return _from_markup(text, url, latest)
        case Kind.XHTML:
            return _from_markup(_SELF_CLOSED.sub(r"<\1\2></\1>", text), url, latest)
        case Kind.XML:
            return _from_xml(text)
        case Kind.TEXT | Kind.PDF:
            return _Understood(text, _NOTHING)
        case _:
            assert_never(kind)


def _from_markup(markup: str, url: str, latest: date) -> _Understood:
    markup = markup.replace("\0", "")
    tree = _parse(markup)
    metadata = read_metadata(tree, url=url, latest=latest)
    links, cut = outgoing_links(tree)
    found = _survey(tree)
    text = main_text(markup, found)
    flags = {"cut"} if cut else set()
    if found.depth > DEPTH_LIMIT:
        flags.add("depth")
    if metadata.published is None and text and "depth" not in flags:
        metadata = guess_date(metadata, markup, latest=latest)
    return _Understood(text, metadata, links, frozenset(flags))


def _from_xml(markup: str) -> _Understood:
    """Feeds and other XML: all their text. Entities are not expanded, so a bomb stays small."""
    tree = _parse(markup.replace("\0", "").replace("<![CDATA[", "").replace("]]>", ""))
    return _Understood(_survey(tree).visible, _NOTHING)


def _parse(markup: str) -> LexborHTMLParser:
    try:
        return LexborHTMLParser(markup)
    except SelectolaxError as error:
        # Every text is HTML to the parser, so only a refused allocation makes it fail.
        raise ExtractionFailed(
            "The page needs more memory than there is", reason="memory", why=str(error)
        ) from error


def _survey(tree: LexborHTMLParser) -> Survey:
    """A page of frames has no body, so nothing is seen of it."""
    return survey(tree.body) if tree.body is not None else Survey()


def _from_pdf(pdf: PdfText) -> _Understood:
    metadata = Metadata(pdf.title, pdf.author, pdf.published, pdf.description, "", "")
    return _Understood(pdf.text, metadata, (), frozenset({"cut"} if pdf.cut else ()))


def _document(found: _Understood, kind: Kind, decoded: Decoded) -> Document:
    text = clean(found.text, TEXT_LIMIT)
    title = one_line(found.metadata.title, TITLE_LIMIT)
    words = count_words(text.text)
    flags = set(found.flags)
    if text.cut or title.cut:
        flags.add("cut")
    if words < THIN_WORDS:
        flags.add("thin")
    if not words:
        flags.add("empty")
    if decoded.replaced:
        flags.add("replaced")
    return Document(
        extractor=EXTRACTOR,
        media_type=kind.value,
        charset=decoded.charset,
        title=title.text,
        text=text.text,
        author=one_line(found.metadata.author, AUTHOR_LIMIT).text,
        published=found.metadata.published,
        language=language(text.text, found.metadata.language),
        words=words,
        description=one_line(found.metadata.description, DESCRIPTION_LIMIT).text,
        canonical=one_line(found.metadata.canonical, ADDRESS_LIMIT).text,
        links=_clean_links(found.links),
        flags=tuple(sorted(flags)),
        replaced=decoded.replaced,
    )


def _clean_links(links: tuple[Link, ...]) -> tuple[Link, ...]:
    """All at once, since next to none needs cleaning."""
    whole = "".join(link.href + link.text for link in links)
    if clean(whole, len(whole)).text == whole:
        return links
    return tuple(
        Link(clean(link.href, HREF_LIMIT).text, clean(link.text, LINK_TEXT_LIMIT).text)
        for link in links
    )


_NOTHING: Final = Metadata("", "", None, "", "", "")
