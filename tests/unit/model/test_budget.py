"""Shares fit the machine, whatever it is, and more machine never means less for anyone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.budget import (
    CONTAINERS,
    GIB,
    MIB,
    OBJECT_STORE_MEMORY,
    PLACED,
    REFERENCE_CPUS,
    REFERENCE_MEMORY,
    fit,
)
from chrono_ray.model.errors import SettingsError

CPUS = st.floats(0.25, 256).map(lambda cpus: round(cpus, 2))
MEMORY = st.integers(int(3.75 * GIB), 1024 * GIB)


def total_cpus(budget):
    return sum(
        Fraction(round(share.num_cpus * 10_000), 10_000) * share.count
        for _, share in budget.parts()
    )


def total_memory(budget):
    return sum(share.memory * share.count for _, share in budget.parts())


@given(CPUS, MEMORY)
def test_the_sums_stay_within_the_machine(cpus, memory):
    budget = fit(cpus, memory)
    assert total_cpus(budget) <= Fraction(str(cpus))
    assert total_memory(budget) <= memory
    assert budget.ray.memory > OBJECT_STORE_MEMORY


@given(CPUS, MEMORY)
def test_every_part_can_be_placed(cpus, memory):
    budget = fit(cpus, memory)
    placed = {name: share for name, share in budget.parts() if name in PLACED}
    assert set(placed) == set(PLACED)
    assert all(share.count >= 1 for _, share in budget.parts())
    assert all(0 < share.num_cpus <= 1 for share in placed.values())  # Ray wants whole CPUs above 1
    assert sum(share.num_cpus * share.count for share in placed.values()) <= budget.ray_cpus + 1e-6
    assert sum(share.memory * share.count for share in placed.values()) == budget.ray_memory


@given(CPUS, MEMORY)
def test_only_pools_are_several(cpus, memory):
    several = {name for name, share in fit(cpus, memory).parts() if share.count > 1}
    assert several <= {"api", "indexer", "job", "scraper"}


@given(CPUS, MEMORY, st.floats(0, 64), st.integers(0, 64 * GIB))
def test_a_larger_machine_gives_no_part_less(cpus, memory, more_cpus, more_memory):
    small = dict(fit(cpus, memory).parts())
    large = dict(fit(cpus + more_cpus, memory + more_memory).parts())
    for name, share in small.items():
        assert large[name].num_cpus >= share.num_cpus, name
        assert large[name].memory >= share.memory, name
        assert large[name].count >= share.count, name


def test_the_reference_machine():
    budget = fit(REFERENCE_CPUS, REFERENCE_MEMORY)
    assert budget.scraper.count == 7
    assert budget.indexer.count == 2
    assert budget.api.count == 2
    assert total_cpus(budget) > 7
    assert total_memory(budget) > 15 * GIB - 64 * MIB


def test_two_cores_and_four_gibibytes_suffice():
    budget = fit(2, 4 * GIB)
    assert budget.scraper.count == budget.indexer.count == 1
    assert budget.ray_cpus <= 2


@pytest.mark.parametrize("memory", [4 * GIB, 16 * GIB, 256 * GIB])
def test_a_scraper_has_room_for_itself_and_its_extraction_child(memory):
    assert fit(8, memory).scraper.memory >= (250 + 400) * MIB


@pytest.mark.parametrize(("cpus", "memory"), [(8, 3 * GIB), (0, 16 * GIB), (2, 0)])
def test_a_machine_too_small_is_refused_with_a_way_out(cpus, memory):
    with pytest.raises(SettingsError) as caught:
        fit(cpus, memory)
    assert "MiB" in caught.value.why
    assert caught.value.fix


@given(CPUS, MEMORY)
def test_containers_share_all_of_any_machine_but_what_is_the_system_s(cpus, memory):
    budget = fit(cpus, memory)
    containers = [budget.container(name) for name in CONTAINERS]
    shared = total_memory(budget) - budget.system.memory
    assert shared - len(containers) < sum(each.memory for each in containers) <= shared
    whole = total_cpus(budget) - Fraction(str(budget.system.num_cpus))
    given = sum(Fraction(str(each.cpus)) for each in containers)
    assert whole - Fraction(len(containers), 10_000) < given <= whole


def test_a_head_whose_scrapers_are_elsewhere_offers_no_room_for_them():
    budget = fit(REFERENCE_CPUS, REFERENCE_MEMORY)
    alone = budget.without_scrapers()
    assert budget.ray_memory - alone.ray_memory == budget.scraper.memory * budget.scraper.count
    assert alone.ray_cpus < budget.ray_cpus


def test_chosen_scrapers_take_nobody_else_s_room():
    budget = fit(2, 16 * GIB)
    more = budget.with_scrapers(budget.scraper.count + 1)
    assert more.ray_memory - budget.ray_memory == budget.scraper.memory
    assert more.connections > budget.connections
    assert budget.with_scrapers(0) == budget
