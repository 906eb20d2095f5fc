"""Counts what a request asks of the record, whoever in the application asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from chrono_ray.storage.database import Connection

MOST = 3
"""Statements of one request, authentication and authorization included."""
API = "chrono api"
FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SET ")
"""What opens and closes a transaction; the pool's sign of life is a lone semicolon."""
ONCE = ("typeinfo_tree", "set_config('jit'", "the mark of a restore")
"""Once a connection: the driver learns of a type, and we whether the record is whole."""


@dataclass(slots=True)
class Queries:
    """What the application has asked since `fresh`."""

    statements: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def at_most(self, most: int) -> AsyncIterator[None]:
        """The block asks for no more than that."""
        self.statements.clear()
        yield
        await asyncio.sleep(0)  # the driver tells of a statement on the loop's next turn
        assert len(self.statements) <= most, "\n\n".join(self.statements)

    def hear(self, query: Any) -> None:
        """One of the driver's own."""
        self.add(query.query)

    def add(self, statement: str) -> None:
        text = statement.strip().strip(";").strip()
        framing = text.upper().startswith(FRAME) or any(mark in text for mark in ONCE)
        if text and not framing:
            self.statements.append(text)


@contextmanager
def counted() -> Iterator[Queries]:
    """Of every connection that an application opens inside the block."""
    queries = Queries()

    def connected(adapted: Any, _record: Any) -> None:
        driver: Connection = adapted.driver_connection
        if _ours(driver):
            driver.add_query_logger(queries.hear)

    def executing(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        """SQLAlchemy's statements are prepared ones: the driver's loggers are not told of them."""
        if _ours(connection.connection.driver_connection):
            queries.add(statement)

    event.listen(Pool, "connect", connected)
    event.listen(Engine, "before_cursor_execute", executing)
    try:
        yield queries
    finally:
        event.remove(Pool, "connect", connected)
        event.remove(Engine, "before_cursor_execute", executing)


def _ours(driver: Connection) -> bool:
    return bool(driver.get_settings().application_name == API)
