"""This machine: versions, ports, room on disks, who may read what, who holds the data folder.

Every check takes plain arguments, so that each can be asked about anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import psutil

from chrono_ray.cli.doctor.finding import Code, Finding, NotSeen, Seen, problem, warning
from chrono_ray.cli.words import amount
from chrono_ray.model.budget import GIB, MIB, Budget
from chrono_ray.model.folders import standing

OLDEST_PYTHON: Final = (3, 11)
OLDEST_RAY: Final = (2, 60)
DISK_LEAST: Final = 512 * MIB
DISK_ADVISED: Final = 2 * GIB
INODES_LEAST: Final = 10_000
OTHERS: Final = 0o007
EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 (looked for, not listened on)


@dataclass(frozen=True, slots=True)
class Port:
    """A port that somebody listens on."""

    address: str
    port: int
    process: str


def versions() -> Seen:
    """Of what runs us; PostgreSQL and Redis tell their own."""
    found, ray = sys.version_info[:2], metadata.version("ray")
    wrong: list[Finding] = []
    if found < OLDEST_PYTHON:
        wrong.append(problem(
            Code.PYTHON_OLD, f"Python {found[0]}.{found[1]} is too old",
            fix="Use Python 3.11 or newer",
        ))  # fmt: skip
    if release(ray) < OLDEST_RAY:
        wrong.append(problem(
            Code.RAY_OLD, f"Ray {ray} is too old", fix='pip install "ray[default,serve]>=2.60"',
        ))  # fmt: skip
    return Seen(f"Python {found[0]}.{found[1]}, Ray {ray}", tuple(wrong))


def release(version: str) -> tuple[int, ...]:
    """Major and minor number of a version: 2.60.0rc1 is (2, 60)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def port_to_take(host: str, port: int) -> Seen | NotSeen:
    """Whether the API could listen there, while it does not."""
    if port == 0:
        return NotSeen("CHRONO_SERVING__PORT is 0: a free one is taken")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Seen("", (_taken(host, port, error),))
    return Seen(f"{host}:{port} is free for the API")


def _taken(host: str, port: int, error: OSError) -> Finding:
    if error.errno != errno.EADDRINUSE:
        return problem(
            Code.PORT_TAKEN, f"The API cannot listen on {host}:{port}", why=error.strerror or "",
            fix="Set CHRONO_SERVING__HOST and CHRONO_SERVING__PORT to what this machine has",
        )  # fmt: skip
    who = "somebody"
    with suppress(psutil.AccessDenied):  # not every system tells
        who = next((each.process for each in listening() if each.port == port), "") or who
    return problem(
        Code.PORT_TAKEN, f"The API's port {port} is taken", why=f"{who} listens on it",
        fix="End that, or set CHRONO_SERVING__PORT to another port (0: any free one)",
    )  # fmt: skip


def listening(processes: Collection[int] | None = None) -> Iterator[Port]:
    """Ports that these processes listen on; without any, all that the system tells us of."""
    for each in psutil.net_connections("tcp"):
        if each.status != psutil.CONN_LISTEN or (
            processes is not None and each.pid not in processes
        ):
            continue
        yield Port(each.laddr.ip, each.laddr.port, _name(each.pid))


def _name(pid: int | None) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})" if pid else ""
    except psutil.Error:
        return ""


def ports_beyond(ports: Collection[Port], *, allowed: Collection[int]) -> Seen:
    """Who listens beyond this machine, and was not told to."""
    seen = {each.port: each for each in ports if not _is_loopback(each.address)}
    found = [
        problem(
            Code.PORT_EXPOSED, f"Port {each.port} is open beyond this machine",
            why=f"{each.process} listens on {each.address}",
            fix="Close it in the firewall, and restart: chrono down, chrono up",
        ) for each in seen.values() if each.port not in allowed
    ]  # fmt: skip
    return Seen(f"{len(ports)} ports, none but the API's beyond this machine", tuple(found))


