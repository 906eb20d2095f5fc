"""What a person may change about a run: pause, resume, cancel, try again, sooner, this one now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

import orjson

from chrono_ray import wiring
from chrono_ray.cli.machine import connected
from chrono_ray.cli.remote import server
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import CapturePriority, QueueClass
from chrono_ray.model.targets import moment, target
from chrono_ray.pipeline.control import Named, fetch_now, prioritise, retry
from chrono_ray.storage.control import Again, Retried, Retryable, StoredAlready
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects, RunState

Kind = TypeVar("Kind", bound=StrEnum)
Found = TypeVar("Found")

TOLD: Final = {
    RunState.PAUSED: "is paused; nothing more is requested. Go on: chrono resume {run}",
    RunState.ACTIVE: "is active: it goes on while chrono_ray runs. See it: chrono status {run}",
    RunState.CANCELLED: "is cancelled; what it has stored stays",
}
PRIORITIES: Final = {
    each.name.lower(): each for each in CapturePriority if each is not CapturePriority.LATE
}


@dataclass(frozen=True, slots=True)
class Sooner:
    """What was typed: a run's class, its captures' place, or a project's weight."""

    target: str
    queue_class: str
    weight: int
    captures: str
    url: str
    match: str
    start: str
    end: str
    dry_run: bool


def pause(run_id: int, *, json: bool) -> int:
    """Nothing more is requested for the run until it is resumed."""
    return _changed(run_id, RunState.PAUSED, json=json)


def resume(run_id: int, *, json: bool) -> int:
    """A paused run goes on where it stopped."""
    return _changed(run_id, RunState.ACTIVE, json=json)


def cancel(run_id: int, *, json: bool) -> int:
    """The run ends for good."""
    return _changed(run_id, RunState.CANCELLED, json=json)


def _changed(run_id: int, state: RunState, *, json: bool) -> int:
    _become(run_id, state)
    tell(
        {"run": run_id, "state": state.value},
        f"Run {run_id} {TOLD[state].format(run=run_id)}", json=json,
    )  # fmt: skip
    return 0


def _become(run_id: int, state: RunState) -> None:
    async def work(record: Database) -> None:
        await Projects(record).change(run_id, state)

    if c := server():
        from chrono_ray.cli import remote_runs

        with c:
            return remote_runs.change(c, run_id, state)
    return on_record(work)


def try_again(
    run_id: int, states: str, reasons: str, *, force: bool, dry_run: bool, json: bool
) -> int:
    """`chrono retry`."""
    again = Again(
        frozenset(_words(states, Retryable, "state")),
        frozenset(filter(None, (each.strip() for each in reasons.split(",")))),
        force,
    )

    told = _retried(run_id, again, dry_run=dry_run)
    tell(
        {
            "run": run_id, "fetches": _by_state(told.fetches), "slices": told.slices,
            "withheld": _by_state(told.withheld), "dry_run": dry_run,
        },
        "\n".join(_again_lines(run_id, told, dry_run=dry_run)), json=json,
    )  # fmt: skip
    return 0


def _retried(run_id: int, again: Again, *, dry_run: bool) -> Retried:
    async def work(record: Database) -> Retried:
        return await retry(record, run_id, again, dry_run=dry_run)

    if c := server():
        from chrono_ray.cli import remote_runs

        with c:
            return remote_runs.retry(c, run_id, again, dry_run=dry_run)
    return on_record(work)


def _again_lines(run_id: int, told: Retried, *, dry_run: bool) -> Iterable[str]:
    would = "would be" if dry_run else "are"
    total = sum(told.fetches.values())
    yield f"Run {run_id}: {total:,} payloads {would} tried again, {told.slices:,} listing parts"
    yield from (f"  {n:>9,} {state}: {reason}" for (state, reason), n in told.fetches.items())
    if not dry_run:
        yield f"  It goes on while chrono_ray runs. See it: chrono status {run_id}"
    if told.withheld:
        n = sum(told.withheld.values())
        yield f"  {n:,} are left alone: their own bytes were to blame. Ask all the same: --force"


