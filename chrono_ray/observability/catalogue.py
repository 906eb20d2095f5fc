"""Every metric there is: the one list that code, dashboards, alerts and documentation go by.

`RECORD` is what PostgreSQL knows of the whole instance, told by the API's
`/metrics` under these very names: whichever replica answers, it is the same.
`ACTOR` is what one process counts of its own work, told through Ray's
exporters, which put `ray_` before each name; `exported` says what a metric is
called in Prometheus. Labels take few values each: never a URL, a host of a
site, an id or a user.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, assert_never

from chrono_ray.observability.metrics import Counter, Gauge, Histogram, Metric

RAY_PREFIX: Final = "ray_"
OPERATIONS: Final = 200
"""More than the API has, one route and method each."""
ASKED: Final = ("route", "method")
STATUSES: Final = ("2xx", "3xx", "4xx", "5xx")

REQUEST_SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ARCHIVE_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
WORK_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0)
BATCH_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0)
TASK_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0)
BATCH_SIZES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class Source(StrEnum):
    """Who tells of a metric: `/metrics`, or each process through Ray."""

    RECORD = "record"
    ACTOR = "actor"


# what the record knows

UP: Final = Gauge(
    "chrono_up", "1 while the record answers; 0 while it does not, and nothing else is told."
)
BUILD_INFO: Final = Gauge(
    "chrono_build_info", "Always 1: the version of the code that answers.", ("version",)
)
SCHEMA_INFO: Final = Gauge(
    "chrono_schema_info", "Always 1: the revision of the record's schema.", ("revision",)
)
QUEUE_DEPTH: Final = Gauge(
    "chrono_queue_depth",
    "Work by class, up to 10000 of each. work: fetch, listing or task; state: waiting, silent (its"
    " archive is left alone), leased, parked (until its next try) or held (its run is paused).",
    ("class", "work", "state"),
)
QUEUE_OLDEST: Final = Gauge(
    "chrono_queue_oldest_seconds",
    "Since the oldest waiting task was asked for, or the oldest run with waiting fetches begun.",
    ("class", "work"),
)
RUNS_ACTIVE: Final = Gauge(
    "chrono_runs_active",
    "Runs at work or waiting for it. state: open, or silent while their archive is left alone.",
    ("class", "state"),
)
LEASES_EXPIRED: Final = Gauge(
    "chrono_leases_expired", "Leases that ran out and nobody rescued yet, up to 10000.", ("work",)
)
LISTING_HOLES: Final = Gauge(
    "chrono_listing_holes",
    "Parts of listings that were given up, to be tried again, up to 10000: none of cancelled runs.",
)
OUTBOX_PAGES: Final = Gauge(
    "chrono_outbox_pages",
    "Pages that the index has not confirmed, up to 10000: waiting, or sending.",
    ("state",),
)
OUTBOX_LAG: Final = Gauge(
    "chrono_outbox_lag_seconds", "Since the oldest page that waits for the index was stored."
)
BUDGET_PER_MINUTE: Final = Gauge(
    "chrono_archive_budget_per_minute",
    "Requests a minute that an archive allows; 0 is no limit. kind: listing or replay.",
    ("archive", "kind", "egress"),
)
BUDGET_RATE: Final = Gauge(
    "chrono_archive_budget_rate_per_minute",
    "What of it may be used now: less for ten minutes after a pause. Limited archives only.",
    ("archive", "kind", "egress"),
)
BUDGET_LEFT: Final = Gauge(
    "chrono_archive_budget_left",
    "Requests that would be given leave at this moment. Limited archives only.",
    ("archive", "kind", "egress"),
)
BUDGET_WAIT: Final = Gauge(
    "chrono_archive_wait_seconds",
    "Until the next request may be sent.",
    ("archive", "kind", "egress"),
)
ARCHIVE_PAUSED: Final = Gauge(
    "chrono_archive_paused",
    "1 while an archive is left alone for this reason: throttled, banned, refused_connection or"
    " operator; else 0.",
    ("archive", "reason"),
)
ARCHIVE_PAUSED_SECONDS: Final = Gauge(
    "chrono_archive_paused_seconds", "Until an archive's pause ends; 0 without one.", ("archive",)
)
CAPTURES: Final = Gauge(
    "chrono_captures",
    "Captures in the record, by the kept totals: discovered is all of them, the other states are"
    " what became of them.",
    ("state",),
)
RECORD_ROWS: Final = Gauge(
    "chrono_record_rows", "Rows of a table, as the server last estimated them.", ("table",)
)
RECORD_DEAD_ROWS: Final = Gauge(
    "chrono_record_dead_rows", "Rows of a table that vacuum has yet to remove.", ("table",)
)
RECORD_BYTES: Final = Gauge("chrono_record_bytes", "Size of the database on its disk.")
CONNECTIONS: Final = Gauge(
    "chrono_database_connections",
    "Clients' connections to the database by who holds them. state: active, idle or"
    " idle_in_transaction.",
    ("part", "state"),
)
CONNECTIONS_MOST: Final = Gauge(
    "chrono_database_connections_most",
    "Connections that the server admits to the database, less those that others of its databases"
    " hold.",
)
OLDEST_STATEMENT: Final = Gauge(
    "chrono_database_oldest_statement_seconds",
    "Since the oldest statement of a client under way began.",
)
OLDEST_TRANSACTION: Final = Gauge(
    "chrono_database_oldest_transaction_seconds",
    "Since the oldest open transaction of a client began.",
)
TRANSACTIONS: Final = Counter(
    "chrono_database_transactions",
    "Transactions of the database's life. outcome: committed or rolled_back.",
    ("outcome",),
)
BLOCKS: Final = Counter(
    "chrono_database_blocks",
    "Blocks that statements wanted. source: memory (the server's own) or disk.",
    ("source",),
)
DEADLOCKS: Final = Counter("chrono_database_deadlocks", "Deadlocks that the server broke.")

RECORD: Final[tuple[Metric, ...]] = (
    UP, BUILD_INFO, SCHEMA_INFO, QUEUE_DEPTH, QUEUE_OLDEST, RUNS_ACTIVE, LEASES_EXPIRED,
    LISTING_HOLES, OUTBOX_PAGES, OUTBOX_LAG, BUDGET_PER_MINUTE, BUDGET_RATE, BUDGET_LEFT,
    BUDGET_WAIT, ARCHIVE_PAUSED, ARCHIVE_PAUSED_SECONDS, CAPTURES, RECORD_ROWS, RECORD_DEAD_ROWS,
    RECORD_BYTES, CONNECTIONS, CONNECTIONS_MOST, OLDEST_STATEMENT, OLDEST_TRANSACTION, TRANSACTIONS,
    BLOCKS, DEADLOCKS,
)  # fmt: skip

# what every process knows of itself

PROCESS_INFO: Final = Gauge(
    "chrono_process_info",
    "Always 1. part: api, stats, live, proxy (Serve's), scraper, indexer or supervisor.",
    ("part", "version"),
)
PROCESS_START: Final = Gauge(
    "chrono_process_start_time_seconds", "When the process began, in Unix time.", ("part",)
)
PROCESS_MEMORY: Final = Gauge(
    "chrono_process_resident_memory_bytes", "Memory of the process alone.", ("part",)
)
PROCESS_CPU: Final = Counter(
    "chrono_process_cpu_seconds", "Processor time of the process alone.", ("part",)
)
DISK_FREE: Final = Gauge(
    "chrono_disk_free_bytes",
    "What may still be written to the disk of a folder that the process uses. folder: data or"
    " payloads.",
    ("folder",),
)
DISK_SIZE: Final = Gauge(
    "chrono_disk_size_bytes", "Size of that disk, without what is kept for root.", ("folder",)
)
LOG_EVENTS: Final = Counter(
    "chrono_log_events",
    "Lines logged, at the level logged; events beyond the hundredth name are `other`.",
    ("part", "level", "event"),
    wide=("event",),
)
POOL_CONNECTIONS: Final = Gauge(
    "chrono_database_pool_connections",
    "Connections of the process's own pool. state: used or idle.",
    ("part", "state"),
)
POOL_SIZE: Final = Gauge(
    "chrono_database_pool_size", "Connections that the process's own pool may hold.", ("part",)
)

# the API

HTTP_REQUESTS: Final = Counter(
    "chrono_http_requests",
    "Requests answered. route: its template, `other` where none has the method; status: 2xx, 3xx,"
    " 4xx or 5xx.",
    ("application", *ASKED, "status"),
    OPERATIONS * len(STATUSES),
    ASKED,
)
HTTP_ANSWERS: Final = Counter(
    "chrono_http_answers",
    "Requests answered, by status alone, each from 0 on. status: 2xx, 3xx, 4xx or 5xx.",
    ("application", "status"),
)
HTTP_SECONDS: Final = Histogram(
    "chrono_http_request_duration_seconds",
    "Until an answer began; refusals (4xx) are not among them.",
    ("application", *ASKED),
    REQUEST_SECONDS,
    OPERATIONS,
    ASKED,
)
HTTP_IN_FLIGHT: Final = Gauge(
    "chrono_http_requests_in_flight", "Requests under way, streams included.", ("application",)
)
HTTP_SLOW: Final = Counter(
    "chrono_http_slow_requests",
    "Requests that took longer than CHRONO_METRICS__SLOW until their answer began.",
    ("application",),
)
HTTP_STATEMENTS: Final = Counter(
    "chrono_http_statements",
    "Statements sent to the record for requests.",
    ("application", *ASKED),
    OPERATIONS,
    ASKED,
)
LIVE_CONNECTIONS: Final = Gauge(
    "chrono_live_connections",
    "Open connections that are told of progress. kind: websocket or events.",
    ("kind",),
)
LIVE_MESSAGES: Final = Counter(
    "chrono_live_messages", "Messages sent to them; heartbeats too.", ("kind",)
)
CACHE_ANSWERS: Final = Counter(
    "chrono_cache_answers",
    "Answers asked of the cache. lifetime: its class; outcome: hit, miss, stale (while somebody"
    " computes it anew) or bypass (the server is away or may not be believed).",
    ("lifetime", "outcome"),
)
CACHE_CORRUPT: Final = Counter(
    "chrono_cache_corrupt", "Misses whose value was no answer of this version."
)
CACHE_AWAY: Final = Gauge(
    "chrono_cache_away", "1 while the process cannot reach the cache for longer than a hiccup."
)

# scraping

FETCHES: Final = Counter(
    "chrono_fetches",
    "Fetches settled. outcome: stored, gone, refused, failed or cancelled; retry, snooze and late"
    " are tried again.",
    ("archive", "outcome"),
)
FETCH_FAILURES: Final = Counter(
    "chrono_fetch_failures",
    "Fetches settled as anything but stored, by reason.",
    ("archive", "reason"),
)
FETCHED_BYTES: Final = Counter(
    "chrono_fetched_bytes", "Bytes of payloads fetched, without their coding.", ("archive",)
)
ARCHIVE_REQUESTS: Final = Counter(
    "chrono_archive_requests",
    "Requests that went out. kind: listing or replay.",
    ("archive", "kind"),
)
ARCHIVE_SECONDS_SPENT: Final = Histogram(
    "chrono_archive_request_duration_seconds",
    "From leave to send to the whole answer, redirects included, waits for leave not."
    " result: ok, gone, refused, throttled, refused_connection, unavailable or failed.",
    ("archive", "kind", "result"),
    ARCHIVE_SECONDS,
)
ARCHIVE_THROTTLED: Final = Counter(
    "chrono_archive_throttled",
    "Answers that asked for silence, and connections refused. reason: throttled or"
    " refused_connection.",
    ("archive", "kind", "reason"),
)
ROWS_LISTED: Final = Counter("chrono_listed_rows", "Rows that archives listed.", ("archive",))
CLAIM_SECONDS: Final = Histogram(
    "chrono_claim_duration_seconds",
    "Claiming a batch of fetches. result: granted or nothing.",
    ("result",),
    WORK_SECONDS,
)
SETTLE_SECONDS: Final = Histogram(
    "chrono_settle_duration_seconds", "Writing a batch of settled fetches.", (), BATCH_SECONDS
)
SETTLE_SIZE: Final = Histogram(
    "chrono_settle_batch_fetches", "Fetches in a batch that was settled.", (), BATCH_SIZES
)
SETTLE_WAITING: Final = Gauge(
    "chrono_settle_waiting_fetches", "Fetches that have ended and are not written yet."
)
EXTRACTION_SECONDS: Final = Histogram(
    "chrono_extraction_duration_seconds",
    "Understanding a page, waiting for its reader included. outcome: understood, or why not: type,"
    " parse, too_large, timeout, memory or crashed.",
    ("outcome",),
    WORK_SECONDS,
)
EXTRACTION_RESTARTS: Final = Counter(
    "chrono_extraction_restarts",
    "Readers that a page ended or that ended by themselves. reason: timeout, memory, crashed or"
    " exit.",
    ("reason",),
)
LEASES_HELD: Final = Gauge(
    "chrono_leases_held", "Leases of this process. work: fetch or task.", ("work",)
)
LEASES_LOST: Final = Counter(
    "chrono_leases_lost", "Leases that somebody else took while we worked.", ("work",)
)
LEASES_RESCUED: Final = Counter(
    "chrono_leases_rescued", "Leases of others that had run out and went back.", ("work",)
)
TASK_SECONDS_SPENT: Final = Histogram(
    "chrono_task_duration_seconds",
    "Working on a task, in one lease. outcome: done, paused (goes on later), failed, late or away"
    " (the record was).",
    ("kind", "outcome"),
    TASK_SECONDS,
)

# indexing

INDEX_BATCH_SECONDS: Final = Histogram(
    "chrono_index_batch_duration_seconds",
    "From sending a batch to the index until it is acknowledged. outcome: done or failed.",
    ("outcome",),
    BATCH_SECONDS,
)
INDEX_BATCH_PAGES: Final = Histogram(
    "chrono_index_batch_pages", "Pages in a batch for the index.", (), BATCH_SIZES
)
INDEX_PAGES: Final = Counter(
    "chrono_index_pages",
    "Pages by what the index did. outcome: indexed, rejected, deleted or undecided.",
    ("outcome",),
)

# the supervisor

POOL_WANTED: Final = Gauge(
    "chrono_pool_wanted", "Actors that a pool should have. pool: scraper or indexer.", ("pool",)
)
POOL_ACTORS: Final = Gauge(
    "chrono_pool_actors",
    "Actors of a pool. state: working, draining or silent (waits for its place, or is dead).",
    ("pool", "state"),
)
ACTOR_MEMORY: Final = Gauge(
    "chrono_actor_resident_memory_bytes", "Memory of an actor, by its name.", ("actor",)
)
ACTOR_ENDS: Final = Counter(
    "chrono_actor_ends",
    "Actors that the supervisor ended. reason: recycled (Ray starts it afresh) or dismissed.",
    ("pool", "reason"),
)
ACTORS_MADE: Final = Counter("chrono_actors_made", "Actors that the supervisor made.", ("pool",))
LOOKOUT: Final = Gauge(
    "chrono_supervisor_lookout", "1 in the supervisor that sizes the pools, 0 in any other."
)

ACTOR: Final[tuple[Metric, ...]] = (
    PROCESS_INFO, PROCESS_START, PROCESS_MEMORY, PROCESS_CPU, DISK_FREE, DISK_SIZE, LOG_EVENTS,
    POOL_CONNECTIONS, POOL_SIZE, HTTP_REQUESTS, HTTP_ANSWERS, HTTP_SECONDS, HTTP_IN_FLIGHT,
    HTTP_SLOW, HTTP_STATEMENTS,
    LIVE_CONNECTIONS, LIVE_MESSAGES, CACHE_ANSWERS, CACHE_CORRUPT, CACHE_AWAY, FETCHES,
    FETCH_FAILURES, FETCHED_BYTES, ARCHIVE_REQUESTS, ARCHIVE_SECONDS_SPENT, ARCHIVE_THROTTLED,
    ROWS_LISTED, CLAIM_SECONDS, SETTLE_SECONDS, SETTLE_SIZE, SETTLE_WAITING, EXTRACTION_SECONDS,
    EXTRACTION_RESTARTS, LEASES_HELD, LEASES_LOST, LEASES_RESCUED, TASK_SECONDS_SPENT,
    INDEX_BATCH_SECONDS, INDEX_BATCH_PAGES, INDEX_PAGES, POOL_WANTED, POOL_ACTORS, ACTOR_MEMORY,
    ACTOR_ENDS, ACTORS_MADE, LOOKOUT,
)  # fmt: skip


def source_of(metric: Metric) -> Source:
    """Who tells of it."""
    return Source.RECORD if metric in RECORD else Source.ACTOR


def exported(metric: Metric) -> tuple[str, ...]:
    """The names that one queries in Prometheus."""
    name = metric.name if metric in RECORD else f"{RAY_PREFIX}{metric.name}"
    match metric:
        case Counter():
            return (f"{name}_total",)
        case Gauge():
            return (name,)
        case Histogram():
            return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
        case other:
            assert_never(other)
