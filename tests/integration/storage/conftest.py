from __future__ import annotations

import pytest

from chrono_ray.storage.database import Database
from tests.integration.storage.making import Record


@pytest.fixture
async def record(database: Database) -> Record:
    """All parts of the record over a database of this test's own; no archive has a limit."""
    made = Record(database)
    await made.unlimited("wayback", "pywb")
    return made
