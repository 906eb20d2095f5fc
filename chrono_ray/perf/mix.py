"""What people do with the API: look at their projects, at one of them, and search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from chrono_ray.perf.asking import Ask
from chrono_ray.perf.latency import PREFIX, search

PAUSE: Final = (1.0, 3.0)
"""Seconds between two looks of one person."""
LISTS: Final = 3
STATISTICS: Final = 2
SEARCHES: Final = 1
LOOKED_AT: Final = 10
"""Projects that people of one account look at."""


@dataclass(frozen=True, slots=True)
class Interests:
    """What one person may look at."""

    projects: tuple[int, ...]
    words: tuple[str, ...]


def interests(account: int, projects: Sequence[int], words: Sequence[str]) -> Interests:
    """Those of an account: the same for all of its people."""
    chosen = Random(account).sample(list(projects), min(LOOKED_AT, len(projects)))  # noqa: S311
    return Interests(tuple(chosen), tuple(words))


def listing() -> Ask:
    return Ask("list", f"{PREFIX}/projects/")


def statistics(of: Interests, chance: Random) -> Ask:
    return Ask("statistics", f"{PREFIX}/projects/{chance.choice(of.projects)}/stats")


def searching(of: Interests, chance: Random) -> Ask:
    return search(chance.choice(of.words))


def next_look(of: Interests, chance: Random) -> Ask:
    """Three looks at the list to two at a project and one search."""
    kind = chance.choices(("list", "statistics", "search"), (LISTS, STATISTICS, SEARCHES))[0]
    match kind:
        case "list":
            return listing()
        case "statistics":
            return statistics(of, chance)
        case _:
            return searching(of, chance)
