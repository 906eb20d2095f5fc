"""What people do with the API: look at their projects, at one of them, and search.

    locust -f benchmarks/locustfile.py --headless -u 200 -r 40 -t 60s --host http://127.0.0.1:8000

CHRONO_BENCHMARK_USERS names a JSON file: API keys, project ids, words. Each
simulated user waits 1 to 3 s, and then looks at the list of projects (3), at
the statistics of a project (2), or searches (1). `benchmarks.serve` runs it.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, events, task

LOOKED_AT = 10
"""Projects that people of one account look at."""
_numbers = count()
_told: Counter[str] = Counter()


def _given() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["CHRONO_BENCHMARK_USERS"]).read_text())
    return found


class Reader(FastHttpUser):
    """One person. Several have the same account."""

    wait_time = between(1, 3)

    def on_start(self) -> None:
        given, number = _given(), next(_numbers)
        account = number % len(given["keys"])
        self._headers = {"Authorization": f"Bearer {given['keys'][account]}"}
        self._projects = random.Random(account).sample(given["projects"], LOOKED_AT)
        self._words = given["words"]

    @task(3)
    def projects(self) -> None:
        self._look("/api/v1/projects/", "list")

    @task(2)
    def statistics(self) -> None:
        project = random.choice(self._projects)
        self._look(f"/api/v1/projects/{project}/stats", "statistics")

    @task(1)
    def search(self) -> None:
        word = random.choice(self._words)
        with self.client.post(
            "/api/v1/search/", json={"query": word, "limit": 10}, headers=self._headers,
            name="search", catch_response=True,
        ) as answer:  # fmt: skip
            _judge(answer)

    def _look(self, path: str, name: str) -> None:
        with self.client.get(
            path, headers=self._headers, name=name, catch_response=True
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
    """Everything in one JSON file: what `benchmarks.serve` reads."""
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
