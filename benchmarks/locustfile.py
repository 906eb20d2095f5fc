"""What people do with the API: look at their projects, at one of them, and search.

    CHRONO_TOKEN=crk_... locust -f benchmarks/locustfile.py --headless -u 200 -t 60s --host URL

Each simulated user waits 1 to 3 s, and then looks at the list of projects (3),
at the statistics of a project (2), or searches (1): the looks of `chrono perf`.
With CHRONO_TOKEN all are one user, who looks at what there is. With
CHRONO_BENCHMARK_USERS, a JSON file of API keys, project ids and words, they are
many: `benchmarks.load` and `benchmarks.serve` run it so.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from locust import FastHttpUser, between, events, task

from chrono_ray.client import Chrono
from chrono_ray.perf.asking import Ask
from chrono_ray.perf.holdings import holdings
from chrono_ray.perf.mix import PAUSE, Interests, interests, next_look

_numbers = count()
_told: Counter[str] = Counter()


@cache
def _given(host: str) -> dict[str, Any]:
    named = os.environ.get("CHRONO_BENCHMARK_USERS")
    if named:
        found: dict[str, Any] = json.loads(Path(named).read_text())
        return found
    key = os.environ.get("CHRONO_TOKEN", "")
    with Chrono(host, token=key, insecure=os.environ.get("CHRONO_INSECURE") == "true") as c:
        projects = [each.id for each in c.projects.list()]
        if not projects:
            raise SystemExit("This key sees no project: make one, or use another key")
        return {"keys": [key], "projects": projects, "words": holdings(c).words}


class Reader(FastHttpUser):
    """One person. Several have the same account."""

    wait_time = between(*PAUSE)

    def on_start(self) -> None:
        given, number = _given(self.host), next(_numbers)
        account = number % len(given["keys"])
        self._headers = {"Authorization": f"Bearer {given['keys'][account]}"}
        self._interests: Interests = interests(account, given["projects"], given["words"])
        self._chance = Random(number)

    @task
    def look(self) -> None:
        self._send(next_look(self._interests, self._chance))

    def _send(self, ask: Ask) -> None:
        method = "GET" if ask.body is None else "POST"
        with self.client.request(
            method, ask.path, json=ask.body, headers=self._headers, name=ask.name,
            catch_response=True,
        ) as answer:  # fmt: skip
            _judge(answer)


def _judge(answer: Any) -> None:
    if answer.status_code != 200:
        answer.failure(f"{answer.status_code} {answer.text}"[:200])
        return
    _told[(answer.headers or {}).get("X-Cache", "")] += 1
    answer.success()


@events.quitting.add_listener
def _tell(environment: Any, **_rest: Any) -> None:
    """Everything in one JSON file: what `benchmarks.load` and `benchmarks.serve` read."""
    total, told = environment.stats.total, os.environ.get("CHRONO_BENCHMARK_RESULT")
    if not told:
        return
    entries = {name: _figures(entry) for (name, _), entry in environment.stats.entries.items()}
    whole = {
        "all": _figures(total), "entries": entries, "cache": dict(_told),
        "errors": [each.to_dict() for each in environment.stats.errors.values()],
    }  # fmt: skip
    Path(told).write_text(json.dumps(whole, default=str))


def _figures(entry: Any) -> dict[str, float]:
    percentiles = {f"p{n}": entry.get_response_time_percentile(n / 100) for n in (50, 95, 99)}
    return {
        "requests": entry.num_requests, "failures": entry.num_failures,
        "per_second": entry.total_rps, **percentiles,
    }  # fmt: skip
