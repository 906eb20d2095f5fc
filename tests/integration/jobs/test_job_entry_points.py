"""The jobs as an operator starts them, without Ray: real processes over a real record."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.jobs import bulk, export, ingest, verify
from chrono_ray.cluster.jobs.frame import DONE, FAILED, INTERRUPTED, PARTIAL, USAGE, Session, worst
from chrono_ray.demo.record import Origin, record
from chrono_ray.model.errors import NotFound
from chrono_ray.storage.database import Database
from tests.integration.archives.warcs import write_warc
from tests.integration.storage.making import faults, until

ROOT = Path(__file__).resolve().parents[3]
JOBS = {"bulk_scrape": bulk, "ingest_warc": ingest, "verify": verify, "export": export}
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    results: list[dict]
    told: str


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator starts jobs: a folder and an environment."""

    folder: Path
    environment: dict[str, str]
    database: Database
    capsys: pytest.CaptureFixture[str]

    async def start(self, name: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments,
            env={**os.environ, **self.environment}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, name: str, *arguments: str) -> Ended:
        """In this process: all of a job but its signals."""
        job, settings = JOBS[name].JOB, chrono_settings.load(self.environment)
        wanted = job.check(job.parser.parse_args(arguments), settings)
        self.capsys.readouterr()
        async with asyncio.timeout(PATIENCE):
            code = await job.work(wanted, Session(settings, self.database, asyncio.Event()))
        said = self.capsys.readouterr()
        return Ended(code, [json.loads(line) for line in said.out.splitlines()], said.err)

    @asynccontextmanager
    async def indexing(self) -> AsyncIterator[None]:
        """The one part that jobs leave to others."""
        settings = chrono_settings.load(self.environment)
        index, stop = wiring.index(settings, "writer"), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(wiring.indexing(settings, self.database, index).run(stop))
            try:
                yield
            finally:
                stop.set()
        await index.aclose()


