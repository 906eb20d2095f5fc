"""`chrono task`, `chrono purge`: what is asked for besides runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import orjson

from chrono_ray import wiring
from chrono_ray.cli.following import TELL_EVERY, interrupted, teller
from chrono_ray.cli.machine import connected
from chrono_ray.cli.remote import server
from chrono_ray.cluster.jobs.tasks import code_of, last_word, progress_line, told, work_off
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.task import Purge, Task
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskRow, Tasks, TaskState

LIVE_EVERY = 0.25
T = TypeVar("T")


def list_tasks(limit: int, state: str, *, json: bool) -> int:
    """The newest tasks, a line each; of one state, or all."""
    if state and state not in tuple(TaskState):
        raise InvalidInput(
            f"There is no state {state!r}", fix=f"Choose one of {', '.join(TaskState)}",
            code="task_state",
        )  # fmt: skip
    only = TaskState(state) if state else None
    rows = _listed(limit, only)
    if json:
        sys.stdout.writelines(_json(row) + "\n" for row in rows)
    else:
        sys.stdout.writelines(_line(row) + "\n" for row in rows)
        if not rows:
            sys.stdout.write("No tasks.\n")
    return 0


def _listed(limit: int, state: TaskState | None) -> list[TaskRow]:
    if c := server():
        from chrono_ray.cli import remote_rows

        with c:
            return remote_rows.tasks(c, limit, state)
    return asked(lambda record: Tasks(record).recent(limit, state=state))


def show_task(task_id: int, *, json: bool) -> int:
    """One task in full."""
    row = _row(task_id, cancel=False)
    sys.stdout.write((_json(row) if json else "\n".join(_whole(row))) + "\n")
    return 0


def cancel_task(task_id: int, *, json: bool) -> int:
    """End a task at its next safe point."""

    row = _row(task_id, cancel=True)
    sys.stdout.write((_json(row) if json else f"Task {row.id} is {row.state}") + "\n")
    return 0


def _row(task_id: int, *, cancel: bool) -> TaskRow:
    async def work(record: Database) -> TaskRow:
        if cancel:
            await Tasks(record).cancel(task_id)
        return await Tasks(record).task(task_id)

    if c := server():
        from chrono_ray.cli import remote_rows

        with c:
            return remote_rows.task(c.tasks.cancel(task_id) if cancel else c.tasks.get(task_id))
    return asked(work)


def purge(older_than: float, *, json: bool) -> int:
    """Delete what nothing refers to any more."""
    return do(Purge(older_than), json=json)


def do(task: Task, *, json: bool) -> int:
    """Have a task done by this process, telling how it goes; returns the exit code."""
    live = sys.stderr.isatty() and not json
    tell = teller(live=live)

    async def work(settings: Settings) -> TaskRow:
        record = wiring.database(settings, pool_size=4, name="chrono task")
        try:
            return await work_off(
                settings, record, task, interrupted(), tell=tell,
                every=LIVE_EVERY if live else TELL_EVERY,
            )  # fmt: skip
        finally:
            await record.aclose()

    with connected() as settings:
        row = asyncio.run(work(settings))
    return ended(row, tell, json=json)


def ended(row: TaskRow, tell: Callable[[str], None], *, json: bool) -> int:
    """Say what became of a task that was followed; the exit code."""
    tell(last_word(row))
    if sys.stderr.isatty() and not json:
        sys.stderr.write("\n")
    if json:
        sys.stdout.write(_json(row) + "\n")
    return code_of(row)


def asked(question: Callable[[Database], Awaitable[T]]) -> T:
    """The answer of the record, which is started for this while where it must be."""

    async def ask(settings: Settings) -> T:
        record = wiring.database(settings, pool_size=2, name="chrono task")
        try:
            return await question(record)
        finally:
            await record.aclose()

    with connected() as settings:
        return asyncio.run(ask(settings))


def _line(row: TaskRow) -> str:
    about = f" of {row.project}" if row.project else ""
    far = f", {row.done:,}" + (f"/{row.total:,}" if row.total else "") if row.done else ""
    why = f": {row.reason}" if row.state is TaskState.FAILED else ""
    return f"task {row.id:<6} {_state(row):<9} {row.kind}{about}{far}{why}"


def _whole(row: TaskRow) -> list[str]:
    times = (
        f"  asked {_when(row.created_at)}, begun {_when(row.started_at)},"
        f" ended {_when(row.finished_at)}"
    )
    lines = [
        progress_line(row) if row.state is TaskState.PENDING else last_word(row),
        f"  {_state(row)}, class {row.queue_class}, attempts {row.attempts}",
        times,
    ]
    return [*lines, f"  worked on by {row.worker}"] if row.worker else lines


def _state(row: TaskRow) -> str:
    return "working" if row.worker else row.state.value


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "not yet"


def _json(row: TaskRow) -> str:
    whole = {
        **told(row), "state": row.state.value, "class": row.queue_class.value,
        "attempts": row.attempts, "worker": row.worker, "created": row.created_at,
        "started": row.started_at, "finished": row.finished_at,
    }  # fmt: skip
    return orjson.dumps(whole, option=orjson.OPT_UTC_Z).decode()
