"""A real owner with everything it starts (PostgreSQL, Valkey, Ray, actors), for tests.

In a module fixture::

    with owned_cluster({"CHRONO_ARCHIVES__WAYBACK__URL": archive.url}) as cluster:
        yield cluster

`with` ends it all and asserts that nothing is left: no process, no `owner.json`.
Importing this imports no ray. Everything here blocks; from an async test, call
it in a thread (`fetch` cannot be called on a running event loop).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import asyncpg
import orjson
import psutil

from chrono_ray.cluster.head import _short_folder
from chrono_ray.cluster.owner import STATE_FILE, Running, cluster_environment, running

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 120.0
GONE_SECONDS: Final = 20.0
COMMAND_SECONDS: Final = 100.0
MARK: Final = "CHRONO_TEST_CLUSTER"

# A raylet of its own on loopback; `ray start` would listen on every interface (cluster/head.py).
_NODE: Final = """
import os, sys
from ray._private.node import Node
from ray._private.parameter import RayParams

node = Node(
    RayParams(
        gcs_address=os.environ["RAY_ADDRESS"], node_ip_address="127.0.0.1", num_cpus=2, num_gpus=0,
        memory=4 * 2**30, object_store_memory=100 * 2**20, include_log_monitor=False,
        min_worker_port=0, max_worker_port=0, node_manager_port=0, dashboard_agent_listen_port=None,
    ),
    head=False, shutdown_at_exit=False, spawn_reaper=False,
)
print("started", flush=True)
sys.stdin.read()
node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
"""

T = TypeVar("T")


def until(
    condition: Callable[[], T | None], seconds: float, what: str, *, every: float = 0.05
) -> T:
    """Ask until the answer is true; AssertionError names `what` when it never is."""
    ends = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < ends, f"after {seconds:g} s still not: {what}"
        time.sleep(every)


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which must be one JSON value on one line and nothing else."""
        assert self.out.count("\n") == 1, f"stdout is not one line: {self.out!r}\n{self.err}"
        return orjson.loads(self.out)


