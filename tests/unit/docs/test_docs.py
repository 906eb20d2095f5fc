"""Documents that name code name what exists; code that must be documented is."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from chrono_ray import settings
from chrono_ray.cli.main import app

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| ([\d]+) \|.*\|$", re.MULTILINE)
SETTING = re.compile(r"^\| `(CHRONO_\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)
COMMAND = re.compile(r"`chrono ([a-z]+)(?: ([a-z]+(?:, [a-z]+)*))?")
INPUTS = tuple(range(1, 79))


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def bad_inputs() -> str:
    return (DOCS / "bad-inputs.md").read_text("utf-8")


def test_every_test_named_for_a_bad_input_exists() -> None:
    named = NAMED_TEST.findall(bad_inputs())
    assert len(named) > 60
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or name not in functions(path)
    ]
    assert missing == []


def test_every_bad_input_has_its_row_once_with_a_test() -> None:
    rows = {int(found[1]): found[0] for found in ROW.finditer(bad_inputs())}
    assert tuple(rows) == INPUTS
    assert len(ROW.findall(bad_inputs())) == len(rows)
    for number, row in rows.items():
        assert "::" in row or re.search(r"\| (the same|as \d+)", row), number


def test_a_row_that_points_elsewhere_points_at_a_test() -> None:
    rows = {int(found[1]): found[0] for found in ROW.finditer(bad_inputs())}
    for number, row in rows.items():
        if "::" in row:
            continue
        pointed = re.search(r"\| as (\d+)", row)
        assert "::" in rows[int(pointed[1])] if pointed else number - 1 in rows, number


def test_settings_are_documented_with_their_defaults() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    documented = {name: default.strip("`") for name, default, _ in SETTING.findall(text)}
    shown = {name: value for name, value, _ in settings.shown(settings.load({}), {})}
    shown["CHRONO_DATA_DIR"] = str(settings.Settings.model_fields["data_dir"].default)
    assert list(documented) == settings.names()
    assert documented == shown


def test_settings_named_anywhere_in_the_documents_exist() -> None:
    known = {*settings.names(), *settings.BY_FILE}
    for path in [*DOCS.rglob("*.md"), ROOT / "README.md"]:
        named = set(re.findall(r"\bCHRONO_[A-Z_]+[A-Z]\b", path.read_text("utf-8")))
        unknown = {n for n in named - known if not n.startswith("CHRONO_TEST")}
        assert unknown == set(), path


def commands() -> set[str]:
    top = {each.name or each.callback.__name__ for each in app.registered_commands if each.callback}
    return top | {f"{group} {name}" for group, names in groups().items() for name in names}


def groups() -> dict[str, set[str]]:
    """Commands below commands: `chrono config show`."""
    return {
        str(group.name): {
            each.name or each.callback.__name__
            for each in group.typer_instance.registered_commands if each.callback
        }
        for group in app.registered_groups if group.typer_instance
    }  # fmt: skip


def documented_commands() -> set[str]:
    """Also those of a row that names several: `chrono pause, resume, cancel RUN`,
    `chrono rules set, show`."""
    text = (DOCS / "cli.md").read_text("utf-8")
    rows = re.findall(r"^\| `chrono .*?\|", text, re.MULTILINE)
    found = set()
    for top, below in COMMAND.findall(" ".join(rows)):
        names = below.split(", ") if top in groups() else []
        found |= {f"{top} {name}" for name in names} or {top}
    for several in re.findall(r"`chrono ([a-z]+(?:, [a-z]+)+)", " ".join(rows)):
        found |= set(several.split(", "))
    return found


def test_every_command_is_documented_and_no_other() -> None:
    assert documented_commands() == commands()


def test_decisions_are_numbered_once_and_without_a_gap() -> None:
    numbers = sorted(path.name[:4] for path in (DOCS / "adr").glob("*.md"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_documents_link_to_files_that_exist() -> None:
    broken = [
        f"{path.name}: {target}"
        for path in [*DOCS.rglob("*.md"), ROOT / "README.md"]
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]
    assert broken == []


def test_the_readme_leads_to_every_document() -> None:
    led_to = set(re.findall(r"\]\(docs/([a-z-]+\.md)\)", (ROOT / "README.md").read_text("utf-8")))
    assert {path.name for path in DOCS.glob("*.md")} - led_to == set()
