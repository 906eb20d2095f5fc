"""Pools share the room by weight, leave nothing idle that is wanted, and never exceed it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.budget import REFERENCE_CPUS, REFERENCE_MEMORY, fit
from chrono_ray.model.pools import (
    Backlog,
    Pool,
    Room,
    Waiting,
    enough_fetches,
    fair,
    indexers_wanted,
    scrapers_wanted,
    sizes,
)

IDLE = 60.0
BUDGET = fit(REFERENCE_CPUS, REFERENCE_MEMORY)
SCRAPERS, INDEXERS = 0, 1
PLENTY = 1_000


def scrapers(wanted: int, *, present: int = 1, slack: float = 0.0, most: int = 256) -> Pool:
    share = BUDGET.scraper
    return Pool(5, share.num_cpus, share.memory, 1, most, wanted, present, slack)


def indexers(wanted: int, *, present: int = 1, slack: float = 0.0, most: int = 256) -> Pool:
    share = BUDGET.indexer
    return Pool(3, share.num_cpus, share.memory, 1, most, wanted, present, slack)


def room(scraper_count: int, indexer_count: int) -> Room:
    pools = (BUDGET.scraper, scraper_count), (BUDGET.indexer, indexer_count)
    return Room(
        sum(share.num_cpus * n for share, n in pools), sum(share.memory * n for share, n in pools)
    )


def within(pools, given_sizes, space: Room) -> bool:
    cpus = sum(round(p.cpus * 10_000) * n for p, n in zip(pools, given_sizes, strict=True))
    memory = sum(p.memory * n for p, n in zip(pools, given_sizes, strict=True))
    return cpus <= round(space.cpus * 10_000) and memory <= space.memory


COUNT = st.integers(0, 40)
SLACK = st.sampled_from([0.0, IDLE - 1, IDLE, IDLE * 3])
POOLS = st.tuples(
    st.builds(scrapers, COUNT, present=COUNT, slack=SLACK, most=st.integers(1, 40)),
    st.builds(indexers, COUNT, present=COUNT, slack=SLACK, most=st.integers(1, 40)),
)
ROOMS = st.builds(room, st.integers(1, 30), st.integers(1, 10))


@given(POOLS, ROOMS)
def test_the_room_is_never_exceeded_and_nobody_starves(pools, space):
    for found in (fair(pools, space), sizes(pools, space, idle=IDLE)):
        assert within(pools, found, space)
        assert all(1 <= n <= pool.most for n, pool in zip(found, pools, strict=True))


@given(POOLS, ROOMS)
def test_no_pool_is_denied_what_would_fit(pools, space):
    found = fair(pools, space)
    for index, pool in enumerate(pools):
        one_more = [n + (place == index) for place, n in enumerate(found)]
        assert found[index] >= pool.aim or not within(pools, one_more, space)


@given(POOLS, ROOMS, st.integers(0, 1), st.integers(1, 20))
def test_a_larger_backlog_never_makes_its_pool_smaller(pools, space, index, more):
    larger = list(pools)
    larger[index] = replace(pools[index], wanted=pools[index].wanted + more)
    assert fair(larger, space)[index] >= fair(pools, space)[index]
    assert sizes(larger, space, idle=IDLE)[index] >= sizes(pools, space, idle=IDLE)[index]


@given(POOLS, ROOMS)
def test_a_pool_shrinks_only_when_it_was_too_large_for_long(pools, space):
    present = [pool.present for pool in pools]
    if not within(pools, [max(p.present, 1) for p in pools], space):
        return
    found = sizes(pools, space, idle=IDLE)
    for pool, had, has in zip(pools, present, found, strict=True):
        if pool.slack < IDLE and had <= pool.most:
            assert has >= had


def test_two_backlogs_share_the_cores_five_to_three():
    pools = scrapers(PLENTY), indexers(PLENTY)
    given_scrapers, given_indexers = fair(pools, Room(cpus=32, memory=2**50))
    cpus = given_scrapers * BUDGET.scraper.num_cpus, given_indexers * BUDGET.indexer.num_cpus
    assert cpus[SCRAPERS] / cpus[INDEXERS] == pytest.approx(5 / 3, rel=0.05)


@pytest.mark.parametrize(
    ("wanted", "expected"), [((PLENTY, 0), (7, 1)), ((0, PLENTY), (1, 14)), ((0, 0), (1, 1))]
)
def test_an_idle_pool_leaves_its_share_to_the_other(wanted, expected):
    pools = scrapers(wanted[SCRAPERS]), indexers(wanted[INDEXERS])
    assert fair(pools, room(7, 2)) == expected


def test_a_pool_grows_at_once_and_waits_for_room_that_another_still_holds():
    holding = scrapers(0, present=7, slack=0.0), indexers(PLENTY, present=1)
    assert sizes(holding, room(7, 2), idle=IDLE) == (7, 2)
    idle = replace(holding[SCRAPERS], slack=IDLE), holding[INDEXERS]
    assert sizes(idle, room(7, 2), idle=IDLE) == (1, 14)


def test_pools_that_no_longer_fit_shrink_at_once():
    pools = scrapers(PLENTY, present=20), indexers(0, present=1)
    assert sizes(pools, room(7, 1), idle=IDLE) == (7, 1)


def test_a_single_writer_stays_one():
    pools = scrapers(0), indexers(PLENTY, most=1)
    assert fair(pools, room(7, 2)) == (1, 1)


# what is wanted

EIGHT_A_SECOND = Waiting("wayback", 1_000_000, 1, 8.0, 0.4)
OURS = Waiting("pywb", 1_000_000, 0, None, None)


def wanted(archives, *, in_flight: int = 48, tasks: int = 0) -> int:
    backlog = Backlog(tuple(archives), tasks, 0, 0.0)
    return scrapers_wanted(backlog, in_flight=in_flight, task_slots=2)


def test_a_limited_archive_gets_no_more_scrapers_than_serve_its_rate():
    assert wanted([EIGHT_A_SECOND]) == 1
    assert wanted([replace(EIGHT_A_SECOND, replays=24.0)]) == 3
    assert wanted([replace(EIGHT_A_SECOND, replays=0.0)]) == 1
    assert wanted([EIGHT_A_SECOND, OURS]) > 1_000


def test_its_listings_may_be_asked_for_at_once_as_fast_as_it_allows():
    assert wanted([replace(EIGHT_A_SECOND, slices=3)]) == 3
    assert wanted([replace(EIGHT_A_SECOND, slices=300)]) == 4
    assert wanted([replace(EIGHT_A_SECOND, slices=300, listings=0.0)]) == 1


def test_a_small_backlog_starts_nobody():
    assert wanted([]) == 1
    assert wanted([replace(OURS, fetches=300)]) == 1
    assert wanted([replace(OURS, fetches=961)]) == 3
    assert wanted([], tasks=2) == 1
    assert wanted([], tasks=5) == 3
    assert indexers_wanted(0, batch=100) == indexers_wanted(1000, batch=100) == 1
    assert indexers_wanted(1001, batch=100) == 2


@given(st.integers(1, 300), st.integers(1, 512), st.integers(0, 10**7))
def test_counting_further_than_enough_changes_nothing(most, in_flight, pending):
    counted = min(pending, enough_fetches(most, in_flight=in_flight))
    whole, bounded = (
        wanted([replace(OURS, fetches=n)], in_flight=in_flight) for n in (pending, counted)
    )
    assert min(whole, most) == min(bounded, most)
