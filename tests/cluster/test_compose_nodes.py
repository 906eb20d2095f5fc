"""The head and the worker of compose.yaml as processes: its commands, environment, health checks.

No Docker engine is here: one address of loopback stands for each container, and a loop for the
restart policy. The servers beside them are real, Meilisearch is a fake.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from chrono_ray.cluster import head, owner
from chrono_ray.embedded.ports import free_port
from chrono_ray.model.budget import REFERENCE_CPUS, REFERENCE_MEMORY, fit
from tests.cluster.conftest import IN_THE_LONG_RUN
from tests.support.archive import archive_process
from tests.support.cluster import ROOT, Cluster, cluster_folder, until
from tests.support.embedded import start_session_parts
from tests.support.meilisearch import running
from tests.unit.deploy.test_compose import seconds_of, services

pytestmark = [IN_THE_LONG_RUN, pytest.mark.timeout(300), pytest.mark.xdist_group("compose")]

HEAD, WORKER = "127.0.0.2", "127.0.0.3"
SITE = "lanternbay.example"
KEY = "a-key-that-nobody-guesses"
PORTS = {"--metrics-export-port=8085": "--metrics-export-port=8086"}
"""Both nodes are on one machine, where Ray's exporters listen everywhere."""


def here(word: str) -> str:
    """A word of compose.yaml as it is on this machine."""
    return PORTS.get(word, word).replace("ray-head", HEAD)


@dataclass(slots=True)
class Worker:
    """The worker's command, started again whenever it ends: `restart: unless-stopped`."""

    environment: dict[str, str]
    log: Path
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        command = [here(word) for word in services()["worker"]["command"]]
        command[:1] = [str(Path(sys.executable).with_name(command[0]))]
        while not self._stopped.is_set():
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [*command, f"--node-ip-address={WORKER}"], cwd=ROOT, env=self.environment,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self.starts += 1
            self.process.wait()

    def stop(self) -> None:
        self._stopped.set()
        if self.process:
            self.process.terminate()

    def runs(self, title: str) -> bool:
        """Whether a process below it calls itself so."""
        return title in titles(self.process.pid if self.process else 0)


@dataclass(frozen=True, slots=True)
class Deployed:
    cluster: Cluster
    worker: Worker
    dashboards: Path


def titles(pid: int) -> str:
    found = []
    with contextlib.suppress(psutil.Error):
        for each in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(each.cmdline()))
    return "\n".join(found)


def held(pid: int) -> int:
    """Bytes that a process and all below it hold, shared ones counted once."""
    total = 0
    for each in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += each.memory_full_info().pss
    return total


@contextmanager
def meilisearch() -> Iterator[str]:
    """The fake, on a loop of its own."""
    loop, ended, url = asyncio.new_event_loop(), asyncio.Event(), []

    async def serve() -> None:
        async with running(KEY) as server:
            url.append(server.url)
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield until(lambda: url[0] if url else None, 10, "the fake listens")
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()


def checked(service: str, port: str) -> bool:
    """Its health check, as it is run inside its container."""
    _, program, *arguments = services()[service]["healthcheck"]["test"]
    assert program == "python"
    command = [sys.executable, *(word.replace(":8000", f":{port}") for word in arguments)]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0


def environment_of(service: str, secrets: Path, chosen: dict[str, str]) -> dict[str, str]:
    named = {
        name: here(str(value)).replace("/run/secrets", str(secrets))
        for name, value in services()[service]["environment"].items()
    }
    return {**named, **chosen}


