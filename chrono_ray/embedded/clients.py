"""PostgreSQL's own programs at work: a dump of one snapshot, and its restoring."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from chrono_ray.embedded.binaries import ClientPrograms
from chrono_ray.embedded.process import ENVIRONMENT
from chrono_ray.model.errors import EmbeddedError, Unavailable

LOOK_EVERY: Final = 15.0
SILENT_MOST: Final = 4
"""So often in a row the server may not know of the program before it is given up."""
LOCK_SECONDS: Final = 60
STOP_SECONDS: Final = 10.0
COMPRESSION: Final = "1"
"""zlib's: every pg_dump is built with it, and higher levels cost more time than they save."""
NEW_PREAMBLE: Final = 17
"""From this version on pg_restore sets what older servers do not know."""

IsConnected = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run of a program: which record it is for, and how the server is asked after it.

    `is_connected` answers for an application name.
    """

    url: str
    name: str
    is_connected: IsConnected


async def dump(programs: ClientPrograms, wanted: Wanted, *, snapshot: str, to: Path) -> None:
    """Write the record as that snapshot sees it to one file, in pg_dump's custom format.

    Without owners, rights and what not every server can compress with, so that
    any role can restore it anywhere. Raises `EmbeddedError` with the program's own words.
    """
    options = (
        "--format=custom", f"--compress={COMPRESSION}", "--schema=public", "--no-owner",
        "--no-privileges", "--no-toast-compression", f"--lock-wait-timeout={LOCK_SECONDS}s",
        f"--snapshot={snapshot}",
        f"--file={to}",
    )  # fmt: skip
    await _run(programs.bin_dir / "pg_dump", options, wanted)


async def restore(programs: ClientPrograms, wanted: Wanted, *, source: Path, server: int) -> None:
    """Bring a dump into an empty database, all of it or nothing."""
    if server < NEW_PREAMBLE <= programs.major:
        raise EmbeddedError(
            f"PostgreSQL {server} can be restored by its own programs alone",
            why=f"only those of version {programs.major} are on this machine",
            fix=f"Install postgresql-client-{server}, or restore into a newer PostgreSQL",
        )
    options = (
        "--single-transaction", "--exit-on-error", "--schema=public", "--no-owner",
        "--no-privileges", str(source),
    )  # fmt: skip
    await _run(programs.bin_dir / "pg_restore", options, wanted)


async def _run(program: Path, options: tuple[str, ...], wanted: Wanted) -> None:
    address, environment = _address(wanted)
    process = await asyncio.create_subprocess_exec(
        program, f"--dbname={address}", *options, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment,
        start_new_session=True,
    )  # fmt: skip
    speaking = asyncio.create_task(process.communicate())
    try:
        await _until_done(speaking, program, wanted)
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait({speaking}, timeout=STOP_SECONDS)
        if process.returncode is None:
            process.kill()
            await speaking
    if process.returncode != 0:
        _, said = speaking.result()
        raise EmbeddedError(
            f"{program.name} failed", why=_last_words(said) or f"exit code {process.returncode}"
        )


async def _until_done(
    speaking: asyncio.Task[tuple[bytes, bytes]], program: Path, wanted: Wanted
) -> None:
    """There is no telling how long a large record takes, but the server knows who is at it."""
    silent = 0
    while not (await asyncio.wait({speaking}, timeout=LOOK_EVERY))[0]:
        silent = 0 if await _is_at_work(wanted) else silent + 1
        if silent == SILENT_MOST:
            raise Unavailable(
                "PostgreSQL does not answer", why=f"{program.name} was at work",
                fix="Nothing is half done; do it again when it is back",
            )  # fmt: skip


async def _is_at_work(wanted: Wanted) -> bool:
    try:
        async with asyncio.timeout(LOOK_EVERY):
            return await wanted.is_connected(wanted.name)
    except (Unavailable, TimeoutError):
        return False


def _address(wanted: Wanted) -> tuple[str, Mapping[str, str]]:
    """The URL as libpq takes it; the password goes by the environment, which nobody else sees."""
    parts = urlsplit(wanted.url)
    user, _, place = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    given = {"sslmode" if key == "ssl" else key: value for key, value in parse_qsl(parts.query)}
    password = given.pop("password", unquote(password))  # there it wins, as for our own connections
    given.pop("sslpassword", None)  # no environment takes it, and arguments are for all to see
    # libpq takes a plus for a plus
    query = urlencode(given | {"application_name": wanted.name}, quote_via=quote)
    netloc = f"{name}@{place}" if name else place
    address = urlunsplit(("postgresql", netloc, parts.path, query, ""))
    ours = {"PGPASSWORD": password, "HOME": os.environ.get("HOME", "/")}
    return address, ENVIRONMENT | ours


def _last_words(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return "; ".join(lines[:3])[:600]
