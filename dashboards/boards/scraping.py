"""Scraping and politeness: what archives are asked, what they allow, and what comes of it."""

from typing import Final

from chrono_ray.observability import catalogue as m
from dashboards.board import Board, Choice, Limits, Query, Row, Unit, lines, number, stack
from dashboards.promql import mean, most, names, observed, per_minute, quantile, rate, told

OF: Final = 'archive=~"$archive"'
EACH: Final = ("archive", "kind")

POLITENESS: Final = Row("Politeness", (
    lines(
        "Asked, and allowed", Unit.PER_MINUTE,
        Query(per_minute(m.ARCHIVE_REQUESTS, EACH, OF), "{{archive}} {{kind}} asked"),
        Query(told(m.BUDGET_PER_MINUTE, EACH, OF), "{{archive}} {{kind}} allowed"),
        Query(told(m.BUDGET_RATE, EACH, OF), "{{archive}} {{kind}} allowed now"),
        about="Requests a minute that went out, beside what the archive allows (0 is no limit; the"
        " sum over all egresses), less for ten minutes after a pause. The first must never stay"
        " above the others.",
    ),
    lines(
        "Leave at this moment", Unit.COUNT,
        Query(told(m.BUDGET_LEFT, EACH, OF), "{{archive}} {{kind}}"),
        about="Requests that would be given leave now. 0 while there is work: the archive is the"
        " limit. More than 0 while there is work: scrapers are.",
    ),
    lines(
        "Until the next request may go", Unit.SECONDS,
        Query(most(m.BUDGET_WAIT, EACH, OF), "{{archive}} {{kind}}"),
        about="How long the next request waits for leave. Pauses show as a falling line.",
    ),
    lines(
        "Left alone, and why", Unit.YES,
        Query(told(m.ARCHIVE_PAUSED, ("archive", "reason"), OF), "{{archive}} {{reason}}"),
        about="Archives that nobody asks at the moment: they throttled or refused us, banned this"
        " address, or an operator paused them. It holds for all machines.",
    ),
    lines(
        "Left alone for", Unit.SECONDS,
        Query(told(m.ARCHIVE_PAUSED_SECONDS, ("archive",), OF), "{{archive}}"),
        about="Seconds until an archive is asked again, from a quarter of its rate up.",
    ),
    lines(
        "Asked for silence", Unit.PER_MINUTE,
        Query(per_minute(m.ARCHIVE_THROTTLED, ("archive", "reason"), OF), "{{archive}} {{reason}}"),
        about="429, 503 and refused connections a minute. Each of them pauses the archive.",
    ),
))  # fmt: skip

ARCHIVES: Final = Row("What archives answer", (
    lines(
        "Answers within", Unit.SECONDS,
        Query(quantile(0.5, m.ARCHIVE_SECONDS_SPENT, EACH, OF), "{{archive}} {{kind}} 50 %"),
        Query(quantile(0.95, m.ARCHIVE_SECONDS_SPENT, EACH, OF), "{{archive}} {{kind}} 95 %"),
        about="From leave to send to the whole answer, redirects included.",
    ),
    stack(
        "Answers by result", Unit.PER_SECOND,
        Query(observed(m.ARCHIVE_SECONDS_SPENT, ("archive", "result"), OF),
              "{{archive}} {{result}}"),
        about="What came back a second: ok, gone, refused, throttled, refused_connection,"
        " unavailable or failed.",
    ),
    lines(
        "Payload bytes", Unit.BYTES_PER_SECOND,
        Query(rate(m.FETCHED_BYTES, ("archive",), OF), "{{archive}}"),
        about="Bytes of payloads a second, after their coding was undone.",
    ),
    lines(
        "Rows listed", Unit.PER_SECOND, Query(rate(m.ROWS_LISTED, ("archive",), OF), "{{archive}}"),
        about="Captures a second that archives' listings name; in bursts, a page at a time.",
    ),
    stack(
        "Fetches settled", Unit.PER_MINUTE,
        Query(per_minute(m.FETCHES, ("outcome",), OF), "{{outcome}}"),
        about="Payloads a minute by how their fetch ended. `retry`, `snooze` and `late` are tried"
        " again.",
    ),
    stack(
        "Why not stored", Unit.PER_MINUTE,
        Query(per_minute(m.FETCH_FAILURES, ("archive", "reason"), OF), "{{archive}} {{reason}}"),
        empty="every payload of a good archive is stored",
        about="Fetches a minute that ended as anything but stored, by reason.",
    ),
))  # fmt: skip

