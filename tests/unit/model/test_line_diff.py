"""A difference is true, the shortest where it says so, and never takes long."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.line_diff import Difference, difference

LINES = st.lists(st.sampled_from("abcd"), max_size=24)


def applied(before: list[str], after: list[str], found: Difference) -> list[str]:
    """`before` with each block replaced, from the end on."""
    made = list(before)
    for block in reversed(found.blocks):
        made[block.before.start : block.before.stop] = after[block.after.start : block.after.stop]
    return made


def common(one: list[str], other: list[str]) -> int:
    """The most lines that both have in one order, by the table that takes a while."""
    row = [0] * (len(other) + 1)
    for left in one:
        above = row
        row = [0]
        for place, right in enumerate(other):
            row.append(above[place] + 1 if left == right else max(above[place + 1], row[place]))
    return row[-1]


@given(LINES, LINES)
def test_a_difference_is_true_and_the_shortest(before, after):
    found = difference(before, after)
    assert found.shortest
    assert applied(before, after, found) == after
    changed = sum(len(each.before) + len(each.after) for each in found.blocks)
    assert changed == len(before) + len(after) - 2 * common(before, after)


@given(LINES, LINES, st.integers(0, 6))
def test_one_that_is_cut_short_is_still_true(before, after, edits):
    found = difference(before, after, edits_most=edits)
    assert applied(before, after, found) == after
    for one, other in zip(found.blocks, found.blocks[1:], strict=False):
        assert one.before.stop < other.before.start


def test_the_worst_texts_take_less_than_two_seconds():
    many = 40_000
    worst = [
        (["a"] * many, ["a", "b"] * (many // 2)),
        ([f"{n}" for n in range(many)], [f"{n}" for n in range(many, 0, -1)]),
        (["a", "b", "c"] * (many // 3), ["c", "b", "a"] * (many // 3)),
    ]
    began = time.process_time()
    for before, after in worst:
        assert applied(before, after, difference(before, after)) == after
    assert time.process_time() - began < 6
