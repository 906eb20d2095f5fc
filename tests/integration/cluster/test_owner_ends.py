"""An owner that is told to end before it began, or that comes second: it starts no Ray."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray.cluster.owner import STATE_FILE, Owner
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.model.errors import EmbeddedError


def owner(folder: Path) -> Owner:
    return Owner(chrono_settings.load({"CHRONO_DATA_DIR": str(folder)}), api=False)


async def test_who_only_ends_what_was_left_starts_no_ray(tmp_path: Path):
    """As `chrono down` does after a crash: the folder is free afterwards."""
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(60):
        await owner(tmp_path).run(stop)
    assert not (tmp_path / "ray").exists()
    async with EmbeddedParts(tmp_path, postgres=False, valkey=False):
        pass


async def test_a_second_owner_of_a_folder_touches_nothing_of_the_first(tmp_path: Path):
    (tmp_path / STATE_FILE).write_text("the first one's")
    async with EmbeddedParts(tmp_path, postgres=False, valkey=False):
        with pytest.raises(EmbeddedError, match="in use"):
            await owner(tmp_path).run(asyncio.Event())
    assert (tmp_path / STATE_FILE).read_text() == "the first one's"
    assert not (tmp_path / "ray").exists()