def _is_loopback(address: str) -> bool:
    parsed = ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def disks(folders: Mapping[str, Path]) -> Seen:
    """Room where each of these folders is, or will be; `folders` by what is kept there."""
    told, found, known = list[str](), list[Finding](), set[int]()
    for what, folder in folders.items():
        there = standing(folder, Path.is_dir)
        device = there.stat().st_dev
        if device in known:
            continue
        known.add(device)
        room = os.statvfs(there)
        free = room.f_bavail * room.f_frsize
        found += _scarce(what, there, free, room.f_favail if room.f_files else INODES_LEAST)
        told.append(f"{amount(free)} free at {there} ({what})")
    return Seen(", ".join(told), tuple(found))


def _scarce(what: str, there: Path, free: int, inodes: int) -> Iterator[Finding]:
    fix = f"Make room on the disk of {there}: chrono purge, or delete what else is there"
    if free < DISK_LEAST or inodes < INODES_LEAST // 10:
        short = f"{amount(free)} left" if free < DISK_LEAST else f"{inodes} files may still be made"
        yield problem(
            Code.DISK_FULL, f"The disk of {what} is full", why=f"{short} at {there}", fix=fix
        )
    elif free < DISK_ADVISED or inodes < INODES_LEAST:
        yield warning(
            Code.DISK_LOW, f"The disk of {what} is almost full",
            why=f"{amount(free)} and {inodes} files left at {there}", fix=fix,
        )  # fmt: skip


def temporary() -> Path:
    """Where Ray keeps its sockets and logs."""
    return Path(tempfile.gettempdir())


def permissions(data_dir: Path, secrets: Collection[Path]) -> Seen:
    """Whose the data folder is, and whether others may read a secret."""
    found: list[Finding] = []
    there = data_dir if data_dir.is_dir() else None
    if there and there.stat().st_uid != os.geteuid():
        found.append(problem(
            Code.DATA_DIR_FOREIGN, f"The data folder {there} belongs to another user",
            why=f"its owner is uid {there.stat().st_uid}, this is uid {os.geteuid()}",
            fix=f"Start as that user, or: chown -R {os.geteuid()} {there}",
        ))  # fmt: skip
    if data_dir.exists() and not there:
        found.append(problem(
            Code.DATA_DIR_UNWRITABLE, f"The data folder {data_dir} is no folder",
            why="it is a file", fix="Set CHRONO_DATA_DIR to a folder",
        ))  # fmt: skip
    elif not os.access(nearest := standing(data_dir, Path.is_dir), os.W_OK | os.X_OK):
        found.append(problem(
            Code.DATA_DIR_UNWRITABLE, f"Nothing can be written in {nearest}",
            why=_why_not(nearest),
            fix="Mend that, or set CHRONO_DATA_DIR to another folder",
        ))  # fmt: skip
    readable = [each for each in secrets if each.is_file() and each.stat().st_mode & OTHERS]
    found += [
        problem(
            Code.SECRET_READABLE, f"Others may read the secret in {each}",
            why=f"its mode is {each.stat().st_mode & 0o777:04o}", fix=f"chmod 600 {each}",
        ) for each in readable
    ]  # fmt: skip
    kept = sum(each.is_file() for each in secrets)
    return Seen(f"{data_dir} and {kept} files with secrets are ours alone", tuple(found))


def _why_not(folder: Path) -> str:
    """Why nothing can be written there."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "its disk is mounted read-only"
    return "this user has no leave to"


def token(path: Path | None, *, given: bool) -> Seen:
    """Ray's token. `path` is the file that is to hold it; `given`: the environment holds it."""
    again = "It is made anew: chrono down, delete what is left of it, chrono up"
    if path is None and not given:
        return Seen("", (problem(
            Code.TOKEN_MISSING, "There is no token for the Ray cluster",
            why="neither RAY_AUTH_TOKEN_PATH nor RAY_AUTH_TOKEN is set",
            fix="Set RAY_AUTH_TOKEN_PATH to the file with the cluster's token",
        ),))  # fmt: skip
    if path is None:
        return Seen("the environment holds Ray's token")
    if not path.is_file():
        return Seen("", (problem(
            Code.TOKEN_MISSING, "The Ray cluster's token is missing", why=f"{path} is not there",
            fix=again,
        ),))  # fmt: skip
    if path.stat().st_size == 0:
        return Seen("", (problem(
            Code.TOKEN_EMPTY, "The Ray cluster's token is empty", why=f"{path} holds nothing",
            fix=again,
        ),))  # fmt: skip
    return Seen(f"Ray's token is in {path}")


