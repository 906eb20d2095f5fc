"""Indexing: how soon stored pages are found."""

from typing import Final

from chrono_ray.observability import catalogue as m
from dashboards.board import Board, Limits, Query, Row, Unit, lines, number, stack
from dashboards.promql import mean, observed, per_minute, quantile, told

NOW: Final = Row("Now", (
    number(
        "Oldest page not findable", Unit.SECONDS, Query(told(m.OUTBOX_LAG)), width=8,
        limits=Limits(60, 300),
        about="Since the oldest page that waits for the index was stored. Seconds are usual.",
    ),
    number(
        "Pages waiting", Unit.COUNT, Query(told(m.OUTBOX_PAGES, (), 'state="waiting"')),
        limits=Limits(2000, 10_000), width=8,
        about="Pages that nobody has sent to the index yet, up to 10,000.",
    ),
    number(
        "Indexers", Unit.COUNT, Query(told(m.PROCESS_INFO, (), 'part="indexer"')), width=8,
        limits=Limits(1, 0.5),
        about="Processes that index. With tantivy there is exactly one.",
    ),
))  # fmt: skip

FLOW: Final = Row("From the outbox to the index", (
    stack(
        "Outbox", Unit.COUNT, Query(told(m.OUTBOX_PAGES, ("state",)), "{{state}}"),
        about="Pages that the index has not confirmed: waiting, or sent and not confirmed.",
    ),
    lines(
        "Lag", Unit.SECONDS, Query(told(m.OUTBOX_LAG), "oldest page"),
        about="Since the oldest page that waits for the index was stored.",
    ),
    stack(
        "Pages", Unit.PER_MINUTE, Query(per_minute(m.INDEX_PAGES, ("outcome",)), "{{outcome}}"),
        about="Pages a minute by what the index did: indexed, rejected (the log names them),"
        " deleted, or undecided (sent again).",
    ),
    lines(
        "A batch takes", Unit.SECONDS,
        Query(quantile(0.5, m.INDEX_BATCH_SECONDS), "50 %"),
        Query(quantile(0.95, m.INDEX_BATCH_SECONDS), "95 %"),
        about="From sending a batch until the index has confirmed it.",
    ),
    lines(
        "Pages in a batch", Unit.COUNT, Query(mean(m.INDEX_BATCH_PAGES), "mean"),
        about="On average. A batch goes at CHRONO_INDEXING__DOCUMENTS, __BYTES or __SECONDS,"
        " whichever comes first.",
    ),
    stack(
        "Batches", Unit.PER_SECOND,
        Query(observed(m.INDEX_BATCH_SECONDS, ("outcome",)), "{{outcome}}"),
        about="Batches a second by how they ended. A failed one is cut in two until the guilty page"
        " is known.",
    ),
    lines(
        "Memory", Unit.BYTES,
        Query(told(m.PROCESS_MEMORY, ("part",), 'part="indexer"'), "{{part}}"), width=12,
        about="Resident memory of the indexers.",
    ),
    lines(
        "Tasks of indexing class", Unit.COUNT,
        Query(told(m.QUEUE_DEPTH, ("work", "state"), 'class="indexing"'), "{{work}} {{state}}"),
        width=12, about="Work of the class `indexing`, rebuilding the index among it.",
    ),
))  # fmt: skip

INDEXING: Final = Board(
    "chrono-indexing", "chrono_ray: indexing", "How soon stored pages are found.", (NOW, FLOW)
)
