"""What is counted is what Prometheus reads, and labels cannot blow it up."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.observability.catalogue import DISK_FREE, LOG_EVENTS
from chrono_ray.observability.log import count
from chrono_ray.observability.metrics import (
    SERIES_MAX,
    Counted,
    Counter,
    Gauge,
    Histogram,
    Meter,
    Registry,
    Spread,
    Stands,
)
from chrono_ray.observability.own import watch_disks

FETCHES = Counter("chrono_fetches", "Fetches ended, by outcome.", ("outcome",))
DEPTH = Gauge("chrono_queue_depth", "Captures waiting.", ("queue",))
SECONDS = Histogram("chrono_fetch_seconds", "From lease to answer.", ("archive",), (0.1, 1.0))
PLAIN = Counter("chrono_plain", "Without labels.")
ASKED = Counter("chrono_asked", "By whom, for what.", ("part", "path", "status"), 5, ("path",))


def read(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The rendered text as Prometheus' own parser understands it."""
    parser = pytest.importorskip("prometheus_client.parser")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(registry.render())
        for sample in family.samples
    }


def test_counters_add_up_by_label():
    registry = Registry()
    meter: Meter = registry
    meter.add(FETCHES, "stored")
    meter.add(FETCHES, "stored", amount=2)
    meter.add(FETCHES, "gone")
    meter.add(PLAIN)
    assert read(registry) == {
        ("chrono_fetches_total", (("outcome", "stored"),)): 3,
        ("chrono_fetches_total", (("outcome", "gone"),)): 1,
        ("chrono_plain_total", ()): 1,
    }


def test_gauges_stand_at_their_last_value():
    registry = Registry()
    registry.set(DEPTH, "scraping", value=5)
    registry.set(DEPTH, "scraping", value=-2.5)
    assert read(registry) == {("chrono_queue_depth", (("queue", "scraping"),)): -2.5}


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_histogram_buckets_are_cumulative_and_complete(values):
    registry = Registry()
    for value in values:
        registry.observe(SECONDS, "wayback", value=value)
    samples = read(registry)
    archive = ("archive", "wayback")
    for bound in ("0.1", "1.0"):
        counted = samples[("chrono_fetch_seconds_bucket", (archive, ("le", bound)))]
        assert counted == sum(value <= float(bound) for value in values)
    assert samples[("chrono_fetch_seconds_bucket", (archive, ("le", "+Inf")))] == len(values)
    assert samples[("chrono_fetch_seconds_count", (archive,))] == len(values)
    assert samples[("chrono_fetch_seconds_sum", (archive,))] == pytest.approx(sum(values))


@given(st.text(min_size=1))
def test_any_label_value_survives_the_text(value):
    registry = Registry()
    registry.add(FETCHES, value)
    registry.render().encode("utf-8")
    ((_, labels),) = read(registry)
    assert labels[0][1] == value.encode("utf-8", "replace").decode()


def test_label_values_beyond_the_limit_are_counted_together():
    registry = Registry()
    for number in range(SERIES_MAX + 50):
        registry.add(FETCHES, f"host{number}.example")
    registry.add(FETCHES, "host0.example")
    samples = read(registry)
    assert len(samples) == SERIES_MAX + 1
    assert samples[("chrono_fetches_total", (("outcome", "other"),))] == 50
    assert samples[("chrono_fetches_total", (("outcome", "host0.example"),))] == 2


def test_beyond_the_limit_only_what_is_wide_is_told_no_longer():
    registry = Registry()
    for number in range(20):
        registry.add(ASKED, "api", f"/{number}", "4xx")
    registry.add(ASKED, "api", "/new", "5xx", amount=7)
    assert registry.readings()[-2:] == [
        Counted(ASKED, ("api", "other", "4xx"), 15),
        Counted(ASKED, ("api", "other", "5xx"), 7),
    ]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda registry: registry.add(FETCHES),
        lambda registry: registry.add(FETCHES, "a", "b"),
        lambda registry: registry.add(FETCHES, "a", amount=-1),
        lambda registry: registry.set(Gauge("chrono_fetches", "Other."), value=1),
    ],
)
def test_misuse_is_refused(misuse):
    registry = Registry()
    registry.add(FETCHES, "stored")
    with pytest.raises(ValueError, match="chrono_fetches"):
        misuse(registry)


def test_equal_declarations_are_one_metric():
    registry = Registry()
    registry.add(FETCHES, "stored")
    registry.add(Counter("chrono_fetches", "Fetches ended, by outcome.", ("outcome",)), "stored")
    assert list(read(registry).values()) == [2]


def test_threads_lose_no_count():
    registry = Registry()

    def count() -> None:
        for _ in range(2_000):
            registry.add(FETCHES, "stored")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert list(read(registry).values()) == [8_000]


