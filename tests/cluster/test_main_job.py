"""The main job through the real `chrono` command: Ray, PostgreSQL, an archive on a wire."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

import orjson
import pytest

from tests.cluster.conftest import IN_THE_LONG_RUN
from tests.support.archive import (
    ArchiveProcess,
    Bomb,
    Kind,
    Latency,
    Reset,
    Rule,
    WaybackKeys,
    archive_process,
)
from tests.support.cluster import ROOT, Cluster, Spoken, cluster_folder, owned_cluster, until
from tests.support.pywb import pywb_collection

pytestmark = pytest.mark.timeout(240)

IANA = ROOT.parent / "shared" / "data" / "warc" / "iana.warc.gz"
SITE = "lanternbay.example"
PAGE_ROWS = 40
UNLIMITED = {
    f"CHRONO_ARCHIVES__{name}__{kind}_PER_MINUTE": "0"
    for name in ("WAYBACK", "PYWB")
    for kind in ("CDX", "REPLAY")
}


@dataclass(frozen=True, slots=True)
class Peers:
    """One cluster, and the archives it knows: pywb, the file behind pywb, and a hostile one."""

    cluster: Cluster
    pywb: str
    archive: ArchiveProcess


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with contextlib.ExitStack() as stack:
        settings = {**UNLIMITED, "CHRONO_ARCHIVES__WAYBACK__PAGE_ROWS": str(PAGE_ROWS)}
        archive = stack.enter_context(archive_process("--captures", "300"))
        settings["CHRONO_ARCHIVES__WAYBACK__URL"] = archive.url
        pywb = ""
        if IANA.exists():
            folder = tmp_path_factory.mktemp("pywb")
            pywb = stack.enter_context(pywb_collection(folder, [IANA]))
            settings["CHRONO_ARCHIVES__PYWB__URL"] = pywb
            settings["CHRONO_ARCHIVES__WARC__URL"] = str(IANA)
        cluster = stack.enter_context(owned_cluster(settings))
        yield Peers(cluster, pywb, archive)


@pytest.fixture
def cluster(peers: Peers) -> Cluster:
    return peers.cluster


@pytest.fixture
def archive(peers: Peers) -> Iterator[ArchiveProcess]:
    """The hostile archive, honest again afterwards."""
    yield peers.archive
    peers.archive.behave()


@pytest.fixture(scope="module")
def iana(peers: Peers) -> Spoken:
    """The main job: everything pywb holds of iana.org."""
    if not peers.pywb:
        pytest.skip(f"{IANA} is not there")
    return peers.cluster.chrono(
        "run", "iana.org", "--match", "domain", "--archive", "pywb", "--json", "--project", "iana"
    )


# pywb as a peer


def test_every_row_that_pywb_lists_is_accounted_for(peers: Peers, iana: Spoken):
    assert iana.code == 0, iana.err
    with urlopen(f"{peers.pywb}/cdx?url=iana.org&matchType=domain&output=json", timeout=30) as said:
        rows = [orjson.loads(line) for line in said.read().splitlines()]
    kinds = Counter(row["mime"] == "warc/revisit" for row in rows)
    assert (kinds[False], kinds[True]) == (48, 123)
    captures = iana.json["captures"]
    assert captures["discovered"] == len(rows)
    assert captures["pending"] == 0
    assert captures["failed"] == {}
    assert captures["discovered"] == _sum_of_states(captures)
    kept = peers.cluster.fetch(
        "SELECT c.ts, c.original FROM captures c JOIN domains d ON d.id = c.domain_id"
        " JOIN projects p ON p.id = d.project_id WHERE p.name = 'iana'"
    )
    assert (
        Counter((row["timestamp"], row["url"]) for row in rows) - Counter(map(tuple, kept))
        == Counter(dict.fromkeys([], 0))
        or captures["repeated"]
    )


def test_a_certificate_of_the_main_job_adds_up(cluster: Cluster, iana: Spoken):
    said = cluster.chrono("verify", str(iana.json["run"]), "--json")
    assert said.code == 0, said.out
    assert said.json["clean"]
    assert said.json["rows_listed"] == iana.json["captures"]["discovered"]
    assert said.json["pages"] == said.json["pages_indexed"] == iana.json["pages"] > 0


def test_the_same_run_again_asks_for_no_payload(cluster: Cluster, iana: Spoken):
    again = cluster.chrono(
        "run", "iana.org", "--match", "domain", "--archive", "pywb", "--json", "--project", "iana"
    )
    assert again.code == 0, again.err
    assert again.json["requests"]["replay"] == 0
    captures = again.json["captures"]
    assert captures["known"] + captures["repeated"] == captures["discovered"]
    assert captures["discovered"] == iana.json["captures"]["discovered"]


def test_the_file_itself_gives_the_pages_that_pywb_gives(cluster: Cluster, iana: Spoken):
    local = cluster.chrono(
        "run", "iana.org", "--match", "domain", "--archive", "warc", "--json", "--project", "file"
    )
    assert local.code == 0, local.err
    served, read = _pages(cluster, "iana"), _pages(cluster, "file")
    assert read
    assert served == read


def test_what_was_collected_is_found(cluster: Cluster, iana: Spoken):
    found = cluster.chrono("search", "root zone", "--project", "iana", "--json")
    assert found.code == 0, found.err
    assert found.json["total"] > 0
    assert all("iana.org" in hit["url"] for hit in found.json["hits"])


# a Wayback-compatible peer that keeps its own log


def test_every_listed_row_is_kept_though_the_keys_skip_rows(
    cluster: Cluster, archive: ArchiveProcess
):
    """The real server's resume keys pass over the rest of a second."""
    archive.behave(Rule(WaybackKeys(), kind=Kind.LISTING))
    run = cluster.chrono("run", SITE, "--project", "keys", "--json")
    archive.behave()
    assert run.code == 0, run.err
    captures = run.json["captures"]
    assert run.json["requests"]["cdx"] > 300 / PAGE_ROWS
    assert captures["discovered"] - captures["repeated"] == 300
    assert captures["discovered"] == _sum_of_states(captures)
    kept = cluster.fetch(
        "SELECT urlkey, ts, original, mimetype, statuscode, digest FROM captures WHERE run_id = $1",
        run.json["run"],
    )
    assert sorted(map(tuple, kept)) == sorted(_listed(archive))


