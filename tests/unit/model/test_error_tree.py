"""The tree drawn in the docstring is the tree of the classes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from chrono_ray.model import errors
from chrono_ray.model.errors import (
    ArchiveError,
    ChronoError,
    DocumentRejected,
    ExtractionFailed,
    InvalidInput,
    Throttled,
)

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, ChronoError)
}


def drawn() -> dict[str, str]:
    """Each class name of the docstring's drawing with the name it hangs from."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ((?:│   |    )*)([├└]── )?([A-Z]\w+)", line):
            depth = len(found[1]) // 4 + (1 if found[2] else 0)
            path[depth:] = [found[3]]
            parents[found[3]] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_drawing_is_the_truth():
    assert drawn() == {name: kind.__base__.__name__ for name, kind in CLASSES.items()}


def test_codes_tell_direct_branches_apart():
    codes = [kind.code for kind in CLASSES.values() if not issubclass(kind, ArchiveError)]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ChronoError("It broke"), "It broke"),
        (ChronoError("It broke", why="rust"), "It broke: rust"),
        (ChronoError("It broke", fix="Oil it"), "It broke. Oil it"),
        (ChronoError("It broke", why="rust", fix="Oil it"), "It broke: rust. Oil it"),
    ],
)
def test_an_error_reads_as_what_why_and_what_to_do(error, line):
    assert str(error) == line


def test_a_code_given_at_the_raise_is_that_errors_only():
    assert InvalidInput("x", code="url_host").code == "url_host"
    assert InvalidInput("x").code == "invalid_input"


@pytest.mark.parametrize(
    "kind", [k for k in CLASSES.values() if issubclass(k, ArchiveError) and k is not Throttled]
)
def test_every_archive_error_has_a_reason_to_store(kind):
    assert kind("x").reason
    assert kind("x", reason="own").reason == "own"
    assert kind("x", requests=3).requests == 3


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("what", why="why", fix="fix", code="url_host"),
        ArchiveError("what", reason="own", requests=2),
        Throttled("what", retry_after=5.0),
        ExtractionFailed("what", reason="timeout"),
        DocumentRejected("what", page_id=7),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_between_processes(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert str(back) == str(error)
