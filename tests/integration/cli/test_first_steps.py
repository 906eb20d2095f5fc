"""`chrono` as a stranger meets it: nothing collected yet, nothing migrated, nobody listening."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from chrono_ray.cli.main import main
from tests.conftest import PostgresServer, run_apart
from tests.support.disk import small_disk

ANYTHING = (("up",), ("run", "x.example"), ("status",), ("backup", "/tmp/x"), ("down",))
SMALL = "20m"
ELSEWHERE = {
    "CHRONO_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "CHRONO_REDIS_URL": "redis://127.0.0.1:1/0",
    "CHRONO_RAY_ADDRESS": "127.0.0.1:1",
}
NOBODY = "http://127.0.0.1:9"
READING: tuple[tuple[tuple[str, ...], int], ...] = (
    (("status",), 0),
    (("status", "99"), 1),
    (("status", "--json"), 0),
    (("project", "list", "--json"), 0),
    (("project", "show", "x"), 1),
    (("task", "list", "--json"), 0),
    (("task", "show", "7"), 1),
    (("schedule", "list", "--json"), 0),
    (("rules", "show", "x.example"), 1),
    (("verify", "1"), 1),
    (("reconcile",), 0),
    (("recount",), 0),
    (("rescue", "--json"), 0),
    (("user", "list"), 0),
    (("archive", "list"), 0),
    (("archive", "resume", "nowhere"), 1),
    (("search", "words", "--project", "nope"), 1),
    (("pause", "1"), 1),
    (("retry", "1"), 1),
    (("start", "1"), 1),
)


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


Chrono = Callable[..., Said]


@pytest.fixture
def chrono(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Chrono]:
    """The command in this process, since each one alone pays a second for its imports."""
    for name in [name for name in os.environ if name.startswith(("CHRONO_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CHRONO_ARCHIVES__WAYBACK__URL", NOBODY)
    tmp_path.chmod(0o755)

    def run(*typed: str, record: str = "") -> Said:
        if record:
            monkeypatch.setenv("CHRONO_DATABASE_URL", record)
        monkeypatch.setattr(sys, "argv", ["chrono", *typed])
        with pytest.raises(SystemExit) as ended:
            main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    handlers, level = logging.root.handlers[:], logging.root.level
    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Too small for a record; skips where the machine does not let us have a disk of our own."""
    with small_disk(tmp_path / "disk", f"size={SMALL},mode=755") as where:
        yield where


@pytest.fixture
def on_server(postgres_server: PostgresServer) -> Callable[[str], None]:
    return lambda statement: run_apart(lambda: postgres_server.execute(statement))


def assert_one_line(said: Said, *words: str) -> None:
    assert said.out == ""
    assert said.err.startswith("chrono: "), said.err
    assert said.err.count("\n") == 1, said.err
    for word in words:
        assert word in said.err


def test_an_empty_folder_is_a_record_with_nothing_in_it(chrono: Chrono, tmp_path: Path) -> None:
    said = chrono("status")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("chrono_ray does not run here")
    assert "No runs yet" in said.out
    said = chrono("status", "99")
    assert said.code == 1
    assert_one_line(said, "There is no run 99")


def test_every_command_on_an_empty_record(chrono: Chrono, database_url: str) -> None:
    for typed, code in READING:
        said = chrono(*typed, record=database_url)
        assert said.code == code, (typed, said)
        if code:
            assert_one_line(said)


