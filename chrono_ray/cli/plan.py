"""`chrono plan` and `chrono start`: what a run would do, and the word to do it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli.following import INTERRUPTED, follow_shown, with_owner
from chrono_ray.cli.machine import connected
from chrono_ray.cli.remote import server
from chrono_ray.cli.rules import read_rules
from chrono_ray.cli.run import Request, checked
from chrono_ray.cluster.owner import running
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.rules import Rules
from chrono_ray.pipeline.follow import Interrupted
from chrono_ray.pipeline.plan import as_json, read_plan, summary
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.planning import Planning
from chrono_ray.storage.projects import Collection, Goal, Projects, RunState

if TYPE_CHECKING:
    from chrono_ray.client import Chrono


def plan_and_print(request: Request, rules_file: str) -> int:
    """Returns the exit code. Nothing is started before the request is known to be good.

    `rules_file`: - is stdin, empty leaves the domain's rules as they are.
    """
    if c := server():
        with c:
            return _plan_there(c, request, rules_file)
    settings = chrono_settings.load()
    wanted = replace(checked(request, settings), goal=Goal.PLAN)
    rules = read_rules(rules_file) if rules_file else None
    return with_owner(settings, lambda attached: _plan(request, wanted, rules, attached))


def start(run_id: int, *, json: bool) -> int:
    """Fetch what was planned."""
    if c := server():
        from chrono_ray.cli import remote_runs

        with c:
            paused, works = remote_runs.start(c, run_id), True
    else:
        with connected() as settings:
            paused = asyncio.run(_start(settings, run_id))
            works = running(settings.data_dir) is not None
    return _say_started(run_id, paused=paused, works=works, json=json)


def _say_started(run_id: int, *, paused: bool, works: bool, json: bool) -> int:
    state = "paused" if paused else "active"
    if json:
        sys.stdout.write(orjson.dumps({"run": run_id, "state": state}).decode() + "\n")
        return 0
    if paused:
        told = f"is a run now, but paused. Go on: chrono resume {run_id}"
    elif works:
        told = f"fetches what it planned. See it: chrono status {run_id}"
    else:
        told = f"fetches what it planned once chrono_ray runs: chrono up, chrono status {run_id}"
    sys.stdout.write(f"Run {run_id} {told}\n")
    return 0


def _plan_there(c: Chrono, request: Request, rules_file: str) -> int:
    from chrono_ray.cli import remote_runs

    if rules_file:
        raise InvalidInput(
            "Rules cannot be given here", why="the plan is made by a server",
            fix="Give them to the domain first: `domains.change_rules` of the Python client",
            code="here",
        )  # fmt: skip
    wanted = replace(checked(request, None), goal=Goal.PLAN)
    run_id = remote_runs.begin(c, wanted).run_ids[0]
    sys.stderr.write(f"Plan {run_id}: {wanted.scope.url} ({wanted.scope.match})\n")
    if isinstance(remote_runs.follow(c, run_id, json=request.json), remote_runs.Left):
        remote_runs.leave(c, "Plan", run_id, stop=request.stop_on_interrupt)
        return INTERRUPTED
    plan = remote_runs.plan(c, run_id)
    sys.stdout.write((as_json(plan) if request.json else summary(plan)) + "\n")
    return plan.report.exit_code


async def _plan(
    request: Request, wanted: Collection, rules: Rules | None, settings: Settings
) -> tuple[int, bool]:
    """The exit code, and whether what runs must be left running (it was detached)."""
    record = wiring.database(settings, pool_size=2, name="chrono plan")
    try:
        projects, scope = Projects(record), wanted.scope
        if rules is not None:
            await _set_rules(record, await projects.domain(scope, project=wanted.project), rules)
        run_id = (await projects.begin(wanted)).run_ids[0]
        sys.stderr.write(f"Plan {run_id}: {scope.url} ({scope.match})\n")
        ended = await follow_shown(record, run_id, settings, json=request.json)
        if isinstance(ended, Interrupted):
            await _interrupt(projects, run_id, stop=request.stop_on_interrupt)
            return INTERRUPTED, not request.stop_on_interrupt
        plan = await read_plan(record, run_id)
        sys.stdout.write((as_json(plan) if request.json else summary(plan)) + "\n")
        return plan.report.exit_code, False
    finally:
        await record.aclose()


async def _set_rules(record: Database, domain_id: int, rules: Rules) -> None:
    """What is stored already is decided again by whoever works; the plan waits for it."""
    deciding = Deciding(record)
    if await deciding.rules(domain_id) != rules:
        await deciding.set_rules(domain_id, rules)


async def _start(settings: Settings, run_id: int) -> bool:
    record = wiring.database(settings, pool_size=2, name="chrono start")
    try:
        return await Planning(record).start(await Projects(record).together(run_id))
    finally:
        await record.aclose()


async def _interrupt(projects: Projects, run_id: int, *, stop: bool) -> None:
    if stop:
        await projects.change(run_id, RunState.PAUSED)
        sys.stderr.write(f"\nPlan {run_id} is paused. Go on: chrono resume {run_id}\n")
    else:
        sys.stderr.write(
            f"\nPlan {run_id} goes on listing. See it: chrono status {run_id}."
            " Stop it all: chrono down\n"
        )
