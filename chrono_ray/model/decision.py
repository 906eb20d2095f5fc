"""Which listed captures are fetched. Every other one stays, with reason, rule and confidence.

Rows that are no page (redirects, 404s, images) are events in a site's
timeline: kept, not requested. A decision depends on the capture, the domain's
rules and, where those thin, on the other captures of its URL: never on the
order in which an archive lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from chrono_ray.model.capture import Capture, Decision, Skipped, Wanted
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.rule_text import spelled
from chrono_ray.model.rules import (
    BUILT_IN,
    DEFAULT,
    LABEL_LIMIT,
    THINNED,
    UNDECIDED,
    Condition,
    Fetch,
    OnePer,
    Period,
    Prioritise,
    Rule,
    Rules,
    Skip,
    media_type,
)


@dataclass(frozen=True, slots=True)
class Contested:
    """Wanted if it comes first among the captures of its URL with the same `period`."""

    wanted: Wanted
    period: str
    rule: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on one capture alone, and the rule that gave it (None: no rule held)."""

    verdict: Wanted | Skipped | Contested
    rule: Rule | None


def decide(capture: Capture, rules: Rules = DEFAULT) -> Decision:
    """What a lister keeps: a contested capture is skipped as undecided until all are listed."""
    match judge(capture, rules).verdict:
        case Contested() as contested:
            return Skipped(UNDECIDED, contested.rule)
        case decision:
            return decision


def thinned(contested: Contested, *, first: bool) -> Decision:
    """The decision on a contested capture, once it is known whether it comes first."""
    return contested.wanted if first else Skipped(THINNED, contested.rule)


def judge(capture: Capture, rules: Rules) -> Judged:
    """The verdict by the first rule that gives one."""
    thinning: _Thinning | None = None
    for rule in rules.all:
        if not rule.condition.holds(capture):
            continue
        match rule.action:
            case Skip(reason, confidence):
                return Judged(Skipped(reason, label(rule, capture), confidence), rule)
            case Fetch():
                return _wanted(capture, rules, thinning, rule)
            case OnePer(period):
                thinning = thinning or _Thinning(rule, period)
            case Prioritise():
                pass
            case other:
                assert_never(other)
    return _wanted(capture, rules, thinning, None)


def label(rule: Rule, capture: Capture) -> str:
    """How the record names the rule: its name, the fact it looks at, or its own words."""
    if rule.name or isinstance(rule.action, OnePer):
        return rule.name or spelled(rule)[:LABEL_LIMIT]
    if rule.condition == Condition(statuses=rule.condition.statuses):
        return f"status {capture.statuscode}"[:LABEL_LIMIT]
    if rule.condition == Condition(types=rule.condition.types):
        return f"type {media_type(capture)[:100]}"
    return spelled(rule)[:LABEL_LIMIT]


@dataclass(frozen=True, slots=True)
class _Thinning:
    rule: Rule
    period: Period


def _wanted(
    capture: Capture, rules: Rules, thinning: _Thinning | None, fetching: Rule | None
) -> Judged:
    priority = _priority(capture, rules)
    if thinning is None:
        said = "" if fetching is None or fetching in BUILT_IN else label(fetching, capture)
        return Judged(Wanted(priority, said), fetching)
    said = label(thinning.rule, capture)
    digits = capture.timestamp.text[: thinning.period.digits]
    period = f"{rules.own.index(thinning.rule)} {digits}"
    return Judged(Contested(Wanted(priority, said), period, said), thinning.rule)


def _priority(capture: Capture, rules: Rules) -> CapturePriority:
    for rule in rules.own:
        if isinstance(rule.action, Prioritise) and rule.condition.holds(capture):
            return rule.action.priority
    return CapturePriority.NORMAL
