"""A request as the hostile archive sees it, and answers as bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from email.utils import format_datetime, formatdate
from http import HTTPStatus
from typing import Final

from chrono_ray.demo.reply import Headers, Kind, Reply, kind_of
from chrono_ray.model.capture import Timestamp14

_REPLAY: Final = re.compile(r"/web/(\d{14})([a-z]{2}_)?/(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: target as sent, and the headers that matter."""

    method: str
    target: str
    host: str
    accept_encoding: str
    length: int
    keep_alive: bool

    @property
    def kind(self) -> Kind:
        return kind_of(self.target)

    def plain(self) -> Ask:
        """The same, for an answer that is not compressed."""
        return replace(self, accept_encoding="")

    def parts(self) -> tuple[str, str, str]:
        """Timestamp, modifier and URL of a replay; other requests give 1999 and their target."""
        found = _REPLAY.fullmatch(self.target)
        return (
            (found[1], found[2] or "", found[3]) if found else ("19990101000000", "", self.target)
        )


def parse_ask(head: bytes) -> Ask:
    """Understands a request head; raises ValueError for what is none."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    return Ask(
        method,
        target,
        headers.get("host", "localhost"),
        headers.get("accept-encoding", ""),
        int(headers.get("content-length", "0")),
        headers.get("connection", "").lower() != "close",
    )


def memento(ask: Ask, status: int, body: bytes, headers: Headers, content_type: str) -> Reply:
    """An archived answer made up on the spot, at the timestamp that was asked for."""
    stamp = Timestamp14(ask.parts()[0])
    own = (
        ("Content-Type", content_type),
        ("Memento-Datetime", format_datetime(stamp.instant, usegmt=True)),
        ("X-Archive-Orig-Content-Type", content_type),
        ("x-archive-src", "hostile/crawl-00000.warc.gz"),
    )
    return Reply(status, own + headers, body)


def with_body(reply: Reply, body: bytes, coding: str = "") -> Reply:
    """The same answer with another body, declared as `coding`."""
    kept = tuple(pair for pair in reply.headers if pair[0].lower() != "content-encoding")
    return Reply(reply.status, (*kept, ("Content-Encoding", coding)) if coding else kept, body)


def head_bytes(reply: Reply, framing: str) -> bytes:
    """Status line and headers, ended; `framing` is the header that says where the body ends."""
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {reply.status} {phrase}", f"Date: {formatdate(usegmt=True)}", framing]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def wire_bytes(reply: Reply) -> bytes:
    """The whole honest answer."""
    return head_bytes(reply, f"Content-Length: {len(reply.body)}") + reply.body
