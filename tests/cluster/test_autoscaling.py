"""Only what waits changes: pending scrapers bring up nodes, idle nodes leave drained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chrono_ray.cluster.machine import budget_here
from tests.cluster.conftest import IN_THE_LONG_RUN
from tests.support.archive import ArchiveProcess, archive_process
from tests.support.autoscaling import raylets, scaled_head
from tests.support.cluster import Cluster, owned_cluster, until

pytestmark = [pytest.mark.timeout(240), IN_THE_LONG_RUN]

SITE = "lanternbay.example"
MOST = 3
SETTINGS = {
    "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
    "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "240",
    "CHRONO_SCRAPING__SCRAPERS_MOST": str(MOST),
    "CHRONO_SCRAPING__IN_FLIGHT": "4",
    "CHRONO_SCRAPING__IDLE": "2",
}


@dataclass(frozen=True, slots=True)
class Scaled:
    """An operator's cluster of nodes that hold one scraper each, and none on its head."""

    cluster: Cluster
    archive: ArchiveProcess
    head: int

    def nodes(self) -> int:
        return len(raylets(self.head)) - 1


@pytest.fixture
def scaled() -> Iterator[Scaled]:
    budget = budget_here()
    with (
        tempfile.TemporaryDirectory(prefix="chrono-scaled-") as folder,
        archive_process("--captures", "1200") as archive,
        scaled_head(Path(folder), budget, memory=budget.scraper.memory, most=MOST) as (
            address,
            pid,
        ),
    ):
        settings = {
            **SETTINGS,
            **address.environment({}),
            "CHRONO_ARCHIVES__WAYBACK__URL": archive.url,
            "CHRONO_RAY_ADDRESS": address.gcs,
        }
        with owned_cluster(settings) as cluster:
            yield Scaled(cluster, archive, pid)


def test_pending_work_brings_up_nodes_and_idle_nodes_leave_drained(scaled: Scaled):
    until(lambda: scaled.nodes() == 1, 60, "the scraper that is always there has its node")
    with scaled.cluster.spawn("run", SITE, "--json") as command:
        until(lambda: scaled.nodes() == MOST, 60, f"pending scrapers brought up {MOST} nodes")
        workers = "SELECT count(DISTINCT worker) FROM leases"
        until(lambda: scaled.cluster.value(workers) == MOST, 60, "every node's scraper fetches")
        scaled.cluster.fetch("UPDATE runs SET state = 'cancelled' WHERE state = 'active'")
        until(lambda: scaled.nodes() == 1, 90, "idle nodes left")
        command.communicate(timeout=60)
    assert scaled.cluster.value("SELECT count(*) FROM attempts WHERE reason = 'lost'") == 0
    assert scaled.cluster.value("SELECT count(*) FROM leases") == 0
