"""Database and cache."""

from typing import Final

from chrono_ray.observability import catalogue as m
from dashboards.board import Board, Limits, Query, Row, Unit, lines, number, stack
from dashboards.promql import most, per_minute, rate, series, share, told

ANSWERS: Final = ("lifetime", "outcome")
USED: Final = series(m.POOL_CONNECTIONS, 'state="used"')

NOW: Final = Row("Now", (
    number(
        "Record answers", Unit.YES, Query(told(m.UP)), limits=Limits(1, 0.5),
        about="Whether PostgreSQL answers.",
    ),
    number(
        "Connections in use", Unit.SHARE,
        Query(f"{told(m.CONNECTIONS)} / {most(m.CONNECTIONS_MOST)}"), limits=Limits(0.8, 0.95),
        about="Connections to the database, of those that the server admits.",
    ),
    number(
        "Oldest transaction", Unit.SECONDS, Query(most(m.OLDEST_TRANSACTION)),
        limits=Limits(60, 900),
        about="Since the oldest open transaction began. A long one keeps vacuum from its work.",
    ),
    number(
        "Database", Unit.BYTES, Query(told(m.RECORD_BYTES)),
        about="Size of the database on its disk.",
    ),
    number(
        "From the cache", Unit.SHARE,
        Query(share(rate(m.CACHE_ANSWERS, (), 'outcome=~"hit|stale"'), rate(m.CACHE_ANSWERS))),
        limits=Limits(0.75, 0.25),
        about="Share of the answers that the cache gave. The target is 75 % under the usual mix.",
    ),
    number(
        "Processes without the cache", Unit.COUNT, Query(told(m.CACHE_AWAY)),
        limits=Limits(1, 2),
        about="Processes that cannot reach Redis or Valkey. They answer without it, slower.",
    ),
))  # fmt: skip

DATABASE: Final = Row("Database", (
    stack(
        "Connections", Unit.COUNT,
        Query(told(m.CONNECTIONS, ("part", "state")), "{{part}} {{state}}"),
        about="Connections to the database by who holds them.",
    ),
    lines(
        "Pools in use", Unit.SHARE,
        Query(f"max by (part) ({USED} / ignoring (state) ({series(m.POOL_SIZE)} > 1))",
              "{{part}}"),
        about="Of each process's own pool: the fullest of each part. At 100 % requests wait for a"
        " connection. Pools of one are left out: the supervisor's is always in use.",
    ),
    lines(
        "Transactions", Unit.PER_SECOND, Query(rate(m.TRANSACTIONS, ("outcome",)), "{{outcome}}"),
        about="Transactions a second. Some are rolled back on purpose: a lost race, a dry run.",
    ),
    lines(
        "Blocks found in memory", Unit.SHARE,
        Query(share(rate(m.BLOCKS, (), 'source="memory"'), rate(m.BLOCKS)), "in memory"),
        about="Share of the wanted blocks that the server had in its own memory.",
    ),
    lines(
        "Oldest under way", Unit.SECONDS,
        Query(most(m.OLDEST_STATEMENT), "statement"),
        Query(most(m.OLDEST_TRANSACTION), "transaction"),
        about="Since the oldest statement and the oldest transaction under way began.",
    ),
    lines(
        "Deadlocks", Unit.PER_MINUTE, Query(per_minute(m.DEADLOCKS), "deadlocks"),
        about="Deadlocks a minute that the server broke. What was broken is tried again.",
    ),
    lines(
        "Rows", Unit.COUNT, Query(told(m.RECORD_ROWS, ("table",)), "{{table}}"),
        about="Rows of each table, as the server last estimated them.",
    ),
    lines(
        "Dead rows", Unit.COUNT, Query(told(m.RECORD_DEAD_ROWS, ("table",)), "{{table}}"),
        about="Rows that vacuum has yet to remove. A line that only climbs: look for an old"
        " transaction.",
    ),
    lines(
        "Size", Unit.BYTES, Query(told(m.RECORD_BYTES), "database"),
        about="The database on its disk, indexes included.",
    ),
))  # fmt: skip

CACHE: Final = Row("Cache", (
    stack(
        "Answers asked of it", Unit.PER_SECOND, Query(rate(m.CACHE_ANSWERS, ANSWERS),
                                                      "{{lifetime}} {{outcome}}"),
        about="hit: it had the answer; stale: it had an old one while somebody computes it anew;"
        " miss: it had none; bypass: it is away or may not be believed.",
    ),
    lines(
        "Hits by lifetime", Unit.SHARE,
        Query(share(rate(m.CACHE_ANSWERS, ("lifetime",), 'outcome=~"hit|stale"'),
                    rate(m.CACHE_ANSWERS, ("lifetime",))), "{{lifetime}}"),
        about="Share of hits by how long such answers are kept.",
    ),
    lines(
        "Values it could not use", Unit.PER_MINUTE, Query(per_minute(m.CACHE_CORRUPT), "values"),
        empty="what another version wrote is met only after an upgrade",
        about="Values a minute that were no answer of this version: computed anew.",
    ),
))  # fmt: skip

STORING: Final = Board(
    "chrono-storing", "chrono_ray: database and cache",
    "What PostgreSQL and the cache do, and how much room they have left.", (NOW, DATABASE, CACHE),
)  # fmt: skip
