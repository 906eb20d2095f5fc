"""What the archive shall do wrong, to which requests, and how often.

A plan is a list of rules, tried in order for every request. All of it is plain
values, so that it can be set in process or sent as JSON to `/_hostile`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, get_args
from urllib.parse import unquote

from chrono_ray.demo.reply import Kind
from tests.support.archive.payloads import PayloadKind


# -- any request
@dataclass(frozen=True, slots=True)
class Latency:
    """Waits, then goes on to the following rules."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Throttle:
    """A live 429 or 503. `retry_after` in seconds (None: no header), or as an HTTP-date."""

    status: int = 429
    retry_after: float | None = None
    as_date: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """A plain answer of the archive itself, without Memento-Datetime: 404, 410, 500, 502..."""

    status: int
    body: str = "<html><body>The archive is not well.</body></html>"


@dataclass(frozen=True, slots=True)
class Blocked:
    """403 as for robots.txt ("Robot") or an owner's wish ("Administrative")."""

    by: str = "Robot"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Resets every connection and closes the listener for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """A TCP reset instead of an answer."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing at all, until the client goes away."""


# -- listings
@dataclass(frozen=True, slots=True)
class Truncate:
    """Only the first `rows` rows, and no resume key: as if there were no more."""

    rows: int


@dataclass(frozen=True, slots=True)
class WaybackKeys:
    """The real server's keys, which skip the rest of a second and follow even the last row."""


@dataclass(frozen=True, slots=True)
class EmptyBody:
    """200 and not one byte."""


@dataclass(frozen=True, slots=True)
class HtmlError:
    """200 and an HTML error page where rows should be."""


@dataclass(frozen=True, slots=True)
class CutText:
    """The first `share` of the body, with a Content-Length that agrees: JSON that does not end."""

    share: float = 0.6


@dataclass(frozen=True, slots=True)
class BadRows:
    """Adds `short` rows of three fields and `broken` lines of bad JSON (in text: of one word)."""

    short: int = 1
    broken: int = 0


@dataclass(frozen=True, slots=True)
class RepeatRows:
    """Every row `times` times over, as the real server lists what several of its indexes hold."""

    times: int = 2


# -- replays: what the archive says
@dataclass(frozen=True, slots=True)
class ArchivedStatus:
    """A memento of an error: the status is archived content, not the archive's own word."""

    status: int = 429


@dataclass(frozen=True, slots=True)
class RedirectTo:
    """Location as given: a private address, `file:`, anything. Without `memento`: the archive's."""

    location: str
    status: int = 302
    memento: bool = True


@dataclass(frozen=True, slots=True)
class TimestampRedirect:
    """302 to the same URL at another timestamp (14 digits), without Memento-Datetime."""

    timestamp: str


@dataclass(frozen=True, slots=True)
class RedirectLoop:
    """A redirect to the very same address."""


@dataclass(frozen=True, slots=True)
class RedirectChain:
    """So many redirects, then the honest answer."""

    hops: int = 6


# -- replays: what comes in place of the body
@dataclass(frozen=True, slots=True)
class DoubleGzip:
    """Compressed twice, declared once."""


@dataclass(frozen=True, slots=True)
class UndeclaredGzip:
    """Compressed, not declared."""


@dataclass(frozen=True, slots=True)
class WrongEncoding:
    """Declared as `claimed`, not compressed at all."""

    claimed: str = "gzip"


@dataclass(frozen=True, slots=True)
class Bomb:
    """`size` bytes of zeros in a few KB. `window_log` (zstd only): 31 claims a window of 2 GiB."""

    coding: str = "gzip"
    size: int = 256 * 2**20
    window_log: int = 23


@dataclass(frozen=True, slots=True)
class TinyMembers:
    """So many empty gzip members, one after the other."""

    members: int = 100_000


@dataclass(frozen=True, slots=True)
class GzipChain:
    """Compressed and declared so many times over."""

    depth: int = 20


@dataclass(frozen=True, slots=True)
class Payload:
    """A body made to hurt who parses it; `size` 0 takes the kind's usual one."""

    kind: PayloadKind
    size: int = 0


# -- the wire
@dataclass(frozen=True, slots=True)
class SlowBody:
    """`step` bytes every `interval` seconds, Content-Length honest."""

    interval: float
    step: int = 1


@dataclass(frozen=True, slots=True)
class EndlessHeaders:
    """One more header every `interval` seconds, for ever."""

    interval: float = 0.01


