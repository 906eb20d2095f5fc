"""A selection is read back as it was written, or refused by its name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.selection import (
    CaptureState,
    Selection,
    is_persons,
    person_rule,
    read,
    written,
)

WORDS = st.lists(st.text(max_size=5), max_size=3).map(tuple)
SELECTIONS = st.builds(
    Selection,
    states=st.lists(st.sampled_from([CaptureState.FAILED, CaptureState.GONE])).map(tuple),
    reasons=WORDS, places=st.lists(WORDS, max_size=2).map(tuple), mimetypes=WORDS,
    statuscodes=WORDS, archives=WORDS, domain=st.integers(0, 2**31), run=st.integers(0, 2**63),
    start=st.sampled_from(["", "20010101000000"]), end=st.sampled_from(["", "20021231235959"]),
)  # fmt: skip


@given(SELECTIONS)
def test_what_was_written_is_read_again(selection: Selection):
    assert read(written(selection)) == selection


@given(st.text(max_size=40) | SELECTIONS.map(lambda each: written(each)[:-7]))
def test_anything_else_is_refused(text: str):
    with pytest.raises(InvalidInput, match="selection"):
        read(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("states", ["lost"]), ("states", "failed"), ("reasons", [1]), ("places", "x"),
     ("places", ["x"]), ("domain", True), ("run", "1"), ("start", "2001")],
)  # fmt: skip
def test_every_part_must_be_what_it_is(name: str, value: object):
    given = json.loads(written(Selection())) | {name: value}
    with pytest.raises(InvalidInput):
        read(json.dumps(given))


def test_what_was_known_belongs_to_one_run():
    for wrong in ({}, {"run": 1, "more": True}):
        states = [CaptureState.KNOWN, *([CaptureState.GONE] if "more" in wrong else [])]
        with pytest.raises(InvalidInput, match="one run"):
            Selection(states=tuple(states), run=int(wrong.get("run", 0)))
    assert Selection(states=(CaptureState.KNOWN,), run=1).known


def test_a_person_s_rule_is_known_as_such():
    assert is_persons(person_rule(7))
    assert not is_persons("skip print")
