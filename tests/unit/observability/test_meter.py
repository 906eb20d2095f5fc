"""What is counted is what Prometheus reads, and labels cannot blow it up."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.observability.metrics import SERIES_MAX, Counter, Gauge, Histogram, Meter, Registry

FETCHES = Counter("chrono_fetches", "Fetches ended, by outcome.", ("outcome",))
DEPTH = Gauge("chrono_queue_depth", "Captures waiting.", ("queue",))
SECONDS = Histogram("chrono_fetch_seconds", "From lease to answer.", ("archive",), (0.1, 1.0))
PLAIN = Counter("chrono_plain", "Without labels.")


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
