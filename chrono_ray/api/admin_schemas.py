"""What an operator asks and is told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field as Rule
from pydantic import StringConstraints

from chrono_ray.api.schemas import ActorHealth, Answer, Asked
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.governor import Kind

PAUSE_MOST: Final = 31 * 24 * 3600
TAGS_MOST: Final = 1000
Tag = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class QueueDepthAnswer(Answer):
    """A class of work, counted up to 10,000 of a kind."""

    queue: QueueClass
    runs: int
    queued: int
    held: Annotated[int, Rule(description="fetches of paused runs")]
    leased: int
    parked: Annotated[int, Rule(description="fetches that wait for another try")]
    parked_seconds: Annotated[float, Rule(description="until the first of them is due")]
    listings: Annotated[int, Rule(description="parts of listings that nobody walks just now")]
    listings_leased: int
    seconds: Annotated[float, Rule(description="since the oldest run with queued work was created")]
    tasks: int
    tasks_leased: int
    tasks_seconds: Annotated[float, Rule(description="since the oldest task was asked for")]


class QueueDepthsAnswer(Answer):
    classes: list[QueueDepthAnswer]
    pages: Annotated[int, Rule(description="not searchable yet")]
    sending: int
    lag: Annotated[float, Rule(description="seconds that the oldest of them has waited")]


class BudgetAnswer(Answer):
    """What an archive allows one egress; null without a limit."""

    archive: str
    kind: Kind
    egress: str
    per_minute: Annotated[int, Rule(description="0: no limit")]
    rate: Annotated[float | None, Rule(description="a minute, slower for a while after a pause")]
    now: Annotated[int | None, Rule(description="requests that may go out this moment")]
    wait: Annotated[float, Rule(description="seconds until the next may")]
    paused_until: datetime | None
    reason: str
    pauses: Annotated[int, Rule(description="one upon the other")]


class BudgetsAnswer(Answer):
    budgets: list[BudgetAnswer]


class PauseRequest(Asked):
    """No request goes to the archive for so long, from any egress; what is under way ends."""

    seconds: Annotated[int, Rule(ge=1, le=PAUSE_MOST)] = 3600


class PausedAnswer(Answer):
    archive: str
    paused_until: datetime


class ResumedAnswer(Answer):
    archive: str
    was_paused: bool


class ActorsAnswer(Answer):
    actors: dict[str, ActorHealth]


class CacheCountsAnswer(Answer):
    """Of this process since it began. `corrupt` misses found something that was no answer."""

    hits: int
    misses: int
    corrupt: int
    bypassed: int
    stale: int


class CacheContentsAnswer(Answer):
    """What the server holds; memory in bytes, of all that it holds. `evicted` since it began."""

    answers: Annotated[dict[str, int], Rule(description="by class of lifetime")]
    tags: int
    computing: int
    complete: Annotated[bool, Rule(description="false: only the first 100,000 keys were counted")]
    memory: int
    memory_most: Annotated[int, Rule(description="0: no limit")]
    evicted: int


class CacheAnswer(Answer):
    """`off`: set up without Redis; `away`: it does not answer, and everything is computed."""

    state: Literal["on", "away", "off"]
    owes: Annotated[bool, Rule(description="the server was not told of all changes yet")]
    counts: CacheCountsAnswer
    classes: dict[str, CacheCountsAnswer]
    contents: CacheContentsAnswer | None


class FlushRequest(Asked):
    """Answers of these tags, or all of them."""

    tags: Annotated[list[Tag] | None, Rule(min_length=1, max_length=TAGS_MOST)] = None


class FlushedAnswer(Answer):
    freed: Annotated[int, Rule(description="keys; ended answers of tags go when their time is up")]


class HolderAnswer(Answer):
    """Connections of the processes of one name; `longest` is their oldest statement, in seconds."""

    name: str
    total: int
    active: int
    idle_in_transaction: int
    longest: float


class PoolAnswer(Answer):
    """This process's pool."""

    size: int
    open: int
    in_use: int


class PoolsAnswer(Answer):
    """Beside the connection that asks. `most` that the server admits."""

    most: int
    used: int
    here: PoolAnswer
    holders: list[HolderAnswer]
