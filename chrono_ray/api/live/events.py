"""What is told: a run or a task as it is now, written as JSON once, whoever it goes to."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import orjson

from chrono_ray.pipeline.report import RunReport, captures_json
from chrono_ray.storage.live import LiveRun, LiveTask, Pulse
from chrono_ray.storage.stats import PageCounts, Progress, summed

UNCOUNTED: Final = PageCounts(0, 0, 0)
"""Counting a run's pages walks its captures: whoever watches is not told them."""
ENDED: Final = frozenset({"done", "partial", "cancelled", "planned", "failed"})
RATE_WINDOW: Final = 15_000_000
RATE_LEAST: Final = 900_000
RATED_MOST: Final = 10_000
REQUESTS: Final = ("cdx", "replay", "throttled")


@dataclass(frozen=True, slots=True)
class State:
    """A run (`run:7`) or a task (`task:9`) as it is at a version; `body` is what is sent.

    `asked_by` sees it whatever their projects: None for what a project decides.
    `content` tells one state from another, whenever it was looked at; `rate` is
    None where nobody has looked often enough to know it. `unsettled`: it has
    ended, and its counters still move.
    """

    key: str
    project_id: int
    asked_by: int | None
    version: int
    content: str
    rate: float | None
    final: bool
    unsettled: bool
    body: str

    def tells(self, before: State) -> bool:
        """Whether it says more than a state of before did."""
        if self.version <= before.version:
            return False
        moved = self.rate is not None and self.rate != (before.rate or 0.0)
        return self.content != before.content or moved


class Rates:
    """How many captures of each run end in a second, from looks of the last seconds."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, deque[tuple[int, int]]] = OrderedDict()

    def rate(self, progress: Progress, version: int) -> float | None:
        """With this look; None before the second one, and for a run that is not at work."""
        if progress.state != "active":
            self._seen.pop(progress.run_id, None)
            return None
        seen = self._seen.setdefault(progress.run_id, deque())
        seen.append((version, progress.captures.discovered - progress.captures.pending))
        self._seen.move_to_end(progress.run_id)
        while len(self._seen) > RATED_MOST:
            self._seen.popitem(last=False)
        while len(seen) > 2 and version - seen[0][0] > RATE_WINDOW:
            seen.popleft()
        (began, before), (now, ended) = seen[0], seen[-1]
        if now - began < RATE_LEAST:
            return None
        return _rounded(max(ended - before, 0) / (now - began) * 1_000_000)


def states(pulse: Pulse, rates: Rates | None) -> list[State]:
    """Every run and task of a look; `rates` remembers looks that come regularly."""
    runs = [_run(parts, pulse, rates) for parts in _parts(pulse.runs)]
    return [*runs, *(_task(each, pulse) for each in pulse.tasks)]


def packed(version: int, told: Sequence[State]) -> bytes:
    """A look's news, for other processes."""
    return orjson.dumps({"version": version, "states": [_VALUES(each) for each in told]})


def unpacked(message: bytes) -> tuple[int, list[State]] | None:
    """The same; None for what nobody of ours has sent."""
    try:
        read = orjson.loads(message)
        found = [_state(each) for each in read["states"]]
        version = read["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return (version, found) if type(version) is int else None


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "key": (str,), "project_id": (int,), "asked_by": (int, type(None)), "version": (int,),
    "content": (str,), "rate": (float, type(None)), "final": (bool,), "unsettled": (bool,),
    "body": (str,),
}  # fmt: skip


_VALUES: Final = attrgetter(*(field.name for field in fields(State)))


def _state(values: Sequence[Any]) -> State:
    for field, value in zip(fields(State), values, strict=True):
        if type(value) not in _KINDS[field.name]:
            raise TypeError(field.name)
    found = State(*values)
    orjson.loads(found.body)
    return found


def _parts(runs: Iterable[LiveRun]) -> Iterator[tuple[LiveRun, ...]]:
    """Each run alone, and all of a collection for its first, as a person asks for them."""
    ordered = sorted(runs, key=lambda each: each.together or each.progress.run_id)
    for head, group in groupby(ordered, key=lambda each: each.together or each.progress.run_id):
        members = tuple(group)
        yield from ((each,) for each in members if each.progress.run_id != head)
        first = tuple(each for each in members if each.progress.run_id == head)
        if first:
            yield first + tuple(each for each in members if each.progress.run_id != head)


def _run(parts: Sequence[LiveRun], pulse: Pulse, rates: Rates | None) -> State:
    progress = summed([each.progress for each in parts])
    rate = rates.rate(progress, pulse.version) if rates else None
    state = RunReport(progress, UNCOUNTED).state
    pending = progress.captures.pending
    content = orjson.dumps({
        "run": progress.run_id, "runs": [each.progress.run_id for each in parts],
        "state": state, "final": state in ENDED, "project_id": parts[0].project_id,
        "project": progress.project, "url": progress.url, "archive": progress.archive,
        "created_at": progress.created_at, "captures": captures_json(progress.captures),
        "listing": progress.listing, "holes": progress.holes,
        "requests": {name: progress.requests.get(name, 0) for name in REQUESTS},
    }, option=orjson.OPT_UTC_Z)  # fmt: skip
    timely = {
        "seconds": round(progress.seconds, 3), "rate": rate,
        "eta": round(pending / rate, 1) if rate and not progress.listing else None,
    }  # fmt: skip
    return State(
        f"run:{progress.run_id}", parts[0].project_id, None, pulse.version, _digest(content),
        rate, state in ENDED, state == "cancelled" and pending > 0,
        _body("run", pulse, content, timely),
    )  # fmt: skip


def _task(task: LiveTask, pulse: Pulse) -> State:
    content = orjson.dumps({
        "task": task.id, "kind": task.kind, "run": task.run_id, "state": task.state,
        "final": task.state in ENDED, "project_id": task.project_id or None,
        "working": task.working, "done": task.done, "total": task.total, "reason": task.reason,
    })  # fmt: skip
    return State(
        f"task:{task.id}", task.project_id, task.asked_by, pulse.version,
        _digest(content + b"%d" % (task.asked_by or 0)), None, task.state in ENDED, False,
        _body("task", pulse, content, {}),
    )  # fmt: skip


def _body(kind: str, pulse: Pulse, content: bytes, timely: Mapping[str, float | None]) -> str:
    """One object of three: what is the same whenever it is looked at is written already."""
    head = {"type": kind, "version": pulse.version, "at": pulse.at}
    parts = [orjson.dumps(head, option=orjson.OPT_UTC_Z), content, orjson.dumps(timely)]
    whole = b"{%s}" % b",".join(each[1:-1] for each in parts if each != b"{}")
    return whole.decode()


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=9).hexdigest()


def _rounded(rate: float) -> float:
    """To two digits: what moves less is no news."""
    return float(f"{rate:.2g}")
