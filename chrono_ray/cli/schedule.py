"""`chrono schedule`: collections that begin by themselves."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray.cli.control import classes, on_record, tell
from chrono_ray.cli.run import Request, checked
from chrono_ray.model.errors import InvalidInput
from chrono_ray.storage.database import Database
from chrono_ray.storage.schedules import Schedule, Schedules

UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
WORDS: Final = {"hourly": "1h", "daily": "1d", "weekly": "1w", "monthly": "30d"}


@dataclass(frozen=True, slots=True)
class Planned:
    """What was typed after `chrono schedule add`."""

    request: Request
    every: str
    queue_class: str


def add(planned: Planned) -> int:
    """Nothing is written before the request is known to be good."""
    wanted = checked(planned.request, chrono_settings.load())
    [queue_class] = classes(planned.queue_class)
    every = interval(planned.every)

    async def work(record: Database) -> int:
        asked = replace(wanted, queue_class=queue_class)
        return await Schedules(record).add(asked, every=every)

    number = on_record(work)
    tell(
        {"schedule": number, "every": every.total_seconds()},
        f"Schedule {number}: {wanted.scope.url} from {', '.join(wanted.archives)} every"
        f" {_words(every)}, the first time at once. It begins runs while chrono_ray runs.",
        json=planned.request.json,
    )
    return 0


def show(*, json: bool) -> int:
    """`chrono schedule list`."""
    found = on_record(lambda record: Schedules(record).all())
    if json:
        sys.stdout.writelines(orjson.dumps(_told(each)).decode() + "\n" for each in found)
    else:
        sys.stdout.writelines(_line(each) + "\n" for each in found)
        if not found:
            sys.stdout.write("No schedules. Add one: chrono schedule add iana.org --every 1w\n")
    return 0


def enable(number: int, *, enabled: bool, json: bool) -> int:
    """`chrono schedule pause` and `resume`."""
    on_record(lambda record: Schedules(record).enable(number, enabled=enabled))
    how = "begins runs again" if enabled else "begins no more runs; those under way go on"
    tell({"schedule": number, "enabled": enabled}, f"Schedule {number} {how}", json=json)
    return 0


def remove(number: int, *, json: bool) -> int:
    """`chrono schedule remove`."""
    on_record(lambda record: Schedules(record).remove(number))
    tell(
        {"schedule": number, "removed": True},
        f"Schedule {number} is gone; its runs stay", json=json,
    )  # fmt: skip
    return 0


def interval(text: str) -> timedelta:
    """`90m`, `12h`, `7d`, `2w`, or hourly, daily, weekly, monthly (30 days)."""
    written = WORDS.get(text.strip().lower(), text.strip().lower())
    found = re.fullmatch(r"([0-9]{1,6})([mhdw])", written)
    if found is None:
        raise InvalidInput(
            f"The interval {text[:200]!r} cannot be used",
            fix="Write 90m, 12h, 7d, 2w, hourly, daily, weekly or monthly",
            code="schedule_every",
        )
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def _words(every: timedelta) -> str:
    """The largest unit that it is a whole number of: 1 day, 90 minutes."""
    seconds = round(every.total_seconds())
    for name, unit in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}{'' if seconds == unit else 's'}"
    return f"{seconds} seconds"


def _line(each: Schedule) -> str:
    wanted = each.wanted
    last = f"last run {each.last_run} ({each.last_state})" if each.last_run else "no run yet"
    state = f"next {each.next_at:%Y-%m-%d %H:%M} UTC" if each.enabled else "paused"
    return (
        f"schedule {each.id:<4} {wanted.scope.url} ({wanted.scope.match}) from"
        f" {', '.join(wanted.archives)}, project {wanted.project!r}, every"
        f" {_words(each.every)}, {state}, {last}"
    )


def _told(each: Schedule) -> dict[str, object]:
    wanted = each.wanted
    return {
        "schedule": each.id, "project": wanted.project, "url": wanted.scope.url,
        "match": wanted.scope.match.value, "archives": wanted.archives,
        "from": wanted.scope.start, "to": wanted.scope.end,
        "overlap_days": None if wanted.since is None else wanted.since.days,
        "every": each.every.total_seconds(), "class": wanted.queue_class.value,
        "enabled": each.enabled, "next_at": each.next_at, "last_run": each.last_run,
        "last_state": each.last_state,
    }  # fmt: skip
