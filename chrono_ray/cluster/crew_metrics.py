"""What a supervisor tells of its pools."""

from __future__ import annotations

from collections import Counter
from typing import Final

from chrono_ray.cluster.pools import Crew
from chrono_ray.cluster.scraper import Status
from chrono_ray.observability import catalogue
from chrono_ray.observability.metrics import Meter

STATES: Final = ("working", "draining", "silent")


def tell_crew(crew: Crew, meter: Meter, *, sizes: bool) -> None:
    """Its actors as they last answered; `sizes`: how many there should be is this one's to say."""
    name, statuses = crew.kind.name, crew.statuses()
    counts = Counter(map(_state, statuses.values()))
    for state in STATES:
        meter.set(catalogue.POOL_ACTORS, name, state, value=counts[state])
    for actor, status in statuses.items():
        if status:
            meter.set(catalogue.ACTOR_MEMORY, actor, value=status.rss)
    if sizes:
        meter.set(catalogue.POOL_WANTED, name, value=crew.wanted)
    meter.reach(catalogue.ACTORS_MADE, name, total=crew.tally.made)
    meter.reach(catalogue.ACTOR_ENDS, name, "recycled", total=crew.tally.recycled)
    meter.reach(catalogue.ACTOR_ENDS, name, "dismissed", total=crew.tally.dismissed)


def _state(status: Status | None) -> str:
    if status is None:
        return "silent"
    return "draining" if status.draining else "working"
