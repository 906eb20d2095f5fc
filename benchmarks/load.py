"""Two hundred users, driven by locust, of an instance: one that runs, or a private one.

    python -m benchmarks.load [--users 200] [--seconds 60] [--own] [--json]

The instance, the accounts and projects made for it, and the looks are those of
`chrono perf`; locust is a process of its own (benchmarks/locustfile.py).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.record import ROOT, scratch
from benchmarks.report import Figure, Report, show, versions
from chrono_ray.cli.perf import Asked, chosen_instance
from chrono_ray.perf.apart import apart
from chrono_ray.perf.catalogue import Target
from chrono_ray.perf.holdings import holdings
from chrono_ray.perf.instance import Instance
from chrono_ray.perf.users import ACCOUNTS
from chrono_ray.perf.visit import visiting

LOCUST: Final = ROOT / "benchmarks" / "locustfile.py"
END_SECONDS: Final = 120.0
REAL: Final = (
    "Real: an instance as chrono perf finds or starts it, with what it holds. The users are",
    "locust's, of 20 accounts, and share the cores with the instance where it is on this machine.",
)


@dataclass(frozen=True, slots=True)
class People:
    """Who looks, at what: keys of accounts, projects that they see, words to search for."""

    keys: Sequence[str]
    projects: Sequence[int]
    words: Sequence[str]


def drive(url: str, people: People, folder: Path, *, users: int, seconds: int) -> dict[str, Any]:
    """Locust in a process of its own; what its users saw."""
    given, result = folder / "users.json", folder / "result.json"
    given.touch(0o600)
    given.write_bytes(
        orjson.dumps({"keys": people.keys, "projects": people.projects, "words": people.words})
    )
    named = {"CHRONO_BENCHMARK_USERS": str(given), "CHRONO_BENCHMARK_RESULT": str(result)}
    subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUST), "--headless", "-u", str(users),
         "-r", "40", "-t", f"{seconds}s", "--host", url, "--only-summary",
         "--exit-code-on-error", "0"],
        env={**os.environ, **named}, check=True, timeout=seconds + END_SECONDS, cwd=ROOT,
        stdout=sys.stderr, stderr=sys.stderr,
    )  # fmt: skip
    told: dict[str, Any] = orjson.loads(result.read_bytes())
    return told


def figures(told: Mapping[str, Any]) -> list[Figure]:
    """What the users saw, and how much of it came from the cache."""
    whole, said = told["all"], told["cache"]
    share = {name: 100 * n / max(sum(said.values()), 1) for name, n in said.items()}
    return [
        Figure("requests", whole["requests"], f"at {whole['per_second']:.0f} a second"),
        Figure("errors", whole["failures"], "", Target(0, at_least=False)),
        Figure("p50", whole["p50"], "ms"),
        Figure("p95", whole["p95"], "ms", Target(100, at_least=False)),
        Figure("p99", whole["p99"], "ms"),
        *(Figure(f"{name}, p95", each["p95"], "ms") for name, each in told["entries"].items()),
        Figure("answered by the cache", share.pop("hit", 0), "%", Target(75, at_least=True)),
        *(Figure(f"cache: {name}", part, "%") for name, part in sorted(share.items())),
    ]


async def measure(instance: Instance, folder: Path, *, users: int, seconds: int) -> list[Figure]:
    async with visiting(instance, _tell) as visit:
        held = await apart(visit.viewing, lambda c, _: holdings(c))
        people = People(visit.guests[:ACCOUNTS], visit.projects, held.words)
        told = await asyncio.to_thread(
            drive, instance.url, people, folder, users=users, seconds=seconds
        )
    return figures(told)


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--server", default="", help="an instance elsewhere, by CHRONO_TOKEN")
    parser.add_argument("--own", action="store_true", help="a private instance, whatever runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    asked = Asked(options.server, (), options.seconds, "", options.own, scratch=False)
    with scratch() as folder, chosen_instance(asked, _tell) as instance:
        found = asyncio.run(measure(instance, folder, users=options.users, seconds=options.seconds))
        title = f"{options.users} users of {instance.name}"
    more = versions(ray=version("ray"), locust=version("locust"))
    show(Report(title, found, REAL, more), json=options.json)
    return 1 if any(each.verdict == "MISSED" for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
