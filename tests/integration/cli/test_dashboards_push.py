"""`chrono dashboards push`, against a stand-in that answers as Grafana's HTTP API describes.

No Grafana server can be had from package registries. The stand-in keeps folders and boards, takes
the version of a board as Grafana does (412 for another), and notes what it was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chrono_ray.cli import dashboards
from chrono_ray.model.errors import (
    ChronoError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    SettingsError,
    Unauthenticated,
    Unavailable,
)

TOKEN = "glsa_0123456789"
PATH = "/grafana"


@dataclass
class Grafana:
    """What it holds, and what it was asked."""

    sources: list[dict[str, Any]] = field(default_factory=lambda: [{"type": "prometheus"}])
    folders: dict[str, str] = field(default_factory=dict)
    boards: dict[str, dict[str, Any]] = field(default_factory=dict)
    provisioned: set[str] = field(default_factory=set)
    refuses: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def written(self) -> list[str]:
        return [path for method, path in self.asked if method != "GET"]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append((method, path))
        if self.refuses:
            return self.refuses, {"message": f"status {self.refuses}"}
        found: Any = None
        match method, path.removeprefix(f"{PATH}/api").split("/")[1:]:
            case "GET", ["datasources"]:
                found = self.sources
            case "GET", ["folders", uid] if uid in self.folders:
                found = {"uid": uid}
            case "POST", ["folders"]:
                self.folders[body["uid"]] = body["title"]
                found = body
            case "GET", ["dashboards", "uid", uid] if uid in self.boards:
                meta = {"provisioned": uid in self.provisioned}
                found = {"dashboard": self.boards[uid], "meta": meta}
            case "POST", ["dashboards", "db"]:
                return self.save(body)
        return (404, {"message": "not found"}) if found is None else (200, found)

    def save(self, body: Any) -> tuple[int, Any]:
        model = body["dashboard"]
        assert body["folderUid"] in self.folders
        assert body["overwrite"] is False
        standing = self.boards.get(model["uid"])
        if standing and (model["id"], model["version"]) != (standing["id"], standing["version"]):
            return 412, {"message": "The dashboard has been changed by someone else"}
        if standing is None:
            assert model["id"] is None
        number = standing["id"] if standing else len(self.boards) + 1
        version = standing["version"] + 1 if standing else 1
        self.boards[model["uid"]] = {**model, "id": number, "version": version}
        return 200, {"uid": model["uid"], "version": version, "status": "success"}


def answering(grafana: Grafana) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.tell()

        def do_POST(self) -> None:
            self.tell()

        def tell(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, answer = 401, {"message": "Invalid API key"}
            else:
                body = json.loads(content) if content else None
                status, answer = grafana.answer(self.command, self.path, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: object) -> None:
            """Not on stderr."""

    return Answering


@pytest.fixture
def grafana(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Grafana]:
    found = Grafana()
    server = ThreadingHTTPServer(("127.0.0.1", 0), answering(found))
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}{PATH}"
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    monkeypatch.setenv("CHRONO_GRAFANA__URL", found.url)
    monkeypatch.setenv("CHRONO_GRAFANA__TOKEN_FILE", str(token))
    for each in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(each, raising=False)
    for each in ("HTTP_PROXY", "http_proxy"):  # nobody is there, and nobody may be asked
        monkeypatch.setenv(each, "http://127.0.0.1:9")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    folder = tmp_path / "boards"
    folder.mkdir()
    for uid in ("one", "two"):
        write(folder, uid, title=f"Board {uid}")
    return folder


def write(folder: Path, uid: str, title: str) -> None:
    board = {"uid": uid, "title": title, "tags": ["chrono_ray"], "panels": []}
    (folder / f"{uid}.json").write_text(json.dumps(board))


def pushed(folder: Path | str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert dashboards.push(str(folder), json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == "chrono-ray"
    return told["boards"]


def test_pushing_again_changes_nothing_but_what_is_new(grafana, boards, capsys):
    assert pushed(boards, capsys) == {"one": "created", "two": "created"}
    assert grafana.folders == {"chrono-ray": "chrono_ray"}
    grafana.asked.clear()
    assert pushed(boards, capsys) == {"one": "unchanged", "two": "unchanged"}
    assert grafana.written == []
    write(boards, "two", title="Board two, better")
    assert pushed(boards, capsys) == {"one": "unchanged", "two": "updated"}
    assert grafana.boards["two"]["title"] == "Board two, better"
    assert grafana.boards["two"]["version"] == 2
    assert len(grafana.boards["two"]["tags"]) == 2, "of the builds only the newest"


def test_our_own_boards_are_pushed_when_no_folder_is_named(grafana, capsys):
    assert dashboards.push("", json=False) == 0
    assert "chrono_ray: overview: created\n" in capsys.readouterr().out
    assert "chrono-overview" in grafana.boards


def test_somebody_elses_board_is_never_written_and_nothing_else_then(grafana, boards):
    theirs = {"id": 9, "version": 3, "uid": "two", "title": "Theirs", "tags": ["sales"]}
    grafana.boards["two"] = theirs
    with pytest.raises(Conflict, match=r"'Theirs'.*another uid"):
        dashboards.push(str(boards), json=True)
    assert grafana.written == []
    assert grafana.boards == {"two": theirs}


def test_a_board_that_grafana_reads_from_a_file_is_left_to_it(grafana, boards, capsys):
    pushed(boards, capsys)
    grafana.asked.clear()
    grafana.provisioned.add("one")
    with pytest.raises(Conflict, match="from a file"):
        dashboards.push(str(boards), json=True)
    assert grafana.written == []


def test_without_a_prometheus_there_is_nothing_to_show(grafana, boards):
    grafana.sources = [{"type": "loki"}]
    with pytest.raises(NotFound, match="no Prometheus"):
        dashboards.push(str(boards), json=True)
    assert grafana.written == []


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (302, Unavailable, "final address"),
        (403, Forbidden, "role Editor"),
        (412, Conflict, "changed meanwhile"),
        (502, ChronoError, "status 502"),
    ],
)
def test_what_grafana_refuses_is_told(grafana, boards, status, error, said):
    grafana.refuses = status
    with pytest.raises(error, match=said):
        dashboards.push(str(boards), json=True)


def test_a_wrong_token_is_told_and_never_shown(grafana, boards, tmp_path):
    (tmp_path / "token").write_text("glsa_wrong")
    with pytest.raises(Unauthenticated, match="TOKEN_FILE") as caught:
        dashboards.push(str(boards), json=True)
    assert "glsa_wrong" not in str(caught.value)


def test_nobody_there_is_told(grafana, boards, monkeypatch):
    monkeypatch.setenv("CHRONO_GRAFANA__URL", "http://127.0.0.1:9/")
    with pytest.raises(Unavailable, match=r"cannot be reached at http://127\.0\.0\.1:9"):
        dashboards.push(str(boards), json=True)


def test_settings_that_cannot_be_meant_are_refused(grafana, boards, tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        dashboards.push(str(boards), json=True)
    token.chmod(0o600)
    token.write_text(" \n")
    with pytest.raises(SettingsError, match="empty"):
        dashboards.push(str(boards), json=True)
    token.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        dashboards.push(str(boards), json=True)
    token.write_text(TOKEN)
    token.chmod(0o600)
    monkeypatch.setenv("CHRONO_GRAFANA__URL", "http://grafana.example.org")
    with pytest.raises(InvalidInput, match="plain http"):
        dashboards.push(str(boards), json=True)
    monkeypatch.delenv("CHRONO_GRAFANA__URL")
    with pytest.raises(SettingsError, match="GRAFANA__URL is unset"):
        dashboards.push(str(boards), json=True)
    assert grafana.asked == []


def test_what_is_no_board_is_named(grafana, tmp_path):
    with pytest.raises(InvalidInput, match="no boards"):
        dashboards.push(str(tmp_path), json=True)
    (tmp_path / "bad.json").write_text('{"title": 1}')
    with pytest.raises(InvalidInput, match=r"bad\.json is no board.*uid"):
        dashboards.push(str(tmp_path), json=True)