QUEUE: Final = Row("The queue", (
    number(
        "Fetches waiting", Unit.COUNT,
        Query(told(m.QUEUE_DEPTH, (), 'work="fetch", state="waiting"')),
        about="Fetches that any scraper may claim, up to 10,000 of each class.",
    ),
    number(
        "Listings waiting", Unit.COUNT,
        Query(told(m.QUEUE_DEPTH, (), 'work="listing", state="waiting"')),
        about="Parts of listings that any scraper may walk.",
    ),
    number(
        "Holes in listings", Unit.COUNT, Query(told(m.LISTING_HOLES)), limits=Limits(1, 10),
        about="Parts of listings that were given up. `chrono retry RUN --state hole` tries again.",
    ),
    number(
        "Leases held", Unit.COUNT, Query(told(m.LEASES_HELD)),
        about="Fetches and tasks that living workers work on.",
    ),
    number(
        "Leases expired", Unit.COUNT, Query(told(m.LEASES_EXPIRED)), limits=Limits(1, 100),
        about="Work of dead workers that nobody took back yet.",
    ),
    number(
        "Fetches not yet written", Unit.COUNT, Query(told(m.SETTLE_WAITING)),
        limits=Limits(500, 2000),
        about="Fetches that have ended and wait in scrapers for the record.",
    ),
    stack(
        "Depth", Unit.COUNT, Query(told(m.QUEUE_DEPTH, ("class", "work", "state")),
                                   "{{class}} {{work}} {{state}}"),
        about="Work by class, up to 10,000 of each: waiting, silent while its archive is left"
        " alone, leased, parked until its next try, or held because its run is paused.",
    ),
    lines(
        "Oldest", Unit.SECONDS,
        Query(most(m.QUEUE_OLDEST, ("class", "work")), "{{class}} {{work}}"),
        empty="nothing is waiting once a run is done",
        about="Since the oldest waiting task was asked for, or the oldest run with waiting fetches"
        " began.",
    ),
    lines(
        "Leases that changed hands", Unit.PER_MINUTE,
        Query(per_minute(m.LEASES_RESCUED, ("work",)), "{{work}} rescued"),
        Query(per_minute(m.LEASES_LOST, ("work",)), "{{work}} lost"),
        about="Leases a minute that ran out and went back, and that a worker found were no longer"
        " its own.",
    ),
))  # fmt: skip

WORK: Final = Row("The work", (
    lines(
        "Claiming", Unit.SECONDS,
        Query(quantile(0.5, m.CLAIM_SECONDS, ("result",)), "{{result}} 50 %"),
        Query(quantile(0.99, m.CLAIM_SECONDS, ("result",)), "{{result}} 99 %"),
        about="Claiming a batch of fetches with its leave to send; milliseconds.",
    ),
    lines(
        "Settling", Unit.SECONDS,
        Query(quantile(0.5, m.SETTLE_SECONDS), "50 %"),
        Query(quantile(0.99, m.SETTLE_SECONDS), "99 %"),
        about="Writing a batch of settled fetches in one transaction.",
    ),
    lines(
        "Fetches settled together", Unit.COUNT, Query(mean(m.SETTLE_SIZE), "mean"),
        about="Fetches in a batch that was settled, on average.",
    ),
    lines(
        "Understanding a page", Unit.SECONDS,
        Query(quantile(0.5, m.EXTRACTION_SECONDS), "50 %"),
        Query(quantile(0.95, m.EXTRACTION_SECONDS), "95 %"),
        about="Charset, main text, metadata and language of a page; waiting for its reader too.",
    ),
    stack(
        "Pages understood, or why not", Unit.PER_SECOND,
        Query(observed(m.EXTRACTION_SECONDS, ("outcome",)), "{{outcome}}"),
        about="Pages a second by what extraction said of them.",
    ),
    lines(
        "Readers restarted", Unit.PER_MINUTE,
        Query(per_minute(m.EXTRACTION_RESTARTS, ("reason",)), "{{reason}}"),
        about="Extraction processes a minute that a page ended: it hung, bloated or crashed them.",
    ),
))  # fmt: skip

SCRAPING: Final = Board(
    "chrono-scraping", "chrono_ray: scraping and politeness",
    "What archives are asked and allow, what they answer, and what comes of it.",
    (POLITENESS, ARCHIVES, QUEUE, WORK),
    (Choice("archive", "Archive", names(m.BUDGET_PER_MINUTE)[0]),),
)  # fmt: skip
