"""The configuration that `chrono up` writes is one that Prometheus takes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from chrono_ray.observability.prometheus import configuration


def test_it_names_the_api_and_rays_file():
    told = json.loads(configuration("http://127.0.0.1:8123", Path("/tmp/x/found.json")))
    record, ray = told["scrape_configs"]
    assert record["static_configs"] == [{"targets": ["127.0.0.1:8123"]}]
    assert ray["file_sd_configs"] == [{"files": ["/tmp/x/found.json"]}]


def test_without_a_head_of_ours_only_the_api_is_named():
    told = json.loads(configuration("http://127.0.0.1:8123", None))
    assert [each["job_name"] for each in told["scrape_configs"]] == ["chrono-record"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_takes_it(tmp_path):
    file = tmp_path / "prometheus.yml"
    file.write_text(configuration("https://api.example", tmp_path / "found.json"))
    checked = subprocess.run(
        ["promtool", "check", "config", str(file)], text=True, capture_output=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
