"""Scripts from 0008 on may run while programs of the version before are at work.

A statement that rewrites a table, reads all of it under a lock, or takes away
what an older program uses has its place elsewhere: in `<revision>_online.sql`,
or in a revision that follows one release later and says so (`works_with`).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

VERSIONS = Path(__file__).parents[3] / "chrono_ray" / "storage" / "migrations" / "versions"
FIRST = "0008"
NAME = r'(?:IF (?:NOT )?EXISTS )?(?:ONLY )?"?(\w+)"?'
MAKES = re.compile(rf"\bCREATE TABLE {NAME}", re.IGNORECASE)
ALTERS = rf"\bALTER TABLE {NAME}"
BLOCKS = {
    "an index is built under a lock": rf"\bCREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).*? ON {NAME}",
    "a type rewrites the table": rf"{ALTERS}[^;]*\bALTER (?:COLUMN )?\w+ (?:SET DATA )?TYPE\b",
    "all rows are read under a lock": rf"{ALTERS}[^;]*\bSET NOT NULL\b",
    "a constraint reads all rows, unless NOT VALID": (
        rf"{ALTERS}(?=[^;]*\bADD CONSTRAINT\b)(?![^;]*(?:NOT VALID|USING INDEX))"
    ),
    "older programs do not fill it": (
        rf"{ALTERS}[^;]*\bADD COLUMN (?=[^;,]*\bNOT NULL\b)(?![^;,]*\bDEFAULT\b)"
    ),
    "a volatile default rewrites the table": (
        rf"{ALTERS}[^;]*\bADD COLUMN [^;,]*\bDEFAULT (?:clock_timestamp|gen_random_uuid|random)\b"
    ),
    "a whole table is written": rf"^\s*(?:UPDATE|DELETE FROM) {NAME}",
    "a table is locked": rf"\b(?:LOCK TABLE|VACUUM FULL|CLUSTER|REINDEX (?:TABLE|INDEX)) {NAME}",
}
TAKES_AWAY = {
    "an older program uses it": rf"\bDROP (?:TABLE|VIEW|FUNCTION|TYPE|SEQUENCE) {NAME}",
    "an older program uses the name": rf"\bALTER TABLE {NAME}(?=[^;]*\b(?:DROP COLUMN|RENAME)\b)",
}


def plain(script: str) -> str:
    """Without comments, and without bodies of functions: those run later."""
    script = re.sub(r"--[^\n]*", "", script)
    return re.sub(r"(\$\w*\$).*?\1", "''", script, flags=re.DOTALL)


def found(script: str, rules: dict[str, str]) -> list[str]:
    """What it does that it must not, to tables that it does not make itself."""
    code = re.sub(r"[ \t\r\n]+", " ", plain(script)).replace("; ", ";\n")
    own = {name.lower() for name in MAKES.findall(code)}
    return [
        f"{table}: {why}"
        for why, pattern in rules.items()
        for table in re.findall(pattern, code, re.IGNORECASE | re.MULTILINE)
        if table.lower() not in own
    ]


def scripts() -> list[Path]:
    return [
        path for path in sorted(VERSIONS.glob("[0-9]*.sql"))
        if path.name[:4] >= FIRST and not path.stem.endswith("_online")
    ]  # fmt: skip


def promise(number: str) -> str:
    """The `works_with` of a revision."""
    (module,) = VERSIONS.glob(f"{number}_*.py")
    says = re.search(r'^works_with = "(\d{4})"$', module.read_text("utf-8"), re.MULTILINE)
    assert says is not None, f"{module.name} does not say which programs it works with"
    return says[1]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_a_script_stands_in_nobodys_way(path: Path) -> None:
    text = path.read_text("utf-8")
    assert found(text, BLOCKS) == []
    number = path.name[:4]
    before = f"{int(number) - 1:04}"
    assert "0007" <= promise(number) <= number
    if promise(number) < before:
        assert found(text, TAKES_AWAY) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX captures_x ON captures (x)",
        "CREATE UNIQUE INDEX x ON captures (x)",
        "ALTER TABLE captures ALTER COLUMN length TYPE bigint",
        "alter table captures\n  alter length set data type bigint",
        "ALTER TABLE captures ALTER COLUMN x SET NOT NULL",
        "ALTER TABLE captures ADD CONSTRAINT c CHECK (x > 0)",
        "ALTER TABLE captures ADD COLUMN x int NOT NULL",
        "ALTER TABLE captures ADD COLUMN x timestamptz DEFAULT clock_timestamp()",
        "UPDATE captures SET x = 1",
        "CREATE TABLE own (n int); DELETE FROM captures WHERE x",
        "LOCK TABLE captures",
    ],
)
def test_what_would_hold_up_others_is_noticed(statement: str) -> None:
    assert [each.partition(":")[0] for each in found(f"{statement};", BLOCKS)] == ["captures"]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE captures ADD COLUMN x int",
        "ALTER TABLE captures ADD COLUMN x int NOT NULL DEFAULT 0",
        "ALTER TABLE captures ADD CONSTRAINT c CHECK (x > 0) NOT VALID",
        "CREATE TABLE own (n int); CREATE INDEX own_n ON own (n)",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ UPDATE captures SET x = 1 $$",
        "-- UPDATE captures SET x = 1",
    ],
)
def test_what_holds_up_nobody_passes(statement: str) -> None:
    assert found(f"{statement};", BLOCKS) == []


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE captures DROP COLUMN x",
        "ALTER TABLE captures RENAME TO c",
        "DROP TABLE captures",
        "DROP FUNCTION captures(int)",
    ],
)
def test_what_takes_something_away_is_noticed(statement: str) -> None:
    assert found(f"{statement};", TAKES_AWAY) != []
