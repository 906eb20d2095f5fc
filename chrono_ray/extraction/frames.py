"""What parent and child say to each other: frames of a JSON header and raw bytes.

::

    4 bytes  header length, big-endian
    4 bytes  body length
    header   JSON
    body     bytes as they are

A question is a page; the answer is its document (as JSON, in the body), or
why there is none. No pickle: the child reads hostile pages, so what it says
is data and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import date
from typing import Final, TypedDict

import orjson

from chrono_ray.model.errors import ExtractionFailed
from chrono_ray.model.page import Document, Link

LENGTHS: Final = struct.Struct(">II")
FRAME_LIMIT: Final = 64 * 2**20
"""A longer frame is nonsense: whoever sent it is broken."""


@dataclass(frozen=True, slots=True)
class Question:
    """One page to understand; `captured` as in `extract`."""

    body: bytes
    media_type: str
    charset: str
    url: str
    captured: date | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The child is warm and limited; `pid` is its own."""

    pid: int


@dataclass(frozen=True, slots=True)
class Understood:
    document: Document


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    what: str
    why: str
    reason: str


Answer = Ready | Understood | NotUnderstood


class _Header(TypedDict, total=False):
    media_type: str
    charset: str
    url: str
    captured: str | None
    pid: int
    what: str
    why: str
    reason: str


class _LinkFields(TypedDict):
    href: str
    text: str


class _DocumentFields(TypedDict):
    extractor: str
    media_type: str
    charset: str
    title: str
    text: str
    author: str
    published: str | None
    language: str
    words: int
    description: str
    canonical: str
    links: list[_LinkFields]
    flags: list[str]
    replaced: int


def question_frame(question: Question) -> tuple[bytes, bytes]:
    """The frame's head and its body, apart, so that the body is never copied."""
    header = _Header(
        media_type=question.media_type,
        charset=question.charset,
        url=question.url.encode("utf-8", "replace").decode(),
        captured=question.captured.isoformat() if question.captured else None,
    )
    return _head(header, len(question.body)), question.body


def parse_question(header: bytes, body: bytes) -> Question:
    fields: _Header = orjson.loads(header)
    captured = fields["captured"]
    return Question(
        body,
        fields["media_type"],
        fields["charset"],
        fields["url"],
        date.fromisoformat(captured) if captured else None,
    )


def ready_frame(pid: int) -> bytes:
    return _head(_Header(pid=pid), 0)


def document_frame(document: Document) -> bytes:
    body = orjson.dumps(document)
    return _head(_Header(), len(body)) + body


def failure_frame(error: ExtractionFailed) -> bytes:
    return _head(_Header(what=error.what, why=error.why, reason=error.reason), 0)


def parse_answer(header: bytes, body: bytes) -> Answer:
    """Raises ValueError, KeyError or TypeError when the child talks nonsense."""
    fields: _Header = orjson.loads(header)
    if body:
        return Understood(_parse_document(orjson.loads(body)))
    if "pid" in fields:
        return Ready(fields["pid"])
    return NotUnderstood(fields["what"], fields["why"], fields["reason"])


def _parse_document(fields: _DocumentFields) -> Document:
    published = fields["published"]
    return Document(
        extractor=fields["extractor"],
        media_type=fields["media_type"],
        charset=fields["charset"],
        title=fields["title"],
        text=fields["text"],
        author=fields["author"],
        published=date.fromisoformat(published) if published else None,
        language=fields["language"],
        words=fields["words"],
        description=fields["description"],
        canonical=fields["canonical"],
        links=tuple(Link(link["href"], link["text"]) for link in fields["links"]),
        flags=tuple(fields["flags"]),
        replaced=fields["replaced"],
    )


def _head(header: _Header, body: int) -> bytes:
    encoded = orjson.dumps(header)
    return LENGTHS.pack(len(encoded), body) + encoded
