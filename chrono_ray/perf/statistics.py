"""The statistics of all projects, as long as PostgreSQL itself says that they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chrono_ray.perf.figures import Failed, Measured, Result, Spread
from chrono_ray.storage.database import Database, statements

TIMES: Final = 60
EVERYTHING: Final = (1, True, "", False, None, None, 1000)
"""As an admin asks: everybody's projects, by name, the first thousand."""


async def statistics(database_url: str) -> dict[str, Result]:
    """EXPLAIN ANALYZE's execution time of the statement behind the list; the median is told."""
    record = Database(database_url, pool_size=1, name="chrono perf")
    statement = statements("project_stats")["by_name"]
    try:
        times = [
            execution_ms(await record.fetchval(explaining(statement), *EVERYTHING))
            for _ in range(TIMES)
        ]
    finally:
        await record.aclose()
    spread = Spread.of(times)
    told = Measured(spread.p50, spread) if spread else Failed("nothing was asked")
    return {"statistics.record": told}


def explaining(statement: str) -> str:
    return f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"


def execution_ms(plan: Sequence[Mapping[str, Any]]) -> float:
    """Of a plan that was carried out, as PostgreSQL tells it in JSON."""
    return float(plan[0]["Execution Time"])
