"""A slow request's statements are told by names that say where to look."""

from __future__ import annotations

from chrono_ray.storage.database import statements
from chrono_ray.storage.statement_names import SHOWN, name_of


def test_a_statement_of_a_script_has_its_name():
    assert name_of(statements("users")["authenticate"]) == "users.authenticate"
    assert name_of(f"\n{statements('metrics')['glance']}\n ") == "metrics.glance"


def test_another_is_told_by_its_beginning_on_one_line():
    assert name_of("SELECT 1\n  FROM x") == "SELECT 1 FROM x"
    assert len(name_of("SELECT " + "a, " * 500)) <= SHOWN
