"""Starts the scraper process under test and reads what it tells."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from benchmarks.record import ROOT
from benchmarks.worker import Listed, Scraped, Seen

START_SECONDS: Final = 60.0
LINE_SECONDS: Final = 600.0
STOP_SECONDS: Final = 40.0
_KINDS: Final = {kind.__name__: kind for kind in (Listed, Seen, Scraped)}


@dataclass(frozen=True, slots=True)
class Worker:
    """A running scraper process; its standard error goes to the file `complaints`."""

    process: asyncio.subprocess.Process
    complaints: Path

    async def told(self) -> Listed | Seen | Scraped:
        """The next thing it says. Raises RuntimeError when it ended, TimeoutError when it hangs."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LINE_SECONDS):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the scraper ended: {self.complaints.read_text()[-3000:]}")
        [(kind, fields)] = orjson.loads(line).items()
        return _KINDS[kind](**fields)

    async def listed(self) -> Listed:
        while not isinstance(said := await self.told(), Listed):
            continue
        return said

    async def scrape(self) -> tuple[Scraped, list[Seen]]:
        """Let it go; returns when every page has ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        seen: list[Seen] = []
        while not isinstance(said := await self.told(), Scraped):
            if isinstance(said, Seen):
                seen.append(said)
        return said, seen


def environment(
    database_url: str, archive_url: str, data: Path, *, page_rows: int
) -> dict[str, str]:
    """The product's settings: no limits, for the archive is ours; all else is its default."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("CHRONO_")}
    return ours | {
        "CHRONO_DATABASE_URL": database_url,
        "CHRONO_DATA_DIR": str(data),
        "CHRONO_ARCHIVES__WAYBACK__URL": archive_url,
        "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
        "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "0",
        "CHRONO_ARCHIVES__WAYBACK__PAGE_ROWS": str(page_rows),
    }


@asynccontextmanager
async def scraper(
    domain: str, environment: dict[str, str], *, folder: Path, pages: int = 0
) -> AsyncIterator[Worker]:
    """The process, until the block ends: it then ends by itself, or is killed.

    `folder` must be there; its standard error is kept in it.
    """
    complaints = folder / "scraper.log"
    with complaints.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.worker", domain, "--pages", str(pages),
            cwd=ROOT, env=environment, stderr=log,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    try:
        yield Worker(process, complaints)
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
