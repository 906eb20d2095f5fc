"""The examples of docs/api.md, in their order, by bash and curl, against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PostgresServer
from tests.integration.api.served import EMAIL, PASSWORD, Served, served_in

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "api.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "@@@ end of a block @@@"
SECONDS = 60


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
def test_the_examples_do_what_they_say(postgres_server: PostgresServer, tmp_path: Path) -> None:
    blocks = BLOCK.findall(DOCUMENT.read_text("utf-8"))
    assert {kind for kind, _ in blocks} == {"sh", "json"}
    (tmp_path / "server").mkdir()
    with served_in(
        tmp_path / "server", postgres_server, "record_of_api_document", access=900
    ) as served:
        script = f"\necho; echo '{MARK}'\n".join(
            _ours(text, served) for kind, text in blocks if kind == "sh"
        )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True,
            text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    told = iter(done.stdout.split(MARK))
    answer = ""
    for kind, text in blocks:
        if kind == "sh":
            answer = next(told)
        else:
            assert missing(json.loads(text), json.loads(answer)) == [], answer
    assert (tmp_path / "towns.csv").read_text().startswith("id,")


def missing(shown: Any, told: Any, at: str = "") -> list[str]:
    """What is shown and not told: names and kinds, of a list its first; not numbers and words."""
    match shown:
        case dict() if isinstance(told, dict):
            free = at.endswith((".host", ".projects"))  # by what there is
            return [] if free else [
                each
                for name, value in shown.items()
                for each in (
                    missing(value, told[name], f"{at}.{name}") if name in told else [f"{at}.{name}"]
                )
            ]  # fmt: skip
        case list() if isinstance(told, list):
            return missing(shown[0], told[0], f"{at}.0") if shown and told else []
        case _:
            return [] if isinstance(told, type(shown)) else [at]


def _ours(text: str, served: Served) -> str:
    ours = {
        "http://127.0.0.1:8000": served.url, "you@example.org": EMAIL, "your password": PASSWORD,
    }  # fmt: skip
    for theirs, our in ours.items():
        text = text.replace(theirs, our)
    return text
