"""What a run says of itself: the JSON's stable form, exit codes, the live line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from chrono_ray.pipeline.report import Rates, RunReport, as_json, live_line, summary
from chrono_ray.storage.governor import Budget, Kind
from chrono_ray.storage.stats import CaptureCounts, PageCounts, Progress, PutOff, counts, summed

CAPTURES = CaptureCounts(
    discovered=20, stored=5, unchanged=3, known=2, repeated=1, gone=1, cancelled=0,
    skipped={"redirect": 4}, refused={"type": 2}, failed={},
)  # fmt: skip
PROGRESS = Progress(
    run_id=7, state="done", project="p", url="http://example.org/", archive="wayback",
    captures=CAPTURES, requests={"cdx": 1, "replay": 6}, holes=0, listing=0, seconds=1.23456,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip
REPORT = RunReport(PROGRESS, PageCounts(pages=6, indexed=6, rejected=0))


def test_the_json_has_its_stable_form_on_one_line() -> None:
    text = as_json(REPORT)
    assert "\n" not in text
    told = orjson.loads(text)
    assert told["captures"] == {
        "discovered": 20, "stored": 5, "unchanged": 3, "known": 2, "repeated": 1,
        "skipped": {"redirect": 4}, "gone": 1, "refused": {"type": 2}, "failed": {},
        "cancelled": 0, "pending": 2,
    }  # fmt: skip
    assert told["requests"] == {"cdx": 1, "replay": 6, "throttled": 0}
    assert {"run", "state", "pages", "indexed", "seconds"} <= told.keys()


def test_discovered_is_the_sum_of_the_rest() -> None:
    told = orjson.loads(as_json(REPORT))["captures"]
    rest = [n for name, n in told.items() if name != "discovered"]
    assert told["discovered"] == sum(sum(n.values()) if isinstance(n, dict) else n for n in rest)


def test_done_is_exit_0() -> None:
    assert (REPORT.state, REPORT.exit_code) == ("done", 0)


@pytest.mark.parametrize(
    "report",
    [
        replace(REPORT, progress=replace(PROGRESS, captures=replace(CAPTURES, failed={"x": 1}))),
        replace(REPORT, progress=replace(PROGRESS, holes=1)),
        replace(REPORT, pages=PageCounts(6, 5, 1)),
    ],
    ids=["a capture failed", "a hole in the listing", "a page refused by the index"],
)
def test_partial_is_exit_3(report: RunReport) -> None:
    assert (report.state, report.exit_code) == ("partial", 3)


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_what_somebody_else_stopped_is_partial_not_failed(state: str) -> None:
    report = replace(REPORT, progress=replace(PROGRESS, state=state))
    assert (report.state, report.exit_code) == (state, 3)


def test_a_plan_with_a_hole_is_partial_wherever_it_is_shown() -> None:
    planned = replace(PROGRESS, state="planned", holes=0)
    assert replace(REPORT, progress=planned).state == "planned"
    report = replace(REPORT, progress=replace(planned, holes=1))
    assert (report.state, report.exit_code) == ("partial", 3)


def test_the_summary_says_what_became_of_everything_and_how_to_check() -> None:
    text = summary(REPORT)
    assert "20 captures listed" in text
    assert "skipped: redirect" in text
    assert "chrono verify 7" in text


def test_the_live_line_says_what_is_left_of_the_budget() -> None:
    budget = Budget("wayback", Kind.REPLAY, "default", 480, 0.0, "")
    line = live_line(PROGRESS, [budget], Rates(2.0, {"replay": 30}))
    assert "450 of 480 replays" in line
    assert "2.0/s" in line
    once = live_line(PROGRESS, [budget], None)
    assert once.endswith("fetching"), "one look shows no rate"
    assert "/s" not in once


def test_the_live_line_says_why_it_waits() -> None:
    budget = Budget("wayback", Kind.REPLAY, "default", 480, 42.0, "throttled")
    line = live_line(PROGRESS, [budget], Rates(0.0, {}))
    assert "silent for 42 s (throttled)" in line


def test_the_live_line_says_that_the_listing_is_put_off_when_nothing_else_is_left() -> None:
    late = replace(PROGRESS, listing=1, put_off=PutOff(1800, "archive"))
    assert "fetching" in live_line(late, [], Rates(0.0, {}))
    idle = replace(late, captures=replace(CAPTURES, discovered=18))
    assert "asked for again in 30 min (archive)" in live_line(idle, [], Rates(0.0, {}))
    soon = replace(late, put_off=PutOff(60, "archive"))
    assert summed([late, soon]).put_off == soon.put_off
    assert summed([late, replace(PROGRESS, listing=1)]).put_off is None


ELSEWHERE = replace(
    PROGRESS, run_id=8, archive="pywb", state="active", holes=1, seconds=9.0,
    captures=replace(CAPTURES, discovered=25, skipped={"redirect": 1, "type": 8}),
    requests={"cdx": 2, "throttled": 1},
)  # fmt: skip


def test_a_collection_is_the_sum_of_its_runs() -> None:
    total = summed([PROGRESS, ELSEWHERE])
    assert (total.run_id, total.archives) == (7, ("wayback", "pywb"))
    assert (total.captures.discovered, total.captures.pending) == (45, 4)
    assert total.captures.skipped == {"redirect": 5, "type": 8}
    assert total.requests == {"cdx": 3, "replay": 6, "throttled": 1}
    assert (total.holes, total.seconds) == (1, 9.0)
    assert summed([PROGRESS]) is PROGRESS


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        (("done", "active"), "active"), (("done", "done"), "done"), (("paused", "done"), "paused"),
        (("cancelled", "done"), "cancelled"), (("planned", "active"), "active"),
    ],
)  # fmt: skip
def test_a_collection_has_ended_when_all_its_runs_have(states: tuple[str, ...], whole: str) -> None:
    assert summed([replace(PROGRESS, state=each) for each in states]).state == whole


def test_a_collection_is_told_as_one_with_its_parts() -> None:
    parts = (PROGRESS, ELSEWHERE)
    report = RunReport(summed(parts), REPORT.pages, parts)
    told = orjson.loads(as_json(report))
    assert (told["run"], told["runs"]) == (7, [7, 8])
    assert "run 8, pywb: active, 25 listed" in summary(report)
    assert orjson.loads(as_json(REPORT))["runs"] == [7]
    silent = Budget("pywb", Kind.REPLAY, "default", 480, 42.0, "throttled")
    assert "pywb silent for 42 s" in live_line(report.progress, [silent], Rates(0.0, {}))


def test_counters_that_cancelled_out_are_not_told() -> None:
    counted = counts([("failed", "archive", 0), ("failed", "deadline", 2), ("stored", "", 1)])
    assert counted.failed == {"deadline": 2}
    assert counted.stored == 1
