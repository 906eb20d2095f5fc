"""Find the owner of the data folder, start one, end one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import orjson

from chrono_ray.cli.remote import only_here
from chrono_ray.cluster.owner import STARTS, Running, archives_chosen, attached, lives, running
from chrono_ray.model.errors import Conflict, EmbeddedError
from chrono_ray.settings import Settings

START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 90.0
LOG_FILE: Final = "owner.log"


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
        if not owned.running.ephemeral or not _last_user(use):
            return True
        if runs_active():
            return False
        stop(owned.running)
    return True


def keep(owned: Owned) -> None:
    """Leave without stopping anything."""
    owned.use.close()


def _last_user(use: IO[str]) -> bool:
    try:
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _use(data_dir: Path) -> IO[str]:
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
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "start.lock").open("w") as lock:
        ends = time.monotonic() + START_SECONDS + STOP_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise EmbeddedError(
                        "Somebody else has been starting chrono_ray for too long",
                        fix=f"See {data_dir / LOG_FILE}",
                    ) from None
            time.sleep(0.1)
        yield


def _start(settings: Settings, *, api: bool, tell: Callable[[str], None]) -> Running:
    log = settings.data_dir / LOG_FILE
    command = [sys.executable, "-m", "chrono_ray.cluster.owner", *([] if api else ["--no-api"])]
    with log.open("ab") as output:
        before = output.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        with log.open("rb") as said:
            said.seek(before)
            return _wait_until_ready(
                settings, process, log, api=api, look=lambda: _pass_on(said, tell)
            )
    except BaseException:
        process.terminate()
        raise


def _wait_until_ready(
    settings: Settings,
    process: subprocess.Popen[bytes],
    log: Path,
    *,
    api: bool,
    look: Callable[[], None],
) -> Running:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        look()
        found = running(settings.data_dir)
        if found and found.pid == process.pid and (not api or found.api or found.api_error):
            return found
        if process.poll() is not None:
            raise EmbeddedError("chrono_ray did not start", why=_last_words(log), fix=f"See {log}")
        time.sleep(0.1)
    raise EmbeddedError(
        "chrono_ray did not start", why=f"not ready after {START_SECONDS:.0f} s", fix=f"See {log}"
    )


def _pass_on(said: IO[bytes], tell: Callable[[str], None]) -> None:
    """Tell of the parts that the owner has begun to start since we last looked."""
    while (line := said.readline()).endswith(b"\n"):
        with contextlib.suppress(orjson.JSONDecodeError):  # servers write there as they like
            entry = orjson.loads(line)
            if isinstance(entry, dict) and entry.get("event") == STARTS:
                tell(f"Starting {entry['part']} ...")
    said.seek(-len(line), os.SEEK_CUR)  # a line that is not whole yet


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _alive(found: Running) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(found.pid, os.WNOHANG)  # ours, when we started it
    return lives(found)
