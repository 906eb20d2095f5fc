"""The alert rules: each is explained, and fires when it must and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chrono_ray.cli.main import app
from dashboards.alerts import ALERTS
from dashboards.build import ALERTS as ALERTS_FILE
from dashboards.build import FOLDER, main

ROOT = Path(__file__).resolve().parents[3]
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
TESTS = FOLDER / "alerts_test.yml"
PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert):
    assert alert.name.startswith("Chrono")
    assert alert.summary
    assert len(alert.description) > 40
    assert alert.runbook == f"docs/runbooks.md#{alert.name.lower()}"
    section = RUNBOOKS.partition(f"## {alert.name}\n")[2].partition("\n## ")[0]
    assert "chrono " in section or "CHRONO_" in section, "it names what to do"


def test_the_runbooks_are_those_of_alerts_that_there_are():
    assert re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE) == [alert.name for alert in ALERTS]


def test_commands_that_runbooks_name_exist():
    known = {each.name or each.callback.__name__ for each in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    assert set(re.findall(r"`chrono\s+([a-z]+)", RUNBOOKS)) - known == set()


def test_a_runbook_is_a_link_only_where_one_says_where_it_leads(capsys: pytest.CaptureFixture[str]):
    def annotations() -> list[dict[str, str]]:
        groups = yaml.safe_load(capsys.readouterr().out)["groups"]
        return [rule["annotations"] for group in groups for rule in group["rules"]]

    sys.stdout.write(ALERTS_FILE.read_text("utf-8"))
    told = annotations()
    assert [each["runbook"] for each in told] == [alert.runbook for alert in ALERTS]
    assert not any("runbook_url" in each for each in told)
    assert main(["--runbooks", "https://wiki.example/r"]) == 0
    assert annotations()[0]["runbook_url"] == "https://wiki.example/r#chrononotscraped"


def test_every_alert_is_seen_to_fire():
    fired = set()
    for test in yaml.safe_load(TESTS.read_text("utf-8"))["tests"]:
        for asked in test.get("promql_expr_test", []):
            labels = (each["labels"] for each in asked["exp_samples"])
            fired |= {name for each in labels for name in re.findall(r'alertname="(\w+)"', each)}
        fired |= {
            each["alertname"] for each in test.get("alert_rule_test", []) if each["exp_alerts"]
        }
    assert fired == {alert.name for alert in ALERTS}


@PROMTOOL
def test_prometheus_accepts_the_rules():
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "alerts.yml")


@PROMTOOL
def test_alerts_fire_when_they_must_and_only_then():
    assert "SUCCESS" in promtool("test", "rules", TESTS.name)
