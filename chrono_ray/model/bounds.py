"""The greatest numbers that the record's columns hold."""

from __future__ import annotations

from typing import Final

INT_MAX: Final = 2**31 - 1
"""Of users, projects, domains and weights."""
BIG_MAX: Final = 2**63 - 1
"""Of runs, captures, fetches, pages, tasks and all else that grows."""
