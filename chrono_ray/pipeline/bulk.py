"""A person's action on many captures: in bounded transactions, each a safe point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import orjson

from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.selection import CaptureAction, read
from chrono_ray.model.task import Bulk, Finished, Progress
from chrono_ray.pipeline.tasks import Steps
from chrono_ray.storage.choosing import Change, Choosing, Chosen, Counted
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskLease


async def change_many(record: Database, lease: TaskLease, task: Bulk) -> Steps:
    """Change them by id; what came of them is counted by where they stood before."""
    choosing = Choosing(record)
    ids = tuple(int(each) for each in task.ids.split(",") if each)
    chosen = Chosen(task.project_id, read(task.which), ids)
    action, priority = CaptureAction(task.action), CapturePriority(task.priority)
    change = Change(action, task.user_id, priority)
    after, told = _position(lease.position)
    while True:
        step = await choosing.step(chosen, change, after=after, upto=task.upto)
        after = max(after, step.upto)
        told.update(_counted("changed", step.changed) + _counted("left", step.left))
        if step.done:
            break
        yield Progress(told["changed"], 0, orjson.dumps([after, dict(told)]).decode())
    yield Finished(dict(told) or {"changed": 0})


def _counted(word: str, parts: Sequence[Counted]) -> Counter[str]:
    """`changed` and `changed failed deadline`: all, and by state and reason."""
    counts: Counter[str] = Counter()
    for each in parts:
        counts[word] += each.n
        counts[f"{word} {each.state} {each.reason}".rstrip()] += each.n
    return counts


def _position(text: str) -> tuple[int, Counter[str]]:
    if not text:
        return 0, Counter()
    after, told = orjson.loads(text)
    return after, Counter(told)
