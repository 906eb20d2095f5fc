"""Parts of measures that need nobody to ask."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from chrono_ray.cli.perf import exit_code, measures
from chrono_ray.model.errors import InvalidInput, Unavailable
from chrono_ray.perf.catalogue import Measure
from chrono_ray.perf.claim import Worked
from chrono_ray.perf.claim import told as told_of_claims
from chrono_ray.perf.figures import Failed, Measured, Verdict, failed, figures
from chrono_ray.perf.holdings import UNKNOWN, WORDS, words_of
from chrono_ray.perf.mix import interests, next_look
from chrono_ray.perf.scrape import Seen, told


def test_words_that_occur_come_first_and_there_are_always_enough() -> None:
    found = words_of(["The Ferry of 1999", "ferry, mayor!"])
    assert found[:2] == ("ferry", "mayor")
    assert len(set(found)) == len(found) == WORDS
    assert words_of([]) == UNKNOWN[:WORDS]


def test_people_of_one_account_look_at_the_same_projects() -> None:
    projects, words = range(1, 31), ("ferry",)
    assert interests(3, projects, words) == interests(3, projects, words)
    assert interests(3, projects, words) != interests(4, projects, words)
    assert len(interests(3, [1, 2], words).projects) == 2


def test_people_look_three_times_at_the_list_and_twice_at_a_project_for_one_search() -> None:
    of, chance = interests(0, range(1, 11), ("ferry",)), Random(7)
    seen = Counter(next_look(of, chance).name for _ in range(6000))
    assert seen["list"] == pytest.approx(3000, rel=0.1)
    assert seen["statistics"] == pytest.approx(2000, rel=0.1)
    assert seen["search"] == pytest.approx(1000, rel=0.1)


def test_a_collection_is_timed_from_nothing_to_its_last_page() -> None:
    seen = [
        Seen(0.5, "active", 0, 0, 0), Seen(1.0, "active", 0, 0, 0), Seen(2.0, "active", 50, 0, 50),
        Seen(3.0, "active", 100, 40, 100), Seen(6.0, "done", 100, 100, 100),
    ]  # fmt: skip
    found = told(seen)
    assert isinstance(pages := found["scrape.pages"], Measured)
    assert isinstance(indexed := found["index.pages"], Measured)
    assert pages.value == 60 * 100 / 2.0
    assert indexed.value == 60 * 100 / 4.0
    assert pages.course[-1] == (6.0, 100.0)


def test_a_collection_that_is_too_slow_is_judged_by_what_it_reached() -> None:
    """And by the time it had, not by the moment since which nothing came any more."""
    seen = [
        Seen(0.5, "active", 0, 0, 0), Seen(1.0, "active", 5, 0, 5), Seen(120.5, "active", 5, 0, 5)
    ]  # fmt: skip
    found = {each.row.name: each for each in figures(told(seen))}
    assert isinstance(pages := found["scrape.pages"].result, Measured)
    assert pages.value == 60 * 5 / 120
    assert found["scrape.pages"].verdict is Verdict.MISSED
    assert "had not ended" in found["scrape.pages"].why
    assert isinstance(found["index.pages"].result, Failed)
    stored = told([*seen, Seen(121.0, "done", 5, 3, 5)])
    assert stored["scrape.pages"] == Measured(600, course=stored["scrape.pages"].course)
    assert stored["index.pages"].why, "pages still wait for the index"


def test_a_collection_of_nothing_has_failed() -> None:
    found = told([Seen(0.5, "active", 0, 0, 0), Seen(1.0, "done", 0, 0, 0)])
    assert {type(each) for each in found.values()} == {Failed}


def test_claims_of_workers_side_by_side_are_summed_over_the_time_they_took_together() -> None:
    found = told_of_claims(
        [Worked((0.001, 0.002), 0, 64, 10.0, 11.0), Worked((0.003,), 0, 32, 10.5, 12.0)]
    )
    assert isinstance(rate := found["claim.rate"], Measured)
    assert isinstance(p99 := found["claim.p99"], Measured)
    assert rate.value == 48.0
    assert p99.value == 3.0
    with pytest.raises(Unavailable):
        told_of_claims([Worked((), 0, 0, 1.0, 2.0)])


def test_measures_are_named_or_all() -> None:
    assert measures([]) == tuple(Measure)
    assert measures(["claim", "api"]) == (Measure.CLAIM, Measure.API)
    with pytest.raises(InvalidInput, match="sockets"):
        measures(["speed"])


def test_the_exit_code_tells_a_missed_target_from_nothing_measured() -> None:
    assert exit_code(figures({"memory.api": Measured(1)})) == 0
    assert exit_code(figures({"memory.api": Measured(1), "cache.hits": Measured(1)})) == 3
    assert exit_code(figures({})) == 1
    broken = failed(Measure.CLAIM, "the database is gone")
    assert exit_code(figures({"memory.api": Measured(1), **broken})) == 3
    assert exit_code(figures(broken)) == 1
