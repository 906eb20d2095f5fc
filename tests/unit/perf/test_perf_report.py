"""What is told: JSON as documented, a table with every row, a page that is safe and whole."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chrono_ray.perf.catalogue import ROWS, Measure
from chrono_ray.perf.figures import Measured, Spread, failed, figures, none_of
from chrono_ray.perf.page import as_html
from chrono_ray.perf.plots import FARTHEST, closeness
from chrono_ray.perf.telling import Machine, Report, as_json, as_table

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "performance.md"
HOSTILE = '</script><script>alert(1)</script>" & <b>'
SPREAD = Spread.of([1.0, 2.0, 300.0])
RESULTS = {
    "users.p95": Measured(12.5, SPREAD),
    "memory.api": Measured(900.0),
    "scrape.pages": Measured(4000.0, course=((0.0, 0.0), (1.0, 50.0))),
    "cache.hits": Measured(80.0),
    **none_of(Measure.CLAIM, HOSTILE),
    **failed(Measure.STATISTICS, "it took too long"),
}
REPORT = Report(
    HOSTILE, datetime(2026, 11, 22, 12, tzinfo=UTC), 10.0, 151.26,
    Machine("Linux", "3.11.7", 2, 23.5, 1.0), figures(RESULTS),
)  # fmt: skip


class Page(HTMLParser):
    """Every element with its attributes, what lies open, and text by its element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open = [""]
        self.feed(text)
        assert self._open == [""]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1], data))


def test_json_has_what_is_documented_and_nothing_else() -> None:
    told = json.loads(as_json(REPORT))
    assert told["verdict"] == "missed"
    assert told["at"] == "2026-11-22T12:00:00Z"
    [example] = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    documented = json.loads(example)
    assert set(told) == set(documented)
    assert set(told["machine"]) == set(documented["machine"])
    for each in told["figures"]:
        assert set(each) == set(documented["figures"][0])
    by_name = {each["name"]: each for each in told["figures"]}
    assert by_name["memory.api"]["target"] == {"bound": 800, "at_least": False}
    assert by_name["memory.api"]["verdict"] == "missed"
    assert by_name["users.p95"]["spread"] == {"count": 3, "p50": 2.0, "p95": 300.0, "p99": 300.0}
    assert (by_name["claim.p99"]["value"], by_name["claim.p99"]["why"]) == (None, HOSTILE)
    broken = by_name["statistics.record"]
    assert (broken["value"], broken["verdict"]) == (None, "missed")


def test_every_row_is_documented() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert set(re.findall(r"^\| `([a-z0-9.]+)` \|", text, re.MULTILINE)) == {r.name for r in ROWS}


def test_the_table_has_every_row_that_was_asked_for_and_each_reason_once() -> None:
    lines = as_table(REPORT).splitlines()
    for each in REPORT.figures:
        asked = each.row.name in RESULTS
        assert any(line.startswith(each.row.what) for line in lines) == asked, each.row.name
    assert [line for line in lines if HOSTILE in line and "claim" in line] == [
        f"not measured: claim.p99, claim.rate: {HOSTILE}"
    ]
    [memory] = [line for line in lines if line.startswith("API processes")]
    assert memory.split()[-5:] == ["800", "MiB", "900", "MiB", "MISSED"]
    [claim] = [line for line in lines if line.startswith("a claim of 32")]
    assert "<= 20 ms" in claim
    assert "MISSED: statistics.record: it took too long" in lines


def test_the_page_shows_as_text_what_came_from_elsewhere() -> None:
    page = Page(as_html(REPORT))
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "report"}]
    assert "b" not in {tag for tag, _ in page.elements}
    [data] = [text for tag, text in page.texts if tag == "script"]
    assert json.loads(data)["instance"] == HOSTILE
    assert HOSTILE in {text for tag, text in page.texts if tag == "p"}


def test_the_page_asks_for_nothing_from_anywhere() -> None:
    text = as_html(REPORT)
    for _, attributes in Page(text).elements:
        assert {"src", "href", "srcset", "action"}.isdisjoint(attributes)
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_has_a_plot_for_what_there_is_and_none_for_what_there_is_not() -> None:
    plots = [each for each, _ in Page(as_html(REPORT)).elements if each == "svg"]
    assert len(plots) == 4
    nothing = replace(REPORT, figures=figures({}))
    assert "<svg" not in as_html(nothing)


@pytest.mark.parametrize(
    ("name", "value", "share"),
    [
        ("memory.api", 400.0, 0.5), ("memory.api", 80_000.0, FARTHEST),
        ("scrape.pages", 600.0, 0.5), ("scrape.pages", 0.0, FARTHEST),
        ("users.errors", 0.0, 0.0), ("users.errors", 1.0, FARTHEST),
    ],
)  # fmt: skip
def test_a_bar_ends_before_the_line_when_its_target_is_met(
    name: str, value: float, share: float
) -> None:
    [figure] = [each for each in figures({name: Measured(value)}) if each.row.name == name]
    assert closeness(figure) == share
