"""Extraction in a child process that may hang, crash or bloat without harm to its neighbours.

One child works on one page at a time while the next one waits in its socket
already, so it is never idle. Answers come in the order of the questions:
the page at the head is the one in work, so when the child dies that page is the
guilty one, and those behind it are asked again of the next child.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, assert_never

from chrono_ray.extraction.child import MEMORY_EXIT
from chrono_ray.extraction.extract import BODY_LIMIT
from chrono_ray.extraction.frames import (
    FRAME_LIMIT,
    LENGTHS,
    NotUnderstood,
    Question,
    Ready,
    Understood,
    parse_answer,
    question_frame,
)
from chrono_ray.model.errors import ExtractionFailed, Unavailable
from chrono_ray.model.page import Document
from chrono_ray.model.retry import backoff

CHILD: Final = "chrono_ray.extraction.child"
MEMORY: Final = 512 * 2**20
PAGE_SECONDS: Final = 20.0
CPU_SECONDS: Final = 15.0
QUEUE: Final = 8
IN_PIPE: Final = 2
"""One page in work and one waiting in the socket: enough to keep the child busy."""
START_SECONDS: Final = 60.0
RESTART_MOST: Final = 30.0
"""Seconds between two tries to start a child, at most: they double until then."""
PATIENCE: Final = 120.0
EXIT_SECONDS: Final = 2.0
EXIT_LOOK: Final = 0.005
SOCKET_BYTES: Final = 2**20
OUTSIDE_SIGNALS: Final = frozenset({signal.SIGKILL, signal.SIGTERM})
_OUT_OF_MEMORY: Final = (b"MemoryError", b"memory allocation of", b"bad_alloc", b"ut of memory")

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Page:
    question: Question
    answer: asyncio.Future[Document]
    suspect: bool = False


@dataclass(slots=True, eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stderr: int
    sent: deque[_Page] = field(default_factory=deque)
    alarm: asyncio.TimerHandle | None = None
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class _Verdict:
    """`certain` is false when somebody outside ended the child: the page may be innocent."""

    reason: str
    why: str
    certain: bool = True


class ExtractionProcess:
    """Understands pages in a child process; the child is replaced whenever a page kills it.

    `memory` bounds the child's private memory in bytes, `seconds` the time
    and `cpu_seconds` the processor time of one page. At most `queue` pages
    are taken at once; further callers wait for their turn. While no child can
    be started pages wait too, for `patience` seconds.
    """

    def __init__(
        self,
        *,
        memory: int = MEMORY,
        seconds: float = PAGE_SECONDS,
        cpu_seconds: float = CPU_SECONDS,
        queue: int = QUEUE,
        patience: float = PATIENCE,
        module: str = CHILD,
    ) -> None:
        self._memory = memory
        self._seconds = seconds
        self._cpu_seconds = cpu_seconds
        self._patience = patience
        self._module = module
        self._room = asyncio.Semaphore(queue)
        self._waiting: deque[_Page] = deque()
        self._asked = asyncio.Event()
        self._child: _Child | None = None
        self._runner: asyncio.Task[None] | None = None
        self.restarts: dict[str, int] = {}
        """Children that ended without being told to, by why: crashed, memory, timeout or exit."""

    @property
    def pid(self) -> int | None:
        """The present child's process id; None while there is none."""
        return self._child.process.pid if self._child else None

    async def start(self) -> None:
        """Start the child and wait until it is warm; raises Unavailable when it does not start."""
        if self._runner is not None:
            return
        child = self._child = await self._spawn()
        self._runner = asyncio.create_task(self._run(child), name="extraction")

    async def extract(
        self, body: bytes, *, media_type: str, charset: str, url: str, captured: date | None = None
    ) -> Document:
        """What the page says; arguments as in `extract.extract`.

        Raises ExtractionFailed: type, parse or too_large from the page itself;
        timeout, memory or crashed when the child did not survive it. Raises
        Unavailable when no child could be started for so long that it is better
        to let the page go, or after `aclose`.
        """
        if len(body) > BODY_LIMIT:
            raise ExtractionFailed(
                f"{url} is too large", reason="too_large", why=f"{len(body)} of {BODY_LIMIT} bytes"
            )
        async with self._room:
            if self._runner is None or self._runner.done():
                raise Unavailable("Extraction is not running", fix="Start it first")
            answer: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
            question = Question(body, media_type, charset, url, captured)
            self._waiting.append(_Page(question, answer))
            self._asked.set()
            self._feed()
            return await answer

    async def aclose(self) -> None:
        """End the child; pages not yet answered fail with Unavailable."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.wait([runner], timeout=START_SECONDS)
        child, self._child = self._child, None
        if child is not None:
            # Closed before the runner's first step: nobody else has taken charge of the child.
            child.process.kill()
            await self._bury(child)

    async def _run(self, first: _Child) -> None:
        child = first
        try:
            while True:
                if not await self._live(child):
                    await self._asked.wait()
                child = await self._respawn()
        finally:
            self._abandon("Extraction was closed")

    async def _live(self, child: _Child) -> bool:
        """From ready to buried; what the child left unanswered waits again, in front.

        True when it was of use: its successor is then started at once, before it is needed.
        """
        self._child = child
        closing = True
        try:
            self._feed()
            of_use = await self._listen(child)
            closing = False
        finally:
            self._child = None
            if closing:
                child.process.kill()
            verdict = await self._bury(child)
            if not closing:
                reason = verdict.reason if verdict else "exit"
                self.restarts[reason] = self.restarts.get(reason, 0) + 1
            if (
                child.sent
                and verdict is not None
                and not closing
                and _guilty(child.sent[0], verdict)
            ):
                _blame(child.sent.popleft(), verdict)
            self._waiting.extendleft(reversed(child.sent))
        return of_use

    async def _respawn(self) -> _Child:
        """The next child, however often its start fails: what is short now may not be later."""
        attempt, since = 0, time.monotonic()
        while True:
            try:
                return await self._spawn()
            except Unavailable as error:
                attempt += 1
                log.warning("reader.away", extra={"error": str(error), "attempt": attempt})
                if time.monotonic() - since >= self._patience:
                    self._abandon(error.what, why=error.why)
                    since = time.monotonic()
            jitter = random.random()  # noqa: S311 - no secret
            await asyncio.sleep(min(backoff(attempt, jitter), RESTART_MOST))

    def _abandon(self, what: str, *, why: str = "") -> None:
        for page in self._waiting:
            if not page.answer.done():
                page.answer.set_exception(Unavailable(what, why=why))
        self._waiting.clear()
        self._asked.clear()

    def _feed(self) -> None:
        """Keep one page in work and one behind it."""
        child = self._child
        while child is not None and self._waiting and len(child.sent) < IN_PIPE:
            page = self._waiting.popleft()
            if page.answer.done():
                continue
            child.sent.append(page)
            child.writer.writelines(question_frame(page.question))
            if len(child.sent) == 1:
                self._set_alarm(child)
        if not self._waiting:
            self._asked.clear()

    def _set_alarm(self, child: _Child) -> None:
        """The head page's time begins now."""
        if child.alarm is not None:
            child.alarm.cancel()
        loop = asyncio.get_running_loop()
        child.alarm = loop.call_later(self._seconds, _end, child) if child.sent else None

    async def _listen(self, child: _Child) -> bool:
        """Hand out answers until the child is gone, or talks nonsense; whether it was of use.

        The wait for an answer has the alarm as its deadline: it kills the child, and
        that ends the stream.
        """
        answered = False
        while True:
            try:
                answer = parse_answer(*await _read_frame(child.reader))
                page = child.sent.popleft()
            except (asyncio.IncompleteReadError, OSError, ValueError, LookupError, TypeError):
                return answered or bool(child.sent)
            answered = True
            self._set_alarm(child)
            self._feed()
            match answer:
                case _ if page.answer.done():
                    pass
                case Understood(document):
                    page.answer.set_result(document)
                case NotUnderstood(what, why, reason):
                    page.answer.set_exception(ExtractionFailed(what, reason=reason, why=why))
                case Ready():
                    child.sent.appendleft(page)
                case _:
                    assert_never(answer)

    async def _spawn(self) -> _Child:
        """A warm child that has said so; raises Unavailable."""
        child = await self._launch()
        try:
            async with asyncio.timeout(START_SECONDS):
                answer = parse_answer(*await _read_frame(child.reader))
        except asyncio.CancelledError:
            child.process.kill()
            await self._bury(child)
            raise
        except (TimeoutError, asyncio.IncompleteReadError, OSError, ValueError, LookupError):
            answer = None
        if isinstance(answer, Ready):
            return child
        verdict = await self._bury(child)
        raise Unavailable("The extraction child does not start", why=verdict.why if verdict else "")

    async def _launch(self) -> _Child:
        """The process and its line; no await comes between starting it and owning it.

        Raises Unavailable when the system refuses a process, memory or a descriptor.
        """
        try:
            with ExitStack() as undo:
                ours, theirs = socket.socketpair()
                undo.callback(ours.close)
                with theirs:
                    for end in (ours, theirs):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
                    ours.setblocking(False)
                    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
                    # from here on the descriptor is the loop's, and only it may close it
                    undo.pop_all()
                    undo.callback(writer.close)
                    stderr = os.memfd_create("extraction-stderr")
                    undo.callback(os.close, stderr)
                    process = self._popen(theirs, stderr)
                undo.pop_all()
        except OSError as error:
            raise Unavailable("The extraction child does not start", why=str(error)) from error
        return _Child(process, reader, writer, stderr)

    def _popen(self, line: socket.socket, stderr: int) -> subprocess.Popen[bytes]:
        """Its stdout leads nowhere, so that nothing a library prints can pass for an answer.

        Its environment is empty but for the module path: what reads hostile pages
        needs none of our secrets. It is started from the loop's own thread, since the kernel ties
        "die with your parent" to the thread that forked.
        """
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        limits = (str(os.getpid()), str(self._memory), str(self._cpu_seconds))
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", self._module, *limits],
            stdin=line.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={"PYTHONPATH": path, "LC_ALL": "C.UTF-8"},
        )

    async def _bury(self, child: _Child) -> _Verdict | None:
        """Make sure the child is gone; why it went, None when that is nobody's fault."""
        if child.alarm is not None:
            child.alarm.cancel()
        child.writer.close()
        await asyncio.shield(_reap(child.process))
        complaint = _complaint(child.stderr)
        os.close(child.stderr)
        if child.overdue:
            return _Verdict("timeout", f"no answer within {self._seconds:g} s")
        return _verdict(child.process.returncode, complaint, self._cpu_seconds)


