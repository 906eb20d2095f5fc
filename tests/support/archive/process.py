"""The hostile archive in a process of its own, and how a test steers it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import orjson

from chrono_ray.demo.reply import Kind, Logged
from tests.support.archive.plan import Rule, rule_to_json

_ROOT: Final = Path(__file__).resolve().parents[3]
_DEADLINE: Final = 20.0


@dataclass(frozen=True, slots=True)
class ArchiveProcess:
    """A running archive; its log's times are this machine's monotonic clock too."""

    url: str
    pid: int

    def behave(self, *rules: Rule) -> None:
        """Puts these rules in force instead of the present ones; none: honest again."""
        self._ask("/_hostile", orjson.dumps([rule_to_json(rule) for rule in rules]))

    def hits(self) -> list[int]:
        """How often each rule in force was applied."""
        return [rule["hits"] for rule in orjson.loads(self._ask("/_hostile"))]

    def log(self) -> list[Logged]:
        """Every request since the start, in order of arrival."""
        lines = map(orjson.loads, self._ask("/_log").splitlines())
        return [Logged(**{**line, "kind": Kind(line["kind"])}) for line in lines]

    def stats(self) -> dict[str, Any]:
        """Counts: `requests`, `kinds`, `statuses`."""
        return dict(orjson.loads(self._ask("/_stats")))

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        with urlopen(Request(self.url + path, body), timeout=_DEADLINE) as answer:
            return bytes(answer.read())


@contextmanager
def archive_process(*arguments: str) -> Iterator[ArchiveProcess]:
    """Starts `python -m tests.support.archive` with these arguments; stops it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        command = [sys.executable, "-m", "tests.support.archive", "--ready-file", str(ready)]
        with subprocess.Popen(
            [*command, *arguments], cwd=_ROOT, stdout=subprocess.DEVNULL
        ) as process:
            try:
                yield ArchiveProcess(_url(ready, process), process.pid)
            finally:
                process.terminate()
                try:
                    process.wait(_DEADLINE)
                except subprocess.TimeoutExpired:
                    process.kill()


def _url(ready: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + _DEADLINE
    while not ready.exists():
        if process.poll() is not None:
            raise RuntimeError(f"the archive ended with {process.returncode} before it listened")
        if time.monotonic() > end:
            raise TimeoutError(f"the archive did not listen within {_DEADLINE:g} s")
        time.sleep(0.02)
    return ready.read_text()
