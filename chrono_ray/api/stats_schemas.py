"""What the statistics answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field as Rule

from chrono_ray.api.schemas import ActorHealth, Answer
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.governor import Kind


class StepAnswer(Answer):
    """What was done in a step that begins `at`: listed captures, what they ended as, requests."""

    at: datetime
    listed: int
    stored: int
    unchanged: int
    known: int
    skipped: int
    gone: int
    refused: int
    failed: int
    listing_requests: int
    replay_requests: int
    throttled: int


class ThroughputAnswer(Answer):
    """Steps in the order of time; those without work are left out."""

    since: datetime
    until: datetime
    step: Annotated[int, Rule(description="seconds")]
    steps: list[StepAnswer]


class QueueAnswer(Answer):
    """Active runs of a class at an archive."""

    queue: QueueClass
    archive: str
    runs: int
    captures: Annotated[int, Rule(description="listed, and not ended yet")]
    in_flight: Annotated[int, Rule(description="fetches at a worker")]
    parked: Annotated[int, Rule(description="fetches that wait for another try, up to 10,000")]
    listings: Annotated[int, Rule(description="parts of listings that are still asked for")]
    seconds: Annotated[float, Rule(description="since the oldest of the runs was created")]


class QueuesAnswer(Answer):
    """What waits in the projects that the asker sees."""

    queues: list[QueueAnswer]
    tasks: int
    tasks_running: int
    pages: Annotated[int, Rule(description="not searchable yet, up to 10,000")]
    lag: Annotated[float, Rule(description="seconds that the oldest page of all has waited")]


class ArchiveAnswer(Answer):
    """What an archive allows, and how long a request to it waits."""

    archive: str
    kind: Kind
    per_minute: Annotated[int | None, Rule(description="null: no limit")]
    state: Literal["open", "paused"]
    reason: Annotated[str, Rule(description="of the pause")]
    wait: Annotated[float, Rule(description="seconds until a request may be sent")]


class ArchivesAnswer(Answer):
    archives: list[ArchiveAnswer]


class NodeAnswer(Answer):
    """A machine of the cluster: what Ray may give to actors, and what it has not given."""

    address: str
    alive: bool
    cpus: float
    cpus_free: float
    memory: Annotated[int, Rule(description="bytes")]
    memory_free: int


class ClusterAnswer(Answer):
    nodes: list[NodeAnswer]
    actors: dict[str, ActorHealth]
