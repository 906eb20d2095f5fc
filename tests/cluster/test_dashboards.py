"""Every panel shows data, by a real Prometheus that scrapes a real running instance."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from chrono_ray.cli.dashboards import OWN
from chrono_ray.embedded.ports import free_port
from chrono_ray.observability.prometheus import FILE
from dashboards.alerts import ALERTS
from dashboards.boards import BOARDS
from dashboards.build import ALERTS as RULES
from tests.cluster.conftest import Served
from tests.support.accounts import bearer
from tests.support.cluster import until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="Prometheus is not installed: apt-get install prometheus",
    ),
]

SITE = "lanternbay.example"
YEARS = range(2003, 2007)
TOLD_SECONDS = 20.0
CHOSEN = {"$__rate_interval": "5m", "$archive": ".*", "$application": ".*"}
"""What Grafana puts in place of the variables."""
EXCUSED = {
    (board.uid, panel.title): panel.empty
    for board in BOARDS for panel in board.panels if panel.empty
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A panel's query as it is committed."""

    board: str
    panel: str
    expression: str


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        told = answer.json()
        assert told["status"] == "success", told
        return told["data"]

    def has(self, expression: str) -> bool:
        """Whether it gives a number; the expression must be one that Prometheus understands."""
        result = self.ask("query", query=expression)["result"]
        return any(not math.isnan(float(each["value"][1])) for each in result)

    def ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        except httpx2.TransportError:
            return False


@pytest.fixture(scope="module")
def prometheus(cluster: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """By the configuration that the instance writes, only asked more often, and with our rules."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((cluster.machine.data_dir / FILE).read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    (folder / FILE).write_text(yaml.safe_dump(config), "utf-8")
    with running(folder) as found:
        until(found.ready, 30, "Prometheus is ready")
        yield found


@contextmanager
def running(folder: Path) -> Iterator[Prometheus]:
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / FILE}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"],
            cwd=folder, env=dict(os.environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)


def queries() -> list[Asked]:
    found = []
    for path in sorted(OWN.glob("*.json")):
        board = json.loads(path.read_text("utf-8"))
        found += [
            Asked(board["uid"], panel["title"], put_in(target["expr"]))
            for panel in board["panels"] for target in panel.get("targets", [])
        ]  # fmt: skip
    return found


def put_in(expression: str) -> str:
    for name, value in CHOSEN.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def use(cluster: Served, year: int) -> None:
    """A run to its end, found, and asked for as people do: some of it twice."""
    years = ("--from", str(year), "--to", str(year))
    done = cluster.machine.chrono("run", SITE, "--project", f"shown-{year}", *years)
    assert done.code == 0, done.err
    with httpx2.Client(headers=bearer(cluster.key), timeout=20) as client:
        for _ in range(3):
            for path in ("/projects", "/runs", "/search?q=harbour", "/stats/queues", "/health"):
                assert client.get(f"{cluster.api}{path}").status_code == 200, path


@pytest.fixture(scope="module")
def missing(cluster: Served, prometheus: Prometheus) -> list[Asked]:
    """What still showed nothing after runs and requests.

    Processes tell of themselves every ten seconds: what grows is seen to by the next run.
    """
    wanted = [each for each in queries() if (each.board, each.panel) not in EXCUSED]
    assert len(wanted) > 90
    for year in YEARS:
        if wanted:
            use(cluster, year)
        ends = time.monotonic() + TOLD_SECONDS
        while wanted and time.monotonic() < ends:
            wanted = [each for each in wanted if not prometheus.has(each.expression)]
            time.sleep(0.5 if wanted else 0)
    return wanted


def test_every_panel_shows_data_of_a_real_run(missing: list[Asked]):
    assert not missing, "\n".join(f"{e.board} / {e.panel}: {e.expression}" for e in missing)


def test_what_may_be_empty_is_understood_too(prometheus: Prometheus):
    for each in queries():
        if (each.board, each.panel) in EXCUSED:
            prometheus.ask("query", query=each.expression)
    assert all(len(reason) > 10 for reason in EXCUSED.values())


@pytest.mark.usefixtures("missing")
def test_rules_are_evaluated_and_nothing_fires_while_all_is_well(prometheus: Prometheus):
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: all(each["health"] == "ok" for each in rules()), 30, "every rule is evaluated")
    assert {each["name"] for each in rules()} == {alert.name for alert in ALERTS}
    assert [each["name"] for each in rules() if each["state"] == "firing"] == []


@pytest.mark.usefixtures("missing")
def test_what_alerts_look_at_is_there(prometheus: Prometheus):
    """An alert on a series that nobody tells would be silent for ever."""
    asked = {
        name for alert in ALERTS for name in re.findall(r"\b(?:ray|chrono)_\w+", alert.expression)
    }
    assert {name for name in asked if not prometheus.has(f"count({name})")} == set()
