"""What a statement is called, for who reads of it: its script and its name there."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from chrono_ray.storage.database import statements

SHOWN: Final = 80


def name_of(statement: str) -> str:
    """`tasks.claim`; of one that stands in the code the beginning. No statement holds a value."""
    text = statement.strip()
    return _names().get(text) or " ".join(text[: 2 * SHOWN].split())[:SHOWN]


@cache
def _names() -> dict[str, str]:
    scripts = (resources.files("chrono_ray.storage") / "sql").iterdir()
    files = [each.name.removesuffix(".sql") for each in scripts if each.name.endswith(".sql")]
    return {text: f"{file}.{name}" for file in files for name, text in statements(file).items()}
