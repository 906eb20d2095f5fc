"""What the database says, as a person is told it: no SQL, no traceback."""

from __future__ import annotations

from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.model.errors import ChronoError, Unavailable
from chrono_ray.storage.database import RECORD_AWAY

OTHER_SCHEMA: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)
NO_LOGIN: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
LONGEST: Final = 300


def database_error(error: Exception) -> ChronoError | None:
    """An error of the driver or of SQLAlchemy as one of ours; None when it is neither's."""
    cause = _cause(error)
    if not isinstance(cause, (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError)):
        return None
    why = _first_line(cause)
    if isinstance(cause, OTHER_SCHEMA):
        return not_migrated(why)
    if isinstance(cause, NO_LOGIN):
        return _no_login(why)
    if isinstance(cause, asyncpg.InsufficientPrivilegeError):
        what = "PostgreSQL does not allow this"
        fix = "The user of CHRONO_DATABASE_URL must own the record"
    else:
        what = "The record could not answer"
        fix = "Nothing is half done. Try again; if it stays so, it is a fault of chrono_ray"
    return ChronoError(what, why=why, fix=fix, code="database")


def login_refused(error: Unavailable) -> ChronoError | None:
    """PostgreSQL is there, but not for us: what waiting would not mend; else None."""
    cause = _cause(error.__cause__)
    return _no_login(_first_line(cause)) if isinstance(cause, NO_LOGIN) else None


def for_a_person(error: Unavailable) -> ChronoError:
    """A part that is away, as who gave a command is told it; a server's words stay as they are."""
    if error.code != RECORD_AWAY or error.__cause__ is None:
        return error
    return login_refused(error) or wiring.unreached(error, chrono_settings.load())


def not_migrated(why: str) -> ChronoError:
    """The tables are not those of this program."""
    return ChronoError(
        "The record is not migrated", why=why, fix="Migrate it: chrono migrate", code="not_migrated"
    )


def _no_login(why: str) -> ChronoError:
    return ChronoError(
        "PostgreSQL does not let us in", why=why, fix="Check CHRONO_DATABASE_URL", code="database"
    )


def _cause(error: BaseException | None) -> BaseException | None:
    """What the driver raised, under what SQLAlchemy made of it."""
    return (error.driver_exception or error) if isinstance(error, DBAPIError) else error


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in line)[:LONGEST]
