"""The process that reads hostile pages: `python -m chrono_ray.extraction.child`.

It limits itself, says it is ready, and answers one page after another over
its standard input (a socket, both ways) until that closes. Every page is
allowed so much CPU time; the kernel ends the process that takes more.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from chrono_ray.extraction.extract import extract
from chrono_ray.extraction.frames import (
    LENGTHS,
    Question,
    document_frame,
    failure_frame,
    parse_question,
    ready_frame,
)
from chrono_ray.model.errors import ExtractionFailed
from chrono_ray.model.page import Document

MEMORY_EXIT: Final = 83
"""Exit status that says: this page needed more memory than there is."""
STDERR_LIMIT: Final = 1 << 20
PR_SET_PDEATHSIG: Final = 1
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
WORN_SHARE: Final = 0.6
"""Of the memory: a process that still holds more after a page makes room for a fresh one."""

Extract = Callable[[Question], Document]


class _Libc(Protocol):
    def prctl(self, option: int, argument: int) -> int: ...
    def malloc_trim(self, pad: int) -> int: ...


def understand(question: Question) -> Document:
    """The real extraction of one question."""
    return extract(
        question.body,
        media_type=question.media_type,
        charset=question.charset,
        url=question.url,
        captured=question.captured,
    )


def main(run: Extract, *, parent: int, memory: int, cpu_seconds: float) -> int:
    """Serve until the parent closes the socket, or until worn; returns the exit status.

    Status 0 blames nobody: what was not answered may be asked of the next child.

    `memory` in bytes bounds the private memory of this process, `cpu_seconds`
    the processor time of one page.
    """
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    _warm(run)
    with socket.socket(fileno=os.dup(0)) as line:
        _limit(memory)
        line.sendall(ready_frame(os.getpid()))
        try:
            return _serve(line, run, memory=memory, cpu_seconds=cpu_seconds)
        except MemoryError:
            return MEMORY_EXIT


def _serve(line: socket.socket, run: Extract, *, memory: int, cpu_seconds: float) -> int:
    while not _worn(memory):
        lengths = _receive(line, LENGTHS.size)
        if lengths is None:
            return 0
        header, body = (_receive(line, length) for length in LENGTHS.unpack(lengths))
        if header is None or body is None:
            return 0
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        answer = _answer(run, header, body)
        signal.setitimer(signal.ITIMER_PROF, 0)
        line.sendall(answer)
    return 0


def _worn(memory: int) -> bool:
    """Whether so much memory stayed with this process that the next page could lack it."""
    enough = memory * WORN_SHARE
    if _mapped()[1] < enough:
        return False
    libc: _Libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    return _mapped()[1] >= enough


def _mapped() -> tuple[int, int]:
    """(all, private writable) bytes of this process."""
    pages = Path("/proc/self/statm").read_bytes().split()
    return int(pages[0]) * PAGE, int(pages[5]) * PAGE


def _answer(run: Extract, header: bytes, body: bytes) -> bytes:
    try:
        return document_frame(run(parse_question(header, body)))
    except ExtractionFailed as error:
        return failure_frame(error)


def _receive(line: socket.socket, length: int) -> bytes | None:
    """Exactly `length` bytes, or None when the parent is gone."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        count = line.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(buffer)


def _die_with(parent: int) -> None:
    """Be killed when the parent ends, however it ends; the check closes the race with its end."""
    libc: _Libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def _limit(memory: int) -> None:
    """No core dumps, no endless stderr, and so much memory.

    RLIMIT_DATA counts what is private and writable; RLIMIT_AS catches what
    escapes it. What is mapped already (libraries, the language model) comes on top of
    the latter.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (STDERR_LIMIT, STDERR_LIMIT))
    everything, private = _mapped()
    if private >= memory * WORN_SHARE:
        sys.exit(f"{memory} bytes are too few: the idle child holds {private} already")
    addresses = memory + everything - private
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))


def _warm(run: Extract) -> None:
    """One page of each sort, so that no visitor pays for late imports and models."""
    for body, media_type in ((_WARM_PAGE, "text/html"), (b"%PDF-1.4\n", "application/pdf")):
        try:
            run(Question(body, media_type, "", "http://warm.invalid/", None))
        except ExtractionFailed:
            continue


_WARM_PAGE: Final = (
    b"<!doctype html><html><head><title>Warm</title></head><body><nav><a href='/'>Home</a></nav>"
    b"<p>The first page costs the most, since every part is loaded for it.</p>"
    b"<p>It was written on 3 March 2004, so that dates are searched as well.</p></body></html>"
)


def arguments(argv: list[str]) -> tuple[int, int, float]:
    """(parent, memory, cpu_seconds) as `ExtractionProcess` passes them."""
    parent, memory, cpu_seconds = argv
    return int(parent), int(memory), float(cpu_seconds)


if __name__ == "__main__":
    _parent, _memory, _cpu_seconds = arguments(sys.argv[1:])
    sys.exit(main(understand, parent=_parent, memory=_memory, cpu_seconds=_cpu_seconds))