def _end(child: _Child) -> None:
    child.overdue = True
    child.process.kill()


async def _reap(process: subprocess.Popen[bytes]) -> None:
    """A child that closed its socket is ending: its exit status says why. Then none is left.

    Looked at, not waited for in a thread: where no process can be had, no thread can.
    """
    until = time.monotonic() + EXIT_SECONDS
    try:
        while process.poll() is None and time.monotonic() < until:
            await asyncio.sleep(EXIT_LOOK)
    finally:
        process.kill()
    while process.poll() is None:
        await asyncio.sleep(EXIT_LOOK)


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    header, body = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    if header + body > FRAME_LIMIT:
        raise ValueError("the frame is too long")
    return await reader.readexactly(header), await reader.readexactly(body)


def _verdict(status: int, complaint: bytes, cpu_seconds: float) -> _Verdict | None:
    if status == 0:
        return None
    if status == MEMORY_EXIT:
        return _Verdict("memory", "it needed more memory than the child may have")
    if status == -signal.SIGPROF:
        return _Verdict("timeout", f"it took more than {cpu_seconds:g} s of processor time")
    if -status in OUTSIDE_SIGNALS:
        return _Verdict("crashed", f"ended by {signal.Signals(-status).name}", certain=False)
    text = complaint.decode("utf-8", "replace").strip()
    reason = "memory" if any(sign in complaint for sign in _OUT_OF_MEMORY) else "crashed"
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return _Verdict(reason, f"{name}: {_headline(text)}" if text else name)


def _headline(text: str) -> str:
    """The line that says what happened: a fatal error comes first, an exception last."""
    lines = text.splitlines()
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    return (fatal or lines[-1:])[0][:200]


def _complaint(stderr: int) -> bytes:
    """The end of what the child wrote to its standard error."""
    size = os.fstat(stderr).st_size
    return os.pread(stderr, 8192, max(0, size - 8192))


def _guilty(page: _Page, verdict: _Verdict) -> bool:
    """A page whose child was ended from outside is asked once more: the kernel, out of
    memory, takes the blameless too; but it must not take a child for ever.
    """
    if verdict.certain or page.suspect:
        return True
    page.suspect = True
    return False


def _blame(page: _Page, verdict: _Verdict) -> None:
    if not page.answer.done():
        page.answer.set_exception(
            ExtractionFailed(
                f"{page.question.url} was not understood", reason=verdict.reason, why=verdict.why
            )
        )
