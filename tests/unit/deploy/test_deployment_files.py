"""The files an operator deploys by agree with the budget, with each other and with Ray's schema."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from chrono_ray import settings
from chrono_ray.cli import machine
from chrono_ray.cluster import head, owner
from chrono_ray.cluster.front import CALLBACK
from chrono_ray.cluster.machine import EGRESS
from chrono_ray.model.budget import (
    GIB,
    OBJECT_STORE_MEMORY,
    PLACED,
    REFERENCE_CPUS,
    REFERENCE_MEMORY,
    fit,
)

ROOT = Path(__file__).resolve().parents[3]
BUDGET = fit(REFERENCE_CPUS, REFERENCE_MEMORY)
CPUS = int(REFERENCE_CPUS - BUDGET.system.num_cpus - BUDGET.ray.num_cpus)
MEMORY = REFERENCE_MEMORY - BUDGET.system.memory - BUDGET.ray.memory
SCRAPERS_MOST = 64
CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"


@cache
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@cache
def kuberay() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kuberay.yaml").read_text())
    return {each["kind"]: each for each in documents}


def ray_cluster() -> dict[str, Any]:
    return kuberay()["RayService"]["spec"]["rayClusterConfig"]


def started(kind: str) -> dict[str, str]:
    """The options of a node's `ray start`."""
    [line] = [each for each in cluster()[f"{kind}_start_ray_commands"] if "ray start" in each]
    words = line.replace("'", "").split("ray start")[1].split()
    return dict(
        word.removeprefix("--").split("=", 1)
        for word in words
        if word.startswith("--") and "=" in word
    )


def test_cluster_yaml_is_what_ray_accepts():
    spec = find_spec("ray")
    assert spec is not None
    [folder] = spec.submodule_search_locations or []
    schema = json.loads((Path(folder) / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster(), "autoscaling": True}, schema)


def test_nodes_install_this_checkout_and_nothing_by_our_name_from_elsewhere():
    """A package of our name on a public index might be anybody's, and gets the token."""
    installs = [each for each in cluster()["setup_commands"] if "pip install" in each]
    assert installs
    mounted = [place for place, source in cluster()["file_mounts"].items() if source == "."]
    assert all(any(place in each for place in mounted) for each in installs)


