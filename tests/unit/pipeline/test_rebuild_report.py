"""What is said of a rebuild, and with which exit code it ends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chrono_ray.pipeline.rebuild import as_json, exit_code, live_line, summary
from chrono_ray.storage.rebuilds import Rebuild, RebuildState

HALF = Rebuild(7, RebuildState.FILLING, "asked for", 1000, 490, 10, 3, "", 5.0, worked_on=True)


@pytest.mark.parametrize(
    ("state", "rejected", "code"),
    [
        (RebuildState.DONE, 0, 0),
        (RebuildState.DONE, 1, 3),
        (RebuildState.FAILED, 0, 1),
        (RebuildState.FILLING, 0, 130),
        (RebuildState.SWAPPED, 0, 130),
    ],
)
def test_the_exit_code_says_how_it_ended(state: RebuildState, rejected: int, code: int) -> None:
    assert exit_code(replace(HALF, state=state, rejected=rejected)) == code


def test_a_live_line_says_where_it_is() -> None:
    line = live_line(HALF)
    assert line == "rebuild 7: filling, 500 of 1,000 pages (100/s), 3 changes to catch up with"
    assert live_line(replace(HALF, seconds=0.0, changes=0)).endswith("(0/s)")
    assert "waits for the indexer" in live_line(replace(HALF, worked_on=False))


def test_the_end_is_told_with_what_was_refused_and_why_it_failed() -> None:
    done = replace(HALF, state=RebuildState.DONE)
    assert summary(done) == "The fresh index answers now: 490 pages, 10 are refused by it."
    failed = replace(HALF, state=RebuildState.FAILED, error="disk full")
    assert "the old one is untouched: disk full" in summary(failed)
    assert json.loads(as_json(failed)) == {
        "rebuild": 7, "state": "failed", "pages": 490, "rejected": 10, "seconds": 5.0,
        "error": "disk full",
    }  # fmt: skip
