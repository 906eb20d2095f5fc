"""Every class gets its share of any stretch of tickets, and no run starves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.priority import (
    BAND,
    WEIGHTS,
    CapturePriority,
    QueueClass,
    classes,
    is_late,
    late,
    mask,
    order_key,
    pattern,
    patterns,
    pick,
)

MASKS = range(1, 16)
BACKLOGS = st.sets(st.sampled_from(list(QueueClass)), min_size=1).map(frozenset)


def test_weights_are_the_promised_ones():
    assert WEIGHTS == {"critical": 10, "scraping": 5, "indexing": 3, "default": 1}
    assert mask(frozenset({QueueClass.CRITICAL})) == 1


@pytest.mark.parametrize("bits", MASKS)
def test_mask_and_classes_are_inverse(bits):
    assert mask(classes(bits)) == bits


def test_stored_patterns_cover_every_backlog():
    assert set(patterns()) == set(MASKS)
    assert all(turns == pattern(classes(bits)) for bits, turns in patterns().items())


@pytest.mark.parametrize("bits", MASKS)
def test_a_round_gives_each_class_exactly_its_weight(bits):
    waiting = classes(bits)
    assert Counter(pattern(waiting)) == {name: WEIGHTS[name] for name in waiting}


@pytest.mark.parametrize("bits", MASKS)
def test_any_window_is_within_one_lease_and_a_quarter_of_its_share(bits):
    turns = pattern(classes(bits))
    for start in range(len(turns)):
        counted: Counter[QueueClass] = Counter()
        for size in range(1, 2 * len(turns) + 1):
            counted[turns[(start + size - 1) % len(turns)]] += 1
            for name in classes(bits):
                share = size * WEIGHTS[name] / len(turns)
                assert abs(counted[name] - share) < 1.25


@pytest.mark.parametrize("bits", MASKS)
def test_from_the_first_ticket_on_nobody_is_a_whole_lease_off(bits):
    turns = pattern(classes(bits))
    for size in range(1, len(turns) + 1):
        for name in classes(bits):
            share = size * WEIGHTS[name] / len(turns)
            assert abs(turns[:size].count(name) - share) < 1


@given(BACKLOGS, st.integers(0, 10**9))
def test_windows_of_two_hundred_keep_to_the_shares(backlogged, first):
    turns = pattern(backlogged)
    counted = Counter(turns[ticket % len(turns)] for ticket in range(first, first + 200))
    for name in backlogged:
        assert abs(counted[name] - 200 * WEIGHTS[name] / len(turns)) < 1.25


@given(st.sampled_from(list(QueueClass)), BACKLOGS)
def test_an_empty_class_costs_nobody_a_turn(absent, backlogged):
    assert absent not in pattern(backlogged - {absent})
    assert pattern(frozenset()) == ()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 10**9))
def test_runs_share_their_class_by_weight(weights, first):
    turns = 2_000
    counted = Counter(pick(ticket, weights) for ticket in range(first, first + turns))
    for index, weight in enumerate(weights):
        assert abs(counted[index] - turns * weight / sum(weights)) < 12


@pytest.mark.parametrize("bits", MASKS)
@pytest.mark.parametrize("name", QueueClass)
def test_runs_share_the_tickets_of_their_class_only_by_weight_too(bits, name):
    turns = pattern(classes(bits))
    tickets = [ticket for ticket in range(19_000) if turns[ticket % len(turns)] is name]
    counted = Counter(pick(ticket, [3, 1]) for ticket in tickets)
    assert abs(counted[0] - len(tickets) * 3 / 4) <= max(12, len(tickets) * 0.01)


@given(st.integers(0, 2**62), st.lists(st.floats(0.01, 100), min_size=1, max_size=50))
def test_pick_is_always_one_of_the_runs(ticket, weights):
    assert 0 <= pick(ticket, weights) < len(weights)


@given(st.sampled_from(list(CapturePriority)), st.integers(0, BAND - 1))
def test_a_second_pass_keeps_the_rank_behind_every_other_band(priority, rank):
    key = late(order_key(priority, rank))
    assert is_late(key)
    assert key == order_key(CapturePriority.LATE, rank)
    assert all(order_key(p, BAND - 1) < key for p in CapturePriority if p.name != "LATE")
