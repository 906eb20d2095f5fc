"""Text and metadata of a PDF."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

import pypdfium2

from chrono_ray.extraction.dates import EARLIEST_STATED, parse_date, plausible
from chrono_ray.extraction.text import TEXT_LIMIT
from chrono_ray.model.errors import ExtractionFailed

PAGES_LIMIT: Final = 500
_DATE: Final = re.compile(r"^D?:?(\d{8})")


@dataclass(frozen=True, slots=True)
class PdfText:
    """`cut` says that pages or characters were left out."""

    text: str
    title: str
    author: str
    description: str
    published: date | None
    cut: bool


def read_pdf(body: bytes, *, latest: date) -> PdfText:
    """The text of the first pages; raises ExtractionFailed(parse) for a broken or locked file."""
    try:
        with pypdfium2.PdfDocument(body) as document:
            info = document.get_metadata_dict(skip_empty=True)
            text, cut = _pages(document)
    except pypdfium2.PdfiumError as error:
        raise ExtractionFailed("The PDF cannot be read", reason="parse", why=str(error)) from error
    created = _DATE.match(info.get("CreationDate", ""))
    return PdfText(
        text=text,
        title=info.get("Title", ""),
        author=info.get("Author", ""),
        description=info.get("Subject", ""),
        published=plausible(
            parse_date(created[1]) if created else None, earliest=EARLIEST_STATED, latest=latest
        ),
        cut=cut,
    )


def _pages(document: pypdfium2.PdfDocument) -> tuple[str, bool]:
    """Page by page, a blank line between them, until either bound is met."""
    texts: list[str] = []
    left = TEXT_LIMIT
    pages = len(document)
    for number in range(min(pages, PAGES_LIMIT)):
        if left <= 0:
            return "\n\n".join(texts), True
        text = _page(document, number)
        if text:
            texts.append(text[:left])
        left -= len(text) + 2
    return "\n\n".join(texts), pages > PAGES_LIMIT or left <= 0


def _page(document: pypdfium2.PdfDocument, number: int) -> str:
    """The text of one page; a page that cannot be loaded is empty, its neighbours are read."""
    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        return ""
    try:
        words = page.get_textpage()
        try:
            text: str = words.get_text_range()
        finally:
            words.close()
    finally:
        page.close()
    lines = (" ".join(line.split()) for line in text.replace("\ufffe", "").splitlines())
    return "\n".join(line for line in lines if line)
