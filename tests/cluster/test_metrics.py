"""What the exporters of a cluster tell after a run: every number that a run makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from chrono_ray.observability import catalogue, prometheus
from chrono_ray.observability.catalogue import exported
from chrono_ray.observability.metrics import Histogram
from tests.cluster.conftest import Served
from tests.support.accounts import bearer

pytestmark = pytest.mark.timeout(300)
SECONDS: Final = 90.0
NOT_BY_A_RUN: Final = frozenset({
    # something fails, or somebody asks for a task
    catalogue.TASK_SECONDS_SPENT, catalogue.CACHE_CORRUPT, catalogue.LIVE_MESSAGES,
    catalogue.ACTOR_ENDS, catalogue.FETCH_FAILURES,
})  # fmt: skip
Samples = Mapping[str, list[Sample]]


async def scraped(http: httpx2.AsyncClient, targets: Collection[str]) -> Samples:
    """All that a Prometheus reads there, by the names of series."""
    found: dict[str, list[Sample]] = {}
    for target in targets:
        answer = await http.get(f"http://{target}/metrics")
        for family in text_string_to_metric_families(answer.raise_for_status().text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample)
    return found


def targets(cluster: Served) -> list[str]:
    """What the configuration that was written names: the API, and Ray's exporters by their file."""
    configuration = json.loads((cluster.machine.data_dir / prometheus.FILE).read_text())
    record, ray = configuration["scrape_configs"]
    [file] = ray["file_sd_configs"][0]["files"]
    groups = json.loads(Path(file).read_text())
    named = [each for group in groups for each in group["targets"]]
    assert all(each.startswith("127.0.0.1:") for each in named)
    return [*record["static_configs"][0]["targets"], *named]


def missing(found: Samples) -> list[str]:
    """Names that a run makes and nobody tells."""
    wanted = [each for each in (*catalogue.RECORD, *catalogue.ACTOR) if each not in NOT_BY_A_RUN]
    return [name for each in wanted for name in exported(each) if name not in found]


def total(found: Samples, name: str, **labels: str) -> float:
    told = found.get(name, [])
    return sum(each.value for each in told if labels.items() <= each.labels.items())


def collect(cluster: Served) -> dict[str, Any]:
    """A small run of the demo site; what it says at its end."""
    spoken = cluster.machine.chrono(
        "run", "https://lanternbay.example/", "--match", "domain", "--from", "2009", "--to", "2009",
        "--project", "metrics", "--json",
    )  # fmt: skip
    assert spoken.code == 0, spoken.err
    return spoken.json["captures"]


async def test_after_a_run_the_exporters_hold_every_number_a_run_makes(cluster: Served) -> None:
    """Others work on this cluster too: there may be more than this run made."""
    captures = await asyncio.to_thread(collect, cluster)
    left: list[str] = []
    async with httpx2.AsyncClient(timeout=30, headers=bearer(cluster.key)) as http:
        for path in ("projects", "stats/throughput", "live/events?seconds=1"):
            (await http.get(f"{cluster.api}/{path}")).raise_for_status()
        try:
            async with asyncio.timeout(SECONDS):
                while left := missing(found := await scraped(http, targets(cluster))):
                    await asyncio.sleep(0.5)
        except TimeoutError:
            pytest.fail(f"after {SECONDS:g} s nobody tells {left}")
    stored = total(found, "ray_chrono_fetches_total", archive="wayback", outcome="stored")
    assert stored >= captures["stored"] > 0
    assert total(found, "chrono_captures", state="discovered") >= captures["discovered"]
    assert total(found, "ray_chrono_listed_rows_total") >= captures["discovered"]
    assert total(found, "ray_chrono_supervisor_lookout") == 1
    assert total(found, "ray_chrono_process_info", part="proxy") == 1
    for each in catalogue.ACTOR:
        if isinstance(each, Histogram) and each not in NOT_BY_A_RUN:
            buckets, amount, count = exported(each)
            assert total(found, buckets, le="+Inf") == total(found, count) > 0
            assert total(found, amount) > 0
    assert total(found, "ray_chrono_index_batch_pages_sum") >= captures["stored"]
