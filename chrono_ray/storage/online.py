"""What a revision leaves to be done beside the work: no step holds a table for long.

A revision's steps stand in `versions/<revision>_online.sql`, named, in their
order. A step whose name begins with `fill_` is one batch of rows: it runs until
it touches none. Any other is one statement outside of a transaction and bears
the name of the index that it builds (CREATE INDEX CONCURRENTLY). Each runs
again when it was cut off, so each must be safe to repeat.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.database import Connection, Database, named

VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"
BATCHES: Final = "fill_"
LOCK: Final = 0x6368726F6E70
"""Advisory lock: who finds it taken leaves the steps to the one that has it."""
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

    0 as well where another process is at it. Raises `Unavailable` when
    PostgreSQL goes away: the next start goes on.
    """
    done = 0
    async with database.alone() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            return 0
        for step in steps(folder):
            if step.revision <= revision and not await _is_done(connection, step):
                await _carry_out(connection, step)
                done += 1
    return done


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
