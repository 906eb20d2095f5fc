"""The part of Meilisearch's filter language that is sent: parsed strictly, evaluated naively.

Strings compare as milli's `normalize_facet` says: trimmed, NFKD, lower case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

Row = dict[str, object]
Test = Callable[[Row], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<quoted>\"(?:[^\"\\]|\\.)*\")|(?P<sign>>=|<=|!=|[=<>()\[\],])|(?P<word>[\w.-]+))"
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


class FilterError(ValueError):
    """The filter cannot be parsed, or names a field that is not filterable."""


def normal(value: object) -> str:
    """A value as facets compare it."""
    return unicodedata.normalize("NFKD", str(value).strip()).lower()


def parse(text: str, filterable: set[str]) -> Test:
    parser = _Parser(_tokens(text), filterable)
    test = parser.any_of()
    if parser.peek() is not None:
        raise FilterError(f"Found unexpected characters at the end of the filter: `{text}`")
    return test


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise FilterError(f"Was expecting an operation but found `{text[at : at + 20]}`")
        kind = str(match.lastgroup)
        raw = match.group(kind)
        found.append((kind, raw[1:-1].replace('\\"', '"') if kind == "quoted" else raw))
        at = match.end()
    return found


@dataclass
class _Parser:
    tokens: list[tuple[str, str]]
    filterable: set[str]
    at: int = field(default=0)

    def peek(self) -> tuple[str, str] | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, *expected: str) -> str:
        token = self.peek()
        if token is None or (expected and token[1] not in expected):
            raise FilterError(f"Was expecting {expected or 'a value'}, found {token}")
        self.at += 1
        return token[1]

    def is_next(self, *words: str) -> bool:
        token = self.peek()
        return token is not None and token[0] != "quoted" and token[1] in words

    def any_of(self) -> Test:
        parts = [self.all_of()]
        while self.is_next("OR"):
            self.take("OR")
            parts.append(self.all_of())
        return lambda row: any(part(row) for part in parts)

    def all_of(self) -> Test:
        parts = [self.one()]
        while self.is_next("AND"):
            self.take("AND")
            parts.append(self.one())
        return lambda row: all(part(row) for part in parts)

    def one(self) -> Test:
        if self.is_next("NOT"):
            self.take("NOT")
            inner = self.one()
            return lambda row: not inner(row)
        if self.is_next("("):
            self.take("(")
            test = self.any_of()
            self.take(")")
            return test
        return self.condition()

    def condition(self) -> Test:
        name = self.take()
        if name not in self.filterable:
            raise FilterError(f"Attribute `{name}` is not filterable.")
        sign = self.take("IN", "EXISTS", "NOT", "=", "!=", *_COMPARE)
        if sign == "NOT":
            self.take("EXISTS")
            return lambda row: name not in row
        if sign == "EXISTS":
            return lambda row: name in row
        if sign == "IN":
            values = self.values()
            return lambda row: normal(row.get(name, "")) in values
        value = self.take()
        if sign in _COMPARE:
            return _ordered(name, _COMPARE[sign], value)
        return lambda row: (normal(row.get(name, "")) == normal(value)) == (sign == "=")

    def values(self) -> set[str]:
        self.take("[")
        found: set[str] = set()
        while not self.is_next("]"):
            found.add(normal(self.take()))
            if not self.is_next("]"):
                self.take(",")
        self.take("]")
        return found


def _ordered(name: str, compare: Callable[[float, float], bool], value: str) -> Test:
    try:
        bound = float(value)
    except ValueError as error:
        raise FilterError(f"`{value}` is no number") from error
    return lambda row: (
        isinstance(row.get(name), int | float) and compare(float(str(row[name])), bound)
    )