def _by_state(counted: dict[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (state, reason), n in sorted(counted.items()):
        found.setdefault(state, {})[reason] = n
    return found


def sooner(asked: Sooner, *, json: bool) -> int:
    """`chrono priority`: exactly one of class, weight and captures' place."""
    given = [bool(asked.queue_class), bool(asked.weight), bool(asked.captures)]
    if sum(given) != 1:
        raise InvalidInput(
            "What is to change is not clear",
            fix="Give one of --class (of a run), --weight (of a project) and --captures (of a run)",
            code="priority",
        )
    if asked.weight:
        return _weigh(asked, json=json)
    run_id = _run_number(asked.target)
    if asked.queue_class:
        return _classify(run_id, asked.queue_class, json=json)
    return _place(run_id, asked, json=json)


def _weigh(asked: Sooner, *, json: bool) -> int:
    async def work(record: Database) -> None:
        await Projects(record).set_weight(asked.target, asked.weight)

    on_record(work)
    text = f"Project {asked.target!r} has weight {asked.weight}"
    tell({"project": asked.target, "weight": asked.weight}, text, json=json)
    return 0


def _classify(run_id: int, name: str, *, json: bool) -> int:
    [queue_class] = classes(name)

    async def work(record: Database) -> tuple[int, ...]:
        return await Projects(record).set_class(run_id, queue_class)

    ids = on_record(work)
    text = f"Run {', '.join(map(str, ids))}: class {queue_class}"
    tell({"run": run_id, "runs": ids, "class": queue_class.value}, text, json=json)
    return 0


def _place(run_id: int, asked: Sooner, *, json: bool) -> int:
    priority = PRIORITIES.get(asked.captures)
    if priority is None:
        raise _unknown("priority", asked.captures, PRIORITIES)
    where = _where(asked)

    async def work(record: Database) -> int:
        return await prioritise(record, run_id, where, priority, dry_run=asked.dry_run)

    moved = on_record(work)
    how = "would be" if asked.dry_run else "are now"
    tell(
        {"run": run_id, "captures": asked.captures, "moved": moved, "dry_run": asked.dry_run},
        f"Run {run_id}: {moved:,} waiting payloads {how} {asked.captures}", json=json,
    )  # fmt: skip
    return 0


def _where(asked: Sooner) -> Scope:
    """What captures are meant; without a URL all of that time."""
    today = Timestamp14.of(datetime.now(UTC))
    if asked.url:
        return target(asked.url, match=asked.match, start=asked.start, end=asked.end, today=today)
    start, end = moment(asked.start, today, late=False), moment(asked.end, today, late=True)
    return Scope("", MatchType.PREFIX, start, end)


def fetch(named: str, timestamp: str, *, project: str, archive: str, json: bool) -> int:
    """`chrono fetch`: a capture's number, or a URL and the beginning of its timestamp."""
    today = Timestamp14.of(datetime.now(UTC))
    capture: int | Named
    if named.isascii() and named.isdigit() and not timestamp:
        capture = _number(named, "capture")
    else:
        scope = target(named, match="exact", start=timestamp, end=timestamp, today=today)
        capture = Named(project, scope.url, scope.start or "0", scope.end or "9" * 14, archive)

    found = on_record(lambda record: fetch_now(record, capture))
    chosen = found.capture
    told: dict[str, object] = {
        "capture": chosen.capture_id, "archive": chosen.archive, "timestamp": chosen.timestamp,
        "url": chosen.original,
    }  # fmt: skip
    what = f"Capture {chosen.capture_id} ({chosen.timestamp}, {chosen.archive})"
    if isinstance(found, StoredAlready):
        tell({**told, "state": "stored"}, f"{what} is stored already", json=json)
        return 0
    why = ", approved though a rule had skipped it" if found.approved else ""
    tell(
        {**told, "state": "active", "run": found.run_id, "approved": found.approved},
        f"{what} is fetched before all else by run {found.run_id}, while chrono_ray runs{why}."
        f" See it: chrono status {found.run_id}", json=json,
    )  # fmt: skip
    return 0


def classes(text: str) -> list[QueueClass]:
    """Queue classes by name; `InvalidInput` for an unknown one."""
    return _words(text, QueueClass, "class")


def on_record(work: Callable[[Database], Awaitable[Found]]) -> Found:
    """Do this on the record of this machine or of the running owner."""

    async def run() -> Found:
        record = wiring.database(settings, pool_size=2, name="chrono control")
        try:
            return await work(record)
        finally:
            await record.aclose()

    with connected() as settings:
        return asyncio.run(run())


def tell(told: dict[str, object], text: str, *, json: bool) -> None:
    """One object, or words, on stdout."""
    sys.stdout.write((orjson.dumps(told).decode() if json else text) + "\n")


def _words(text: str, kind: type[Kind], name: str) -> list[Kind]:
    """Words with commas between; `InvalidInput` for one that is none of the kind."""
    found = []
    for word in text.split(","):
        try:
            found.append(kind(word.strip()))
        except ValueError:
            raise _unknown(name, word.strip(), [each.value for each in kind]) from None
    return found


def _unknown(name: str, word: str, known: Iterable[str]) -> InvalidInput:
    return InvalidInput(
        f"There is no {name} {word[:200]!r}", fix=f"Use {', '.join(known)}", code=name
    )


def _run_number(text: str) -> int:
    return _number(text, "run", fix="Give a run's number; a project has --weight")


def _number(text: str, kind: str, *, fix: str = "") -> int:
    if text.isascii() and text.isdigit() and 0 < int(text[:20]) < 2**63:
        return int(text)
    raise InvalidInput(f"{text[:200]!r} is no {kind}", fix=fix or "Give its number", code=kind)
