"""The list of metrics keeps to Prometheus' conventions, to the code and to the documentation."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter as Count
from pathlib import Path

import pytest

from chrono_ray.observability import catalogue
from chrono_ray.observability.catalogue import ACTOR, RECORD, Source, exported, source_of
from chrono_ray.observability.metrics import Counter, Gauge, Histogram, Metric, Registry

ROOT = Path(__file__).resolve().parents[3]
EVERY = (*RECORD, *ACTOR)
NAMED = {name: each for name, each in vars(catalogue).items() if isinstance(each, Metric)}
NAME = re.compile(r"chrono_[a-z]+(_[a-z]+)*")
LABEL = re.compile(r"[a-z]+(_[a-z]+)*")
RESERVED = {"le", "quantile", "job", "instance", "name"}
NOT_BASE = ("_ms", "_milliseconds", "_minutes", "_kb", "_mib", "_megabytes", "_percent", "_total")
SERIES_MOST = 3000
"""Of one metric in one process, buckets and all."""


def test_every_metric_is_told_by_somebody_and_by_one():
    assert Count(map(id, EVERY)) == Count(map(id, NAMED.values()))
    assert len({each.name for each in EVERY}) == len(EVERY)
    assert {source_of(each) for each in RECORD} == {Source.RECORD}


@pytest.mark.parametrize("metric", EVERY, ids=lambda each: each.name)
def test_it_is_named_as_prometheus_names(metric: Metric):
    assert NAME.fullmatch(metric.name)
    assert not metric.name.endswith(NOT_BASE)
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_info_total"))
    assert all(LABEL.fullmatch(each) for each in metric.labels)
    assert RESERVED.isdisjoint(metric.labels)
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert metric.help.endswith(".")


@pytest.mark.parametrize("metric", EVERY, ids=lambda each: each.name)
def test_it_cannot_blow_up(metric: Metric):
    buckets = len(metric.buckets) + 3 if isinstance(metric, Histogram) else 1
    assert metric.series * buckets <= SERIES_MOST
    if isinstance(metric, Histogram):
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.buckets[0] > 0


def test_what_one_queries_is_said():
    assert exported(catalogue.UP) == ("chrono_up",)
    assert exported(catalogue.FETCHES) == ("ray_chrono_fetches_total",)
    assert exported(catalogue.TRANSACTIONS) == ("chrono_database_transactions_total",)
    assert exported(catalogue.SETTLE_SECONDS)[0] == "ray_chrono_settle_duration_seconds_bucket"


@pytest.mark.parametrize("name", NAMED)
def test_it_is_counted_somewhere(name: str):
    assert re.search(rf"\b{name}\b", _code()), f"nobody tells {name}"


def _code() -> str:
    files = (ROOT / "chrono_ray").rglob("*.py")
    return "\n".join(each.read_text("utf-8") for each in files if each.name != "catalogue.py")


@pytest.mark.parametrize("metric", EVERY, ids=lambda each: each.name)
def test_it_is_documented_as_it_is(metric: Metric):
    assert _row(metric) in (ROOT / "docs" / "metrics.md").read_text("utf-8").splitlines()


def _row(metric: Metric) -> str:
    names = exported(metric)
    shown = names[0].removesuffix("_bucket") if isinstance(metric, Histogram) else names[0]
    labels = ", ".join(f"`{each}`" for each in metric.labels)
    return f"| `{shown}` | {type(metric).__name__.lower()} | {labels} | {metric.help} |"


def test_the_documentation_names_no_other():
    told = set(re.findall(r"^\| `(\w*chrono_\w+)`", _documentation(), re.MULTILINE))
    assert told == {_row(each).split("`")[1] for each in EVERY}


def _documentation() -> str:
    return (ROOT / "docs" / "metrics.md").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_to_say():
    registry = Registry()
    for metric in EVERY:
        values = ["x"] * len(metric.labels)
        match metric:
            case Counter():
                registry.add(metric, *values)
            case Gauge():
                registry.set(metric, *values, value=1)
            case Histogram():
                registry.observe(metric, *values, value=1)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=registry.render(), text=True, capture_output=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
