"""One connection on which many questions are under way at once: MGET alone, at little cost.

redis-py gives each question a connection of its own for as long as it lasts,
and spends more on it than the server does. It opens this one too, with
everything that its URL asks for, and hands it over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as WireError
from redis.exceptions import InvalidResponse, ResponseError

Values = list[bytes | None]

_END: Final = b"\r\n"
_NOTHING: Final = (b"$-1", b"_")
"""As RESP2 and RESP3 say it."""


def mget(names: Sequence[str]) -> bytes:
    """The question for these values, as it goes out."""
    words = [b"MGET", *(name.encode() for name in names)]
    return b"*%d\r\n%s" % (
        len(words), b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    )  # fmt: skip


class Wire(asyncio.Protocol):
    """Answers come in the order of the questions; who does not wait for one any more is passed."""

    def __init__(self, opened: AbstractConnection) -> None:
        """Take over a connection that is met and has nothing under way."""
        writer = opened._writer  # no public name has it
        if writer is None:
            raise WireError("It is closed again")
        self._opened = opened
        self._transport = cast("asyncio.Transport", writer.transport)
        self._transport.set_protocol(self)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[Values]] = deque()
        self._came = b""
        self._retired = False

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    def ask(self, question: bytes) -> asyncio.Future[Values]:
        """What `mget` asks for."""
        answer = self._loop.create_future()
        self._waiting.append(answer)
        self._transport.write(question)
        return answer

    def retire(self, seconds: float) -> None:
        """No more questions; whoever waits may have an answer yet, for so long."""
        self._retired = True
        if self._waiting:
            self._loop.call_later(seconds, self.close)
        else:
            self.close()

    def close(self) -> None:
        """Whoever waits gets a `ConnectionError` of Redis."""
        self._opened._close()  # type: ignore[no-untyped-call]  # its public one waits
        self._transport.abort()
        self._end(None)

    def data_received(self, data: bytes) -> None:
        self._came = self._came + data if self._came else data
        at = 0
        try:
            while at < len(self._came) and (found := _answer(self._came, at)):
                told, at = found
                self._tell(told)
        except (InvalidResponse, ValueError, IndexError) as error:
            self._end(error)
            self._transport.abort()
        self._came = self._came[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _tell(self, told: Values | ResponseError) -> None:
        answer = self._waiting.popleft()
        if self._retired and not self._waiting:
            self.close()
        if answer.done():
            return
        if isinstance(told, ResponseError):
            answer.set_exception(told)
        else:
            answer.set_result(told)

    def _end(self, why: Exception | None) -> None:
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(WireError(f"The connection has ended: {why or 'closed'}"))


def _answer(data: bytes, at: int) -> tuple[Values | ResponseError, int] | None:
    """What stands there and where it ends; None while the rest is under way."""
    end = data.find(_END, at)
    if end < 0:
        return None
    head, after = data[at:end], end + 2
    if head.startswith(b"-"):
        return ResponseError(head[1:].decode("utf-8", "replace")), after
    if not head.startswith(b"*"):
        raise InvalidResponse(f"{head[:20]!r} is no answer to MGET")
    return _values(data, after, int(head[1:]))


def _values(data: bytes, at: int, count: int) -> tuple[Values, int] | None:
    values: Values = []
    for _ in range(count):
        end = data.find(_END, at)
        if end < 0:
            return None
        head, at = data[at:end], end + 2
        if head in _NOTHING:
            values.append(None)
            continue
        if not head.startswith(b"$"):
            raise InvalidResponse(f"{head[:20]!r} is no value")
        end = at + int(head[1:])
        if len(data) < end + 2:
            return None
        values.append(data[at:end])
        at = end + 2
    return values, at