async def ended(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(PATIENCE):
        output, errors = await process.communicate()
    lines = [json.loads(line) for line in output.decode().splitlines()]
    assert process.returncode is not None
    return Ended(process.returncode, lines, errors.decode())


@pytest.fixture
def desk(tmp_path: Path, database: Database, database_url: str, capsys) -> Desk:
    environment = {
        "CHRONO_DATA_DIR": str(tmp_path / "data"), "CHRONO_DATABASE_URL": database_url,
        "CHRONO_INDEXING__SECONDS": "0.2",
    }  # fmt: skip
    return Desk(tmp_path, environment, database, capsys)


def crawled(host: str, count: int):
    return [
        record(
            f"http://{host}/{n}.html", f"20{n % 20:02}0101000000",
            Origin(200, "text/html", (("Content-Type", "text/html"),),
                   f"<title>Pier {n}</title><p>{host} pier number {n} stands. ".encode() * 9),
        )
        for n in range(count)
    ]  # fmt: skip


async def test_files_are_ingested_verified_and_exported(desk: Desk):
    """Several hosts in several files: each file is one run, a damaged record is named."""
    folder = desk.folder / "crawl"
    folder.mkdir()
    write_warc(folder / "a.warc.gz", [*crawled("pier.example", 6), *crawled("bay.example", 5)])
    whole = write_warc(desk.folder / "one.warc", crawled("dock.example", 4), gzip=False)
    body = whole.read_bytes()
    third = body.index(b"WARC/1.0", body.index(b"WARC/1.0", 10) + 10)
    whole.write_bytes(body[:third] + b"XARC/1.0" + body[third + 8 :])
    async with desk.indexing():
        got = await desk.run("ingest_warc", str(folder), str(whole), "--project", "town")
        assert got.code == PARTIAL, got.told
        assert f"damaged: {whole} at one.warc" in got.told
        assert [told["state"] for told in got.results] == ["done", "done"]
        assert [told["captures"]["stored"] for told in got.results] == [11, 3]
        assert all(told["pages"] == told["indexed"] for told in got.results)
        assert await faults(desk.database) == []

        again = await desk.run("ingest_warc", str(folder), "--project", "town")
        assert again.code == DONE, again.told
        assert again.results[0]["captures"]["known"] == 11

    checked = await desk.run("verify", "--project", "town")
    assert checked.code == DONE, checked.told + str([each["faults"] for each in checked.results])
    assert [each["clean"] for each in checked.results] == [True] * 3
    process = await desk.start("verify", "1", "2")
    assert (await ended(process)).code == DONE

    target = desk.folder / "out"
    written = await desk.run("export", "--project", "town", "--to", str(target), "--form", "jsonl")
    assert written.code == DONE, written.told
    assert written.results[0]["result"]["rows"] == 14
    manifest = json.loads((target / "manifest.json").read_text())
    lines = [
        json.loads(line)
        for part in manifest["parts"] for line in (target / part["name"]).read_text().splitlines()
    ]  # fmt: skip
    assert len({line["url"] for line in lines}) == 14
    twice = await desk.run("export", "--project", "town", "--to", str(target))
    assert (twice.code, "stands there already" in twice.told) == (FAILED, True)


async def test_an_export_of_no_project_is_refused_before_there_is_a_task(desk: Desk):
    with pytest.raises(NotFound, match="nope"):
        await desk.run("export", "--project", "nope", "--to", str(desk.folder / "out"))
    assert await desk.database.fetchval("SELECT count(*) FROM tasks") == 0


async def test_an_ingest_that_is_stopped_and_started_again_gives_one_set(desk: Desk):
    source = write_warc(desk.folder / "long.warc.gz", crawled("pier.example", 300))
    process = await desk.start("ingest_warc", str(source))

    async def begun() -> bool:
        return await desk.database.fetchval("SELECT count(*) FROM pages") >= 20

    await until(begun, seconds=PATIENCE)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(3.0):
        await process.wait()
    stopped = await ended(process)
    assert stopped.code == INTERRUPTED, stopped.told
    assert "The same job again goes on" in stopped.told
    assert await desk.database.fetchval("SELECT state FROM runs") == "paused"
    async with desk.indexing():
        got = await desk.run("ingest_warc", str(source))
    assert got.code == DONE, got.told
    assert got.results[0]["captures"]["stored"] == 300
    assert await desk.database.fetchval("SELECT count(*) FROM runs") == 1
    assert await desk.database.fetchval("SELECT count(*) FROM pages") == 300
    assert await faults(desk.database) == []


@pytest.mark.parametrize("name", JOBS)
def test_every_job_says_what_it_takes(name, capsys):
    assert (ROOT / "jobs" / f"{name}.py").is_file()
    with pytest.raises(SystemExit) as left:
        JOBS[name].JOB.main(["--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: {name}.py")
    assert "Exit codes" in told


@pytest.mark.parametrize(
    ("job", "arguments", "told"),
    [
        (ingest, ["/nowhere.warc"], "There is no /nowhere.warc"),
        (ingest, ["/tmp", "--project", " "], "project's name"),
        (verify, [], "nothing to verify"),
        (verify, ["0"], "1 or more"),
        (export, ["--project", "p", "--to", "/x", "--from", "2005", "--to-date", "2001"], "empty"),
        (export, ["--project", "p", "--to", "/x", "--rows-per-part", "0"], "at least one row"),
    ],
)
def test_what_cannot_be_is_usage_and_nothing_is_asked(
    job, arguments, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    assert job.JOB.main(arguments) == USAGE
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("codes", "interrupted", "code"),
    [
        ([], False, 0),
        ([0, 3], False, 3),
        ([3, 1], False, 1),
        ([1], True, 130),
        ([0, 130], False, 130),
    ],
)
def test_the_exit_code_is_the_worst_of_all(codes, interrupted, code):
    assert worst(codes, interrupted=interrupted) == code