def test_a_record_that_nobody_migrated_is_named_with_the_cure(
    chrono: Chrono, postgres_server: PostgresServer, on_server: Callable[[str], None]
) -> None:
    name = f"bare_{next(postgres_server.numbers)}"
    on_server(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY FILE_COPY")
    url = postgres_server.database(name)
    try:
        for typed, _ in READING:
            said = chrono(*typed, record=url)
            assert said.code == 1, (typed, said)
            assert_one_line(said, "The record is not migrated", "chrono migrate")
        assert "revision" in json.loads(chrono("migrate", "--json", record=url).out)
        assert chrono("status", record=url).code == 0
    finally:
        on_server(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_what_the_database_refuses_is_one_line_without_sql(
    chrono: Chrono, database_url: str, postgres_server: PostgresServer
) -> None:
    said = chrono("status", record=postgres_server.database("nowhere_at_all"))
    assert said.code == 1
    assert_one_line(said, "nowhere_at_all", "CHRONO_DATABASE_URL")
    said = chrono("status", record="postgresql://nobody@127.0.0.1:1/none")
    assert said.code == 1
    assert_one_line(said, "PostgreSQL does not answer", "CHRONO_DATABASE_URL", "chrono doctor")


def test_a_start_that_reaches_no_record_says_which_setting_and_who_looks(
    chrono: Chrono, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, url in ELSEWHERE.items():
        monkeypatch.setenv(name, url)
    said = chrono("up")
    assert (said.code, said.out) == (1, "")
    told = said.err.splitlines()[-1]
    assert "PostgreSQL does not answer" in told
    for word in ("CHRONO_DATABASE_URL", "chrono doctor", "owner.log"):
        assert word in told
    assert "Nothing is lost" not in told


@pytest.mark.parametrize("typed", ANYTHING)
def test_a_data_folder_that_cannot_be_used_is_one_line(
    chrono: Chrono, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: tuple[str, ...]
) -> None:
    """Where the kernel lets nobody write, root neither: in /proc, below a file."""
    (tmp_path / "file").write_text("no folder")
    for folder in ("/proc/nowhere", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        monkeypatch.setenv("CHRONO_DATA_DIR", folder)
        said = chrono(*typed)
        if typed == ("down",) and folder == "/proc/nowhere":
            assert (said.code, said.err) == (0, "")
            continue
        assert said.code == 1, (folder, said)
        assert_one_line(said, "cannot be used", folder, "CHRONO_DATA_DIR")


def test_a_full_disk_is_said_before_anything_is_begun(
    chrono: Chrono, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHRONO_DATA_DIR", str(disk))
    monkeypatch.setenv("CHRONO_RAY_ADDRESS", "127.0.0.1:1")  # no head of our own
    for typed in (("up",), ("status",)):
        said = chrono(*typed)
        assert said.code == 1
        told = said.err.splitlines()[-1]
        assert f"the disk of {disk} is full: " in told, told
        assert " MiB left" in told
        assert len(told) < 400
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(1 << 16))
    assert "0 MiB left" in chrono("status").err
    said = chrono("down")
    assert (said.code, said.err) == (0, "")
    assert "nothing of an earlier one is left" in said.out
    assert not list(disk.glob("embedded/*postgres"))


@pytest.mark.parametrize("number", ["0", "-1", str(2**63), "9" * 30, "x"])
@pytest.mark.parametrize("command", ["status", "verify", "recount", "pause", "start"])
def test_a_number_that_no_run_has_is_a_usage_error(
    chrono: Chrono, tmp_path: Path, command: str, number: str
) -> None:
    assert chrono(command, "--", number).code == 2
    assert not (tmp_path / "data").exists()


def test_a_number_that_no_capture_has_is_a_usage_error(chrono: Chrono, tmp_path: Path) -> None:
    for number in ("0", str(2**63), "9" * 30):
        said = chrono("fetch", number)
        assert said.code == 2
        assert_one_line(said, number, "no capture")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["run", "plan"])
def test_how_to_be_interrupted_is_one_of_two_words(
    chrono: Chrono, tmp_path: Path, command: str
) -> None:
    said = chrono(command, "a.example", "--on-interrupt", "bogus")
    assert said.code == 2
    assert "detach" in said.err
    assert not (tmp_path / "data").exists()


def test_a_plan_takes_an_overlap_as_a_run_does(chrono: Chrono, tmp_path: Path) -> None:
    said = chrono("plan", "a.example", "--since-last", "--overlap", "-1")
    assert said.code == 2
    assert_one_line(said, "-1 days")
    assert not (tmp_path / "data").exists()
