"""A Ray head on this machine, started for us: token authentication; loopback only, unless other
nodes are to join it.

Facts (measured with Ray 2.60.0): `ray start --node-ip-address=127.0.0.1`
replaces the address by the machine's own and listens on every interface;
with RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 every port stays on 127.0.0.1. A
head stopped by SIGTERM waits 30 s for its actors unless
RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S says otherwise; ours are drained before.
`--block` ends all its processes with itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import psutil

from chrono_ray.cluster import front, lean
from chrono_ray.cluster.birth import birth_of
from chrono_ray.model.budget import MIB, OBJECT_STORE_MEMORY, Budget
from chrono_ray.model.errors import EmbeddedError
from chrono_ray.settings import Serving

log = logging.getLogger(__name__)

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 20.0
RESOLVE_SECONDS: Final = 10.0
LOST_TEXT: Final = 200
"""Characters: it is told of each file that could not be moved."""
ROTATION: Final = {"RAY_ROTATION_MAX_BYTES": str(32 * MIB), "RAY_ROTATION_BACKUP_COUNT": "3"}
"""Of each log of Ray's. Without it what actors and replicas write grows without end (Ray 2.60:
default_worker.py), a line for each request."""
SERVING: Final = Serving()
STARTED: Final = b"This command will now block forever"
LOOPBACK: Final = "127.0.0.1"
JOINED: Final = {"port": 6379, "dashboard-port": 8265, "metrics-export-port": 8085}
"""The ports of a head that others reach; all else of any head is free ones."""
PORT_OPTIONS: Final = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
)


DASHBOARD_METRICS: Final = "DASHBOARD_METRIC_PORT"
"""The port of the dashboard's own numbers: 44227 for every head of a machine, unless it is set."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a cluster is reached: GCS as host:port, dashboard as URL, and the token file.

    An operator's own cluster has no dashboard here: its token is the operator's environment's.
    """

    gcs: str
    dashboard: str
    token: Path

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` for a process that is to speak with this cluster."""
        alone = self.gcs.startswith(LOOPBACK)
        ours = _environment(self.token, alone) if self.dashboard else {"RAY_AUTH_MODE": "token"}
        return {**base, **ours, "RAY_ADDRESS": self.gcs}


@dataclass(frozen=True, slots=True)
class Reach:
    """Where other nodes join the head: a name or address of this machine in a private network.

    They have the same `token`, a file that is not ours to write.
    """

    host: str
    token: Path


@dataclass(frozen=True, slots=True)
class _Noted:
    """`head.json`: the head's session, the birth of who started it, and where it is."""

    session: int
    boot: str
    born: float
    gcs: str
    dashboard: str


class Head:
    """One `ray start --head --block` as a child process.

    It outlives a killed owner. The next one finds it noted in its folder
    (`left_behind`) and ends it with `stop`.
    """

    def __init__(
        self, folder: Path, budget: Budget, serving: Serving = SERVING, *,
        dashboard: bool = True, reach: Reach | None = None,
    ) -> None:  # fmt: skip
        """`folder` keeps token and log. Ray's own files go to a short path: its sockets need it.

        Without `dashboard` its port answers nothing: no jobs are handed in, no states shown.
        It is a dozen processes. Without `reach` nobody joins it.
        """
        self._folder = folder
        self._budget = budget
        self._serving = serving
        self._dashboard = dashboard
        self._reach = reach
        self._token = reach.token if reach else folder / "token"
        self._process: asyncio.subprocess.Process | None = None
        self._address: Address | None = None

    @property
    def address(self) -> Address | None:
        """Where it takes orders; None before it does, and when it has died."""
        process = self._process
        return self._address if process and process.returncode is None else None

    @property
    def discovery(self) -> Path:
        """Where it names what Prometheus is to scrape, once it runs."""
        return _short_folder(self._folder) / "prom_metrics_service_discovery.json"

    def left_behind(self) -> Address | None:
        """The head that an owner before us started and that still takes orders."""
        noted = self._noted()
        if noted is None:
            return None
        if noted.session not in [each.pid for each in _of_session(noted, self._token)]:
            return None
        return Address(noted.gcs, noted.dashboard, self._token)

    async def start(self) -> Address:
        """Start and wait until it takes orders. Raises `EmbeddedError` with its last words."""
        self._folder.mkdir(parents=True, exist_ok=True)
        host = await _address_of(self._reach.host) if self._reach else LOOPBACK
        token = self._token if self._reach else write_token(self._token)
        beside, *free = _free_ports(1 + len(PORT_OPTIONS))
        ports = dict(zip(PORT_OPTIONS, free, strict=True))
        ports |= JOINED if self._reach else {}
        log, self._address = self._folder / "head.log", None
        ours = {
            **_environment(token, self._reach is None), **self._before_serve(),
            "RAY_START_HOOK": lean.HOOK, DASHBOARD_METRICS: str(beside),
        }  # fmt: skip
        with log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(host, ports), stdin=asyncio.subprocess.DEVNULL, stdout=output,
                stderr=output, env={**os.environ, **ours}, start_new_session=True,
            )  # fmt: skip
        address = Address(
            f"{host}:{ports['port']}", f"http://{host}:{ports['dashboard-port']}", token
        )
        birth = birth_of(os.getpid())
        noted = _Noted(self._process.pid, birth.boot, birth.since, address.gcs, address.dashboard)
        self._note.write_bytes(orjson.dumps(noted))
        await self._wait_until_started(log)
        self._address = address
        return address

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def ended(self) -> int:
        """Wait until the head process ends by itself; returns its exit code."""
        if self._process is None:
            raise EmbeddedError("Ray was not started")
        return await self._process.wait()

    async def stop(self) -> None:
        """End the head and everything it started, ours or left behind; within seconds."""
        process, noted = self._process, self._noted()
        if process is not None:
            await _terminate(process)
        if noted is not None:
            # what outlived it: Ray's workers have process groups of their own, but one session
            await asyncio.to_thread(_end_session, noted, self._token)
            await asyncio.to_thread(_put_away, _short_folder(self._folder), self._folder / "logs")
            self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self._folder / "head.json"

    def _noted(self) -> _Noted | None:
        try:
            return _Noted(**orjson.loads(self._note.read_bytes()))
        except (OSError, orjson.JSONDecodeError, TypeError):
            return None

    def _before_serve(self) -> dict[str, str]:
        """Who takes the API's requests, and hands them to its applications."""
        return front.environment(
            self._folder, _short_folder(self._folder), front.Ports(*_free_ports(3)),
            found=front.program() if self._serving.haproxy else "",
            trusted=self._serving.trusted_proxies,
            threads=max(round(self._budget.proxy.num_cpus), 1),
        )  # fmt: skip

    def _command(self, host: str, ports: Mapping[str, int]) -> list[str]:
        return [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
            f"--node-ip-address={host}", f"--dashboard-host={host}",
            *(f"--{name}={port}" for name, port in ports.items()),
            f"--num-cpus={self._budget.ray_cpus:g}", f"--memory={self._budget.ray_memory}",
            f"--object-store-memory={OBJECT_STORE_MEMORY}",
            f"--temp-dir={_short_folder(self._folder)}", "--disable-usage-stats",
            # nothing to scale on one machine, and no driver that wants its actors' logs
            "--no-monitor", "--include-log-monitor=false",
            f"--include-dashboard={str(self._dashboard).lower()}",
        ]  # fmt: skip

    async def _wait_until_started(self, log: Path) -> None:
        process = self._process
        try:
            async with asyncio.timeout(START_SECONDS):
                while process and process.returncode is None and not _says_started(log):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            await self.stop()
        if process is None or process.returncode is not None:
            last = _tail(log)
            raise EmbeddedError(
                "Ray did not start", why=" / ".join(last), fix=f"The whole story is in {log}"
            )


