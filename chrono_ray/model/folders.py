"""Folders that are to be used, and may not be there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def standing(folder: Path, there: Callable[[Path], bool]) -> Path:
    """The folder, or the nearest above it that is there: what it has of its disk is told there.

    Raises what `there` raises: `OSError` of a folder that cannot be looked at.
    """
    whole = folder.absolute()
    return next(each for each in (whole, *whole.parents) if there(each))
