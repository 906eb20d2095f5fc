"""The alert rules: what an operator must know of, and how soon."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import yaml

from chrono_ray.observability import catalogue as m
from dashboards.promql import happened, increase, most, quantile, rate, series, told

RUNBOOKS: Final = "docs/runbooks.md"
SERVED: Final = 'application="api"'
FAULTS: Final = f'status="5xx", {SERVED}'
MEANT: Final = f'status!="4xx", {SERVED}'
"""Without refusals, of which a stranger could ask for so many that faults are no share."""
WAITING: Final = 'work=~"fetch|listing", state="waiting"'
LEASED: Final = 'work=~"fetch|listing", state="leased"'
USED: Final = series(m.POOL_CONNECTIONS, 'state="used"')
BANNED: Final = 'reason="banned"'
PAUSED: Final = series(m.ARCHIVE_PAUSED, 'reason!="banned"')
TASKS: Final = 'work="task"'
REPLICA: Final = 'part="api"'
WORKING: Final = 'state="working"'
RECYCLED: Final = 'reason="recycled"'
WANTED: Final = told(m.POOL_WANTED, ("pool",))
RESCUED: Final = 'work=~"fetch|task"'
OPEN: Final = 'state="open"'
REFUSED: Final = 'event="request.refused"'


class Severity(StrEnum):
    """`CRITICAL`: somebody must look now. `WARNING`: within the day."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Alert:
    """Fires once the expression has given something for as long as `lasting`."""

    name: str
    severity: Severity
    lasting: str
    expression: str
    summary: str
    description: str

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}#{self.name.lower()}"


CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING

WHOLE: Final = (
    Alert(
        "ChronoNotScraped", CRITICAL, "5m", f"absent({series(m.UP)})",
        "Nobody answers for this instance",
        "Prometheus has had nothing from /metrics for five minutes: the API is down, or Prometheus"
        " may not ask it.",
    ),
    Alert(
        "ChronoRecordAway", CRITICAL, "1m", f"{told(m.UP)} == 0",
        "PostgreSQL does not answer",
        "The API answers, its record does not. Nothing is claimed, stored or served meanwhile;"
        " nothing is lost.",
    ),
    Alert(
        "ChronoDiskNearlyFull", CRITICAL, "10m",
        f"min by (instance, folder) ({series(m.DISK_FREE)} / {series(m.DISK_SIZE)}) < 0.1",
        "Less than a tenth of the disk of {{ $labels.folder }} is free",
        "{{ $value | humanizePercentage }} of it are left, by {{ $labels.instance }}.",
    ),
)  # fmt: skip

ARCHIVES: Final = (
    Alert(
        "ChronoArchiveBanned", CRITICAL, "0m",
        f"{told(m.ARCHIVE_PAUSED, ('archive', 'reason'), BANNED)} == 1",
        "{{ $labels.archive }} refuses connections from this address",
        "It refused connections soon after it had throttled us: a ban. It is left alone for an hour"
        " at least, doubling.",
    ),
    Alert(
        # a pause that ends and comes again is one, for another reason too
        "ChronoArchivePaused", WARNING, "15m",
        f"avg_over_time(max by (archive) ({PAUSED})[15m:30s]) > 0.8",
        "{{ $labels.archive }} has been left alone for most of half an hour",
        "Its runs wait; nothing is lost. The board of scraping and politeness says why.",
    ),
    Alert(
        "ChronoArchiveThrottles", WARNING, "0m",
        f"{happened(m.ARCHIVE_THROTTLED, ('archive',), over='1h')} > 5",
        "{{ $labels.archive }} asks for silence again and again",
        "{{ $value | humanize }} answers in the last hour asked for silence: it allows less than"
        " its limit here says.",
    ),
    Alert(
        "ChronoListingHoles", WARNING, "1h", f"{told(m.LISTING_HOLES)} > 0",
        "Parts of listings could not be had",
        "{{ $value | humanize }} parts were given up. What they would have listed is not collected"
        " until they are tried again.",
    ),
)  # fmt: skip

