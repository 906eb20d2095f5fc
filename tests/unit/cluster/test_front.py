"""HAProxy's configuration as we have it run: Ray's own, closed, bounded, answering in problems."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import orjson
import pytest

from chrono_ray.api.problems import RETRY_SECONDS
from chrono_ray.api.schemas import Problem
from chrono_ray.cluster import front, haproxy
from chrono_ray.cluster.haproxy import HEAD_SECONDS, REFUSED, closed, problem
from tests.support.haproxy import written

PORTS = front.Ports(18404, 19101, 18500)


async def made(folder: Path, host: str) -> str:
    """What Ray writes for an API of two applications."""
    return await written(folder, host=host, port=18000, replica=30000, ports=PORTS)


@pytest.fixture
def program() -> str:
    found = front.program()
    if not found:
        pytest.skip("no HAProxy on this machine")
    return found


@pytest.fixture
async def theirs(tmp_path: Path) -> str:
    return await made(tmp_path, "127.0.0.1")


def ours(theirs: str, *trusted: str) -> str:
    return closed(theirs, trusted)


def binds(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if line.split()[:1] == ["bind"]]


def test_ray_opens_ports_to_everybody_and_we_do_not(theirs):
    """The day Ray closes them itself this may go."""
    assert {"*:18404", ":19101"} <= set(binds(theirs))
    assert binds(ours(theirs)) == ["127.0.0.1:19101", "127.0.0.1:18000", "127.0.0.1:18404"]


async def test_only_the_api_listens_where_the_settings_say(tmp_path):
    assert binds(ours(await made(tmp_path, "0.0.0.0"))) == [
        "127.0.0.1:19101", "*:18000", "127.0.0.1:18404",
    ]  # fmt: skip


def test_the_admin_socket_is_its_owner_s(theirs):
    assert "mode 666" in theirs
    assert "mode 666" not in ours(theirs)
    assert "mode 600" in ours(theirs)


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8", "::1/128"]])
def test_haproxy_takes_it_as_it_is(program, theirs, tmp_path, trusted):
    written = tmp_path / "ours.cfg"
    written.write_text(closed(theirs, trusted))
    checked = subprocess.run(
        [program, "-c", "-f", str(written)], capture_output=True, text=True, check=False, timeout=20
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr, checked.stderr


def test_done_twice_is_done_once(theirs):
    once = ours(theirs, "10.0.0.0/8")
    assert ours(once, "10.0.0.0/8") == once
    assert once.count(f"timeout http-request {HEAD_SECONDS}s") == 1


def test_nobody_names_an_address_for_others_unless_told_so(theirs):
    told = "http-request set-header x-forwarded-for %[src]"
    assert f"{told}\n" in ours(theirs)
    allowed = f"{told} unless {{ src 10.0.0.0/8 }} {{ req.hdr(x-forwarded-for) -m found }}\n"
    assert allowed in ours(theirs, "10.0.0.0/8")


@pytest.mark.parametrize("status", sorted(REFUSED))
def test_what_it_answers_itself_is_a_documented_problem(status):
    why = REFUSED[status]
    told = Problem.model_validate_json(problem(status, why, request_id="7"))
    assert (told.status, told.code, told.request_id) == (status, why.code, "7")
    assert told.detail
    assert told.fix
    documented = Path(__file__).parents[3].joinpath("docs/errors.md").read_text()
    assert f"| `{why.code}` | {status} |" in documented


def test_it_asks_to_come_again_as_the_application_does():
    assert haproxy.RETRY_SECONDS == RETRY_SECONDS


async def test_the_installed_program_becomes_haproxy_with_our_configuration(
    program, theirs, tmp_path
):
    environment = front.environment(
        tmp_path, tmp_path, PORTS, trusted="", threads=1, found=program
    )  # fmt: skip
    where = tmp_path / "haproxy.cfg"
    where.write_text(theirs)
    process = await asyncio.create_subprocess_exec(
        environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-c", "-f", str(where),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, output.decode()
    assert where.read_text() == closed(theirs, [])
    assert {each.name for each in tmp_path.glob("haproxy.cfg*")} <= {
        "haproxy.cfg",
        "haproxy.cfg.lock",
    }


@pytest.mark.parametrize("lines", ["#!/bin/sh\nexit 1\n", "no program at all"])
def test_a_program_that_does_not_run_here_is_none(tmp_path, monkeypatch, lines):
    broken = tmp_path / "haproxy"
    broken.write_text(lines)
    broken.chmod(0o700)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(broken))
    assert front.program() == ""


def test_without_haproxy_the_python_proxy_believes_whom_the_settings_name(tmp_path):
    for trusted, told in (("", "none"), ("10.0.0.0/8", "10.0.0.0/8")):
        made = front.environment(tmp_path, tmp_path, PORTS, trusted=trusted, threads=1, found="")
        assert made["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
        assert made["FORWARDED_ALLOW_IPS"] == told
        assert orjson.dumps(made)