async def _terminate(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _of_session(noted: _Noted, token: Path) -> list[psutil.Process]:
    """What still lives of a head; a session's number alone may have been reused."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == noted.session and _is_rays(process, noted, token):
                found.append(process)
    return found


def _is_rays(process: psutil.Process, noted: _Noted, token: Path) -> bool:
    """Ray's agents and actors write their titles (`ray::...`) over their environment."""
    birth = birth_of(process.pid)
    if birth.boot != noted.boot or birth.since < noted.born:
        return False
    named: bool = process.name().startswith("ray")
    return named or process.environ().get("RAY_AUTH_TOKEN_PATH") == str(token)


def _end_session(noted: _Noted, token: Path) -> None:
    ends = time.monotonic() + STOP_SECONDS
    while (left := _of_session(noted, token)) and time.monotonic() < ends:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=STOP_SECONDS)


def write_token(path: Path) -> Path:
    """A private token file (0600), made once."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    path.chmod(0o600)
    return path


async def _address_of(host: str) -> str:
    """Its IPv4 address: Ray wants one."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, family=socket.AF_INET)
    except (OSError, TimeoutError) as error:
        raise EmbeddedError(
            f"Ray cannot be started for others at {host!r}", why=str(error) or "no answer in time",
            fix="Set CHRONO_RAY_HOST to a name or address of this machine in your private network",
        ) from error  # fmt: skip
    return str(found[0][4][0])


def _says_started(log: Path) -> bool:
    return STARTED in log.read_bytes()


def _tail(log: Path) -> list[str]:
    return log.read_text("utf-8", "replace").strip().splitlines()[-3:]


def _environment(token: Path, alone: bool) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        **({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if alone else {}),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        **{name: os.environ.get(name, ours) for name, ours in ROTATION.items()},
    }


def _short_folder(folder: Path) -> Path:
    """Unix socket paths end at 107 characters (ray#7724), so not below the data folder."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"chrono-ray-{os.getuid()}-{name}"


def _put_away(short: Path, logs: Path) -> None:
    """Ray's logs take the place of those of the session before; the rest of its files goes.

    Ray lets everybody write to its logs (2.60: `try_make_directory_shared`); kept, they are ours.
    On another disk than ours there may be no room for them: then they go too.
    """
    ended = (short / "session_latest" / "logs").resolve()
    if ended.is_dir():
        shutil.rmtree(logs, ignore_errors=True)
        try:
            ended.chmod(0o700)
            shutil.move(ended, logs)
        except OSError as error:
            log.warning("ray.logs.lost", extra={"error": str(error)[:LOST_TEXT]})
            shutil.rmtree(logs, ignore_errors=True)
    shutil.rmtree(short, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports free at this moment, all different; below the range Ray's workers take."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