@dataclass(frozen=True, slots=True)
class Claims:
    """Who says that the data folder is theirs: 0 for nobody, and files that say so of the dead.

    `holder` is the process in the `lock` that is held now, `servers` those
    that work in the folder.
    """

    owner: int
    left: Path | None
    lock: Path
    locked: bool
    holder: int
    servers: tuple[int, ...]


def claims(claimed: Claims) -> Seen:
    """Owners that died, locks that stayed, servers that nobody looks after."""
    found: list[Finding] = []
    if claimed.left is not None:
        found.append(problem(
            Code.OWNER_DEAD, "chrono_ray was killed, or crashed, and nothing looks after the rest",
            why=f"{claimed.left} tells of a process that is gone",
            fix="End what it left behind: chrono down. Then: chrono up (nothing is lost)",
        ))  # fmt: skip
    if claimed.locked and (not claimed.holder or claimed.holder != claimed.owner):
        found += _held(claimed)
    elif claimed.servers and not claimed.locked and claimed.left is None:
        found.append(problem(
            Code.SERVERS_ORPHANED, "PostgreSQL or Valkey run here, and nobody looks after them",
            why=f"processes {', '.join(map(str, claimed.servers))} were left by an owner",
            fix="chrono up takes them over, chrono down ends them",
        ))  # fmt: skip
    owner = f"process {claimed.owner} keeps it" if claimed.owner else "nobody keeps it now"
    return Seen(f"the data folder: {owner}", tuple(found))


def _held(claimed: Claims) -> Iterator[Finding]:
    """By another than the owner. On a full disk whoever takes it leaves no name in it."""
    pid, holders = claimed.holder, list(_openers(claimed.lock))
    if claimed.owner in holders:
        return
    named = ", ".join(map(_name, holders)) or "one that it started"
    lives = pid and psutil.pid_exists(pid)
    ends = f"kill {' '.join(map(str, [pid] if lives else holders))}"
    if lives or (holders and not pid):
        yield warning(
            Code.LOCK_HELD, "Another process has the data folder for itself",
            why=f"{_name(pid) if lives else named} holds its lock",
            fix=f"Wait for it; should it hang: {ends}",
        )  # fmt: skip
    else:
        yield problem(
            Code.LOCK_HELD, "The data folder is locked for a process that is gone",
            why=f"process {pid or ''} took the lock, and {named} still holds it",
            fix=f"End it: {ends}" if holders else f"Find it: fuser {claimed.lock}",
        )  # fmt: skip


def _openers(path: Path) -> Iterator[int]:
    """Processes that have this file open, as far as we may see it."""
    there = str(path.resolve())
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if any(opened.path == there for opened in each.open_files()):
                yield each.pid


def lock(path: Path) -> tuple[bool, int]:
    """Whether somebody holds this lock, and the pid that it was taken by."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False, 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.read(descriptor, 32).decode("ascii", "replace").strip()
        return True, int(said) if said.isdecimal() else 0
    finally:
        os.close(descriptor)
    return False, 0


def memory(budget: Budget | None, *, why: str, total: int, scrapers: int) -> Seen:
    """The machine's memory against the shares of all parts; without a `budget`, `why` there is
    none."""
    if budget is None:
        return Seen("", (problem(
            Code.MEMORY_SMALL, "This machine is too small", why=why, fix="Give it more memory",
        ),))  # fmt: skip
    needed = sum(part.memory * part.count for _, part in budget.with_scrapers(scrapers).parts())
    if needed <= total:
        return Seen(f"all parts together take {amount(needed)} of {amount(total)}")
    return Seen("", (warning(
        Code.MEMORY_OVER, "All parts together may take more memory than there is",
        why=f"{amount(needed)} of {amount(total)}, with {scrapers} scrapers",
        fix=f"Set CHRONO_SCRAPING__SCRAPERS to {budget.scraper.count} or less, or to 0",
    ),))  # fmt: skip
