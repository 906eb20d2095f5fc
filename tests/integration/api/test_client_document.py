"""Every block of code in docs/client.md does what it says, in its order, against a real server."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chrono_ray.cli import main as cli
from chrono_ray.client import Chrono, session
from chrono_ray.storage.database import Database
from tests.conftest import PostgresServer
from tests.integration.api.served import EMAIL, PAGES, PASSWORD, Served, served_in

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "client.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_document_is_true(postgres_server: PostgresServer, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path / "mine"))
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.05)
    blocks = BLOCK.findall(DOCUMENT.read_text("utf-8"))
    assert {kind for kind, _ in blocks} == {"python", "sh"}
    assert len(blocks) >= 9
    (tmp_path / "server").mkdir()
    names: dict[str, Any] = {}
    with served_in(tmp_path / "server", postgres_server, "record_of_document") as served:
        with _ending_runs(served):
            for kind, text in blocks:
                code = _ours(text, served)
                if kind == "python":
                    exec(compile(code, str(DOCUMENT), "exec"), names)
                else:
                    _shell(code, monkeypatch)
        names["c"].close()
    said = capsys.readouterr().out
    assert "cancelled" in said
    assert f"{PAGES} {PAGES}" in said
    assert "not_found" in said
    assert "manifest.json" in said
    assert "town (#1" in said


async def _listed(url: str, run: int) -> None:
    record = Database(url, pool_size=1, name="test")
    await record.fetch("UPDATE slices SET state = 'listed' WHERE run_id = $1", run)
    await record.fetch(
        "UPDATE runs SET state = 'planned', finished_at = clock_timestamp()"
        " WHERE id = $1 AND goal = 'plan' AND state = 'active'", run,
    )  # fmt: skip
    await record.aclose()


def _ours(text: str, served: Served) -> str:
    ours = {
        "http://127.0.0.1:8000": served.url, "crk_...": served.key, "you@example.org": EMAIL,
        "your password": PASSWORD,
    }  # fmt: skip
    for theirs, our in ours.items():
        text = text.replace(theirs, our)
    return text


def _shell(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in text.splitlines():
        words = shlex.split(line)
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("=", 1))
            continue
        assert words[0] == "chrono"
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, line


@contextmanager
def _ending_runs(served: Served) -> Iterator[None]:
    """Nobody lists or scrapes here: a plan is as if it were listed, what is begun is cancelled,
    which is an end, too."""
    stop = threading.Event()

    def end() -> None:
        with Chrono(served.url, token=served.key) as c:
            while not stop.wait(0.3):
                for each in c.runs.list(state="active"):
                    if each.goal == "plan":
                        asyncio.run(_listed(served.database_url, each.run))
                    elif each.project != "town":
                        c.runs.cancel(each.run)

    thread = threading.Thread(target=end)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
