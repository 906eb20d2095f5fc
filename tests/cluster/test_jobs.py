"""Bulk jobs: through Ray on a real cluster, and the arguments they refuse."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx2
import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from chrono_ray.cluster.jobs import bulk, frame
from chrono_ray.cluster.jobs.submit import Entry, submit
from chrono_ray.cluster.machine import budget_here
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.task import Export
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import Tasks, TaskState
from tests.cluster.conftest import IN_THE_LONG_RUN, Served
from tests.support.accounts import bearer
from tests.support.cluster import ROOT

pytestmark = pytest.mark.timeout(300)

SITE = "lanternbay.example"
PATIENCE = 60.0
HALFWAY = 20
OVER = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


@pytest.fixture
def client(cluster: Served, monkeypatch: pytest.MonkeyPatch) -> JobSubmissionClient:
    """RAY_ADDRESS would go before the address that a client is given."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    token = Path(cluster.running.token).read_text().strip()
    return JobSubmissionClient(
        cluster.running.dashboard, headers={"Authorization": f"Bearer {token}"}
    )


@pytest.fixture
async def http(cluster: Served):
    async with httpx2.AsyncClient(
        base_url=cluster.api, headers=bearer(cluster.key), timeout=30
    ) as opened:
        yield opened


@pytest.fixture
async def record(cluster: Served):
    url = cluster.settings.database_url
    assert url is not None
    opened = Database(url.get_secret_value(), pool_size=2, name="test")
    yield opened
    await opened.aclose()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.05)


def start(cluster: Served, arguments: Sequence[str]) -> str:
    return submit(
        Entry.BULK_SCRAPE,
        arguments,
        dashboard=cluster.running.dashboard,
        token=Path(cluster.running.token),
        share=budget_here().job,
    )


async def ended(client: JobSubmissionClient, job: str) -> JobStatus:
    await until(lambda: asyncio.to_thread(lambda: client.get_job_status(job) in OVER))
    return client.get_job_status(job)


