"""The API: how much, how fast, how often wrong."""

from typing import Final

from chrono_ray.observability import catalogue as m
from dashboards.board import Board, Choice, Limits, Query, Row, Unit, lines, number, stack
from dashboards.promql import names, per_minute, quantile, rate, share, told

OF: Final = 'application=~"$application"'
WRONG: Final = f'status="5xx", {OF}'
ROUTES_MOST: Final = 10

NOW: Final = Row("Now", (
    number(
        "Requests", Unit.PER_SECOND, Query(rate(m.HTTP_REQUESTS, (), OF)), width=6,
        about="Requests answered a second.",
    ),
    number(
        "Answered within, 95 %", Unit.SECONDS, Query(quantile(0.95, m.HTTP_SECONDS, (), OF)),
        limits=Limits(0.1, 0.5), width=6,
        about="95 of 100 requests were answered within this. The target is 0.1 s.",
    ),
    number(
        "Our faults", Unit.SHARE,
        Query(share(rate(m.HTTP_ANSWERS, (), WRONG), rate(m.HTTP_ANSWERS, (), OF))),
        limits=Limits(0.001, 0.01), width=6,
        about="Share of the requests that ended in 5xx. 503 while a part is away counts too.",
    ),
    number(
        "Connections that watch", Unit.COUNT, Query(told(m.LIVE_CONNECTIONS)), width=6,
        about="Open WebSockets and event streams that are told of progress.",
    ),
))  # fmt: skip

HOW_FAST: Final = Row("How fast", (
    lines(
        "Answered within", Unit.SECONDS,
        Query(quantile(0.5, m.HTTP_SECONDS, (), OF), "50 %"),
        Query(quantile(0.95, m.HTTP_SECONDS, (), OF), "95 %"),
        Query(quantile(0.99, m.HTTP_SECONDS, (), OF), "99 %"),
        about="What half, 95 and 99 of 100 requests were answered within.",
    ),
    lines(
        "Slowest routes, 95 %", Unit.SECONDS,
        Query(f"topk({ROUTES_MOST}, {quantile(0.95, m.HTTP_SECONDS, ('method', 'route'), OF)})",
              "{{method}} {{route}}"),
        about="The ten routes whose 95th percentile is the highest.",
    ),
    lines(
        "Slow requests", Unit.PER_MINUTE,
        Query(per_minute(m.HTTP_SLOW, ("application",), OF), "{{application}}"),
        about="Requests a minute beyond CHRONO_METRICS__SLOW; each is logged with its statements.",
    ),
))  # fmt: skip

HOW_MUCH: Final = Row("How much", (
    stack(
        "Requests by status", Unit.PER_SECOND,
        Query(rate(m.HTTP_ANSWERS, ("status",), OF), "{{status}}"),
        about="Requests a second by the class of their status.",
    ),
    stack(
        "Busiest routes", Unit.PER_SECOND,
        Query(f"topk({ROUTES_MOST}, {rate(m.HTTP_REQUESTS, ('method', 'route'), OF)})",
              "{{method}} {{route}}"),
        about="The ten routes that are asked the most.",
    ),
    lines(
        "Faults by route", Unit.PER_MINUTE,
        Query(per_minute(m.HTTP_REQUESTS, ("method", "route"), WRONG), "{{method}} {{route}}"),
        empty="no request ends in 5xx while all is well",
        about="Answers with 5xx a minute, by route.",
    ),
    lines(
        "Requests under way", Unit.COUNT,
        Query(told(m.HTTP_IN_FLIGHT, ("application",), OF), "{{application}}"),
        about="Requests that have begun and have not ended, streams included.",
    ),
    lines(
        "Statements a request", Unit.COUNT,
        Query(share(rate(m.HTTP_STATEMENTS, ("application",), OF),
                    rate(m.HTTP_REQUESTS, ("application",), OF)), "{{application}}"),
        about="Statements sent to the record for a request, on average; answers from the cache"
        " send none. The target is 1 to 3.",
    ),
    lines(
        "Statements by route", Unit.PER_SECOND,
        Query(f"topk({ROUTES_MOST}, {rate(m.HTTP_STATEMENTS, ('method', 'route'), OF)})",
              "{{method}} {{route}}"),
        about="The ten routes that send the record the most statements a second.",
    ),
))  # fmt: skip

REPLICAS: Final = Row("Replicas and who watches", (
    lines(
        "Replicas", Unit.COUNT,
        Query(told(m.PROCESS_INFO, ("part",), 'part=~"api|stats|live"'), "{{part}}"),
        about="Processes that answer, by application.",
    ),
    lines(
        "Memory of replicas", Unit.BYTES,
        Query(told(m.PROCESS_MEMORY, ("part",), 'part=~"api|stats|live"'), "{{part}}"),
        about="Resident memory, all replicas of an application together. The target for all is"
        " 800 MiB.",
    ),
    lines(
        "Progress told", Unit.PER_SECOND,
        Query(rate(m.LIVE_MESSAGES, ("kind",)), "{{kind}}"),
        empty="nobody watches unless a page is open",
        about="Messages a second to those that watch, heartbeats included.",
    ),
))  # fmt: skip

API: Final = Board(
    "chrono-api", "chrono_ray: API", "How much the API is asked, how fast and how well it answers.",
    (NOW, HOW_FAST, HOW_MUCH, REPLICAS),
    (Choice("application", "Application", names(m.HTTP_REQUESTS)[0]),),
)  # fmt: skip
