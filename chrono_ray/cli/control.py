"""`chrono pause`, `resume`, `cancel`: what a person may change about a run."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import orjson

from chrono_ray import wiring
from chrono_ray.cli.machine import connected
from chrono_ray.settings import Settings
from chrono_ray.storage.projects import Projects, RunState

TOLD: Final = {
    RunState.PAUSED: "is paused; nothing more is requested. Go on: chrono resume {run}",
    RunState.ACTIVE: "is active: it goes on while chrono_ray runs. See it: chrono status {run}",
    RunState.CANCELLED: "is cancelled; what it has stored stays",
}


def pause(run_id: int, *, json: bool) -> int:
    """Nothing more is requested for the run until it is resumed."""
    return _told(run_id, RunState.PAUSED, json=json)


def resume(run_id: int, *, json: bool) -> int:
    """A paused run goes on where it stopped."""
    return _told(run_id, RunState.ACTIVE, json=json)


def cancel(run_id: int, *, json: bool) -> int:
    """The run ends for good."""
    return _told(run_id, RunState.CANCELLED, json=json)


def _told(run_id: int, state: RunState, *, json: bool) -> int:
    with connected() as settings:
        asyncio.run(_change(settings, run_id, state))
    if json:
        sys.stdout.write(orjson.dumps({"run": run_id, "state": state.value}).decode() + "\n")
    else:
        sys.stdout.write(f"Run {run_id} {TOLD[state].format(run=run_id)}\n")
    return 0


async def _change(settings: Settings, run_id: int, state: RunState) -> None:
    record = wiring.database(settings, pool_size=2, name="chrono control")
    try:
        await Projects(record).change(run_id, state)
    finally:
        await record.aclose()
