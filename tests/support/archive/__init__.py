"""An archive server for tests that can be honest or hostile.

In process::

    async with HostileArchive(DemoWayback(demo_site())) as archive:
        archive.behave(Rule(Throttle(retry_after=2), kind=Kind.REPLAY, times=3))

As a process, steered over HTTP::

    with archive_process("--captures", "2000") as archive:
        archive.behave(Rule(Latency(0.05)))
"""

from chrono_ray.demo.record import Record, Site, record, revisit
from chrono_ray.demo.reply import Kind, Logged, RequestLog
from chrono_ray.demo.site import demo_site
from chrono_ray.demo.wayback import DemoWayback
from tests.support.archive.audit import sliding_max, smallest_gaps, times_of
from tests.support.archive.payloads import PayloadKind
from tests.support.archive.plan import (
    ArchivedStatus,
    BadChunk,
    BadRows,
    Behaviour,
    BigHeader,
    Blocked,
    Bomb,
    CutBody,
    CutChunk,
    CutText,
    DoubleGzip,
    EmptyBody,
    EndlessHeaders,
    GzipChain,
    Hang,
    HtmlError,
    Latency,
    ManyCookies,
    ManyHeaders,
    Payload,
    RedirectChain,
    RedirectLoop,
    RedirectTo,
    Refuse,
    RepeatRows,
    Reset,
    Rule,
    SlowBody,
    Status,
    Throttle,
    TimestampRedirect,
    TinyMembers,
    Truncate,
    UndeclaredGzip,
    WaybackKeys,
    WrongEncoding,
    WrongLength,
    rule_from_json,
    rule_to_json,
)
from tests.support.archive.process import ArchiveProcess, archive_process
from tests.support.archive.server import HostileArchive
from tests.support.archive.synthetic import PagesWayback, SyntheticWayback, site_from_pages

__all__ = [
    "ArchiveProcess",
    "ArchivedStatus",
    "BadChunk",
    "BadRows",
    "Behaviour",
    "BigHeader",
    "Blocked",
    "Bomb",
    "CutBody",
    "CutChunk",
    "CutText",
    "DemoWayback",
    "DoubleGzip",
    "EmptyBody",
    "EndlessHeaders",
    "GzipChain",
    "Hang",
    "HostileArchive",
    "HtmlError",
    "Kind",
    "Latency",
    "Logged",
    "ManyCookies",
    "ManyHeaders",
    "PagesWayback",
    "Payload",
    "PayloadKind",
    "Record",
    "RedirectChain",
    "RedirectLoop",
    "RedirectTo",
    "Refuse",
    "RepeatRows",
    "RequestLog",
    "Reset",
    "Rule",
    "Site",
    "SlowBody",
    "Status",
    "SyntheticWayback",
    "Throttle",
    "TimestampRedirect",
    "TinyMembers",
    "Truncate",
    "UndeclaredGzip",
    "WaybackKeys",
    "WrongEncoding",
    "WrongLength",
    "archive_process",
    "demo_site",
    "record",
    "revisit",
    "rule_from_json",
    "rule_to_json",
    "site_from_pages",
    "sliding_max",
    "smallest_gaps",
    "times_of",
]
