"""docs/states.md says what the code and the schema say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chrono_ray.model.capture import TRANSITIONS, FetchState
from chrono_ray.model.errors import ArchiveError
from chrono_ray.model.rules import BUILT_IN, THINNED, UNDECIDED, Skip
from chrono_ray.model.selection import SKIPPED_BY_PERSON, CaptureState

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "chrono_ray" / "storage" / "migrations" / "versions"
TEXT = (ROOT / "docs" / "states.md").read_text("utf-8")
EDGE = re.compile(r"^ {4}(\w+) --> (\w+)", re.MULTILINE)
ALLOWED = r"CHECK \(state IN \(([^)]*)\)"


def row(name: str) -> set[str]:
    """The words in code quotes of the first cell behind a row's name."""
    found = re.search(rf"^\| {name} \| ([^|]*) \|", TEXT, re.MULTILINE)
    assert found is not None, name
    return set(re.findall(r"`([a-z_]+)`", found[1]))


def test_the_picture_of_a_fetch_shows_the_legal_moves() -> None:
    stored = {each.value for each in FetchState} - {"pending"}
    drawn = {(old, new) for old, new in EDGE.findall(TEXT) if "leased" not in (old, new)}
    through_lease = {("pending", new) for old, new in EDGE.findall(TEXT) if old == "leased"}
    told = (drawn | through_lease) - {("pending", "pending")}
    assert told == {(old, new) for old, to in TRANSITIONS.items() for new in to if old != new}
    assert {new for _, new in told if new != "pending"} == stored


def test_every_state_of_a_capture_has_a_row() -> None:
    section = TEXT.partition("## A capture")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
    named = [word for cell in cells for word in re.findall(r"`([a-z]+)`", cell)]
    assert sorted(named) == sorted(each.value for each in CaptureState)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("run", r"runs_state_check "),
        ("slice of a listing", r"slices_state_check "),
        ("task", r"CREATE TABLE tasks .*?"),
        ("index rebuild", r"CREATE TABLE index_rebuilds .*?"),
        ("user", r"CREATE TABLE users .*?"),
    ],
)
def test_states_are_those_that_the_schema_allows(name: str, table: str) -> None:
    schema = "".join(path.read_text("utf-8") for path in sorted(SCHEMA.glob("*.sql")))
    found = re.search(table + ALLOWED, schema, re.DOTALL)
    assert found is not None
    assert row(name) == set(re.findall(r"'(\w+)'", found[1]))


def test_every_reason_that_a_fetch_may_end_with_is_named() -> None:
    """By the literals in the code: a new one wants its place in the table."""
    folders = (ROOT / "chrono_ray" / name for name in ("archives", "extraction", "pipeline"))
    code = "".join(path.read_text("utf-8") for each in folders for path in each.glob("*.py"))
    given = set(re.findall(r'\breason="([a-z_]+)"', code))
    given |= {each.default_reason for each in ArchiveError.__subclasses__()}
    given |= set(re.findall(r'(?:Failed|Gone|Refused)\("([a-z_]+)"', code))
    of_listings = {"rules"}  # docs/architecture.md: a hole
    assert given - set(re.findall(r"`([a-z_]+)`", TEXT)) == of_listings


def test_every_built_in_reason_of_a_skip_is_named() -> None:
    reasons = {each.action.reason for each in BUILT_IN if isinstance(each.action, Skip)}
    reasons |= {THINNED, UNDECIDED, SKIPPED_BY_PERSON}
    assert reasons <= set(re.findall(r"`([a-z_]+)`", TEXT))
