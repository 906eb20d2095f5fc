"""A real pywb 2.10 as a peer: its own virtual environment, a subprocess, a free port.

In a session fixture::

    with pywb_collection(tmp_path_factory.mktemp("pywb"), [warc_file]) as url:
        yield url  # http://127.0.0.1:<port>/t

pywb is GPL and pins old libraries, so it never enters the project's own
environment. It is installed once into `CHRONO_TEST_PYWB_VENV`, or
`~/.cache/chrono-ray-tests/pywb-2.10.0`; where that fails, tests are skipped.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

VERSION: Final = "2.10.0"
COLLECTION: Final = "t"
INSTALL_DEADLINE: Final = 300.0
START_DEADLINE: Final = 30.0

# pywb ends when its standard input does, so that it never outlives the tests.
_SERVE: Final = """
import os, sys
from pywb.apps.cli import wayback
from gevent.monkey import get_original

def watch():
    while os.read(0, 1):
        pass
    os._exit(0)

get_original("_thread", "start_new_thread")(watch, ())
wayback(sys.argv[1:])
"""


def pywb_python() -> Path:
    """The interpreter of a venv that has pywb; installs it when missing, or skips the test."""
    default = Path.home() / ".cache" / "chrono-ray-tests" / f"pywb-{VERSION}"
    venv = Path(os.environ.get("CHRONO_TEST_PYWB_VENV") or default)
    python = venv / "bin" / "python"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{venv}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "bin" / "wayback").exists():
            _install(venv, python)
    return python


@contextmanager
def pywb_collection(base: Path, warcs: Iterable[Path]) -> Iterator[str]:
    """A collection of these files, served until the block ends; gives its URL."""
    python = pywb_python()
    _run([python.parent / "wb-manager", "init", COLLECTION], base)
    _run([python.parent / "wb-manager", "add", COLLECTION, *warcs], base)
    with pywb_server(base) as url:
        yield f"{url}/{COLLECTION}"


@contextmanager
def pywb_server(base: Path) -> Iterator[str]:
    """pywb over what is in `base` (collections, or a config.yaml) until the block ends."""
    python = pywb_python()
    port = _free_port()
    command = [str(python), "-c", _SERVE, "-p", str(port), "-b", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}"
    with (base / "pywb.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=base, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            _wait_until_it_answers(url, server, base / "pywb.log")
            yield url
        finally:
            server.terminate()
            server.wait(10)
            if server.stdin is not None:
                server.stdin.close()


def _install(venv: Path, python: Path) -> None:
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    package = f"pywb=={VERSION}"
    try:
        if Path(uv).exists():
            _run([uv, "venv", "-q", "--clear", "--python", sys.executable, venv], venv.parent)
            _run([uv, "pip", "install", "-q", "--python", python, package], venv.parent)
        else:
            _run([sys.executable, "-m", "venv", "--clear", venv], venv.parent)
            _run([python, "-m", "pip", "install", "-q", package], venv.parent)
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(venv, ignore_errors=True)
        pytest.skip(f"pywb {VERSION} cannot be installed: {error}")


def _run(command: list[str | Path], folder: Path) -> None:
    subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=INSTALL_DEADLINE,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"pywb does not answer: {log.read_text()[-2000:]}")