def test_a_payload_is_had_once_and_every_further_request_has_its_attempt(
    cluster: Cluster, archive: ArchiveProcess
):
    before = len(archive.log())
    archive.behave(Rule(Reset(), kind=Kind.REPLAY, after=5, times=4))
    run = cluster.chrono("run", SITE, "--project", "once", "--json")
    archive.behave()
    assert run.code == 0, run.err
    asked = [each for each in archive.log()[before:] if each.kind is Kind.REPLAY]
    assert run.json["requests"]["replay"] == len(asked)
    digests = _digests(archive)
    good = [_asked_for(each.target) for each in asked if each.status == 200]
    had = Counter(digests[place] for place in good)
    assert had
    assert {each: n for each, n in had.items() if n > len(each)} == {}
    [further] = cluster.fetch(
        "SELECT sum(f.requests) AS requests, sum((f.state = 'stored')::int) AS good,"
        " (SELECT sum(a.requests) FROM attempts a WHERE a.run_id = $1"
        "     AND NOT (a.reason = 'stored')) AS told"
        " FROM fetches f WHERE f.run_id = $1",
        run.json["run"],
    )
    assert further["requests"] == len(asked)
    assert further["requests"] - further["good"] <= further["told"]


# exit codes and streams


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(("run", SITE, "--archive", "nowhere"), id="unknown archive"),
        pytest.param(("run", "http://"), id="bad URL"),
        pytest.param(("run", SITE, "--match", "fuzzy"), id="unknown match"),
        pytest.param(("run", SITE, "--from", "2040", "--to", "2001"), id="dates reversed"),
        pytest.param(("run",), id="nothing asked"),
    ],
)
def test_what_cannot_be_asked_ends_with_2_before_anything_starts(tmp_path: Path, asked):
    data = tmp_path / "data"
    idle = Cluster(tmp_path, {"CHRONO_DATA_DIR": str(data)})
    said = idle.chrono(*asked, seconds=30)
    assert said.code == 2, said
    assert said.out == ""
    assert said.err
    assert "Traceback" not in said.err
    assert not data.exists()


