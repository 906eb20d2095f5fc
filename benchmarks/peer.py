"""Scrapy as a peer: its own virtual environment, a process of its own.

It is installed once, by name, into `CHRONO_TEST_SCRAPY_VENV` or
`~/.cache/chrono-ray-tests/scrapy-<version>`, with the trafilatura and the
uvloop that this project uses; never into the project's own environment.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import orjson

SCRAPY: Final = "2.19.0"
SPIDER: Final = Path(__file__).with_name("scrapy_peer.py")
INSTALL_SECONDS: Final = 300.0
CRAWL_SECONDS: Final = 600.0


class PeerMissing(Exception):
    """Scrapy cannot be installed here."""


@dataclass(frozen=True, slots=True)
class Crawled:
    """What Scrapy did; `cpu` in seconds, `peak` in MiB."""

    pages: int
    seconds: float
    cpu: float
    peak: float
    characters: int


def installed() -> bool:
    return (_venv() / "bin" / "scrapy").exists()


def scrapy_python() -> Path:
    """The interpreter of a venv that has Scrapy; installs it when missing. Raises `PeerMissing`."""
    venv = _venv()
    python = venv / "bin" / "python"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{venv}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed():
            _install(venv, python)
    return python


def crawl(python: Path, urls: Sequence[str], *, folder: Path, concurrency: int) -> Crawled:
    """Fetch and understand these URLs; raises RuntimeError unless every page came."""
    listed = folder / "urls.txt"
    listed.write_text("\n".join(urls))
    ended = subprocess.run(
        [str(python), str(SPIDER), str(listed), str(concurrency)],
        cwd=folder, capture_output=True, timeout=CRAWL_SECONDS, check=False,
    )  # fmt: skip
    complaint = ended.stderr.decode("utf-8", "replace")[-2000:]
    if ended.returncode:
        raise RuntimeError(f"Scrapy ended with {ended.returncode}: {complaint}")
    crawled = Crawled(**orjson.loads(ended.stdout.splitlines()[-1]))
    if crawled.pages != len(urls):
        raise RuntimeError(f"Scrapy got {crawled.pages} of {len(urls)} pages: {complaint}")
    return crawled


def _venv() -> Path:
    default = Path.home() / ".cache" / "chrono-ray-tests" / f"scrapy-{SCRAPY}"
    return Path(os.environ.get("CHRONO_TEST_SCRAPY_VENV") or default)


def _install(venv: Path, python: Path) -> None:
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    packages = [f"scrapy=={SCRAPY}"]
    packages += [f"{name}=={version(name)}" for name in ("trafilatura", "uvloop")]
    try:
        if Path(uv).exists():
            _run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(venv)])
            _run([uv, "pip", "install", "-q", "--python", str(python), *packages])
        else:
            _run([sys.executable, "-m", "venv", "--clear", str(venv)])
            _run([str(python), "-m", "pip", "install", "-q", *packages])
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(venv, ignore_errors=True)
        raise PeerMissing(f"Scrapy {SCRAPY} cannot be installed: {error}") from error


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