def objects(log: str) -> list[dict]:
    """What a job wrote to stdout: one object per run that ended."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


async def run_of(record: Database, project: str) -> int | None:
    return await record.fetchval(
        "SELECT max(r.id) FROM runs r JOIN projects p ON p.id = r.project_id WHERE p.name = $1",
        project,
    )


async def pages_of(record: Database, project: str) -> tuple[int, int]:
    """How many pages a project has, and how many different ones."""
    row = await record.fetchrow(
        "SELECT count(*), count(DISTINCT (g.url_id, g.payload_id))"
        " FROM pages g JOIN projects p ON p.id = g.project_id WHERE p.name = $1",
        project,
    )
    assert row is not None
    return row[0], row[1]


async def leases_of(record: Database, run_id: int) -> int:
    return await record.fetchval("SELECT count(*) FROM leases WHERE run_id = $1", run_id)


async def test_ray_job_submit_collects_and_tells(cluster, http):
    """The script itself, as an operator submits it, with the token in the environment."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit"),
        *("--address", cluster.running.dashboard, "--entrypoint-num-cpus", "0.1", "--"),
        *(sys.executable, str(ROOT / "jobs/bulk_scrape.py"), "--url", SITE, "--project", "whole"),
        env={k: v for k, v in cluster.environment.items() if k != "RAY_ADDRESS"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    log = output.decode()
    assert process.returncode == 0, log
    [told] = objects(log)
    assert told["state"] == "done"
    assert told["captures"]["pending"] == 0
    assert told["pages"] == told["indexed"] > 0
    assert f"run {told['run']}: started" in log
    seen = (await http.get(f"/runs/{told['run']}")).json()
    assert {name: seen[name] for name in told} == told
    found = await http.get("/search", params={"q": "lighthouse", "project": "whole"})
    assert found.json()["total"] > 0


async def test_a_job_stopped_halfway_and_submitted_again_gives_one_set(
    cluster, client, http, record
):
    arguments = ["--url", SITE, "--project", "halved"]
    first = start(cluster, arguments)

    async def halfway() -> bool:
        run_id = await run_of(record, "halved")
        if run_id is None:
            return False
        return (await http.get(f"/runs/{run_id}")).json()["captures"]["stored"] >= HALFWAY

    await until(halfway)
    assert client.stop_job(first)
    assert await ended(client, first) is JobStatus.STOPPED
    run_id = await run_of(record, "halved")
    assert run_id is not None
    state, pending = await record.fetchrow(
        "SELECT r.state, (SELECT count(*) FROM fetches f"
        " WHERE f.run_id = r.id AND f.state = 'pending') FROM runs r WHERE r.id = $1",
        run_id,
    )
    assert (state, pending > 0) == ("paused", True), client.get_job_logs(first)

    async def given_back() -> bool:
        return await leases_of(record, run_id) == 0

    await until(given_back)
    assert "the runs are paused" in client.get_job_logs(first)

    second = start(cluster, arguments)
    status = await ended(client, second)
    log = client.get_job_logs(second)
    assert status is JobStatus.SUCCEEDED, log
    assert f"run {run_id}: goes on" in log
    [told] = objects(log)
    assert (told["run"], told["state"]) == (run_id, "done")
    pages, different = await pages_of(record, "halved")
    assert pages == different == told["pages"]
    assert await run_of(record, "halved") == run_id


@IN_THE_LONG_RUN
async def test_a_detached_job_leaves_its_run_going_and_a_twin_changes_nothing(
    cluster, client, http, record
):
    arguments = ["--url", SITE, "--project", "twins", "--on-stop", "detach"]
    first = start(cluster, arguments)

    async def begun() -> bool:
        run_id = await run_of(record, "twins")
        return run_id is not None and await leases_of(record, run_id) > 0

    await until(begun)
    run_id = await run_of(record, "twins")
    assert client.stop_job(first)
    twin = start(cluster, arguments)

    async def done() -> bool:
        return (await http.get(f"/runs/{run_id}")).json()["state"] == "done"

    await until(done)
    assert await ended(client, twin) is JobStatus.SUCCEEDED, client.get_job_logs(twin)
    [told] = objects(client.get_job_logs(twin))
    # it joined the run, or came after its end and knew every capture
    joined = told["run"] == run_id
    assert joined or told["captures"]["known"] == told["captures"]["discovered"]
    pages, different = await pages_of(record, "twins")
    assert pages == different > 0


async def test_a_scraper_works_on_tasks_beside_its_fetches(cluster, record, tmp_path):
    """A critical one begins at once; it is done by whoever of the cluster is free."""
    await record.fetch("INSERT INTO projects (name) VALUES ('exported') ON CONFLICT DO NOTHING")
    tasks = Tasks(record)
    submitted = await tasks.submit(
        Export("exported", str(tmp_path / "out")), queue_class=QueueClass.CRITICAL
    )

    async def done() -> bool:
        return (await tasks.task(submitted.id)).state is not TaskState.PENDING

    await until(done)
    row = await tasks.task(submitted.id)
    assert (row.state, row.result["rows"]) == (TaskState.DONE, 0), row.detail
    assert row.started_at is not None
    assert (row.started_at - row.created_at).total_seconds() < 1.0
    assert (tmp_path / "out" / "manifest.json").is_file()


async def test_bad_lines_are_told_one_by_one_and_the_good_ones_done(cluster, client, tmp_path):
    listed = tmp_path / "domains.txt"
    listed.write_bytes(
        b"\xef\xbb\xbf# towns\r\nhttp://user:pw@a.example/\r\n"
        + f"http://www.{SITE}/ exact 2003 2004\r\n".encode()
        + b"ftp://b.example/\r\n\xff\xfe\r\n"
    )
    job = start(cluster, ["--list", str(listed), "--project", "listed"])
    assert await ended(client, job) is JobStatus.FAILED
    log = client.get_job_logs(job)
    assert client.get_job_info(job).driver_exit_code == frame.PARTIAL, log
    for line, code in [(2, "url_userinfo"), (4, "url_scheme"), (5, "encoding")]:
        assert f"line {line}: {code}:" in log
    [told] = objects(log)
    assert told["state"] == "done"
    assert "1 of 1 runs ended, 1 without a failure; 3 bad lines" in log


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to collect"),
        (["--url", "http://user:pw@a.example/"], "user name or password"),
        (["--url", "a.example", "--from", "2005", "--to", "2001"], "date range is empty"),
        (["--url", "a.example", "--archive", "pywb"], "CHRONO_ARCHIVES__PYWB__URL"),
        (["--url", "a.example", "--archive", "moon"], "no archive 'moon'"),
        (["--url", "a.example", "--project", " "], "project's name"),
        (["--list", "/nowhere/list.txt"], "cannot be read"),
        (["--list", "bad.txt"], "line 1: url_scheme"),
    ],
)
def test_what_cannot_be_collected_is_usage(arguments, told, tmp_path: Path, monkeypatch, capsys):
    """Nothing is started or even asked: there is no database to ask."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    (tmp_path / "bad.txt").write_text("gopher://a.example/\n")
    assert bulk.JOB.main(arguments) == frame.USAGE
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--match", "all"], ["--on-stop", "kill"], ["--nothing"], ["--url"]]
)
def test_an_argument_that_does_not_exist_is_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended_with:
        bulk.JOB.main(arguments)
    assert ended_with.value.code == frame.USAGE


@pytest.mark.parametrize(
    ("codes", "bad_lines", "interrupted", "code"),
    [
        ((0, 0), 0, False, 0),
        ((0, 3), 0, False, 3),
        ((0, 0), 1, False, 3),
        ((3, 1), 1, False, 1),
        ((0, 1), 0, True, 130),
        ((), 0, True, 130),
    ],
)
def test_the_exit_code_says_the_worst(codes, bad_lines, interrupted, code):
    assert bulk.exit_code(bulk.Ended(codes, interrupted), bad_lines=bad_lines) == code
