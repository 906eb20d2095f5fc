"""`chrono up` on a machine where another program has the API's port, and again when it has gone.

That `chrono down` leaves nothing is held by the fixture.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from chrono_ray.observability import prometheus
from tests.cluster.conftest import Served

pytestmark = pytest.mark.timeout(300)


def test_an_api_that_could_not_start_is_tried_again_by_the_next_up(cluster: Served) -> None:
    refused, had = cluster.ups
    port = urlsplit(cluster.running.api).port
    assert refused.code == 3
    assert f"Port {port} is taken" in refused.err.splitlines()[-1]
    assert "`chrono up` tries again" in refused.err
    first, second = refused.json, had.json
    assert (first["state"], first["api"], first["prometheus"]) == ("started", None, None)
    assert first["admin"]["password"]
    assert second == {
        "state": "runs already", "api": f"http://127.0.0.1:{port}",
        "dashboard": first["dashboard"],
        "prometheus": str(cluster.machine.data_dir / prometheus.FILE),
    }  # fmt: skip
    assert Path(second["prometheus"]).exists()


def test_what_up_tells_of_is_there(cluster: Served) -> None:
    again = cluster.machine.chrono("up")
    assert again.code == 0, again.err
    assert again.out.startswith("chrono_ray runs already.\n")
    assert f"{cluster.running.api}/api/v1/health" in again.out
    token = Path(cluster.running.token)
    assert f"{cluster.running.dashboard} (token: {token})" in again.out
    bearer = {"Authorization": f"Bearer {token.read_text().strip()}"}
    with httpx2.Client(timeout=30) as http:
        assert http.get(f"{cluster.api}/health").status_code == 200
        assert http.get(f"{cluster.running.api}/metrics").status_code == 200
        asked = f"{cluster.running.dashboard}/api/version"
        assert http.get(asked).status_code == 401
        assert http.get(asked, headers=bearer).status_code == 200
