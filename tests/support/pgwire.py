"""As much of PostgreSQL's protocol (version 3) as it takes to see a statement before the server.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

STARTUP: Final = 196608
READY: Final = b"Z"


@dataclass(slots=True)
class Frontend:
    """What a client sends, message by message; `name` is its application_name once it said so."""

    name: str = ""
    started: bool = False
    rest: bytes = b""
    statements: dict[bytes, str] = field(default_factory=dict)
    portals: dict[bytes, str] = field(default_factory=dict)

    def messages(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        """Each whole message with the SQL that it executes ("" when it executes none)."""
        self.rest += data
        while (message := self._next()) is not None:
            yield message, self._executed(message)

    def _next(self) -> bytes | None:
        kind = int(self.started)  # a startup message has no type byte
        if len(self.rest) < kind + 4:
            return None
        size = kind + int.from_bytes(self.rest[kind : kind + 4])
        if len(self.rest) < size:
            return None
        message, self.rest = self.rest[:size], self.rest[size:]
        return message

    def _executed(self, message: bytes) -> str:
        if not self.started:
            self._start(message)
            return ""
        body = message[5:]
        match message[:1]:
            case b"Q":
                return _text(body)
            case b"P":
                name, _, query = body.partition(b"\0")
                self.statements[name] = _text(query)
            case b"B":
                portal, statement = body.split(b"\0", 2)[:2]
                self.portals[portal] = self.statements.get(statement, "")
            case b"E":
                return self.portals.get(body.partition(b"\0")[0], "")
        return ""

    def _start(self, message: bytes) -> None:
        """Requests for encryption come first, and are no startup."""
        if int.from_bytes(message[4:8]) == STARTUP:
            words = message[8:].split(b"\0")
            said = dict(zip(words[::2], words[1::2], strict=False))
            self.name = said.get(b"application_name", b"").decode()
            self.started = True


@dataclass(slots=True)
class Answer:
    """A server's answer to one statement, from a message's beginning on."""

    rest: bytes = b""

    def is_whole(self, data: bytes) -> bool:
        """Whether the server has said that it is ready for the next one."""
        self.rest += data
        while len(self.rest) >= 5:
            kind, size = self.rest[:1], 1 + int.from_bytes(self.rest[1:5])
            if len(self.rest) < size:
                return False
            self.rest = self.rest[size:]
            if kind == READY:
                return True
        return False


def _text(body: bytes) -> str:
    return body.partition(b"\0")[0].decode("utf-8", "replace")
