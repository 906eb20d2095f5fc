"""A query that cannot be served is refused before any index sees it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.query import (
    FILTER_DEPTH_MAX,
    FILTER_TERMS_MAX,
    And,
    CapturedBetween,
    Equals,
    Field,
    Filter,
    Not,
    Or,
    Query,
    check_filter,
)

LEAF = Equals(Field.HOST, ("example.com",))


def nested(depth: int) -> Filter:
    tree: Filter = LEAF
    for level in range(depth - 1):
        tree = Not(tree) if level % 2 else And((tree,))
    return tree


def refused(make):
    with pytest.raises(InvalidInput) as caught:
        make()
    return caught.value.code


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": 10**9}, "limit"),
        ({"limit": float("nan")}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 1001}, "offset"),
        ({"text": "x" * 1001}, "query_length"),
        ({"filter": nested(201)}, "filter_depth"),
        ({"filter": Equals(Field.HOST, ("x",) * 500)}, "filter_terms"),
    ],
)
def test_query_out_of_bounds_is_refused_by_a_stable_code(asked, code):
    assert refused(lambda: Query(**{"text": "", **asked})) == code


@pytest.mark.parametrize(
    "asked", [{"limit": 1}, {"limit": 100}, {"offset": 1000}, {"text": "x" * 1000}]
)
def test_query_at_its_bounds_is_served(asked):
    assert Query(**{"text": "", **asked})


@pytest.mark.parametrize("value", ["a\\", "\\", "a\nb", "\x00", "\x7f", "é" * 235])
def test_filter_value_that_no_index_can_ask_for_is_refused(value):
    assert refused(lambda: Equals(Field.HOST, (value,))) == "filter_value"


@pytest.mark.parametrize("value", ['x" OR tenant != "a', "é" * 234, "", "'; DROP", "\ud800"])
def test_filter_value_is_otherwise_a_literal(value):
    assert Equals(Field.HOST, (value,)).values == (value,)


def test_depth_is_counted_to_the_level():
    check_filter(nested(FILTER_DEPTH_MAX))
    assert refused(lambda: check_filter(nested(FILTER_DEPTH_MAX + 1))) == "filter_depth"


def test_a_tree_deep_enough_to_break_the_stack_is_only_refused():
    tree: Filter = LEAF
    for _ in range(100_000):
        tree = Not(tree)
    assert refused(lambda: check_filter(tree)) == "filter_depth"
    while isinstance(tree, Not):  # take it apart by hand: its destructor would recurse
        tree = tree.part


@given(st.integers(1, 40), st.integers(1, 12))
def test_terms_are_values_and_branches_together(parts, values):
    tree = Or(tuple(Equals(Field.HOST, ("x",) * values) for _ in range(parts)))
    if 1 + parts * values > FILTER_TERMS_MAX:
        assert refused(lambda: check_filter(tree)) == "filter_terms"
    else:
        check_filter(tree)


def test_dates_the_wrong_way_round_are_refused_and_open_ends_are_not():
    early, late = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)
    assert refused(lambda: CapturedBetween(late, early)) == "date_range"
    assert CapturedBetween(early, early)
    assert CapturedBetween(None, early)
    assert CapturedBetween(late, None)
