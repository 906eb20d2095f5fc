"""What one request spends in the record, whoever in the application asks it for that request."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
from sqlalchemy import event

from chrono_ray.storage.database import Connection, Database
from chrono_ray.storage.statement_names import name_of

FRAME: Final = ("BEGIN", "COMMIT", "ROLLBACK", "SET ")
"""What opens and closes a transaction is no statement; nor is the pool's sign of life, a `;`."""
DRIVERS: Final = ("typeinfo_tree", "set_config('jit'")
"""What the driver asks for itself, once a connection: it takes time, and counts for nobody."""
ASKED_SHOWN: Final = 20


@dataclass(slots=True)
class Spent:
    """Statements, and the seconds until their answers; the first of them one by one."""

    statements: int = 0
    seconds: float = 0.0
    asked: list[tuple[str, float]] = field(default_factory=list)

    def add(self, text: str, seconds: float) -> None:
        self.statements += not any(mark in text for mark in DRIVERS)
        self.seconds += seconds
        if len(self.asked) < ASKED_SHOWN:
            self.asked.append((text, seconds))

    def as_shown(self) -> list[dict[str, str | float]]:
        """By name, with their milliseconds; what they were asked with is nobody's to read."""
        return [
            {"name": name_of(text), "ms": round(seconds * 1000, 2)} for text, seconds in self.asked
        ]

    def as_server_timing(self) -> str:
        """As browsers show it and `chrono perf` reads it (W3C Server Timing)."""
        return f'record;dur={self.seconds * 1000:.2f};desc="{self.statements} statements"'


_spent: ContextVar[Spent | None] = ContextVar("spent", default=None)


def begin() -> Spent:
    """What the request that begins here will have spent."""
    spent = Spent()
    _spent.set(spent)
    return spent


def watch(record: Database) -> None:
    """Have every statement of this pool counted for its request.

    The driver tells of one on the loop's next turn.
    """
    engine = record.engine.sync_engine
    event.listen(engine, "connect", _connected)
    event.listen(engine, "before_cursor_execute", _executing)
    event.listen(engine, "after_cursor_execute", _executed)


def _connected(adapted: Any, _record: Any) -> None:
    driver: Connection = adapted.driver_connection
    driver.add_query_logger(_heard)


def _heard(query: asyncpg.connection.LoggedQuery) -> None:
    spent, text = _spent.get(), query.query.strip(" ;\n")
    if spent and text and not text.upper().startswith(FRAME):
        spent.add(text, query.elapsed)


def _executing(connection: Any, *_rest: Any) -> None:
    """SQLAlchemy's statements are prepared ones: the driver does not tell of them."""
    connection.info["began"] = time.perf_counter()


def _executed(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
    if spent := _spent.get():
        spent.add(statement, time.perf_counter() - connection.info["began"])
