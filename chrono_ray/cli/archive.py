"""`chrono archive`: the archives' budgets, and the end of a silence by hand."""

from __future__ import annotations

import sys
from dataclasses import asdict

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli.control import on_record, tell
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Budget, Governor

RISK = (
    "It begins at a quarter of its rate. If the archive had asked for silence, asking again now"
    " may get this address banned: that is at your own risk."
)


def list_archives(*, json: bool) -> int:
    """Every budget that is set up or used, a line each."""
    settings = chrono_settings.load()
    budgets = on_record(lambda record: shown_budgets(wiring.governor(record, settings), settings))
    if json:
        sys.stdout.writelines(orjson.dumps(asdict(each)).decode() + "\n" for each in budgets)
    else:
        sys.stdout.writelines(budget_line(each) + "\n" for each in budgets)
        if not budgets:
            sys.stdout.write("No budgets yet: they are made when chrono_ray first starts.\n")
    return 0


def resume(name: str, *, json: bool) -> int:
    """Speak to an archive again before its silence has passed."""
    settings = chrono_settings.load()

    async def work(record: Database) -> bool:
        return await wiring.governor(record, settings).resume(name)

    silent = on_record(work)
    text = f"{name} is asked again. {RISK}" if silent else f"{name} was not silent"
    tell({"archive": name, "resumed": silent}, text, json=json)
    return 0


async def shown_budgets(governor: Governor, settings: Settings) -> list[Budget]:
    """Those of archives that are set up, or that runs were begun from; no local files named."""
    chosen = {*wiring.archive_names(settings), *await governor.used()}
    return [
        each for each in await governor.budgets()
        if each.archive in chosen and not each.archive.startswith(wiring.OF_PATH)
    ]  # fmt: skip


def budget_line(budget: Budget) -> str:
    limit = f"{budget.per_minute} a minute" if budget.per_minute else "no limit"
    silent = (
        f", silent for {budget.paused_seconds:.0f} s more ({budget.pause_reason})"
        if budget.paused_seconds
        else ""
    )
    return f"{budget.archive} {budget.kind}: {limit}{silent}"
