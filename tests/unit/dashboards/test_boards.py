"""The boards: current, whole, and made of what there is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations

import pytest
import yaml

from chrono_ray.observability import catalogue
from chrono_ray.observability.catalogue import ACTOR, RECORD
from chrono_ray.observability.metrics import Gauge
from dashboards import promql
from dashboards.board import Unit
from dashboards.boards import BOARDS
from dashboards.build import ALERTS, JSON, files, stale
from dashboards.grafana import encoded
from dashboards.rays import RAYS

NAME = re.compile(r"\b(?:chrono|ray)_\w+|\bALERTS\b")
BY = re.compile(r"\b(?:by|topk\([^()]*,\s*\w+ by) \(([^()]*)\)")
KNOWN = {name for metric in (*RECORD, *ACTOR, *RAYS) for name in promql.names(metric)}
GROWING = {
    name for metric in (*RECORD, *ACTOR) if not isinstance(metric, Gauge)
    for name in promql.names(metric)
}  # fmt: skip
GROWTH = ("rate(", "increase(", "min_over_time(", "unless ")
# the last two: what a series began with, where it was not there before
PROMETHEUS_OWN = {"ALERTS"}
FOLDERS = {path: json.loads(path.read_text("utf-8")) for path in sorted(JSON.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{path.stem}: {panel['title']}")
    for path, board in FOLDERS.items() for panel in board["panels"] if panel["type"] != "row"
]  # fmt: skip


def expressions() -> list[str]:
    asked = [target["expr"] for each in PANELS for target in each.values[0]["targets"]]
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [*asked, *(rule["expr"] for group in groups for rule in group["rules"])]


def test_what_is_committed_is_what_is_built():
    assert stale(files()) == [], "make dashboards"


def test_a_board_that_changed_or_that_nothing_builds_is_not_current(tmp_path):
    wanted = files()
    [first, *_] = wanted
    board = replace(BOARDS[0], title="another")
    assert stale({**wanted, first: encoded(board)}) == [first]
    assert stale({path: text for path, text in wanted.items() if path != first}) == [first]


def test_there_are_the_boards_that_operators_are_promised():
    assert [board["uid"] for board in FOLDERS.values()] == sorted(
        ["chrono-overview", "chrono-api", "chrono-scraping", "chrono-indexing", "chrono-storing",
         "chrono-actors"]
    )  # fmt: skip
    assert all("chrono_ray" in board["tags"] for board in FOLDERS.values()), "push goes by it"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel):
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"] in set(Unit)
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["legendFormat"]
        grouped = {
            word.strip() for found in BY.findall(target["expr"]) for word in found.split(",")
        }
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= grouped


@pytest.mark.parametrize("board", FOLDERS.values(), ids=lambda board: board["uid"])
def test_panels_lie_side_by_side(board):
    places = [each["gridPos"] for each in board["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)
    ids = [each["id"] for each in board["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [each["title"] for each in board["panels"] if each["type"] != "row"]
    assert len(set(titles)) == len(titles)


def test_every_metric_that_is_asked_for_exists():
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert asked - KNOWN == PROMETHEUS_OWN


def test_every_metric_is_on_a_board():
    shown = {name for expression in expressions() for name in NAME.findall(expression)}
    assert [
        metric.name for metric in (*RECORD, *ACTOR) if shown.isdisjoint(promql.names(metric))
    ] == []


def test_what_only_grows_is_asked_how_fast():
    """A counter as it stands says nothing; a bucket is read by `le`."""
    for expression in expressions():
        for found in NAME.finditer(expression):
            if found[0] in GROWING:
                assert expression[: found.start()].endswith(GROWTH), expression
        if "_bucket" in expression:
            assert re.search(r"histogram_quantile\([\d.]+, sum by \(le", expression), expression


def test_labels_that_a_metric_does_not_have_cannot_be_asked_for():
    with pytest.raises(ValueError, match="chrono_up has no label state"):
        promql.told(catalogue.UP, ("state",))
    with pytest.raises(ValueError, match="has no label host"):
        promql.rate(catalogue.FETCHES, ("archive",), 'host=~"a"')


def test_what_the_record_tells_counts_once_whoever_tells_it():
    assert promql.told(catalogue.LISTING_HOLES) == "max(chrono_listing_holes)"
    assert promql.told(catalogue.QUEUE_DEPTH, ("class",)) == (
        "sum by (class) (max by (class, work, state) (chrono_queue_depth))"
    )
    assert promql.told(catalogue.LEASES_HELD) == "sum(ray_chrono_leases_held)"