WORK: Final = (
    Alert(
        "ChronoWorkWaits", CRITICAL, "10m",
        f"{told(m.QUEUE_DEPTH, (), WAITING)} > 0"
        f" and on () ({told(m.QUEUE_DEPTH, (), LEASED)} or vector(0)) == 0",
        "Work waits and nobody takes it",
        "{{ $value | humanize }} fetches and parts of listings wait at archives that may be asked,"
        " and for ten minutes nobody has held a lease.",
    ),
    Alert(
        "ChronoTasksWait", WARNING, "5m",
        f"{most(m.QUEUE_OLDEST, ('class',), TASKS)} > 3600",
        "A task has waited for an hour",
        "The oldest waiting task of class {{ $labels.class }} was asked for"
        " {{ $value | humanizeDuration }} ago.",
    ),
    Alert(
        "ChronoNoProgress", CRITICAL, "25m",
        f"{told(m.RUNS_ACTIVE, (), OPEN)} > 0"
        f" and on () sum(changes({series(m.CAPTURES)}[10m])) == 0",
        "Runs are at work and nothing comes of it",
        "{{ $value | humanize }} runs are active at archives that may be asked, and in half an hour"
        " no capture was listed, stored or given up.",
    ),
    Alert(
        "ChronoLeasesRescued", WARNING, "0m",
        f"{happened(m.LEASES_RESCUED, ('work',), over='15m')} > 100",
        "Workers die with work in hand",
        "{{ $value | humanize }} leases ({{ $labels.work }}) ran out in a quarter of an hour and"
        " went back into the queue.",
    ),
    Alert(
        "ChronoLeasesExpired", CRITICAL, "5m", f"{told(m.LEASES_EXPIRED, (), RESCUED)} > 0",
        "Nobody takes back what dead workers held",
        "{{ $value | humanize }} leases ran out and were not rescued, which any living scraper does"
        " every few seconds.",
    ),
    Alert(
        "ChronoOutboxLag", WARNING, "5m", f"{told(m.OUTBOX_LAG)} > 300",
        "Stored pages are not findable",
        "The oldest page that waits for the index was stored {{ $value | humanizeDuration }} ago.",
    ),
)  # fmt: skip

SERVING: Final = (
    Alert(
        # a burst is over five minutes after its last fault; a fault alone is for the log
        "ChronoApiErrors", CRITICAL, "2m",
        f"{rate(m.HTTP_ANSWERS, (), FAULTS, over='5m')}"
        f" / {rate(m.HTTP_ANSWERS, (), MEANT, over='5m')} > 0.01"
        f" and {increase(m.HTTP_ANSWERS, (), FAULTS, over='5m')} > 5",
        "The API fails",
        "{{ $value | humanizePercentage }} of the requests of the last five minutes ended in 5xx,"
        " those not counted that were refused.",
    ),
    Alert(
        "ChronoApiSlow", WARNING, "10m",
        f"{quantile(0.95, m.HTTP_SECONDS, (), SERVED, over='5m')} > 0.5",
        "The API is slow",
        "One request in twenty takes longer than {{ $value | humanizeDuration }}; the target is"
        " 100 ms.",
    ),
    Alert(
        "ChronoApiDown", CRITICAL, "2m", f"absent({series(m.PROCESS_INFO, REPLICA)})",
        "No replica of the API tells of itself",
        "Ray's exporters have not told of a process that serves the API for two minutes.",
    ),
    Alert(
        "ChronoApiRefuses", WARNING, "2m",
        f"{happened(m.LOG_EVENTS, (), REFUSED, over='5m')} > 100",
        "The API refuses requests unread",
        "{{ $value | humanize }} requests of the last five minutes were answered 503 before any"
        " replica took them.",
    ),
    Alert(
        # the supervisor's pool is one connection, which it never gives back
        "ChronoPoolExhausted", WARNING, "5m",
        f"max by (part) ({USED} / ignoring (state) ({series(m.POOL_SIZE)} > 1)) >= 1",
        "Requests wait for a connection to the record",
        "A process of {{ $labels.part }} has had all connections of its pool in use for five"
        " minutes.",
    ),
    Alert(
        "ChronoConnectionsShort", WARNING, "5m",
        f"{told(m.CONNECTIONS)} / {most(m.CONNECTIONS_MOST)} > 0.9",
        "PostgreSQL has few connections left",
        "{{ $value | humanizePercentage }} of the connections that the server admits are taken.",
    ),
    Alert(
        "ChronoOldTransaction", WARNING, "5m", f"{most(m.OLDEST_TRANSACTION)} > 900",
        "A transaction has been open for long",
        "It began {{ $value | humanizeDuration }} ago, and keeps vacuum from removing dead rows.",
    ),
    Alert(
        "ChronoCacheAway", WARNING, "5m", f"{most(m.CACHE_AWAY)} == 1",
        "The cache cannot be reached",
        "Answers are right and slower: each comes from the record.",
    ),
)  # fmt: skip