def test_where_everything_stands_is_told_as_often_as_it_is_asked():
    registry = Registry()
    registry.add(FETCHES, "stored", amount=2)
    registry.set(DEPTH, "scraping", value=5)
    registry.observe(SECONDS, "wayback", value=0.5)
    registry.observe(SECONDS, "wayback", value=7)
    stands = [
        Counted(FETCHES, ("stored",), 2),
        Stands(DEPTH, ("scraping",), 5),
        Spread(SECONDS, ("wayback",), (0, 1, 1), 7.5),
    ]
    assert registry.readings() == stands
    assert registry.readings() == stands
    registry.clear(DEPTH)
    registry.add(FETCHES, "stored")
    assert registry.readings()[:1] == [Counted(FETCHES, ("stored",), 3)]
    assert not [each for each in registry.readings() if isinstance(each, Stands)]


def test_what_others_count_is_counted_up_to():
    registry = Registry()
    registry.reach(FETCHES, "stored", total=5)
    registry.reach(FETCHES, "stored", total=8)
    assert registry.readings() == [Counted(FETCHES, ("stored",), 8)]
    registry.reach(FETCHES, "stored", total=3)  # whoever counts has begun anew
    assert registry.readings() == [Counted(FETCHES, ("stored",), 11)]


def test_who_is_watched_is_asked_when_the_numbers_are_read():
    registry, depth = Registry(), [1]
    registry.watch(lambda meter: meter.set(DEPTH, "scraping", value=depth[0]))
    assert registry.readings() == [Stands(DEPTH, ("scraping",), 1)]
    depth[0] = 4
    assert registry.readings() == [Stands(DEPTH, ("scraping",), 4)]


@pytest.fixture
def counting() -> Iterator[Registry]:
    """What counts every line that is logged."""
    registry, root = Registry(), logging.getLogger()
    before = list(root.handlers)
    count(registry, "scraper")
    yield registry
    for each in set(root.handlers) - set(before):
        root.removeHandler(each)


def test_events_are_counted_by_their_names_and_others_lines_together(counting: Registry):
    ours = logging.getLogger("chrono_ray.test")
    ours.warning("page.again", extra={"fetch": 7})
    ours.warning("of a page: https://a.example/")
    logging.getLogger("others").warning("page.again")
    for _ in range(2):
        assert counting.readings() == [
            Counted(LOG_EVENTS, ("scraper", "warning", "page.again"), 1),
            Counted(LOG_EVENTS, ("scraper", "warning", "other"), 2),
        ]


class Dying:
    """Logs when it is collected, as a future does whose error nobody fetched."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        logging.getLogger("asyncio").error("Future exception was never retrieved")


def test_a_line_logged_by_a_collection_amid_a_reading_stops_nobody(counting: Registry):
    for number in range(SERIES_MAX):
        counting.add(FETCHES, str(number))

    def read_into_a_collection() -> None:
        gc.disable()
        garbage = [Dying() for _ in range(10)]
        garbage.clear()
        gc.set_threshold(gc.get_count()[0] + SERIES_MAX // 2)  # a reading makes an object a number
        gc.enable()
        counting.readings()

    thread, least = threading.Thread(target=read_into_a_collection, daemon=True), gc.get_threshold()
    try:
        thread.start()
        thread.join(10)
    finally:
        gc.set_threshold(*least)
    assert not thread.is_alive(), "it waits for a lock that it holds itself"
    gc.collect()
    lines = [each for each in counting.readings() if each.metric is LOG_EVENTS]
    assert lines == [Counted(LOG_EVENTS, ("scraper", "error", "other"), 10)]


def test_the_disks_of_folders_are_told_before_the_folders_are_there(tmp_path: Path):
    registry = Registry()
    watch_disks(registry, {"data": tmp_path, "payloads": tmp_path / "not" / "yet"})
    stands = {
        (each.metric.name, each.values): each.value
        for each in registry.readings() if isinstance(each, Stands)
    }  # fmt: skip
    size, free = (shutil.disk_usage(tmp_path)[at] for at in (0, 2))
    for folder in ("data", "payloads"):
        assert 0 < stands[("chrono_disk_size_bytes", (folder,))] <= size
        assert stands[("chrono_disk_free_bytes", (folder,))] == pytest.approx(free, rel=0.05)


def test_what_cannot_be_looked_at_silences_nothing_else(tmp_path: Path, monkeypatch, caplog):
    closed, look = tmp_path / "closed", Path.stat

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self == closed:
            raise OSError(errno.ESTALE, "Stale file handle", str(self))
        return look(self, follow_symlinks=follow_symlinks)

    def fail(_meter: Meter) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(Path, "stat", stat)
    registry = Registry()
    registry.watch(fail)
    watch_disks(registry, {"data": tmp_path, "payloads": closed})
    told = [each.values for each in registry.readings() if each.metric is DISK_FREE]
    assert told == [("data",)]
    assert [each.message for each in caplog.records] == ["metrics.untold"]
