"""What a value means beside its target, and how times are summed up."""

from __future__ import annotations

import pytest

from chrono_ray.perf.catalogue import ROWS, Measure, Target
from chrono_ray.perf.figures import (
    Figure,
    Measured,
    Spread,
    Unmeasured,
    Verdict,
    all_met,
    failed,
    figures,
    none_of,
    percentile,
)

BY_NAME = {row.name: row for row in ROWS}


def verdict(name: str, value: float) -> Verdict:
    return Figure(BY_NAME[name], Measured(value)).verdict


def test_targets_are_those_of_the_original_application() -> None:
    originals = {
        "api.list.cold": "<= 100", "api.statements": "<= 3", "cache.hits": ">= 75",
        "scrape.pages": ">= 300", "scrape.unlimited": ">= 3,000", "sockets.open": ">= 500",
        "users.served": ">= 200", "memory.api": "<= 800",
    }  # fmt: skip
    assert {name: str(BY_NAME[name].target) for name in originals} == originals


def test_a_bound_itself_is_met() -> None:
    assert verdict("cache.hits", 75) is Verdict.MET
    assert verdict("cache.hits", 74.9) is Verdict.MISSED
    assert verdict("memory.api", 800) is Verdict.MET
    assert verdict("memory.api", 800.1) is Verdict.MISSED
    assert verdict("claim.rate", 1) is Verdict.TOLD


def test_the_table_is_whole_whatever_was_measured() -> None:
    found = figures({"memory.api": Measured(100), **none_of(Measure.CLAIM, "no record")})
    assert [each.row for each in found] == list(ROWS)
    told = {each.row.name: each for each in found}
    assert told["memory.api"].verdict is Verdict.MET
    assert told["claim.p99"].result == Unmeasured("no record")
    assert told["users.p95"].verdict is Verdict.NOT_MEASURED


def test_all_is_met_when_something_was_measured_and_nothing_missed() -> None:
    good, bad = {"memory.api": Measured(1)}, {"users.errors": Measured(1)}
    assert all_met(figures(good))
    assert not all_met(figures(good | bad))
    assert not all_met(figures({}))
    assert not all_met(figures({"claim.rate": Measured(1)}))


def test_what_was_asked_for_and_came_to_nothing_is_missed() -> None:
    found = figures({"memory.api": Measured(1), **failed(Measure.CLAIM, "no answer")})
    verdicts = {each.row.name: each.verdict for each in found}
    assert verdicts["claim.p99"] is Verdict.MISSED
    assert verdicts["claim.rate"] is Verdict.NOT_MEASURED, "it has no target"
    assert not all_met(found)


def test_percentiles_are_times_that_did_occur() -> None:
    times = [float(n) for n in range(1, 101)]
    assert [percentile(times, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.01) == percentile([7.0], 0.999) == 7.0


def test_a_spread_does_not_mind_the_order() -> None:
    spread = Spread.of([30.0, 10.0, 20.0])
    assert spread is not None
    assert (spread.count, spread.p50, spread.p99) == (3, 20.0, 30.0)
    assert [ms for _, ms in spread.curve] == sorted(ms for _, ms in spread.curve)
    assert Spread.of([]) is None


@pytest.mark.parametrize("name", sorted({row.name for row in ROWS}))
def test_names_are_unique_and_of_their_measure(name: str) -> None:
    assert [row.name for row in ROWS].count(name) == 1
    assert isinstance(BY_NAME[name].target, Target | None)
