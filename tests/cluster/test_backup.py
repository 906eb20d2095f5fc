"""A whole cluster is backed up in the middle of a run and lost; its run ends on another one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cluster.conftest import IN_THE_LONG_RUN, REPLAYS_PER_MINUTE
from tests.support.archive import archive_process
from tests.support.cluster import Cluster, cluster_folder, owned_cluster, until

pytestmark = [pytest.mark.timeout(400), IN_THE_LONG_RUN]

CAPTURES = 500
SITE = "lanternbay.example"
UNDER_WAY = """
SELECT count(*) FILTER (WHERE state = 'stored') > 50
       AND count(*) FILTER (WHERE state = 'pending') > 50 AND EXISTS (SELECT FROM leases)
  FROM fetches
"""


def test_a_run_goes_on_where_its_backup_is_restored(tmp_path: Path) -> None:
    place = str(tmp_path / "backups")
    with archive_process("--captures", str(CAPTURES)) as archive:
        settings = {
            "CHRONO_ARCHIVES__WAYBACK__URL": archive.url,
            "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
            "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": str(REPLAYS_PER_MINUTE),
        }
        with owned_cluster(settings) as lost:
            backed_up_under_way(lost, place)
        with cluster_folder(settings) as found:
            restored = found.chrono("restore", place, "--json")
            assert restored.code == 0, restored.err
            assert 0 < restored.json["indexed"] < restored.json["rows"]["captures"]
            found.start()
            gone_on = found.chrono("run", SITE, "--json")
            assert gone_on.code == 0, gone_on.err
            captures = gone_on.json["captures"]
            assert gone_on.json["run"] == 1, "it is the run that was under way"
            assert (captures["discovered"], captures["pending"]) == (CAPTURES, 0)
            assert gone_on.json["pages"] == gone_on.json["indexed"]
            verified = found.chrono("verify", "1", "--json")
            assert verified.code == 0, verified.out
            compared = found.chrono("reconcile", "--json")
            assert compared.code == 0, compared.out


def backed_up_under_way(cluster: Cluster, place: str) -> None:
    with cluster.spawn("run", SITE, "--json") as command:
        until(lambda: cluster.value(UNDER_WAY), 60, "half of it is stored")
        made = cluster.chrono("backup", place, "--json")
        assert made.code == 0, made.err
        assert cluster.value(UNDER_WAY), "the run had ended before the backup"
        command.send_signal(signal.SIGINT)  # it goes on without its command
        command.communicate(timeout=60)
    assert made.json["missing"] == 0
    assert cluster.chrono("backup", place, "--verify").code == 0
