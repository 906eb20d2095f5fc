"""Bad inputs typed at `chrono`: exit 2 and one line that says what, why and what to do.

Nothing may have been started by then: not even the data folder is made.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chrono_ray.cli.main import main
from chrono_ray.model.query import PageEntry
from chrono_ray.search.tantivy import Role, TantivyIndex

ROOT = Path(__file__).resolve().parents[3]
CPU_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


Chrono = Callable[..., Said]


@pytest.fixture
def chrono(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Chrono:
    """The command in this process, since each one alone pays a second for its imports."""

    def run(*typed: str, **chosen: str) -> Said:
        for name in [name for name in os.environ if name.startswith(("CHRONO_", "RAY_"))]:
            monkeypatch.delenv(name)
        for name, value in {"CHRONO_DATA_DIR": str(tmp_path / "data"), **chosen}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["chrono", *typed])
        with pytest.raises(SystemExit) as ended:
            main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    return run


def assert_refused(said: Said, folder: Path, *words: str) -> None:
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("chrono: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err
    assert not (folder / "data").exists(), "something was started"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        pytest.param(("http://2130706433/",), ("host", "192.0.2.1"), id="5-decimal"),
        pytest.param(("0x7f.1",), ("host", "192.0.2.1"), id="5-hex"),
        pytest.param(("http://user:pw@host.example/",), ("password", "Leave out"), id="11"),
        pytest.param(("http://a.example/" + "x" * 8176,), ("too long", "8192"), id="15"),
        pytest.param(("http://a.example/\r\nHost: b",), ("control", "U+000D"), id="16-crlf"),
        pytest.param(("http://a.example/\tb",), ("control", "U+0009"), id="16-tab"),
        pytest.param(("a.example", "--from", "20231301"), ("20231301", "YYYY"), id="19-month"),
        pytest.param(("a.example", "--to", "0"), ("'0'", "YYYY"), id="19-zero"),
        pytest.param(("a.example", "--from", "1" * 15), ("1" * 15, "YYYY"), id="19-15-digits"),
        pytest.param(("a.example", "--to", "2999"), ("future", "YYYY"), id="19-future"),
        pytest.param(
            ("a.example", "--from", "2005", "--to", "2001"), ("2005 is after 2001", "Swap"), id="20"
        ),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, chrono: Chrono, typed: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = chrono("run", *typed)
    assert_refused(said, tmp_path, *words)
    assert "pw" not in said.err, "a password is not shown again"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        pytest.param({"CHRONO_DATABSE_URL": "x"}, ("CHRONO_DATABSE_URL", "config"), id="unknown"),
        pytest.param(
            {"CHRONO_ARCHIVES__WAYBACK__SPEED": "9"},
            ("CHRONO_ARCHIVES__WAYBACK__SPEED", "config"), id="unknown-inside",
        ),
        pytest.param(
            {"CHRONO_MEILISEARCH_URL": "http://m:7700", "CHRONO_MEILISEARCH_KEY": ""},
            ("CHRONO_MEILISEARCH_KEY", "16 bytes"), id="empty-secret",
        ),
        pytest.param(
            {"CHRONO_MEILISEARCH_URL": "http://m:7700", "CHRONO_MEILISEARCH_KEY": "masterKey"},
            ("CHRONO_MEILISEARCH_KEY", "weak"), id="weak-secret",
        ),
        pytest.param(
            {"CHRONO_DATABASE_URL": " "}, ("CHRONO_DATABASE_URL", "unset"), id="empty-URL"
        ),
    ],
)  # fmt: skip
def test_input_76_settings_that_cannot_be_used_refuse_to_start(
    tmp_path: Path, chrono: Chrono, chosen: dict[str, str], words: tuple[str, ...]
) -> None:
    said = chrono("run", "a.example", **chosen)
    assert_refused(said, tmp_path, *words)
    assert "masterKey" not in said.err


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        pytest.param(("--sort", "id;DROP"), ("id;DROP", "newest"), id="59"),
        pytest.param(("--sort", "(select 1)"), ("select", "newest"), id="59-select"),
        pytest.param(("--limit", "-1"), ("-1", "1..100"), id="60-negative"),
        pytest.param(("--limit", "1000000000"), ("1000000000", "1..100"), id="60-billion"),
        pytest.param(("--host", "a\\"), ("filter value",), id="57-backslash"),
        pytest.param(("--from", "20231301"), ("20231301", "YYYY"), id="19"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    tmp_path: Path, chrono: Chrono, typed: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(chrono("search", "words", *typed), tmp_path, *words)


def test_input_60_what_is_no_number_is_a_usage_error(tmp_path: Path, chrono: Chrono) -> None:
    said = chrono("search", "words", "--limit", "NaN")
    assert (said.code, said.out) == (2, "")
    assert "--limit" in said.err
    assert not (tmp_path / "data").exists()


def test_inputs_51_to_53_what_a_page_holds_steers_no_terminal(
    tmp_path: Path, chrono: Chrono
) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe <script>needle</script>\r\n\x9b31m"
    day = datetime(2005, 1, 2, tzinfo=UTC)
    entry = PageEntry(
        1, 1, "a.example", f"http://a.example/{hostile}", "a.example", hostile,
        f"before {hostile} after", "", "en", "text/html", day, day, 1,
    )  # fmt: skip

    async def fill() -> None:
        index = TantivyIndex(tmp_path / "data" / "index", Role.WRITER)
        await index.configure()
        await index.upsert([entry])
        await index.aclose()

    asyncio.run(fill())
    said = chrono("search", "needle")
    assert said.code == 0
    assert "<script>[needle]</script>" in said.out
    assert all(char == "\n" or char.isprintable() for char in said.out)


def test_a_process_of_its_own_says_the_same_and_quickly(tmp_path: Path) -> None:
    base = {k: v for k, v in os.environ.items() if not k.startswith(("CHRONO_", "RAY_"))}
    before = _cpu_of_children()
    ended = subprocess.run(
        [sys.executable, "-c", "from chrono_ray.cli.main import main; main()", "run", "127.1"],
        cwd=tmp_path,
        env={**base, "PYTHONPATH": str(ROOT), "CHRONO_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert_refused(Said(ended.returncode, ended.stdout, ended.stderr), tmp_path, "127.1")
    assert _cpu_of_children() - before < CPU_SECONDS


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        pytest.param(
            ("run", "a.example", "--archive", "wayback", "--archive", "nowhere"),
            ("'nowhere'", "Choose one of"), id="archive",
        ),
        pytest.param(
            ("run", "a.example", "--since-last", "--overlap", "-1"), ("-1 days",), id="overlap"
        ),
        pytest.param(("retry", "1", "--state", "lost"), ("'lost'", "failed"), id="state"),
        pytest.param(("priority", "1", "--class", "first"), ("'first'", "critical"), id="class"),
        pytest.param(("priority", "1"), ("--class", "--weight"), id="nothing-to-change"),
        pytest.param(("priority", "town", "--class", "critical"), ("town", "number"), id="run"),
        pytest.param(("priority", "1", "--captures", "late"), ("'late'", "normal"), id="captures"),
        pytest.param(("fetch", "a.example", "20231301"), ("20231301", "YYYY"), id="timestamp"),
        pytest.param(("schedule", "add", "a.example", "--every", "7"), ("'7'", "7d"), id="every"),
        pytest.param(
            ("schedule", "add", "a.example", "--every", "7d", "--class", "x"), ("'x'",),
            id="schedule-class",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_to_a_run_is_refused_before_anything_starts(
    tmp_path: Path, chrono: Chrono, typed: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(chrono(*typed), tmp_path, *words)
