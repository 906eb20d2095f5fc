"""What the server was not told of is owed until it was told after that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.cache.owed import EVERYTHING, TAGS_MOST, Owed

tags = st.sampled_from(["a", "b", "c"])
steps = st.lists(st.tuples(st.sampled_from(["add", "begin", "end", "fail"]), tags), max_size=30)


@given(steps)
def test_a_change_is_owed_until_something_told_after_it_arrived(asked):
    """Whatever is told and fails meanwhile; and whoever keeps promises is woken for it alone."""
    owed = Owed()
    changes: dict[str, int] = {}
    told: dict[str, int] = {}
    under_way: list[tuple[int, dict[str, int]]] = []
    for now, (step, tag) in enumerate(asked, 1):
        if step == "add":
            changes[tag] = now
            owed.add(tag)
        elif step == "begin":
            under_way.append((now, dict(owed.all())))
        elif step == "end" and under_way:
            began, telling = under_way.pop(0)
            told.update({each: max(told.get(each, 0), began) for each in telling})
            owed.settle(telling)
        elif step == "fail":
            owed.failed()
        missing = {each for each, at in changes.items() if told.get(each, 0) < at}
        assert set(owed.all()) == missing
        assert all(owed.holds([each]) == (each in missing) for each in "abc")
        assert bool(owed) == bool(missing)
        assert missing or not owed.late.is_set(), "nobody is woken for nothing"


def test_too_many_are_everything():
    owed = Owed()
    for number in range(TAGS_MOST + 1):
        owed.add(str(number))
    assert set(owed.all()) == {EVERYTHING}
    assert owed.holds([]), "an answer without a tag too"
    owed.settle(owed.all())
    assert not owed
