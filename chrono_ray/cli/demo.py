"""`chrono demo`: the whole path on the demo archive, in a folder that is thrown away."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chrono_ray import settings as chrono_settings
from chrono_ray.cli import owner
from chrono_ray.cli.run import Request, run_to_end
from chrono_ray.cli.search import Asked, search_and_print
from chrono_ray.cli.verify import verify_and_print
from chrono_ray.model.errors import EmbeddedError

SITE: Final = "lanternbay.example"
SEARCHES: Final = ("lighthouse keeper", '"night ferry"', "lihgthouse")
READY_SECONDS: Final = 30.0


def run_demo(captures: int) -> int:
    """0 when the run was complete and its certificate adds up."""
    with tempfile.TemporaryDirectory(prefix="chrono-demo-") as folder:
        Path(folder).chmod(0o755)
        with demo_archive(Path(folder), captures) as url:
            settle_environment(Path(folder) / "data", url)
            return _show(time.monotonic())


def _show(began: float) -> int:
    _say("Starting PostgreSQL, Valkey and Ray ...")
    found = owner.ensure(chrono_settings.load(), api=False)
    _say(f"... ready after {time.monotonic() - began:.1f} s\n")
    try:
        _say(f"$ chrono run {SITE}")
        request = Request(SITE, "domain", "", "", ["wayback"], "demo", None, False, False)
        code = run_to_end(request)
        for words in SEARCHES:
            _say(f"\n$ chrono search {words!r} --limit 3")
            search_and_print(Asked(words, "", "", "", "", "", "relevance", 3, 0), json=False)
        _say("\n$ chrono verify 1")
        verified = verify_and_print(1, json=False)
    finally:
        owner.keep(found)
        owner.stop(found.running)
    _say(f"\nAll of it took {time.monotonic() - began:.1f} s; everything is stopped again.")
    return code or verified


def settle_environment(data: Path, url: str) -> None:
    """Ours and our children's: nothing of the machine's own chrono_ray is touched."""
    for name in [name for name in os.environ if name.startswith("CHRONO_")]:
        del os.environ[name]
    os.environ["CHRONO_DATA_DIR"] = str(data)
    os.environ["CHRONO_ARCHIVES__WAYBACK__URL"] = url
    os.environ["CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE"] = "0"
    os.environ["CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE"] = "0"


@contextlib.contextmanager
def demo_archive(folder: Path, captures: int) -> Iterator[str]:
    """The demo archive as a process of its own, ended with us."""
    ready = folder / "archive.url"
    count = ["--captures", str(captures)] if captures else []
    command = [sys.executable, "-m", "chrono_ray.demo", "--ready-file", str(ready), *count]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + READY_SECONDS
        while not ready.exists() or not ready.read_text().strip():
            if process.poll() is not None or time.monotonic() > ends:
                raise EmbeddedError("The demo archive did not start")
            time.sleep(0.05)
        yield ready.read_text().strip()
    finally:
        process.terminate()
        process.wait(10)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
