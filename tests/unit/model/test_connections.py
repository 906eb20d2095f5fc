"""All pools that a machine can have fit into its PostgreSQL, whatever the machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from chrono_ray.embedded.postgres import PostgresTuning
from chrono_ray.model.budget import COMMANDS, CONNECTIONS, GIB, PLACED, SPARE, fit

PACKAGE = Path(__file__).resolve().parents[3] / "chrono_ray"
PARTS = {
    ("wiring.py", "chrono scraper "): "scraper",
    ("wiring.py", "chrono ingest "): "job",
    ("cluster/jobs/frame.py", "chrono "): "job",
    ("cluster/indexer.py", "chrono indexer"): "indexer",
    ("cluster/supervisor.py", "chrono supervisor"): "supervisor",
    ("api/parts.py", "chrono api"): "stats",
    ("api/app.py", "chrono api"): "api",
}
"""Whose processes open it, by where it is opened and how PostgreSQL knows it."""


def pools() -> Iterator[tuple[str, str, int]]:
    """Every pool that the program opens: file, the name's fixed part, size."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        sizes = {
            node.target.id: node.value.value for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            and isinstance(node.value, ast.Constant)
        }  # fmt: skip
        for call in ast.walk(tree):
            given = {each.arg: each.value for each in getattr(call, "keywords", [])}
            size, name = given.get("pool_size"), given.get("name")
            if isinstance(name, ast.JoinedStr):
                name = name.values[0]
            if isinstance(size, ast.Name) and size.id in sizes:
                size = ast.Constant(sizes[size.id])
            if isinstance(size, ast.Constant) and isinstance(name, ast.Constant):
                yield str(path.relative_to(PACKAGE)), name.value, size.value


def test_no_process_holds_more_than_its_part_may():
    found = list(pools())
    assert {(file, name) for file, name, _ in found} >= set(PARTS)
    for file, name, size in found:
        if (file, name) not in PARTS:
            assert size <= 4, (file, name)
        else:
            assert size <= CONNECTIONS[PARTS[file, name]], (file, name)
    # one way to open them; /metrics beside it
    assert CONNECTIONS["stats"] == CONNECTIONS["live"] == CONNECTIONS["api"] - 1
    assert set(CONNECTIONS) == set(PLACED)
    assert 2 * 4 + CONNECTIONS["api"] + 2 <= COMMANDS  # two commands, a new replica, the owner


@pytest.mark.parametrize("cores", [1, 2, 4, 8, 64])
def test_the_pools_of_a_whole_machine_leave_ten_connections(cores):
    """`owner.py` starts PostgreSQL with as many."""
    budget = fit(cores, max(cores * 2, 4) * GIB)
    placed = sum(getattr(budget, part).count * CONNECTIONS[part] for part in PLACED)
    assert placed + COMMANDS <= budget.connections + SPARE - 10


def test_the_reference_machine_needs_no_more_than_postgresql_has_by_itself():
    assert fit(8, 16 * GIB).connections + SPARE <= PostgresTuning().max_connections + 10