@dataclass(slots=True)
class Cluster:
    """A data folder, the settings its processes get, and the owner that runs there.

    `record` is the URL by which `fetch` asks the record when it must not go the cluster's own way.
    """

    data_dir: Path
    settings: dict[str, str]
    api: bool = False
    record: str = ""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    owner: subprocess.Popen[bytes] | None = None
    use: IO[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For any process that is to work on this folder: nothing of the machine's own CHRONO_."""
        base = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("CHRONO_", "RAY_"))
        }  # fmt: skip
        ours = {"CHRONO_DATA_DIR": str(self.data_dir), "PYTHONPATH": str(ROOT), MARK: self.mark}
        return {**base, **ours, **self.settings}

    @property
    def running(self) -> Running:
        """What the living owner says it runs: DSN, Ray address, token file, API."""
        found = running(self.data_dir)
        assert found is not None, f"no owner runs:\n{self.log()}"
        return found

    def start(self) -> Running:
        """Start an owner and wait until its actors are up (and its API, if asked for)."""
        if self.use is None:  # we use it like a command: the last command to leave would stop it
            self.use = (self.data_dir / "use.lock").open("w")
            fcntl.flock(self.use, fcntl.LOCK_SH)
        command = [sys.executable, "-m", "chrono_ray.cluster.owner"]
        with (self.data_dir / "owner.log").open("ab") as log:
            self.owner = subprocess.Popen(
                [*command, *([] if self.api else ["--no-api"])], cwd=ROOT, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return until(self._ready, START_SECONDS, f"the owner is ready; its log:\n{self.log()}")

    def down(self) -> Spoken:
        """`chrono down`, and assert that it left nothing: Ray's folder for sockets neither."""
        before, sockets = self.processes(), _short_folder(self.data_dir / "ray")
        assert sockets.is_dir()
        spoken = self.chrono("down", "--json", seconds=STOP_SECONDS)
        assert spoken.code == 0, f"{spoken}\n{self.log()}"
        self.assert_nothing_left(before)
        assert not sockets.exists()
        assert not (self.data_dir / "embedded" / "running.json").exists()
        return spoken

    def _ready(self) -> Running | None:
        owner = self.owner
        assert owner is not None
        assert owner.poll() is None, f"the owner ended with {owner.returncode}:\n{self.log()}"
        found = running(self.data_dir)
        if found is None or found.pid != owner.pid:
            return None
        return found if not self.api or found.api or found.api_error else None

    def terminate(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM to the owner; its exit code."""
        assert self.owner is not None
        self.owner.send_signal(signal.SIGTERM)
        try:
            return self.owner.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not stop in {seconds:g} s:\n{self.log()}") from None

    def stop(self) -> None:
        """End it and assert that it ended well and left nothing."""
        before = self.processes()
        code = self.terminate()
        assert code == 0, f"the owner ended with {code}:\n{self.log()}"
        self.assert_nothing_left(before)

    def kill_owner(self) -> None:
        """SIGKILL, as a crash of the owner; what it started stays."""
        assert self.owner is not None
        self.owner.kill()
        self.owner.wait(GONE_SECONDS)

    def assert_nothing_left(self, before: list[psutil.Process] | None = None) -> None:
        """No process of ours lives, and the folder says nobody runs."""

        def left() -> list[str]:
            alive = {*filter(_alive, before or []), *self.processes()}
            return [f"{each.pid} {_command(each)}" for each in alive]

        try:
            until(lambda: not left(), GONE_SECONDS, "every process is gone")
        except AssertionError:
            raise AssertionError("processes left: " + "; ".join(left())) from None
        assert not (self.data_dir / STATE_FILE).exists()

    def kill_everything(self) -> None:
        """Whatever still lives, by pid: for the end of a failed test."""
        if self.use is not None:
            self.use.close()
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        if self.owner is not None and self.owner.poll() is None:
            self.owner.kill()
            self.owner.wait(GONE_SECONDS)

    # processes

    def processes(self) -> list[psutil.Process]:
        """Every living process of this cluster: below the owner, and orphans that bear our mark."""
        found = {each for each in psutil.process_iter() if self._is_ours(each)}
        for each in list(found):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.update(each.children(recursive=True))
        return [each for each in found if _alive(each) and each.pid != os.getpid()]

    def _is_ours(self, process: psutil.Process) -> bool:
        if self.owner is not None and process.pid == self.owner.pid:
            return True
        try:
            folder = Path(f"/proc/{process.pid}")
            told = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            told += os.fsencode((folder / "cwd").readlink())
        except OSError:
            return False
        return self.mark.encode() in told or os.fsencode(self.data_dir) in told

    def named(self, start: str) -> list[psutil.Process]:
        """Processes whose command line starts so, oldest first: `ray::Scraper`, `ray::Indexer`."""
        found = [each for each in self.processes() if _command(each).startswith(start)]
        return sorted(found, key=lambda each: each.create_time())

    def server(self, name: str) -> psutil.Process:
        """The main process of a server: `postgres` or `valkey-server`."""
        found = [
            each for each in self.processes()
            if each.name() == name and not _same_program_as_parent(each)
        ]  # fmt: skip
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def exposed(self) -> list[str]:
        """Every TCP address beyond loopback that a process of ours listens on."""
        return [
            f"{host}:{port} {who}" for (host, port), who in self.listening().items()
            if not _is_loopback(host)
        ]  # fmt: skip

    def listening(self) -> dict[tuple[str, int], str]:
        """Every TCP address that a process of ours listens on, and which process that is."""
        found = {}
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                for socket in each.net_connections("tcp"):
                    if socket.status == psutil.CONN_LISTEN:
                        found[socket.laddr.ip, socket.laddr.port] = _command(each)
        return found

    # what it says

    def chrono(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> Spoken:
        """Run the installed `chrono` command to its end."""
        process = self.spawn(*arguments)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(
                f"chrono {' '.join(arguments)} still ran after {seconds:g} s:\n{out}{err}"
            ) from None
        return Spoken(process.returncode, out, err)

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a `chrono` command; use it with `with`, or communicate to its end.

        By this interpreter's own path: what it starts is looked for by that.
        """
        command = [sys.executable, str(Path(sys.executable).with_name("chrono")), *arguments]
        return subprocess.Popen(
            command, cwd=self.data_dir, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows of one statement on the record, over a connection of its own."""
        url = self.record or self.running.database_url
        return asyncio.run(_fetch(url, statement, *arguments))

    def value(self, statement: str, *arguments: Any) -> Any:
        """The first value of the first row."""
        return self.fetch(statement, *arguments)[0][0]

    def log(self) -> str:
        """The last lines of the owner's log."""
        path = self.data_dir / "owner.log"
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-40:])


@contextmanager
def owned_cluster(settings: Mapping[str, str], *, api: bool = False) -> Iterator[Cluster]:
    """A started cluster in a folder of its own; ended, checked and deleted afterwards."""
    with cluster_folder(settings, api=api) as cluster:
        cluster.start()
        yield cluster


@contextmanager
def cluster_folder(settings: Mapping[str, str], *, api: bool = False) -> Iterator[Cluster]:
    """The same, not started: `chrono` starts an owner itself when it needs one."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-cluster-", dir="/tmp"))
    folder.chmod(0o755)  # the servers' own account must be able to enter it
    (folder / "data").mkdir()
    cluster = Cluster(folder / "data", dict(settings), api)
    try:
        yield cluster
        if cluster.owner is not None and cluster.owner.poll() is None:
            cluster.stop()
        cluster.assert_nothing_left()
    finally:
        cluster.kill_everything()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def another_node(
    cluster: Cluster, *, egress: str = "", setting: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A second raylet with a node id of its own joins the running cluster; gives its pid.

    `egress` is the label that its operator gave it, `setting` what else its
    environment has beyond the cluster's own.
    """
    before = {each.pid for each in cluster.processes() if each.name() == "raylet"}
    environment = cluster_environment(cluster.running, cluster.environment)
    environment.update(setting or {})
    if egress:
        environment["CHRONO_EGRESS"] = egress
    with (cluster.data_dir / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _NODE], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert line, (cluster.data_dir / "node.log").read_text()[-2000:]
        raylets = [each.pid for each in cluster.processes() if each.name() == "raylet"]
        [mine] = set(raylets) - before
        yield mine
    finally:
        process.communicate()  # its standard input ends, and so does it


async def _fetch(url: str, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    async with asyncio.timeout(15):
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close(timeout=5)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()[:120]
    except psutil.NoSuchProcess:
        return "(gone)"


def _is_loopback(host: str) -> bool:
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _same_program_as_parent(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and parent.name() == process.name()
