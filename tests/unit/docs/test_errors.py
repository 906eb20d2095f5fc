"""Every code that the HTTP API answers with stands in docs/errors.md, with its status."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from chrono_ray.api.problems import CODES, INTERNAL, STATUSES

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| (.+) \|$", re.MULTILINE)
CLIENTS = re.compile(r"^\| `(\w+)` \| ([^|]+) \|$", re.MULTILINE)
ELSEWHERE = {
    "cli", "client", "cluster", "demo", "embedded", "perf", "settings.py", "migrate.py",
}  # fmt: skip
"""What these raise never becomes an answer."""
BEFORE = {"haproxy.py", "ingress.py"}
"""They answer before the application is asked."""


def documented() -> list[tuple[str, int]]:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    return [(code, int(status)) for code, status, _ in ROW.findall(text)]


@cache
def sources() -> tuple[ast.Module, ...]:
    package = ROOT / "chrono_ray"
    return tuple(
        ast.parse(path.read_text("utf-8"))
        for path in package.rglob("*.py")
        if ELSEWHERE.isdisjoint(path.relative_to(package).parts) or path.name in BEFORE
    )


def raised() -> set[tuple[str, int]]:
    """Codes given where an error is made, by literal or by the module's constant."""
    statuses = {kind.__name__: status for kind, status in STATUSES.items()}
    found = set()
    named = {name: value for tree in sources() for name, value in constants(tree)}
    for tree in sources():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            status = statuses.get(call.func.id)
            code = next((each.value for each in call.keywords if each.arg == "code"), None)
            if isinstance(code, ast.Name):
                code = named.get(code.id)
            if status and isinstance(code, ast.Constant):
                found.add((code.value, status))
    return found


def constants(tree: ast.Module) -> Iterator[tuple[str, ast.Constant]]:
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant() as value):
                yield name, value


def test_every_code_is_documented_once_with_its_status() -> None:
    rows = documented()
    assert len({code for code, _ in rows}) == len(rows)
    general = {(code, status) for status, code in CODES.items()} | {(INTERNAL, 500)}
    classes = {(kind.code, status) for kind, status in STATUSES.items()}
    assert (raised() | general | classes) - set(rows) == set()


def test_no_code_is_documented_that_nobody_answers_with() -> None:
    literals = {
        node.value for tree in sources() for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }  # fmt: skip
    begun = {text for text in literals if text.endswith("_")}  # f"rule_{kind}"
    unknown = [code for code, _ in documented() if code not in literals]
    assert [code for code in unknown if not code.startswith(tuple(begun - {"_"}))] == []


def test_what_the_command_alone_says_is_said_nowhere_in_the_api() -> None:
    """By no literal of its own; what the API calls checks bounds that its fields have, too."""
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    commands = text.partition("## Codes of the command alone")[2].partition("\n## ")[0]
    codes = {code for code, _, _ in ROW.findall(commands)}
    ours = [ast.parse(each.read_text("utf-8")) for each in (ROOT / "chrono_ray/api").rglob("*.py")]
    said = {
        word.value.value for tree in ours for call in ast.walk(tree) if isinstance(call, ast.Call)
        for word in call.keywords if word.arg == "code" and isinstance(word.value, ast.Constant)
    }  # fmt: skip
    assert len(codes) > 10
    assert codes & said == {"sort"}, "raised by what the command and the API share"


def test_codes_of_the_client_alone_are_documented_apart() -> None:
    """What it raises under a code of the API's means the same."""
    trees = [
        ast.parse(path.read_text("utf-8")) for path in (ROOT / "chrono_ray/client").glob("*.py")
    ]
    given = {
        word.value.value for tree in trees for call in ast.walk(tree) if isinstance(call, ast.Call)
        for word in call.keywords if word.arg == "code" and isinstance(word.value, ast.Constant)
    }  # fmt: skip
    own = CLIENTS.findall((ROOT / "docs" / "errors.md").read_text("utf-8"))
    assert sorted(given - {code for code, _ in documented()}) == [code for code, _ in own]