ACTORS: Final = (
    Alert(
        "ChronoActorsMissing", WARNING, "10m",
        f"{WANTED} > on (pool)"
        f" ({told(m.POOL_ACTORS, ('pool',), WORKING)} or on (pool) 0 * {WANTED})",
        "A pool is smaller than it should be",
        "{{ $value | humanize }} actors of the pool {{ $labels.pool }} are wanted and fewer work:"
        " there is no room for them, or they die.",
    ),
    Alert(
        "ChronoSupervisorAway", WARNING, "5m", f"absent({series(m.LOOKOUT)} == 1)",
        "Nobody sizes the pools",
        "No supervisor has told of itself for five minutes. Work goes on; worn-out actors are not"
        " replaced.",
    ),
    Alert(
        "ChronoRecyclesTooOften", WARNING, "0m",
        f"{increase(m.ACTOR_ENDS, ('pool',), RECYCLED, over='30m')}"
        f" > on (pool) 10 * max by (pool) (max_over_time({series(m.POOL_WANTED)}[30m]))",
        "Actors are replaced all the time",
        "{{ $value | humanize }} actors of the pool {{ $labels.pool }} were recycled in half an"
        " hour: each lives for less than three minutes.",
    ),
    Alert(
        "ChronoReadersCrash", WARNING, "0m",
        f"{happened(m.EXTRACTION_RESTARTS, over='15m')} > 30",
        "Many pages end their reader",
        "{{ $value | humanize }} extraction processes hung, bloated or crashed in a quarter of an"
        " hour. Each page is read three times, then fails with its bytes kept.",
    ),
)  # fmt: skip

GROUPS: Final = {
    "chrono": WHOLE, "chrono-archives": ARCHIVES, "chrono-work": WORK, "chrono-serving": SERVING,
    "chrono-actors": ACTORS,
}  # fmt: skip
ALERTS: Final = tuple(alert for group in GROUPS.values() for alert in group)
HEAD: Final = "# Built by `make dashboards` from dashboards/alerts.py.\n"


def rules(runbooks: str = "") -> str:
    """Prometheus' rule file. `runbooks`: the URL under which docs/runbooks.md can be read."""
    groups = [
        {"name": name, "rules": [_rule(alert, runbooks) for alert in alerts]}
        for name, alerts in GROUPS.items()
    ]
    text = yaml.safe_dump({"groups": groups}, sort_keys=False, width=100, allow_unicode=True)
    return f"{HEAD}{text}"


def _rule(alert: Alert, runbooks: str) -> dict[str, object]:
    """A link must lead somewhere: without a URL the runbook is told by its place among the docs."""
    url = {"runbook_url": f"{runbooks}#{alert.name.lower()}"}
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasting,
        "labels": {"severity": str(alert.severity)},
        "annotations": {
            "summary": alert.summary, "description": alert.description,
            **(url if runbooks else {"runbook": alert.runbook}),
        },
    }  # fmt: skip
