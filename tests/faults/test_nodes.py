"""A second node may vanish as a whole, or live in another hour."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.faults.proof import IN_TIME, Fault, prove, seeds
from tests.faults.scene import CAPTURES, Scene, until
from tests.support.archive import Kind, Latency, Rule, archive_process
from tests.support.cluster import ROOT, another_node, owned_cluster

LATENCY = 0.4
REPLAYS_A_MINUTE = 1200
SCRAPERS = 4
"""More than fit one node of two processors, so that the second gets some."""
HOUR = 3600
SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS_A_MINUTE),
    "CHRONO_SCRAPING__SCRAPERS": str(SCRAPERS),
    "CHRONO_SCRAPING__IN_FLIGHT": "6",
    "CHRONO_SCRAPING__LEASE": "4",
    "CHRONO_SCRAPING__SWEEP": "0.5",
    "CHRONO_INDEXING__SECONDS": "0.5",
}
CLOCK = Path(__file__).with_name("clock")

pytestmark = IN_TIME


@dataclass(slots=True)
class Nodes(Scene):
    """A scene that other nodes join and leave."""

    joined: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    raylet: int = 0

    def join(self, environment: Mapping[str, str] | None = None) -> None:
        """Have a second node, with scrapers at work on it."""
        self.raylet = self.joined.enter_context(another_node(self.cluster, setting=environment))
        until(self.theirs, 90, "a scraper works on the second node")

    def leave(self) -> None:
        self.joined.close()

    def theirs(self) -> set[int]:
        """The scrapers of the second node that are at work: each has its extraction child."""
        found = set()
        for each in self.cluster.named("ray::Scraper"):
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.ppid() == self.raylet and each.children():
                    found.add(each.pid)
        return found

    def held_there(self) -> set[int]:
        """Fetches that the second node's scrapers hold."""
        return self.run.held_by(self.theirs())


@pytest.fixture(scope="module")
def scene() -> Iterator[Nodes]:
    with (
        archive_process("--captures", str(CAPTURES)) as archive,
        owned_cluster({**SETTINGS, "CHRONO_ARCHIVES__WAYBACK__URL": archive.url}) as cluster,
        contextlib.ExitStack() as joined,
    ):
        yield Nodes(cluster, archive, REPLAYS_A_MINUTE, joined=joined)


class _OtherNode(Fault):
    def begin(self, scene: Nodes) -> None:
        scene.join()
        scene.archive.behave(Rule(Latency(LATENCY), kind=Kind.REPLAY))

    def over(self, scene: Nodes) -> None:
        scene.leave()


class LostNode(_OtherNode):
    """Raylet, agents, scrapers and their children, all at once: what a power cut does."""

    number, name = "4", "SIGKILL of a whole node"
    within = 90.0

    def strike(self, scene: Nodes) -> set[int]:
        held = until(scene.held_there, 60, "the second node holds leases")
        raylet = psutil.Process(scene.raylet)
        for each in [raylet, *raylet.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        return held


class OtherHour(_OtherNode):
    """Leases are PostgreSQL's: nothing is rescued early, nothing is held too long."""

    number, name = "17", "a node whose clock is an hour off"

    def begin(self, scene: Nodes) -> None:
        self._before = int(scene.cluster.value("SELECT coalesce(max(id), 0) FROM attempts"))
        environment = {
            "PYTHONPATH": f"{CLOCK}:{ROOT}",
            "CHRONO_TEST_CLOCK": str(scene.chance.choice((HOUR, -HOUR))),
        }
        assert abs(_hours_off(environment)) == 1
        scene.join(environment)
        scene.archive.behave(Rule(Latency(LATENCY), kind=Kind.REPLAY))

    def strike(self, scene: Nodes) -> None:
        """It strikes as long as the scrapers of the other hour hold leases."""
        until(scene.held_there, 60, "the second node holds leases")

    def holds(self, scene: Nodes) -> None:
        lost = scene.cluster.value(
            "SELECT count(*) FROM attempts WHERE id > $1 AND reason = 'lost'", self._before
        )
        assert lost == 0, "a lease was taken from a worker that lived"


FAULTS = (LostNode, OtherHour)


@seeds()
@pytest.mark.parametrize("fault", FAULTS, ids=lambda kind: kind.__name__)
def test_a_run_survives(fault: type[Fault], number: int, scene: Nodes):
    prove(fault(), scene)


def _hours_off(environment: Mapping[str, str]) -> int:
    """What a process with this environment believes, against what we do."""
    ask = (
        "import time; from datetime import datetime, UTC; print(time.time(), datetime.now(UTC) >"
        " datetime.fromtimestamp(0, UTC))"
    )
    told = subprocess.run(
        [sys.executable, "-c", f"{ask}"], env={**os.environ, **environment}, text=True,
        capture_output=True, check=True,
    ).stdout.split()[0]  # fmt: skip
    own = subprocess.run(
        [sys.executable, "-c", ask], text=True, capture_output=True, check=True
    ).stdout.split()[0]
    return round((float(told) - float(own)) / HOUR)