def test_a_run_with_a_failed_capture_ends_with_3_and_names_it(
    cluster: Cluster, archive: ArchiveProcess
):
    archive.behave(Rule(Bomb(size=64 * 2**20), kind=Kind.REPLAY, after=3, times=1))
    run = cluster.chrono("run", SITE, "--project", "partial", "--json")
    assert run.code == 3, run
    assert run.json["state"] == "partial"
    assert sum(run.json["captures"]["failed"].values()) >= 1
    assert run.json["captures"]["pending"] == 0
    assert cluster.chrono("verify", str(run.json["run"])).code == 0


def test_ctrl_c_detaches_and_the_run_goes_on(cluster: Cluster, archive: ArchiveProcess):
    archive.behave(Rule(Latency(1.0), kind=Kind.REPLAY))
    code, out, err = _interrupted(cluster, "detach", "--json")
    archive.behave()
    assert code == 130, err
    assert out == ""
    assert "goes on" in err
    run = _newest_run(cluster, "detach")
    until(lambda: _state(cluster, run) == "done", 60, "the run ended without its command")
    until(lambda: cluster.value("SELECT count(*) = 0 FROM outbox"), 60, "its pages are indexed")
    assert cluster.chrono("verify", str(run)).code == 0


def test_ctrl_c_with_stop_pauses_the_run_within_seconds(cluster: Cluster, archive: ArchiveProcess):
    archive.behave(Rule(Latency(0.5), kind=Kind.REPLAY))
    code, out, err = _interrupted(cluster, "stop", "--json", "--on-interrupt", "stop")
    ended = time.monotonic()
    assert code == 130, err
    assert out == ""
    assert "paused" in err
    run = _newest_run(cluster, "stop")
    assert _state(cluster, run) == "paused"
    until(
        lambda: cluster.value("SELECT count(*) FROM leases WHERE run_id = $1", run) == 0,
        20,
        "the paused run holds no lease",
    )
    until(lambda: time.monotonic() > ended + 6.0, 20, "three seconds, and three more to watch")
    late = [each for each in archive.log() if each.at > ended + 3.0]
    assert late == []
    assert cluster.value("SELECT count(*) FROM queue WHERE run_id = $1", run) > 0


# the command and the machine