def test_nothing_of_ours_is_placed_on_a_head():
    assert cluster()["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert started("head")["num-cpus"] == "0"
    assert ray_cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_a_worker_offers_what_the_budget_leaves_on_the_reference_machine():
    offered = [
        cluster()["available_node_types"]["worker"]["resources"],
        {"CPU": int(started("worker")["num-cpus"]), "memory": int(started("worker")["memory"])},
    ]
    [group] = ray_cluster()["workerGroupSpecs"]
    params = group["rayStartParams"]
    offered.append({"CPU": int(params["num-cpus"]), "memory": int(params["memory"])})
    assert offered == [{"CPU": CPUS, "memory": MEMORY}] * 3
    [container] = group["template"]["spec"]["containers"]
    asked = {"cpu": f"{REFERENCE_CPUS:g}", "memory": f"{REFERENCE_MEMORY // GIB}Gi"}
    assert container["resources"] == {"requests": asked, "limits": asked}
    stores = [
        started("head"),
        started("worker"),
        params,
        ray_cluster()["headGroupSpec"]["rayStartParams"],
    ]
    assert {each["object-store-memory"] for each in stores} == {str(OBJECT_STORE_MEMORY)}


def test_all_workers_together_hold_the_scrapers_they_are_told_of_and_all_else():
    [group] = ray_cluster()["workerGroupSpecs"]
    nodes = cluster()["max_workers"]
    assert (
        group["maxReplicas"] == cluster()["available_node_types"]["worker"]["max_workers"] == nodes
    )
    parts = {name: share for name, share in BUDGET.parts() if name in PLACED}
    counts = {name: share.count for name, share in parts.items()} | {"scraper": SCRAPERS_MOST}
    assert sum(parts[name].num_cpus * n for name, n in counts.items()) <= nodes * CPUS
    assert sum(parts[name].memory * n for name, n in counts.items()) <= nodes * MEMORY
    for path in ("cluster.yaml", "deploy/kuberay.yaml"):
        assert f"CHRONO_SCRAPING__SCRAPERS_MOST={SCRAPERS_MOST}" in (ROOT / path).read_text()


def test_every_node_wants_the_token_and_no_file_holds_a_secret():
    for kind in ("head", "worker"):
        [line] = [each for each in cluster()[f"{kind}_start_ray_commands"] if "ray start" in each]
        assert "RAY_AUTH_MODE=token" in line
        assert all(f"{name}={value}" in line for name, value in head.ROTATION.items())
    for group in (ray_cluster()["headGroupSpec"], *ray_cluster()["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        told = {each["name"]: each["value"] for each in container["env"]}
        assert told.items() >= head.ROTATION.items()
    assert ray_cluster()["authOptions"] == {"mode": "token", "secretName": "chrono-ray-token"}
    [up] = kuberay()["Job"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "RAY_AUTH_MODE", "value": "token"} in up["env"]
    assert all("value" not in each for each in up["env"] if each["name"] == "RAY_AUTH_TOKEN")
    assert kuberay().keys().isdisjoint({"Secret", "ConfigMap"})
    redis = ray_cluster()["gcsFaultToleranceOptions"]
    assert set(redis) == {"redisAddress", "redisPassword"}
    assert "secretKeyRef" in redis["redisPassword"]["valueFrom"]


def test_ray_s_ports_are_private():
    assert started("head")["dashboard-host"] == "127.0.0.1"
    assert cluster()["provider"]["use_internal_ips"] is True
    assert ray_cluster()["headGroupSpec"]["serviceType"] == "ClusterIP"
    policy = kuberay()["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    for_all = [rule for rule in policy["ingress"] if {"podSelector": {}} in rule["from"]]
    assert [rule["ports"] for rule in for_all] == [[{"port": 8000, "protocol": "TCP"}]]


def test_serve_s_proxy_is_ours_there_too():
    """A bound for heads, errors that are problems: chrono_ray/cluster/ingress.py."""
    [line] = [each for each in cluster()["head_start_ray_commands"] if "ray start" in each]
    assert f"{CALLBACK_VARIABLE}={CALLBACK};" in line
    [container] = ray_cluster()["headGroupSpec"]["template"]["spec"]["containers"]
    assert {"name": CALLBACK_VARIABLE, "value": CALLBACK} in container["env"]


def test_the_api_is_the_same_everywhere():
    ours = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    theirs = yaml.safe_load(kuberay()["RayService"]["spec"]["serveConfigV2"])
    ours["http_options"]["host"] = theirs["http_options"]["host"]
    assert theirs == ours


def test_the_settings_they_name_exist():
    known = {*settings.names(), EGRESS}
    for path in ("cluster.yaml", "deploy/kuberay.yaml"):
        text = (ROOT / path).read_text()
        named = {
            word.strip(",.;:=`")
            for word in text.replace("=", " ").split()
            if word.startswith("CHRONO_")
        }
        assert named
        assert {name for name in named if name not in known} == set(), path


def test_systemd_accepts_the_unit(tmp_path: Path):
    """Of a machine without Docker; the programs it names are put where this one has some."""
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "deploy" / "chrono.service").read_text()
    unit = tmp_path / "chrono.service"
    here = text.replace("/opt/chrono_ray/.venv/bin/chrono", "/bin/true")
    unit.write_text(here.replace("User=chrono", "User=root"))
    said = subprocess.run(
        [systemd, "verify", unit], check=False, capture_output=True, text=True, timeout=30
    )
    assert "chrono.service" not in said.stderr
    stops = int(text.partition("TimeoutStopSec=")[2].split()[0])
    assert stops >= owner.DRAIN_SECONDS + head.STOP_SECONDS + 15
    # all but the API works: not a failure, which would end everything; any other is tried again
    assert f"\nSuccessExitStatus={machine.PARTIAL}\n" in text
    assert "\nRestart=on-failure\n" in text
