"""A domain's rules: which listed captures are fetched, which first, and which one of a period.

Rules stand in order, the built-in ones behind the domain's own. The first
`Skip` or `Fetch` whose condition holds decides; a capture that none decides is
wanted. An earlier `OnePer` thins what is wanted: of the captures of one URL
in one period only the first is fetched. The first `Prioritise` that holds
says how early, wherever it stands.

What a listing says about type and status may be wrong, so a rule that trusts
it names its confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from chrono_ray.model.capture import EMPTY_DIGEST, Capture
from chrono_ray.model.patterns import matches
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.selection import SKIPPED_BY_PERSON
from chrono_ray.model.urls import host_of, split

UNDECIDED: Final = "undecided"
"""Reason of a capture that a `OnePer` rule may choose: its neighbours are not all listed yet."""
THINNED: Final = "thinned"
"""Reason of a capture whose period is stood for by another of the same URL."""
RESERVED: Final = frozenset({UNDECIDED, THINNED, SKIPPED_BY_PERSON, "bad_row"})
LABEL_LIMIT: Final = 200


class Period(StrEnum):
    """A span of which one capture is kept; `digits` of a timestamp name it."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"

    @property
    def digits(self) -> int:
        return {Period.DAY: 8, Period.MONTH: 6, Period.YEAR: 4}[self]


@dataclass(frozen=True, slots=True)
class Skip:
    """Keep the capture as an event, ask for nothing."""

    reason: str
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Fetch:
    """Want the capture, whatever a later rule says."""


@dataclass(frozen=True, slots=True)
class Prioritise:
    """If it is wanted, then this early."""

    priority: CapturePriority


@dataclass(frozen=True, slots=True)
class OnePer:
    """Of those of one URL and period that are wanted, the first alone."""

    period: Period


Action = Skip | Fetch | Prioritise | OnePer


@dataclass(frozen=True, slots=True)
class Condition:
    """Which captures a rule is about: every part that is given must hold, of its values any one.

    `types`: media types, `image/*` for all that begin so. `statuses`: `404`,
    `4xx`, or `-` where the archive gave none. `urls`: the whole URL as listed,
    `*` for any characters. `regexes`: RE2 patterns, found anywhere in the URL.
    `paths`: what its path begins with. `hosts`: a host, or `*.example.org` for
    everything below one. `start` and `end`: 14 digits, inclusive. `least` and
    `most`: the listed length in bytes, inclusive; a capture without one is not
    meant.
    """

    types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    regexes: tuple[str, ...] = ()
    start: str = ""
    end: str = ""
    least: int | None = None
    most: int | None = None

    def holds(self, capture: Capture) -> bool:
        """Whether the rule is about this capture."""
        return (
            (not self.statuses or _is_one_of(capture.statuscode, _statuses(self.statuses)))
            and (not self.types or _is_one_of(media_type(capture), _types(self.types)))
            and self._in_time(capture.timestamp.text)
            and self._in_bounds(capture.length)
            and (not self.digests or capture.digest in self.digests)
            and self._in_place(capture.original)
        )

    def _in_time(self, text: str) -> bool:
        return self.start <= text and (not self.end or text <= self.end)

    def _in_bounds(self, length: int | None) -> bool:
        if self.least is None and self.most is None:
            return True
        return (
            length is not None
            and (self.least is None or self.least <= length)
            and (self.most is None or length <= self.most)
        )

    def _in_place(self, url: str) -> bool:
        return (
            (not self.urls or any(fits(glob, url) for glob in self.urls))
            and (not self.paths or split(url).path.startswith(self.paths))
            and (not self.hosts or _is_below(host_of(url), self.hosts))
            and (not self.regexes or any(matches(each, url) for each in self.regexes))
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do with the captures that a condition holds for. `name` is what a person calls it."""

    action: Action
    condition: Condition = Condition()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """A domain's own rules, in order; the built-in ones follow them."""

    own: tuple[Rule, ...] = ()

    @property
    def all(self) -> tuple[Rule, ...]:
        return self.own + BUILT_IN

    @property
    def thin(self) -> bool:
        """Whether any decision needs a capture's neighbours."""
        return any(isinstance(rule.action, OnePer) for rule in self.own)

    def without(self, rule: Rule) -> Rules:
        """The same rules less one of the domain's own (a built-in one cannot be taken away)."""
        return Rules(tuple(each for each in self.own if each is not rule))


def media_type(capture: Capture) -> str:
    """The listed type, lower case, without parameters."""
    return capture.mimetype.partition(";")[0].strip().lower()


def fits(glob: str, url: str) -> bool:
    """Whether the whole URL is the glob, where `*` stands for any characters. Linear in both."""
    first, *rest = glob.split("*")
    if not rest:
        return url == glob
    *middle, last = rest
    if len(url) < len(first) + len(last) or not (url.startswith(first) and url.endswith(last)):
        return False
    place, end = len(first), len(url) - len(last)
    for part in middle:
        place = url.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True


def _is_one_of(text: str, spellings: tuple[frozenset[str], tuple[str, ...]]) -> bool:
    exact, prefixes = spellings
    return text in exact or text.startswith(prefixes)


@lru_cache(maxsize=512)
def _statuses(values: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    classes = tuple(value[0] for value in values if value.endswith("xx"))
    return frozenset(value for value in values if not value.endswith("xx")), classes


@lru_cache(maxsize=512)
def _types(values: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    prefixes = tuple(value[:-1] for value in values if value.endswith("*"))
    return frozenset(value for value in values if not value.endswith("*")), prefixes


def _is_below(host: str, hosts: tuple[str, ...]) -> bool:
    return any(host.endswith(each[1:]) if each[:2] == "*." else host == each for each in hosts)


BUILT_IN: Final = (
    Rule(
        Skip("redirect", 0.7),
        Condition(types=("warc/revisit",), digests=(EMPTY_DIGEST,)),
        "revisit of an empty payload",
    ),
    Rule(Fetch(), Condition(types=("warc/revisit",)), "revisit"),
    Rule(Skip("not_found"), Condition(statuses=("404", "410"))),
    Rule(Skip("redirect"), Condition(statuses=("3xx",))),
    Rule(Skip("error"), Condition(statuses=("4xx", "5xx"))),
    Rule(
        Skip("type", 0.9),
        Condition(
            types=(
                "image/*", "video/*", "audio/*", "font/*", "text/css", "text/javascript",
                "application/javascript", "application/x-javascript", "application/ecmascript",
                "application/x-shockwave-flash", "application/zip", "application/gzip",
                "application/x-gzip", "application/x-tar", "application/font-woff",
                "application/x-font-woff", "application/vnd.ms-fontobject", "application/wasm",
            )
        ),
    ),
)  # fmt: skip
"""What is no page: redirects, errors and unreadable types are events in a site's timeline."""

DEFAULT: Final = Rules()
