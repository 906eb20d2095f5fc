"""What a kept answer tells of. A change of it ends every answer that carries its tag."""

from __future__ import annotations

from typing import Final

RUNS: Final = "runs"
"""The lists of runs."""
SCHEDULES: Final = "schedules"
TASKS: Final = "tasks"


def project_tag(project_id: int) -> str:
    """A project, its domains, runs, captures, pages and what people added to them."""
    return f"project:{project_id}"


def run_tag(run_id: int) -> str:
    """A run's progress."""
    return f"run:{run_id}"


def user_tag(user_id: int) -> str:
    """What one user alone sees: the list of projects, stars, saved searches."""
    return f"user:{user_id}"


def projects_tag() -> str:
    """Which projects there are, and their names: what an admin sees of all."""
    return "projects"
