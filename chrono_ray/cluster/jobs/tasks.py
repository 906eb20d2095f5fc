"""A task that whoever asked for it works on itself, with a cluster beside it or without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from chrono_ray import wiring
from chrono_ray.cluster.jobs.frame import DONE, FAILED, INTERRUPTED, STOP_SECONDS
from chrono_ray.model.task import Task
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskRow, Tasks, TaskState

TOLD: Final = {
    TaskState.DONE: "done",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
    TaskState.PENDING: "stopped",
}


async def work_off(
    settings: Settings,
    record: Database,
    task: Task,
    stop: asyncio.Event,
    *,
    tell: Callable[[str], None],
    every: float,
) -> TaskRow:
    """Have the task done here, or followed where it is under way; returns it as it ended.

    It is still pending after `stop`: asked for again, or by a scraper's leave,
    it goes on. `tell` gets a line every so many seconds.
    """
    submitted = await Tasks(record).submit(task)
    tell(f"task {submitted.id}: {'goes on' if submitted.joined else 'started'}")
    last = time.monotonic()

    def show(row: TaskRow) -> None:
        nonlocal last
        if time.monotonic() - last >= every and row.state is TaskState.PENDING:
            last = time.monotonic()
            tell(progress_line(row))

    runner = wiring.task_runner(settings, record, worker=wiring.worker_name(), drain=STOP_SECONDS)
    return await runner.run_one(submitted.id, stop, tell=show)


def progress_line(row: TaskRow) -> str:
    """How far a task is, in a line."""
    of = f" of {row.total:,}" if row.total else ""
    return f"task {row.id}: {row.kind}, {row.done:,}{of} done"


def told(row: TaskRow) -> dict[str, object]:
    """A task as the object that is printed."""
    return {
        "task": row.id, "kind": row.kind, "state": TOLD[row.state], "project": row.project,
        "done": row.done, "total": row.total, "result": row.result, "reason": row.reason,
        "detail": row.detail,
    }  # fmt: skip


def code_of(row: TaskRow) -> int:
    """0 done, 130 stopped before its end, 1 anything else."""
    return {TaskState.DONE: DONE, TaskState.PENDING: INTERRUPTED}.get(row.state, FAILED)


def last_word(row: TaskRow) -> str:
    """What became of it, in a line."""
    if row.state is TaskState.PENDING:
        return f"task {row.id} stopped; what it did stays. The same again goes on with it"
    if row.state is TaskState.DONE:
        counts = ", ".join(f"{name} {value}" for name, value in row.result.items())
        return f"task {row.id} done: {counts}"
    return f"task {row.id} {row.state}: {row.reason}: {row.detail}"
