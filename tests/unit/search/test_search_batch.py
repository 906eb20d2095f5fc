"""When a batch is full."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.search.batch import BatchLimits, Filling, groups, weight
from tests.support.meilisearch.pages import page

LIMITS = BatchLimits(documents=3, size=100, seconds=2.0)


def test_an_empty_batch_waits_for_ever() -> None:
    assert Filling().wait(LIMITS, now=5.0) is None


def test_a_batch_goes_out_when_its_first_entry_is_old_enough() -> None:
    filling = Filling().add(10, now=5.0).add(10, now=6.5)
    assert filling.wait(LIMITS, now=6.5) == 0.5
    assert filling.wait(LIMITS, now=7.0) == 0.0
    assert filling.wait(LIMITS, now=70.0) == 0.0


def test_a_batch_goes_out_at_once_when_full() -> None:
    by_count = Filling().add(1, 0.0).add(1, 0.0).add(1, 0.0)
    by_size = Filling().add(100, 0.0)
    assert by_count.wait(LIMITS, now=0.0) == 0.0
    assert by_size.wait(LIMITS, now=0.0) == 0.0


def test_what_does_not_fit_waits_for_the_next_batch_and_the_first_always_fits() -> None:
    assert Filling().fits(10_000, LIMITS)
    filling = Filling().add(60, 0.0)
    assert filling.fits(40, LIMITS)
    assert not filling.fits(41, LIMITS)
    assert not filling.add(1, 0.0).add(1, 0.0).fits(1, LIMITS)


def test_the_limits_are_a_hundred_pages_four_megabytes_two_seconds() -> None:
    assert BatchLimits() == BatchLimits(documents=100, size=4_000_000, seconds=2.0)


@given(st.lists(st.integers(0, 3000), max_size=40), st.integers(1, 7), st.integers(1, 5000))
def test_groups_keep_everything_in_order_and_no_batch_is_over(
    sizes: list[int], documents: int, size: int
) -> None:
    entries = [page(number, text="x" * length) for number, length in enumerate(sizes)]
    limits = BatchLimits(documents=documents, size=size)
    made = list(groups(entries, limits))
    assert [entry for batch in made for entry in batch] == entries
    for batch in made:
        assert 1 <= len(batch) <= documents
        assert len(batch) == 1 or sum(map(weight, batch)) <= size
    for one, following in pairwise(made):
        full = sum(map(weight, one)) + weight(following[0]) > size
        assert len(one) == documents or full, "a batch went out before it was full"


def test_weight_counts_bytes_not_characters() -> None:
    assert weight(page(1, text="東" * 1000)) >= 3000
