"""What workers count is there before it happens."""

from __future__ import annotations

from chrono_ray.observability import catalogue
from chrono_ray.observability.metrics import Counted, Registry
from chrono_ray.pipeline.measured import begin_at_zero


def test_what_alerts_go_by_begins_at_zero():
    meter = Registry()
    begin_at_zero(meter, ["wayback", "warc:/a/path", "warc:/b/path"])
    told = meter.readings()
    assert all(isinstance(each, Counted) and each.total == 0 for each in told)
    throttled = {each.values for each in told if each.metric is catalogue.ARCHIVE_THROTTLED}
    assert ("wayback", "replay", "throttled") in throttled
    assert {archive for archive, *_ in throttled} == {"wayback", "warc"}
    assert {each.metric for each in told} == {
        catalogue.ARCHIVE_THROTTLED, catalogue.LEASES_LOST, catalogue.LEASES_RESCUED,
        catalogue.EXTRACTION_RESTARTS,
    }  # fmt: skip
