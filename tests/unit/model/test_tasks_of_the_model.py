"""A stored task is what was submitted, or named as unusable."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.task import (
    CLASSES,
    KINDS,
    Bulk,
    Certify,
    DeleteProject,
    Discover,
    Export,
    Form,
    Prioritise,
    Purge,
    Reindex,
    Retry,
    Start,
    Subject,
    Task,
    kind_of,
    read,
)

TASKS: list[Task] = [
    DeleteProject("town", 7),
    Purge(3600.0),
    Export("town", "/tmp/x", Subject.CAPTURES, Form.PARQUET, 3, "", "20010101000000", ""),
    Discover("town", "wayback", "http://a.example/", "domain"),
    Reindex(),
    Start(7),
    Retry(7, "failed,gone", force=True),
    Prioritise(7, "high"),
    Certify(7),
    Bulk(7, 3, "skip", 0, "{}", "1,2"),
]


@pytest.mark.parametrize("task", TASKS, ids=kind_of)
def test_what_was_submitted_is_read_again(task: Task):
    assert read(kind_of(task), asdict(task)) == task


def test_every_kind_has_a_name_and_a_class():
    assert {type(task) for task in TASKS} == set(KINDS.values()) == set(CLASSES)


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        ("dance", {}, "no task 'dance'"),
        ("purge", {"older": 3}, "'older'"),
        ("purge", {"older_than": -1.0}, "'older_than'"),
        ("purge", {"older_than": float("nan")}, "'older_than'"),
        ("purge", {"older_than": "1"}, "'older_than'"),
        ("delete_project", {"project": "p"}, "missing"),
        ("delete_project", {"project": "p", "project_id": True}, "'project_id'"),
        ("export", {"project": "p", "to": "here"}, "'to'"),
        ("export", {"project": "p", "to": "/x", "form": "docx"}, "one of jsonl"),
        ("export", {"project": "p", "to": "/x", "start": "2001"}, "'start'"),
        ("export", {"project": "p", "to": "/x", "rows_per_part": 0}, "'rows_per_part'"),
        (
            "bulk",
            {"project_id": 1, "user_id": 1, "action": "x", "priority": 0, "which": ""},
            "one of skip",
        ),
    ],
)
def test_what_cannot_be_used_is_named(kind, arguments, told):
    with pytest.raises(InvalidInput, match=told):
        read(kind, arguments)


@given(
    kind=st.sampled_from([*KINDS, "other"]),
    arguments=st.dictionaries(
        st.sampled_from(["project", "project_id", "to", "older_than", "form", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        max_size=4,
    ),
)
def test_nothing_but_a_task_or_a_clear_refusal_comes_of_any_arguments(kind, arguments):
    refused = ""
    found: Task | None = None
    try:
        found = read(kind, arguments)
    except InvalidInput as error:
        refused = error.code
    assert refused in ("task_kind", "task_arguments") or type(found) is KINDS[kind]
