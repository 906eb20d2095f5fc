from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chrono_ray.storage.database import Database
from tests.integration.inputs.collecting import Collecting


@pytest.fixture
def collecting(
    database: Database, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., Collecting]]:
    """Makes a collection from the archive at a URL; no input may have hit a bug of ours."""
    caplog.set_level(logging.INFO, logger="chrono_ray")

    def make(wayback: str = "", **chosen: str) -> Collecting:
        url = {"CHRONO_ARCHIVES__WAYBACK__URL": wayback} if wayback else {}
        return Collecting(database, database_url, tmp_path / "data", {**url, **chosen})

    yield make
    worst = [
        f"{record.getMessage()} {record.exc_text or ''}"
        for record in caplog.get_records("call")
        if record.levelno >= logging.ERROR and record.name.startswith("chrono_ray")
    ]
    assert worst == []
