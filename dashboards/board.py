"""A board as values: rows of panels, each with its queries and what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Look(StrEnum):
    LINES = "lines"
    STACK = "stack"
    NUMBER = "number"


class Unit(StrEnum):
    """Grafana's name of a unit."""

    COUNT = "short"
    PER_SECOND = "cps"
    PER_MINUTE = "cpm"
    SECONDS = "s"
    BYTES = "bytes"
    BYTES_PER_SECOND = "binBps"
    SHARE = "percentunit"
    PERCENT = "percent"
    YES = "bool_yes_no"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and the name of each series in Grafana's `{{label}}` notation, else the panel's."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a value is worrying, and bad; the other way round when `bad` is the lower."""

    worrying: float
    bad: float


@dataclass(frozen=True, slots=True)
class Panel:
    """`empty` says why it may show nothing while all is well; without it, it must show data."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    description: str
    look: Look
    width: int
    limits: Limits | None = None
    empty: str = ""


def lines(
    title: str, unit: Unit, *queries: Query, about: str, width: int = 8, empty: str = ""
) -> Panel:
    """Curves over time."""
    return Panel(title, unit, queries, about, Look.LINES, width, empty=empty)


def stack(
    title: str, unit: Unit, *queries: Query, about: str, width: int = 8, empty: str = ""
) -> Panel:
    """Curves on top of each other: their sum means something."""
    return Panel(title, unit, queries, about, Look.STACK, width, empty=empty)


def number(
    title: str, unit: Unit, *queries: Query, about: str, limits: Limits | None = None,
    width: int = 4, empty: str = "",
) -> Panel:  # fmt: skip
    """The newest value, large, in the colour of its limits."""
    return Panel(title, unit, queries, about, Look.NUMBER, width, limits, empty)


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable of the board: one or several of a metric's label values, all at first."""

    name: str
    label: str
    metric: str


@dataclass(frozen=True, slots=True)
class Board:
    """`uid` stays the same for ever: it is the board's address."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = field(default=())

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)