@dataclass(frozen=True, slots=True)
class CutBody:
    """Closes after `keep` bytes of a body whose Content-Length is right."""

    keep: int = 10


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Content-Length off by `delta`: positive promises more than comes, negative less."""

    delta: int


@dataclass(frozen=True, slots=True)
class BadChunk:
    """Chunked, and the second chunk's size is no number."""


@dataclass(frozen=True, slots=True)
class CutChunk:
    """Chunked, closed in the middle of a chunk."""


@dataclass(frozen=True, slots=True)
class BigHeader:
    """One header line of `size` bytes."""

    size: int = 9 * 1024


@dataclass(frozen=True, slots=True)
class ManyHeaders:
    """So many more headers, all named `name`."""

    count: int = 200
    name: str = "X-Archive-Orig-Pad"


@dataclass(frozen=True, slots=True)
class ManyCookies:
    """So many Set-Cookie headers."""

    count: int = 10_000


Behaviour = (
    Latency
    | Throttle
    | Status
    | Blocked
    | Refuse
    | Reset
    | Hang
    | Truncate
    | WaybackKeys
    | EmptyBody
    | HtmlError
    | CutText
    | BadRows
    | RepeatRows
    | ArchivedStatus
    | RedirectTo
    | TimestampRedirect
    | RedirectLoop
    | RedirectChain
    | DoubleGzip
    | UndeclaredGzip
    | WrongEncoding
    | Bomb
    | TinyMembers
    | GzipChain
    | Payload
    | SlowBody
    | EndlessHeaders
    | CutBody
    | WrongLength
    | BadChunk
    | CutChunk
    | BigHeader
    | ManyHeaders
    | ManyCookies
)

_BY_NAME: Final = {kind.__name__: kind for kind in get_args(Behaviour)}


@dataclass(frozen=True, slots=True)
class Rule:
    """Do `behaviour` to requests of `kind` (None: any) whose target contains `contains`.

    The first `after` matching requests are let through, then at most `times`
    are hit (None: all). `contains` is looked for in the target as sent and
    with its percent signs undone.
    """

    behaviour: Behaviour
    kind: Kind | None = None
    contains: str = ""
    after: int = 0
    times: int | None = None

    def matches(self, kind: Kind, target: str) -> bool:
        if self.kind is not None and self.kind is not kind:
            return False
        return self.contains in target or self.contains in unquote(target)


def rule_to_json(rule: Rule) -> dict[str, object]:
    """The form that `/_hostile` takes: the behaviour's name and fields, and when."""
    when = {name: getattr(rule, name) for name in ("kind", "contains", "after", "times")}
    return {"do": type(rule.behaviour).__name__, **asdict(rule.behaviour), "when": when}


def rule_from_json(given: dict[str, Any]) -> Rule:
    """The reverse; raises ValueError or TypeError for what is no rule."""
    rest = dict(given)
    name, when = str(rest.pop("do", "")), dict(rest.pop("when", {}))
    made = _BY_NAME.get(name)
    if made is None:
        raise ValueError(f"no such behaviour: {name!r}")
    if made is Payload:
        rest["kind"] = PayloadKind(rest.get("kind", ""))
    if when.get("kind") is not None:
        when["kind"] = Kind(when["kind"])
    unknown = set(rest) - {field.name for field in fields(made)}
    if unknown:
        raise ValueError(f"{name} has no {', '.join(sorted(unknown))}")
    return Rule(made(**rest), **when)


class Plan:
    """The rules in force, and how often each was hit."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.replace(rules)

    def replace(self, rules: Iterable[Rule]) -> None:
        """Puts other rules in force; counting starts anew."""
        self.rules = tuple(rules)
        self.hits = [0] * len(self.rules)
        self._seen = [0] * len(self.rules)

    def take(self, kind: Kind, target: str) -> list[Behaviour]:
        """What to do to this request: any number of `Latency`, then at most one other."""
        todo: list[Behaviour] = []
        for place, rule in enumerate(self.rules):
            if not rule.matches(kind, target):
                continue
            self._seen[place] += 1
            spent = rule.times is not None and self.hits[place] >= rule.times
            if spent or self._seen[place] <= rule.after:
                continue
            self.hits[place] += 1
            todo.append(rule.behaviour)
            if not isinstance(rule.behaviour, Latency):
                break
        return todo
