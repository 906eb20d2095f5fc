"""Rules as people write them: one a line, or the same words as JSON.

    skip REASON | fetch | high | low | one per day|month|year
    type status url path host digest regex from to length confidence name

A line is an action and any number of `word value` pairs; a word may be
repeated. Values with blanks stand in double quotes, as in JSON. `#` at a line's
start or after a blank begins a comment. In JSON a rule is an object
`{"do": "skip print", "url": ["*/print/*"]}`, a set of rules a list of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, assert_never

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.patterns import check_pattern
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.rules import (
    RESERVED,
    Action,
    Condition,
    Fetch,
    OnePer,
    Period,
    Prioritise,
    Rule,
    Rules,
    Skip,
)
from chrono_ray.model.selection import CHOSEN, PERSON
from chrono_ray.model.targets import moment

RULES_MOST: Final = 200
VALUES_MOST: Final = 100
VALUE_CHARS: Final = 2000
SHOWN_CHARS: Final = 100
PATTERNS_MOST: Final = 100
BYTES_MOST: Final = 1 << 20

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s|$)|[^\s"]\S*|"\S*')
_REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_STATUS: Final = re.compile(r"[1-9]xx|[0-9]{3}|-")
_TYPE: Final = re.compile(r"[!-)+-~]+\*?|\*")
_HOST: Final = re.compile(r"(\*\.)?[a-z0-9._:\[\]-]+")
_LENGTH: Final = re.compile(r"([0-9]{0,15})\.\.([0-9]{0,15})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LATEST: Final = Timestamp14("99991231235959")
_ACTIONS: Final = "skip REASON, fetch, high, low, one per day, one per month or one per year"
_WORDS: Final = (
    "type", "status", "url", "path", "host", "digest", "regex", "from", "to", "length",
    "confidence", "name",
)  # fmt: skip
_ONCE: Final = frozenset({"from", "to", "length", "confidence", "name"})
_SPLIT: Final = frozenset({"type", "status", "host", "digest"})


def parse(text: str) -> Rules:
    """Rules from lines or JSON (what begins with `[` is JSON).

    Raises `InvalidInput` that says which line or rule and what to write
    instead, with code rules_size, rules_json, rule_action, rule_word,
    rule_value, rule_reason, rule_status, rule_type, rule_host, rule_date,
    rule_length, rule_confidence, rule_repeated, rule_pattern or rule_characters.
    """
    if len(text) > BYTES_MOST:
        raise InvalidInput(
            "The rules are too long", why=f"over {BYTES_MOST} characters", code="rules_size"
        )
    text = text.removeprefix("\ufeff")
    found = _from_json(text) if text.lstrip().startswith("[") else _from_lines(text)
    own: list[Rule] = []
    for rule in found:
        own.append(rule)
        if len(own) > RULES_MOST:
            raise InvalidInput(
                "There are too many rules", why=f"over {RULES_MOST}",
                fix="A rule may hold several values: repeat its word", code="rules_size",
            )  # fmt: skip
    if sum(len(rule.condition.regexes) for rule in own) > PATTERNS_MOST:
        raise InvalidInput(
            "There are too many regular expressions", why=f"over {PATTERNS_MOST}",
            fix="Write `a|b` for two, or `url` with `*`", code="rules_size",
        )  # fmt: skip
    return Rules(tuple(own))


def as_text(rules: Rules) -> str:
    """The domain's own rules in their canonical spelling, a line each; `parse` reads it back."""
    return "".join(f"{spelled(rule)}\n" for rule in rules.own)


def as_json(rules: Rules) -> str:
    """The same as a JSON list; `parse` reads it back."""
    return json.dumps([_object(rule) for rule in rules.own], ensure_ascii=False)


def spelled(rule: Rule) -> str:
    """One rule as a line."""
    pairs = (f"{word} {_quoted(value)}" for word, value in _pairs(rule))
    return " ".join([_spelled_action(rule.action), *pairs])


def _object(rule: Rule) -> dict[str, str | list[str]]:
    spelled_rule: dict[str, str | list[str]] = {"do": _spelled_action(rule.action)}
    for word in dict.fromkeys(word for word, _ in _pairs(rule)):
        values = [value for each, value in _pairs(rule) if each == word]
        spelled_rule[word] = values[0] if word in _ONCE else values
    return spelled_rule


def _spelled_action(action: Action) -> str:
    match action:
        case Skip(reason):
            return f"skip {reason}"
        case Fetch():
            return "fetch"
        case Prioritise(priority):
            return priority.name.lower()
        case OnePer(period):
            return f"one per {period}"
        case other:
            assert_never(other)


