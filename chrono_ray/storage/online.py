"""What a revision leaves to be done beside the work: no step holds a table for long.

A revision's steps stand in `versions/<revision>_online.sql`, named, in their
order. A step whose name begins with `fill_` is one batch of rows: it runs until
it touches none. Any other is one statement outside of a transaction and bears
the name of the index that it builds (CREATE INDEX CONCURRENTLY). Each runs
again when it was cut off, so each must be safe to repeat.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.database import Connection, Database, named

VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"
BATCHES: Final = "fill_"
LOCK: Final = 0x6368726F6E70
"""Advisory lock: one process at a time is at the steps."""
TURN_SECONDS: Final = 0.25
TELL_SECONDS: Final = 15.0
_FILE: Final = re.compile(r"(\d{4})_online\.sql")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    revision: str
    name: str
    statement: str


def steps(folder: Path = VERSIONS) -> Iterator[Step]:
    """Every step there is, oldest revision first."""
    for path in sorted(folder.iterdir()):
        if found := _FILE.fullmatch(path.name):
            for name, statement in named(path.read_text("utf-8")).items():
                yield Step(found[1], name, statement)


async def finish(database: Database, revision: str, *, folder: Path = VERSIONS) -> int:
    """Carry out the steps up to this revision that are not done yet; returns how many were.

    All are done when it returns: where another process is at them it waits,
    and says so. Raises `Unavailable` when PostgreSQL goes away, and what
    PostgreSQL says of a step that cannot be done.
    """
    done = 0
    async with database.alone() as connection:

        async def taken() -> bool:  # asked, not waited for: no index is finished beside a waiter
            return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))

        await have_turn(taken, "record.steps_by_another", every=TELL_SECONDS)
        for step in steps(folder):
            if step.revision <= revision and not await _is_done(connection, step):
                await _carry_out(connection, step)
                done += 1
    return done


async def finish_beside(database: Database, revision: str, *, folder: Path = VERSIONS) -> None:
    """`finish` for who goes on meanwhile: how it ended is told, and the next start tries again."""
    try:
        done = await finish(database, revision, folder=folder)
    except (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError):
        log.exception("record.steps_failed")
    else:
        if done:
            log.info("record.steps_done", extra={"steps": done})


async def have_turn(taken: Callable[[], Awaitable[bool]], event: str, *, every: float) -> None:
    """Ask until it is taken, and say every so many seconds that another one has it."""
    began, told = time.monotonic(), -every
    while not await taken():
        waited = time.monotonic() - began
        if waited - told >= every:
            told = waited
            log.warning(event, extra={"waited": round(waited)})
        await asyncio.sleep(TURN_SECONDS)


async def _is_done(connection: Connection, step: Step) -> bool:
    asked = "SELECT 1 FROM schema_steps WHERE revision = $1 AND step = $2"
    return await connection.fetchval(asked, step.revision, step.name) is not None


async def _carry_out(connection: Connection, step: Step) -> None:
    log.info("record.step", extra={"revision": step.revision, "step": step.name})
    if step.name.startswith(BATCHES):
        while int((await connection.execute(step.statement)).rpartition(" ")[2]):
            pass
    else:
        await _build(connection, step)
    await connection.execute(
        "INSERT INTO schema_steps (revision, step) VALUES ($1, $2)", step.revision, step.name
    )


async def _build(connection: Connection, step: Step) -> None:
    """An index that was cut off while it was built stays behind, and is never used: it goes first.

    Where it was built and only the note of it was lost, there is nothing to do.
    """
    valid = await connection.fetchval(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", step.name
    )
    if valid is False:
        await connection.execute(f'DROP INDEX CONCURRENTLY "{step.name}"')
    if not valid:
        await connection.execute(step.statement)
    made = await connection.fetchval("SELECT to_regclass($1)", step.name)
    if made is None:
        raise Unavailable(
            "A step of the migration did not do what it is named for",
            why=f"there is no index {step.name}", fix="Report it",
        )  # fmt: skip