def kept(folder: Path, values: dict[str, str]) -> Path:
    folder.mkdir()
    for name, value in values.items():
        (folder / name).write_text(value)
        (folder / name).chmod(0o640)
    return folder


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    base = tmp_path_factory.mktemp("compose")
    base.chmod(0o755)
    with ExitStack() as stack:
        parts = stack.enter_context(start_session_parts(base / "parts", valkey=True))
        archive = stack.enter_context(archive_process("--captures", "120"))
        secrets = kept(base / "secrets", {
            "database_url": parts.database_url, "redis_url": parts.redis_url or "",
            "meilisearch_key": KEY, "ray_token": "0123456789abcdef" * 4,
        })  # fmt: skip
        (base / "dashboards").mkdir()
        chosen = {
            "CHRONO_MEILISEARCH_URL": stack.enter_context(meilisearch()),
            "CHRONO_SERVING__PORT": str(free_port()),
            "CHRONO_ARCHIVES__WAYBACK__URL": archive.url,
            "CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE": "0",
            "CHRONO_ARCHIVES__WAYBACK__REPLAY_PER_MINUTE": "0",
        }
        ours = environment_of("head", secrets, chosen)
        ours["RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR"] = str(base / "dashboards")
        cluster = stack.enter_context(cluster_folder(ours, api=True))
        theirs = {**cluster.environment, **environment_of("worker", secrets, chosen)}
        worker = Worker(theirs, base / "worker.log")
        keeper = threading.Thread(target=worker.keep)
        keeper.start()
        stack.callback(keeper.join, 60)
        stack.callback(worker.stop)
        cluster.start()
        yield Deployed(cluster, worker, base / "dashboards")


def test_scrapers_are_on_the_worker_and_all_else_is_at_the_head(deployed: Deployed) -> None:
    cluster, worker = deployed.cluster, deployed.worker
    assert not cluster.running.api_error
    until(lambda: worker.runs("ray::Scraper"), 120, "a scraper is on the worker")
    assert cluster.owner is not None
    at_head = titles(cluster.owner.pid)
    for name in ("ray::Supervisor", "ray::Indexer", "ServeReplica:api", "ServeReplica:live"):
        assert name in at_head, name
        assert not worker.runs(name), name
    assert "ray::Scraper" not in at_head


def test_they_are_healthy_as_their_containers_ask(deployed: Deployed) -> None:
    port = deployed.cluster.settings["CHRONO_SERVING__PORT"]
    for service in ("head", "worker"):
        until(partial(checked, service, port), 30, f"the {service} is healthy")


def test_a_run_comes_to_its_end_on_them(deployed: Deployed) -> None:
    ended = deployed.cluster.chrono("run", SITE, "--json")
    assert ended.code in (0, 3), ended.err
    assert ended.json["captures"]["stored"] > 0
    assert ended.json["indexed"] == ended.json["pages"]


def test_what_they_hold_fits_their_containers(deployed: Deployed) -> None:
    budget = fit(REFERENCE_CPUS, REFERENCE_MEMORY)
    assert deployed.cluster.owner is not None
    assert deployed.cluster.owner.poll() is None
    assert deployed.worker.process is not None
    found = {"head": deployed.cluster.owner.pid, "worker": deployed.worker.process.pid}
    for name, pid in found.items():
        bytes_held = held(pid)
        assert bytes_held < budget.container(name).memory, (name, bytes_held)


def test_prometheus_and_grafana_find_what_they_are_told_of(deployed: Deployed) -> None:
    port = head.JOINED["metrics-export-port"]
    for place in (f"{HEAD}:{port}", f"{WORKER}:{port + 1}"):
        with urlopen(f"http://{place}/metrics", timeout=10) as told:
            assert b"ray_node_mem_used" in told.read(), place
    assert list(deployed.dashboards.glob("*.json"))


def test_a_head_that_is_stopped_drains_and_the_worker_joins_the_next(deployed: Deployed) -> None:
    cluster, worker = deployed.cluster, deployed.worker
    begun, starts = time.monotonic(), worker.starts
    assert cluster.terminate() == 0
    assert time.monotonic() - begun < seconds_of(services()["head"]["stop_grace_period"])
    assert time.monotonic() - begun < owner.DRAIN_SECONDS + head.STOP_SECONDS
    cluster.start()
    until(lambda: worker.starts > starts and worker.runs("ray::Scraper"), 150, "it joins the next")