def _pairs(rule: Rule) -> Iterator[tuple[str, str]]:
    at = rule.condition
    if rule.name:
        yield "name", rule.name
    if isinstance(rule.action, Skip) and rule.action.confidence != 1.0:
        yield "confidence", repr(rule.action.confidence)
    for word, values in (
        ("type", at.types), ("status", at.statuses), ("url", at.urls), ("path", at.paths),
        ("host", at.hosts), ("digest", at.digests), ("regex", at.regexes),
    ):  # fmt: skip
        for value in values:
            yield word, value
    if at.start:
        yield "from", _short(at.start, late=False)
    if at.end:
        yield "to", _short(at.end, late=True)
    if at.least is not None or at.most is not None:
        least, most = ("" if n is None else str(n) for n in (at.least, at.most))
        yield "length", f"{least}..{most}"


def _short(date: str, *, late: bool) -> str:
    """The fewest digits that mean this second."""
    return next((date[:n] for n in (4, 6, 8) if _dated(date[:n], late=late) == date), date)


def _dated(text: str, *, late: bool) -> str:
    try:
        return moment(text, _LATEST, late=late)
    except InvalidInput:
        return ""


def _quoted(value: str) -> str:
    plain = value and not value.startswith(("#", '"')) and not any(c.isspace() for c in value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _from_lines(text: str) -> Iterator[Rule]:
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            tokens = list(_tokens(line))
            if tokens:
                action, rest = _action(tokens)
                yield _rule(action, _paired(rest))
        except InvalidInput as bad:
            raise _located(f"Line {number}", bad) from None


def _tokens(line: str) -> Iterator[str]:
    for found in _TOKEN.finditer(line):
        token = found[0]
        if token.startswith("#"):
            return
        if token.startswith('"'):
            try:
                token = json.loads(token)
            except ValueError:
                raise _bad(
                    "a quoted value cannot be read", token[:SHOWN_CHARS],
                    'Write "..." with \\" for a quote and \\\\ for a backslash inside',
                    "rule_value",
                ) from None  # fmt: skip
        yield token


def _action(tokens: list[str]) -> tuple[Action, list[str]]:
    match tokens:
        case ["skip", reason, *rest]:
            return Skip(_reason(reason)), rest
        case ["fetch", *rest]:
            return Fetch(), rest
        case ["high" | "low" as word, *rest]:
            return Prioritise(CapturePriority[word.upper()]), rest
        case ["one", "per", "day" | "month" | "year" as period, *rest]:
            return OnePer(Period(period)), rest
        case _:
            shown = " ".join(tokens[:3])[:SHOWN_CHARS]
            raise _bad("no such action", repr(shown), f"Begin with {_ACTIONS}", "rule_action")


def _reason(text: str) -> str:
    if text in _WORDS or not _REASON.fullmatch(text) or text in RESERVED:
        why = "it is the record's own word" if text in RESERVED else "it is no reason"
        raise _bad(
            f"the reason {text[:SHOWN_CHARS]!r} cannot be used", why,
            "Write one word of a-z, 0-9 and _, such as `skip print`", "rule_reason",
        )  # fmt: skip
    return text


def _paired(tokens: list[str]) -> Iterator[tuple[str, str]]:
    for place in range(0, len(tokens), 2):
        word = tokens[place]
        if word not in _WORDS:
            raise _unknown(word)
        if place + 1 == len(tokens):
            raise _bad(f"`{word}` has no value", "the line ends", f"Write `{word} VALUE`",
                       "rule_value")  # fmt: skip
        yield word, tokens[place + 1]


def _from_json(text: str) -> Iterator[Rule]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 0)
        raise InvalidInput(
            f"Line {line}: the rules are no JSON", why=str(error)[:SHOWN_CHARS],
            fix='Write a list of objects such as {"do": "skip print", "url": ["*/print/*"]},'
            " or the line form",
            code="rules_json",
        ) from None  # fmt: skip
    for number, each in enumerate(found, start=1):
        try:
            yield _from_object(each)
        except InvalidInput as bad:
            raise _located(f"Rule {number}", bad) from None


def _from_object(given: object) -> Rule:
    if not isinstance(given, dict) or not isinstance(given.get("do"), str):
        raise _bad("it is no object with `do`", repr(given)[:SHOWN_CHARS],
                   f'Write {{"do": ...}} with {_ACTIONS}', "rule_action")  # fmt: skip
    action, rest = _action(given["do"].split())
    if rest:
        raise _bad("no such action", repr(given["do"][:SHOWN_CHARS]), f"Write {_ACTIONS}",
                   "rule_action")  # fmt: skip
    return _rule(action, _object_pairs(given))


def _object_pairs(given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for word, value in given.items():
        if word == "do":
            continue
        if word not in _WORDS:
            raise _unknown(word)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, bool) or not isinstance(each, str | int | float):
                raise _bad(f"the {word} cannot be used", repr(each)[:SHOWN_CHARS],
                           "Write a string or a list of strings", "rule_value")  # fmt: skip
            yield word, str(each)


