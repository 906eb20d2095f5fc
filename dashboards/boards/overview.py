"""Whether all is well, and what is being done."""

from typing import Final

from chrono_ray.observability import catalogue as m
from dashboards.board import Board, Limits, Query, Row, Unit, lines, number, stack
from dashboards.promql import increase, per_minute, quantile, rate, share, told

WELL: Final = Row("Is it well?", (
    number(
        "Record answers", Unit.YES, Query(told(m.UP)), limits=Limits(1, 0.5),
        about="Whether PostgreSQL answers. Without it nothing is claimed, stored or served.",
    ),
    number(
        "Alerts firing", Unit.COUNT,
        Query('count by (severity) (ALERTS{alertname=~"Chrono.+", alertstate="firing"})',
              "{{severity}}"),
        limits=Limits(1, 1), empty="no alert fires while all is well",
        about="Rules of dashboards/alerts.yml that fire, by severity. docs/runbooks.md says what"
        " to do about each.",
    ),
    number(
        "Archives left alone", Unit.COUNT, Query(told(m.ARCHIVE_PAUSED)), limits=Limits(1, 2),
        about="Archives that are not asked at the moment: throttled, banned, refusing, or paused by"
        " an operator. Their runs wait; nothing is lost.",
    ),
    number(
        "Oldest page not findable", Unit.SECONDS, Query(told(m.OUTBOX_LAG)),
        limits=Limits(60, 300),
        about="Since the oldest page that waits for the index was stored. Seconds are usual.",
    ),
    number(
        "Leases expired", Unit.COUNT, Query(told(m.LEASES_EXPIRED)), limits=Limits(1, 100),
        about="Work of dead workers that nobody took back yet. It is rescued every few seconds:"
        " more than a moment above 0 means that no worker lives.",
    ),
    number(
        "API answers within, 95 %", Unit.SECONDS, Query(quantile(0.95, m.HTTP_SECONDS)),
        limits=Limits(0.1, 0.5),
        about="95 of 100 requests of all routes were answered within this. The target is 0.1 s.",
    ),
))  # fmt: skip

DOING: Final = Row("What does it do?", (
    stack(
        "Fetches settled", Unit.PER_MINUTE,
        Query(per_minute(m.FETCHES, ("outcome",)), "{{outcome}}"),
        about="Payloads a minute by how their fetch ended. `retry`, `snooze` and `late` are tried"
        " again.",
    ),
    stack(
        "Requests to archives", Unit.PER_MINUTE,
        Query(per_minute(m.ARCHIVE_REQUESTS, ("archive", "kind")), "{{archive}} {{kind}}"),
        about="Requests a minute that went out, redirects and retries included.",
    ),
    stack(
        "Requests to the API", Unit.PER_SECOND,
        Query(rate(m.HTTP_ANSWERS, ("status",)), "{{status}}"),
        about="Requests a second by the class of their status. 5xx are our faults.",
    ),
    stack(
        "Work that waits", Unit.COUNT, Query(told(m.QUEUE_DEPTH, ("class",)), "{{class}}"),
        about="Fetches, listings and tasks in the queue by class, each counted up to 10,000.",
    ),
    lines(
        "Runs at work", Unit.COUNT, Query(told(m.RUNS_ACTIVE, ("class",)), "{{class}}"),
        about="Runs that have begun and have not ended, by class; those that wait for their archive"
        " too.",
    ),
    lines(
        "Captures", Unit.COUNT, Query(told(m.CAPTURES, ("state",)), "{{state}}"),
        about="All captures in the record: `discovered` is what archives listed, the others are"
        " what became of them.",
    ),
))  # fmt: skip

COST: Final = Row("What does it take?", (
    stack(
        "Memory", Unit.BYTES, Query(told(m.PROCESS_MEMORY, ("part",)), "{{part}}"),
        about="Resident memory of our processes by part, without their children and Ray's own.",
    ),
    stack(
        "Processor", Unit.COUNT, Query(rate(m.PROCESS_CPU, ("part",)), "{{part}}"),
        about="Cores that our processes keep busy, by part.",
    ),
    lines(
        "Answers from the cache", Unit.SHARE,
        Query(share(rate(m.CACHE_ANSWERS, (), 'outcome=~"hit|stale"'), rate(m.CACHE_ANSWERS)),
              "from the cache"),
        about="Share of the answers that the cache gave. The target is 75 % under the usual mix.",
    ),
    lines(
        "Size of the record", Unit.BYTES, Query(told(m.RECORD_BYTES), "database"),
        about="The database on its disk, indexes included; payloads are kept beside it.",
    ),
    lines(
        "Worth a look", Unit.PER_MINUTE,
        Query(per_minute(m.LOG_EVENTS, ("level",), 'level=~"warning|error|critical"'), "{{level}}"),
        empty="nothing is logged at these levels while all is well",
        about="Lines a minute logged as warning or worse. The board of actors names the events.",
    ),
    lines(
        "Actors replaced in the last hour", Unit.COUNT,
        Query(increase(m.ACTOR_ENDS, ("pool", "reason"), over="1h"), "{{pool}} {{reason}}"),
        empty="no actor is replaced in a short or idle life",
        about="Actors that grew beyond their memory or their leases (recycled) or that nobody"
        " needed any more (dismissed).",
    ),
))  # fmt: skip

OVERVIEW: Final = Board(
    "chrono-overview", "chrono_ray: overview",
    "One look: is it well, what does it do, what does it take.", (WELL, DOING, COST),
)  # fmt: skip
