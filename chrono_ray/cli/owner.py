"""Find the owner of the data folder, start one, end one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import orjson

from chrono_ray.cli.remote import only_here
from chrono_ray.cluster.owner import (
    AGAIN,
    RECORD,
    STARTS,
    STATE_FILE,
    Running,
    archives_chosen,
    attached,
    lives,
    running,
)
from chrono_ray.embedded.folder import usable
from chrono_ray.model.errors import Conflict, EmbeddedError
from chrono_ray.settings import Settings
from chrono_ray.storage.migrate import MIGRATED_BY_ANOTHER, MIGRATING, SIGNS

PROGRAM: Final = ("-m", "chrono_ray.cluster.owner")
START_SECONDS: Final = 180.0
"""For everything but a migration, which takes as long as it shows that it goes on."""
STOP_SECONDS: Final = 90.0
BEGIN_SECONDS: Final = 10.0
"""For an owner that is asked for its API again to say that it begins."""
OLDER: Final = "an owner of an older version does not try again: `chrono down`, then `chrono up`"
LOG_FILE: Final = "owner.log"
LITTLE: Final = 64 * 1024
"""Bytes: with less room on its disk an owner cannot even say what is wrong."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A running owner, in use by this command as long as `use` is open."""

    running: Running
    settings: Settings
    started: bool
    use: IO[str]


def _silent(_line: str) -> None:
    return


def ensure(settings: Settings, *, api: bool, tell: Callable[[str], None] = _silent) -> Owned:
    """The running owner, or a new one once it is ready; `tell` hears of each part that it starts.

    An API of the running one that is not up is waited for, and tried again if it had failed.
    Raises `EmbeddedError` with its last words when it does not become ready, `Conflict`
    when the running one was started with other archives.
    """
    only_here(settings)
    with _one_at_a_time(settings.data_dir):
        return _ensure(settings, api=api, tell=tell)


def release(owned: Owned, runs_active: Callable[[], bool]) -> bool:
    """Stop what commands like this one started for themselves, once nobody uses it any more.

    The last command to leave does it. False when it was left running for a
    run that goes on without a command.
    """
    with _one_at_a_time(owned.settings.data_dir), owned.use as use:
        if not owned.running.ephemeral or not _taken(use):
            return True
        if runs_active():
            return False
        stop(owned.running)
    return True


def keep(owned: Owned) -> None:
    """Leave without stopping anything."""
    owned.use.close()


def _use(data_dir: Path) -> IO[str]:
    with usable(data_dir):
        use = (data_dir / "use.lock").open("w")
    fcntl.flock(use, fcntl.LOCK_SH)
    return use


def _ensure(settings: Settings, *, api: bool, tell: Callable[[str], None]) -> Owned:
    found = running(settings.data_dir)
    if found:
        if found.archives != archives_chosen(settings):
            raise Conflict(
                "chrono_ray runs already, with other archives",
                why=f"it was started with {found.archives}",
                fix="`chrono down`, then try again",
            )
        if api and found.ephemeral:
            raise Conflict(
                "chrono_ray runs only for a `chrono run` now, and stops with it",
                fix="Wait for that run, or `chrono down` (nothing is lost), then `chrono up`",
            )
        if api and not found.api:
            found = _with_api(settings, found, tell)
        return Owned(found, attached(settings, found), False, _use(settings.data_dir))
    started = _start(settings, api=api, tell=tell)
    return Owned(started, attached(settings, started), True, _use(settings.data_dir))