def _unknown(word: str) -> InvalidInput:
    return _bad(
        f"there is no {word[:SHOWN_CHARS]!r}", "it is no word of a rule",
        f"Use {', '.join(_WORDS)}", "rule_word",
    )  # fmt: skip


def _rule(action: Action, pairs: Iterable[tuple[str, str]]) -> Rule:
    values: dict[str, list[str]] = {}
    for word, value in pairs:
        if word in _ONCE and word in values:
            raise _bad(f"`{word}` stands twice", "a rule has one", "Write two rules",
                       "rule_repeated")  # fmt: skip
        parts = value.split(",") if word in _SPLIT else [value]
        values.setdefault(word, []).extend(_checked(word, part) for part in parts)
    if any(len(each) > VALUES_MOST for each in values.values()):
        raise _bad("it has too many values", f"over {VALUES_MOST}", "Write several rules",
                   "rules_size")  # fmt: skip
    confidence = values.pop("confidence", None)
    if confidence:
        action = _confident(action, confidence[0])
    return Rule(action, _condition(values), "".join(values.get("name", [])))


def _condition(values: Mapping[str, list[str]]) -> Condition:
    least, most = _bounds(values.get("length", [".."])[0])
    start = _date(values, "from", late=False)
    end = _date(values, "to", late=True)
    if start and end and start > end:
        raise _bad("the dates are empty", f"{start} is after {end}", "Swap them", "rule_date")
    several = {word: tuple(dict.fromkeys(values.get(word, []))) for word in _WORDS}
    return Condition(
        types=several["type"], statuses=several["status"], urls=several["url"],
        paths=several["path"], hosts=several["host"], digests=several["digest"],
        regexes=several["regex"],
        start=start, end=end, least=least, most=most,
    )  # fmt: skip


def _checked(word: str, value: str) -> str:
    if not value or len(value) > VALUE_CHARS:
        raise _bad(f"the {word} cannot be used", f"{len(value)} characters",
                   f"Write 1 to {VALUE_CHARS} characters", "rule_value")  # fmt: skip
    if bad := _CONTROL.search(value):
        raise _bad(f"the {word} holds a control character", f"U+{ord(bad[0]):04X}",
                   "Write it percent-encoded, as URLs do", "rule_characters")  # fmt: skip
    if word == "regex":
        check_pattern(value)
    if word == "name":
        _check_name(value)
    check = _CHECKS.get(word)
    if check is None:
        return value
    pattern, change, fix = check
    value = change(value)
    if not pattern.fullmatch(value):
        raise _bad(f"the {word} cannot be used", repr(value[:SHOWN_CHARS]), fix, f"rule_{word}")
    return value


_CHECKS: Final[dict[str, tuple[re.Pattern[str], Callable[[str], str], str]]] = {
    "status": (_STATUS, str.lower, "Write 404, 4xx or - (where the archive gave none)"),
    "type": (_TYPE, str.lower, "Write text/html, or image/* for all that begin so"),
    "host": (_HOST, str.lower, "Write www.example.org, or *.example.org for all below it"),
    "path": (re.compile(r"/.*"), str, "Write what the path begins with: /press/"),
}


def _check_name(value: str) -> None:
    if value == CHOSEN or value.startswith(PERSON):
        raise _bad("the name cannot be used", "so the record names what a person decided",
                   "Choose another", "rule_value")  # fmt: skip


def _confident(action: Action, text: str) -> Action:
    try:
        confidence = float(text)
    except ValueError:
        confidence = 0.0
    if not (isinstance(action, Skip) and 0 < confidence <= 1):
        raise _bad("the confidence cannot be used", repr(text[:SHOWN_CHARS]),
                   "A `skip` may have one, above 0 and up to 1", "rule_confidence")  # fmt: skip
    return Skip(action.reason, confidence)


def _bounds(text: str) -> tuple[int | None, int | None]:
    found = _LENGTH.fullmatch(text)
    least, most = (int(n) if n else None for n in found.groups()) if found else (1, 0)
    if least is not None and most is not None and least > most:
        raise _bad(
            "the length cannot be used", repr(text[:SHOWN_CHARS]),
            "Write 100..2000, 100.. or ..2000, in bytes as listed", "rule_length",
        )  # fmt: skip
    return least, most


def _date(values: Mapping[str, list[str]], word: str, *, late: bool) -> str:
    text = values.get(word, [""])[0]
    try:
        return moment(text, _LATEST, late=late)
    except InvalidInput as error:
        raise _bad(f"the date after `{word}` cannot be used", repr(text[:SHOWN_CHARS]), error.fix,
                   "rule_date") from None  # fmt: skip


def _bad(what: str, why: str, fix: str, code: str) -> InvalidInput:
    return InvalidInput(what, why=why, fix=fix, code=code)


def _located(where: str, bad: InvalidInput) -> InvalidInput:
    return InvalidInput(f"{where}: {bad.what}", why=bad.why, fix=bad.fix, code=bad.code)
