"""A process's numbers are told for as long as it lives."""

from __future__ import annotations

import logging

import pytest

from chrono_ray.cluster import metrics


def test_what_fails_once_is_told_the_next_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "EVERY", 0.01)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    asked = []

    def flush() -> None:
        asked.append(True)
        raise RuntimeError("changed during iteration") if len(asked) == 1 else KeyboardInterrupt

    exporter = metrics.Exporter("scraper")
    monkeypatch.setattr(exporter, "flush", flush)
    with pytest.raises(KeyboardInterrupt):
        exporter._run()
    assert len(asked) == 2