def stop(found: Running) -> bool:
    """Have it drain and stop everything; False when it took too long and was killed."""
    try:
        os.kill(found.pid, signal.SIGTERM)
        ends = time.monotonic() + STOP_SECONDS
        while time.monotonic() < ends:
            if not _alive(found):
                return True
            time.sleep(0.1)
        os.kill(found.pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False


@contextlib.contextmanager
def _one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Two commands at once: the second waits and then uses what the first has started."""
    with contextlib.ExitStack() as opened:
        with usable(data_dir):
            data_dir.mkdir(parents=True, exist_ok=True)
            lock = opened.enter_context((data_dir / "start.lock").open("w"))
            heard = opened.enter_context(_listening(data_dir, _silent))
        ends = time.monotonic() + START_SECONDS + STOP_SECONDS
        while not _taken(lock):
            if heard.migrating():
                ends = time.monotonic() + START_SECONDS + STOP_SECONDS
            if time.monotonic() > ends:
                raise EmbeddedError(
                    "Somebody else has been starting chrono_ray for too long",
                    fix=f"See {heard.log}",
                )
            time.sleep(0.1)
        yield


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(settings: Settings, *, api: bool, tell: Callable[[str], None]) -> Running:
    with _listening(settings.data_dir, tell) as heard:
        with heard.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *PROGRAM, *([] if api else ["--no-api"])],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            return _wait_until_ready(settings, process, heard, api=api)
        except BaseException:
            tell("Ending what was started ...")
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """An owner that is not ready yet. It ends its servers, which still write to the data folder."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(
    settings: Settings, process: subprocess.Popen[bytes], heard: Listener, *, api: bool
) -> Running:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if heard.migrating():
            ends = time.monotonic() + START_SECONDS
        found = running(settings.data_dir)
        if found and found.pid == process.pid and (not api or found.api or found.api_error):
            return found
        if process.poll() is not None:
            raise _not_started(heard, heard.last_words())
        time.sleep(0.1)
    raise _not_started(heard, f"not ready after {START_SECONDS:.0f} s")


def _with_api(settings: Settings, found: Running, tell: Callable[[str], None]) -> Running:
    """Of an owner that works without its API: what it tells when it has tried, again if need be."""
    with _listening(settings.data_dir, tell) as heard:
        state = settings.data_dir / STATE_FILE
        before = state.stat().st_mtime_ns if found.api_error else 0
        if found.api_error:
            os.kill(found.pid, AGAIN)
        ends = time.monotonic() + START_SECONDS
        begins = time.monotonic() + BEGIN_SECONDS if found.api_error else ends
        while (now := running(settings.data_dir)) and time.monotonic() < ends:
            heard.migrating()
            if (now.api or now.api_error) and state.stat().st_mtime_ns != before:
                return now
            if not heard.part and time.monotonic() > begins:
                tell(f"Nothing begins yet; {OLDER}")
                begins = ends
            time.sleep(0.1)
        why = "it did not answer in time" if now else "chrono_ray ended meanwhile"
        deaf = now and found.api_error and not heard.part
        raise EmbeddedError(
            "The API did not start", why=why, fix=f"See {heard.log}{f'; {OLDER}' if deaf else ''}"
        )


def _not_started(heard: Listener, why: str) -> EmbeddedError:
    heard.migrating()
    alone = "; the record can be migrated by itself: chrono migrate"
    return EmbeddedError(
        "chrono_ray did not start", why=why,
        fix=f"See {heard.log}{alone if heard.signs and heard.part == RECORD else ''}",
    )  # fmt: skip


@dataclass(slots=True)
class Listener:
    """Reads on in the log of an owner; `part` is what it has begun to start last, `signs`
    whether a migration showed itself."""

    log: Path
    said: IO[bytes]
    began: int
    tell: Callable[[str], None]
    part: str = ""
    signs: bool = False

    def migrating(self) -> bool:
        """Tell of what has begun since we last listened; whether a migration showed itself."""
        shown = False
        while (line := self.said.readline()).endswith(b"\n"):
            shown = self._hears(_entry(line)) or shown
        self.said.seek(-len(line), os.SEEK_CUR)  # a line that is not whole yet
        return shown

    def _hears(self, entry: Mapping[str, object]) -> bool:
        event = entry.get("event")
        if event == STARTS:
            self.part = str(entry["part"])
            self.tell(f"Starting {self.part} ...")
        elif event == MIGRATING:
            self.tell(f"The record is being migrated, for {entry['seconds']} s now ...")
        elif event == MIGRATED_BY_ANOTHER:
            self.tell(f"Another process migrates the record, for {entry['waited']} s now ...")
        self.signs = self.signs or event in SIGNS
        return event in SIGNS

    def last_words(self) -> str:
        """What it said last, or why it could not."""
        if shutil.disk_usage(self.log.parent).free < LITTLE:
            return f"the disk of {self.log.parent} is full"
        self.said.seek(self.began)
        lines = self.said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@contextlib.contextmanager
def _listening(data_dir: Path, tell: Callable[[str], None]) -> Iterator[Listener]:
    """To what an owner says from now on."""
    log = data_dir / LOG_FILE
    log.touch()
    with log.open("rb") as said:
        yield Listener(log, said, said.seek(0, os.SEEK_END), tell)


def _entry(line: bytes) -> Mapping[str, object]:
    """Empty for what others write there: servers do as they like."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _alive(found: Running) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(found.pid, os.WNOHANG)  # ours, when we started it
    return lives(found)
