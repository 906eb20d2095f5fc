"""Ray and the actors: who works, how large they are, how often they are replaced."""

from typing import Final

from chrono_ray.observability import catalogue as m
from dashboards import rays
from dashboards.board import Board, Limits, Query, Row, Unit, lines, number, stack
from dashboards.promql import (
    increase,
    least,
    most,
    observed,
    per_minute,
    quantile,
    rate,
    series,
    told,
)

NOW: Final = Row("Now", (
    number(
        "Nodes", Unit.COUNT, Query(f"count({series(rays.NODE_CPU)})"),
        about="Machines that work in the Ray cluster.",
    ),
    number(
        "Scrapers working", Unit.COUNT,
        Query(told(m.POOL_ACTORS, (), 'pool="scraper", state="working"')),
        about="Scrapers that have said they live.",
    ),
    number(
        "Indexers working", Unit.COUNT,
        Query(told(m.POOL_ACTORS, (), 'pool="indexer", state="working"')),
        limits=Limits(1, 0.5), about="Indexers that have said they live.",
    ),
    number(
        "Supervisor", Unit.YES, Query(most(m.LOOKOUT)), limits=Limits(1, 0.5),
        about="Whether somebody sizes the pools. Work goes on without, for a while.",
    ),
    number(
        "Disk free", Unit.SHARE,
        Query(f"min({series(m.DISK_FREE)} / {series(m.DISK_SIZE)})"), limits=Limits(0.2, 0.1),
        about="Of the disk of the data folder or of the payloads that has the least left, of any"
        " node. A PostgreSQL of yours is on a disk that only its own machine knows.",
    ),
    number(
        "Memory used", Unit.SHARE,
        Query(f"max({series(rays.NODE_MEMORY_USED)} / {series(rays.NODE_MEMORY)})"),
        limits=Limits(0.85, 0.95), about="Of the node that has the least left.",
    ),
))  # fmt: skip

POOLS: Final = Row("Pools", (
    lines(
        "Wanted, and there", Unit.COUNT,
        Query(told(m.POOL_WANTED, ("pool",)), "{{pool}} wanted"),
        Query(told(m.POOL_ACTORS, ("pool", "state")), "{{pool}} {{state}}"),
        about="Actors that each pool should have, and those it has. `silent` for long: no room for"
        " them, or they die at once.",
    ),
    lines(
        "Memory of each actor", Unit.BYTES, Query(most(m.ACTOR_MEMORY, ("actor",)), "{{actor}}"),
        about="As the supervisor measures it. A scraper beyond CHRONO_SCRAPING__RSS is drained and"
        " begins afresh.",
    ),
    lines(
        "Ended by the supervisor", Unit.COUNT,
        Query(increase(m.ACTOR_ENDS, ("pool", "reason"), over="1h"), "{{pool}} {{reason}}"),
        empty="no actor is replaced in a short or idle life",
        about="In the last hour: recycled (memory, leases) or dismissed (nobody needs it).",
    ),
    lines(
        "Made by the supervisor", Unit.COUNT,
        Query(increase(m.ACTORS_MADE, ("pool",), over="1h"), "{{pool}}"),
        about="Actors made in the last hour.",
    ),
    stack(
        "Leases held", Unit.COUNT, Query(told(m.LEASES_HELD, ("work",)), "{{work}}"),
        about="Fetches and tasks that living workers work on.",
    ),
    lines(
        "Tasks", Unit.PER_MINUTE,
        Query(f"60 * {observed(m.TASK_SECONDS_SPENT, ('kind', 'outcome'))}",
              "{{kind}} {{outcome}}"),
        empty="there may be no tasks",
        about="Leases of tasks a minute by how they ended. `paused` goes on later.",
    ),
    lines(
        "A lease of a task takes, 95 %", Unit.SECONDS,
        Query(quantile(0.95, m.TASK_SECONDS_SPENT, ("kind",)), "{{kind}}"), width=24,
        empty="there may be no tasks",
        about="Working on a task, in one lease, by kind.",
    ),
))  # fmt: skip

PROCESSES: Final = Row("Processes", (
    stack(
        "Processor", Unit.COUNT, Query(rate(m.PROCESS_CPU, ("part",)), "{{part}}"),
        about="Cores that our processes keep busy, by part.",
    ),
    stack(
        "Memory", Unit.BYTES, Query(told(m.PROCESS_MEMORY, ("part",)), "{{part}}"),
        about="Resident memory of our processes by part.",
    ),
    lines(
        "Age", Unit.SECONDS, Query(f"time() - {most(m.PROCESS_START, ('part',))}", "{{part}}"),
        about="Since the youngest process of each part began. A line that falls: one was replaced.",
    ),
    stack(
        "Logged", Unit.PER_MINUTE, Query(per_minute(m.LOG_EVENTS, ("level",)), "{{level}}"),
        about="Lines logged a minute, by level.",
    ),
    stack(
        "Warnings and errors by event", Unit.PER_MINUTE,
        Query(per_minute(m.LOG_EVENTS, ("part", "event"), 'level=~"warning|error|critical"'),
              "{{part}} {{event}}"),
        empty="nothing is logged at these levels while all is well",
        about="What the lines say and who says it; the log has the rest.",
    ),
    lines(
        "Versions", Unit.COUNT,
        Query(told(m.PROCESS_INFO, ("part", "version")), "{{part}} {{version}}"),
        Query(told(m.BUILD_INFO, ("version",)), "API {{version}}"),
        Query(told(m.SCHEMA_INFO, ("revision",)), "schema {{revision}}"),
        about="Processes by their version of the code, and the schema of the record. Two versions"
        " of one part: an upgrade is under way, or stuck.",
    ),
))  # fmt: skip

NODES: Final = Row("Nodes, as Ray sees them", (
    lines(
        "Processor of nodes", Unit.PERCENT,
        Query(most(rays.NODE_CPU, ("instance",)), "{{instance}}"),
        about="All processes of the machine, not only ours.",
    ),
    lines(
        "Memory of nodes", Unit.BYTES,
        Query(most(rays.NODE_MEMORY_USED, ("instance",)), "{{instance}} used"),
        Query(most(rays.NODE_MEMORY, ("instance",)), "{{instance}} of"),
        about="All processes of the machine, not only ours.",
    ),
    stack(
        "Ray's actors", Unit.COUNT, Query(told(rays.ACTORS, ("State",)), "{{State}}"),
        about="Ours and those of Ray Serve, by Ray's own states. PENDING_CREATION for long: there"
        " is no room.",
    ),
    lines(
        "Object store", Unit.BYTES, Query(told(rays.OBJECT_STORE, ("Location",)), "{{Location}}"),
        width=12, about="Ray carries ids and counters here, never pages: it stays small.",
    ),
    lines(
        "Disks", Unit.BYTES,
        Query(least(m.DISK_FREE, ("folder",)), "{{folder}} free"),
        Query(least(m.DISK_SIZE, ("folder",)), "{{folder}} of"),
        width=12, about="The disks of the data folder and of the payloads; of several nodes', the"
        " fullest and the smallest.",
    ),
))  # fmt: skip

ACTORS: Final = Board(
    "chrono-actors", "chrono_ray: Ray and actors",
    "Who works, how large they are, how often they are replaced.", (NOW, POOLS, PROCESSES, NODES),
)  # fmt: skip
