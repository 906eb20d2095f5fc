"""From match positions to fragments: plain text with character ranges, never markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chrono_ray.model.query import Fragment

SNIPPET_CHARS: Final = 260
_SNAP: Final = 24
"""How far a cut may move to fall between words; scripts without spaces are cut where they are."""


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """Characters [start, end) of a text matched; `key` tells different words of the query apart."""

    start: int
    end: int
    key: str


def marked(text: str, matches: Iterable[Match]) -> Fragment:
    """The whole text with its matches."""
    return Fragment(text, _ranges(matches, 0, len(text)))


def snippet(text: str, matches: Sequence[Match], *, size: int = SNIPPET_CHARS) -> Fragment:
    """At most `size` characters of the text around where most of the query's words are."""
    start, end = _frame(text, densest(matches, size), size)
    return Fragment(text[start:end], _ranges(matches, start, end))


def densest(matches: Sequence[Match], size: int) -> tuple[Match, ...]:
    """The neighbours within `size` characters that cover most words, then most matches."""
    ordered, first = sorted(matches), 0
    best: tuple[int, int] = (0, 0)
    found: tuple[int, int] = (0, 0)
    inside: Counter[str] = Counter()
    for last, match in enumerate(ordered):
        inside[match.key] += 1
        while first < last and match.end - ordered[first].start > size:
            inside[ordered[first].key] -= 1
            inside += Counter()
            first += 1
        if (score := (len(inside), last - first + 1)) > best:
            best, found = score, (first, last + 1)
    return tuple(ordered[slice(*found)])


def character_spans(text: str, positions: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Byte positions (start, length) in the text's UTF-8 as character ranges.

    Positions outside the text are dropped; one inside a character grows to it.
    """
    raw = text.encode("utf-8", "replace")
    wanted = [(at, at + length) for at, length in positions if 0 <= at < at + length <= len(raw)]
    if len(raw) == len(text):
        return tuple(wanted)
    spots = sorted({spot for pair in wanted for spot in pair})
    place: dict[int, int] = {}
    done, count = 0, 0
    for spot in spots:
        count += sum(byte & 0xC0 != 0x80 for byte in raw[done:spot])
        place[spot], done = count, spot
    return tuple((_into(raw, start, place), place[end]) for start, end in wanted)


def _into(raw: bytes, spot: int, place: dict[int, int]) -> int:
    return place[spot] - (raw[spot] & 0xC0 == 0x80)


def _frame(text: str, best: Sequence[Match], size: int) -> tuple[int, int]:
    if len(text) <= size:
        return 0, len(text)
    if not best:
        return 0, _back_to_space(text, 0, size)
    start, end = best[0].start, min(best[-1].end, best[0].start + size)
    spare = size - (end - start)
    left = max(0, min(start - spare // 3, len(text) - size))
    right = min(len(text), left + size)
    return _on_to_space(text, left, start), _back_to_space(text, end, right)


def _on_to_space(text: str, left: int, start: int) -> int:
    if left == 0 or text[left - 1].isspace():
        return left
    for spot in range(left, min(start, left + _SNAP)):
        if text[spot].isspace():
            return spot + 1
    return left


def _back_to_space(text: str, end: int, right: int) -> int:
    if right == len(text) or text[right].isspace():
        return right
    for spot in range(right - 1, max(end, right - _SNAP) - 1, -1):
        if text[spot].isspace():
            return spot
    return right


def _ranges(matches: Iterable[Match], start: int, end: int) -> tuple[tuple[int, int], ...]:
    """Sorted, clipped to the fragment, overlapping and touching ones joined."""
    joined: list[tuple[int, int]] = []
    for match in sorted(matches):
        low, high = max(match.start, start) - start, min(match.end, end) - start
        if low >= high:
            continue
        if joined and low <= joined[-1][1]:
            low, high = joined[-1][0], max(high, joined.pop()[1])
        joined.append((low, high))
    return tuple(joined)
