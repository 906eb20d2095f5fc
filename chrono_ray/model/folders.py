"""Folders that are to be used, and may not be there yet."""

from __future__ import annotations

from pathlib import Path


def standing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: what it has of its disk is told there.

    Raises `OSError` when one of them cannot be looked at.
    """
    whole = folder.absolute()
    return next(each for each in (whole, *whole.parents) if each.is_dir())
