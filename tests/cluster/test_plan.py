"""A plan, its start and a change of rules, by command, on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.conftest import Served
from tests.support.cluster import until

pytestmark = pytest.mark.timeout(120)

SITE = "lanternbay.example"


def test_a_plan_sends_no_replay_until_it_is_started(cluster: Served, tmp_path: Path):
    chrono, value = cluster.machine.chrono, cluster.machine.value
    rules = tmp_path / "rules.txt"
    rules.write_text("one per year\n")
    plan = chrono("plan", SITE, "--project", "planned", "--rules", str(rules), "--json")
    assert plan.code == 0, plan.err
    run = plan.json["run"]
    assert plan.json["state"] == "planned"
    assert plan.json["captures"]["skipped"]["thinned"] > 0
    assert plan.json["requests"] == plan.json["archives"]["wayback"]["requests"] > 0
    sent = "SELECT coalesce(sum(n), 0) FROM domain_counters WHERE state = 'request'"
    assert value(f"{sent} AND reason = 'replay' AND run_id = $1", run) == 0

    started = chrono("start", str(run), "--json")
    assert started.json == {"run": run, "state": "active"}

    def done() -> bool:
        return bool(value("SELECT state = 'done' FROM runs WHERE id = $1", run))

    until(done, 60, "the planned run is done")
    asked = value(
        "SELECT count(DISTINCT fetch_id) FROM captures WHERE run_id = $1 AND fetch_id IS NOT NULL",
        run,
    )
    assert asked == plan.json["requests"]

    rules.write_text("one per year\nfetch status 404\n")
    changed = chrono("rules", "set", SITE, str(rules), "--project", "planned", "--json")
    assert changed.code == 0, changed.err
    [domain] = changed.json["domains"]
    assert domain["decided"]
    assert domain["captures"]["wanted"] > 0
    until(done, 60, "the run that went on is done again")

    def indexed() -> bool:
        return not value("SELECT count(*) FROM outbox")

    until(indexed, 60, "every page is indexed")
    verified = chrono("verify", str(run))
    assert verified.code == 0, verified.out