def test_help_is_quick_and_imports_no_ray():
    code = (
        "import sys; sys.argv = ['chrono', '--help']\n"
        "from chrono_ray.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print(sorted({'ray', 'asyncpg', 'aiohttp', 'tantivy'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr
    assert "Usage: chrono" in said.stdout
    assert said.stdout.splitlines()[-1] == "[]"
    chrono = str(Path(sys.executable).with_name("chrono"))
    fastest = min(_processor_time([chrono, "--help"]) for _ in range(3))
    assert fastest < 0.3


def test_nothing_listens_beyond_loopback(cluster: Cluster):
    assert cluster.exposed() == []
    assert len(cluster.listening()) > 3


def test_ray_starts_nothing_that_nobody_asks(cluster: Cluster):
    """Each is a Python process of 100 MB that costs a second of a core to start."""
    commands = [" ".join(each.cmdline()) for each in cluster.named("")]
    assert any("gcs_server" in each for each in commands)
    for program in ("ray.util.client", "log_monitor.py", "_private/monitor.py", "ray-dashboard-"):
        assert [each for each in commands if program in each] == []


@IN_THE_LONG_RUN
def test_a_run_that_started_everything_leaves_nothing(archive: ArchiveProcess):
    """`chrono run` alone, in an empty folder: it starts an owner, and ends it."""
    settings = {**UNLIMITED, "CHRONO_ARCHIVES__WAYBACK__URL": archive.url}
    with cluster_folder(settings) as alone:
        run = alone.chrono("run", SITE, "--to", "2003", "--json")
        assert run.code == 0, run.err
        assert run.json["captures"]["stored"] > 0
        alone.assert_nothing_left()


def test_ctrl_c_while_everything_starts_leaves_nothing(archive: ArchiveProcess):
    settings = {**UNLIMITED, "CHRONO_ARCHIVES__WAYBACK__URL": archive.url}
    with cluster_folder(settings) as alone, alone.spawn("run", SITE, "--json") as command:
        until(lambda: alone.named(f"{sys.executable} -m ray.scripts"), 60, "Ray is starting")
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
        assert (command.returncode, out) == (130, ""), err
        assert "Traceback" not in err
        until(lambda: not alone.processes(), 60, "every process has ended")


def _sum_of_states(captures: dict) -> int:
    """What `discovered` must equal."""
    rest = {name: n for name, n in captures.items() if name != "discovered"}
    return sum(sum(n.values()) if isinstance(n, dict) else n for n in rest.values())


def _pages(cluster: Cluster, project: str) -> list[tuple[str, str, str]]:
    """What a project understood: urlkey, hash of the text, hash of the payload."""
    rows = cluster.fetch(
        "SELECT p.urlkey, md5(d.title || d.text) AS text, encode(y.sha256, 'hex') AS payload"
        " FROM pages p JOIN projects o ON o.id = p.project_id"
        " JOIN documents d ON d.id = p.document_id JOIN payloads y ON y.id = p.payload_id"
        " WHERE o.name = $1 ORDER BY 1, 2, 3",
        project,
    )
    return [tuple(row) for row in rows]


def _listed(archive: ArchiveProcess) -> list[tuple[str, ...]]:
    """The archive's whole listing as an honest reader sees it, without the length."""
    url = f"{archive.url}/cdx/search/cdx?url={SITE}&matchType=domain&output=json"
    with urlopen(url, timeout=30) as said:
        return [tuple(row[:6]) for row in orjson.loads(said.read())[1:]]


def _digests(archive: ArchiveProcess) -> dict[tuple[str, str], frozenset[str]]:
    """What is listed at (timestamp, URL): more than one digest where a second has several rows."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for _, stamp, url, _, _, digest in _listed(archive):
        found[stamp, url] = found.get((stamp, url), frozenset()) | {digest}
    return found


def _asked_for(target: str) -> tuple[str, str]:
    """Timestamp and URL of a replay's request target."""
    stamp, _, url = unquote(target).removeprefix("/web/").partition("/")
    return stamp.removesuffix("id_"), url


def _interrupted(cluster: Cluster, project: str, *options: str) -> tuple[int, str, str]:
    """A run that gets SIGINT as soon as it has leases in flight: exit code, stdout, stderr."""
    with cluster.spawn("run", SITE, "--project", project, *options) as process:
        run = until(lambda: _newest_run(cluster, project), 60, "the run began")
        until(
            lambda: cluster.value("SELECT count(*) FROM leases WHERE run_id = $1", run),
            60,
            "it fetches",
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err


def _newest_run(cluster: Cluster, project: str) -> int:
    return cluster.value(
        "SELECT coalesce(max(r.id), 0) FROM runs r JOIN projects p ON p.id = r.project_id"
        " WHERE p.name = $1",
        project,
    )


def _state(cluster: Cluster, run: int) -> str:
    return cluster.value("SELECT state FROM runs WHERE id = $1", run)


def _processor_time(command: list[str]) -> float:
    """Seconds of processor a command takes: what it costs whoever else is busy here."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    after = os.times()
    return (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
