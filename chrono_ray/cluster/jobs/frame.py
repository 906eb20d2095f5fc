"""What every job is made of: arguments, settings, a record, a stop, and an honest end.

Progress goes to stderr, one JSON object per result to stdout. A job leases
what can be leased again and begins what can be begun again, so it may be
killed at any moment; told to stop, it says how to go on. Ray leaves it
`STOP_SECONDS` between SIGTERM and SIGKILL.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.owner import attached_here
from chrono_ray.model.errors import ChronoError, InvalidInput, SettingsError
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database

DONE, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
TELL_EVERY: Final = 5.0
STOP_SECONDS: Final = 2.0
"""Of Ray's three; the rest is for ending the process."""
EPILOG: Final = (
    "Progress goes to stderr, one JSON object per result to stdout. Exit codes: 0 done, 1 failed,"
    " 2 usage, 3 partial, 130 stopped. "
)

Wanted = TypeVar("Wanted")


@dataclass(frozen=True, slots=True)
class Session:
    """What a job works with until it ends; `stop` is set by SIGTERM and SIGINT."""

    settings: Settings
    record: Database
    stop: asyncio.Event


@dataclass(frozen=True, slots=True)
class Job(Generic[Wanted]):
    """One entry point.

    `check` makes what was typed into what is wanted, or raises `InvalidInput`:
    nothing is started or asked before. `work` returns the exit code.
    """

    name: str
    parser: argparse.ArgumentParser
    check: Callable[[argparse.Namespace, Settings], Wanted]
    work: Callable[[Wanted, Session], Awaitable[int]]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """0 done, 1 failed, 2 usage, 3 partial, 130 stopped."""
        typed = self.parser.parse_args(arguments)
        try:
            settings = attached_here(chrono_settings.load())
            wanted = self.check(typed, settings)
            return asyncio.run(self._session(wanted, settings))
        except (InvalidInput, SettingsError) as error:
            say(f"{self.name}: {error}")
            return USAGE
        except ChronoError as error:
            say(f"{self.name}: {error}")
            return FAILED

    async def _session(self, wanted: Wanted, settings: Settings) -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        record = wiring.whole_record(settings, pool_size=4, name=f"chrono {self.name}")
        try:
            return await self.work(wanted, Session(settings, record, stop))
        finally:
            await record.aclose()


def parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The arguments of a job, with what is true of all jobs in its help."""
    return argparse.ArgumentParser(
        prog=f"{name}.py", description=description, epilog=EPILOG + epilog
    )


def worst(codes: Iterable[int], *, interrupted: bool = False) -> int:
    """The exit code of several results: stopped, else failed, else partial, else done."""
    found = set(codes)
    if interrupted or INTERRUPTED in found:
        return INTERRUPTED
    return next((code for code in (FAILED, PARTIAL) if code in found), DONE)


def say(line: str) -> None:
    """Progress."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def result(told: Mapping[str, object] | str) -> None:
    """One result, as one object on one line."""
    text = told if isinstance(told, str) else orjson.dumps(told).decode()
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
