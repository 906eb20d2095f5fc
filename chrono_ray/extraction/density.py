"""The main text by density: where long lines with few links stand together.

In terms of HTML alone: what an element means (`article`, `nav`), how much of
a line is links, how long lines are. No site is known by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chrono_ray.extraction.survey import Aside, Line, Survey

PROSE: Final = 80
"""Characters from which a line is a sentence rather than a label."""
LINKED_SHARE: Final = 0.4
"""A line with more of it inside links leads elsewhere."""
KEPT_LINKED_SHARE: Final = 0.6
"""The same inside the main element, where links are usually the author's own."""
DATA_ROW: Final = 300
DATA_LINKED_SHARE: Final = 0.8
"""A row of more characters lays out the page; one of links alone is a menu."""
DOMINANT: Final = 0.75
"""The main element is the innermost one that holds this share of the page's prose."""
SEMANTIC: Final = 0.5
"""An `article`, `main` or article body is believed when it holds this share."""
PARTS: Final = frozenset(
    {"p", "li", "pre", "blockquote", "ul", "ol", "dl", "dd", "table", "tbody", "tr"}
)
"""Never the main element themselves: a text has words before and after its lists and tables."""
SURE_SHARE: Final = 0.9
SURE_LENGTH: Final = 1_000
"""An article of this many characters, with this share of the prose, needs no second opinion."""
SURE_UP_TO: Final = {
    Aside.NO: 0.0,
    Aside.NAMED: 0.4,
    Aside.MEANT: 0.6,
    Aside.UNSEEN: 0.6,
    Aside.TALK: 1.0,
}
"""The share of a page's prose that each reason may set aside."""
TEXT_TAGS: Final = frozenset(
    {"p", "blockquote", "pre", "li", "td", "dd", "dt", "h1", "h2", "h3", "h4", "h5", "h6"}
)
HEADINGS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


@dataclass(frozen=True, slots=True)
class Dense:
    """`sure` when the markup itself says that this is the article, and little else is there.

    Without `prose` the page is an index, and `text` all that does not stand beside it.
    """

    text: str
    sure: bool
    prose: bool


def dense_text(found: Survey) -> Dense:
    """The main text, by where the prose is."""
    prose = [_is_prose(line) for line in found.lines]
    beside = _beside(found, _held(found, prose))
    prose = [
        is_prose and not beside[line.owner]
        for line, is_prose in zip(found.lines, prose, strict=True)
    ]
    held = _held(found, prose)
    if not held[0]:
        seen = [line.text for line in found.lines if not beside[line.owner]]
        return Dense("\n".join(seen), sure=False, prose=False)
    main = _main_element(found, held)
    inside = _inside(found, main)
    rows = _data_rows(found)
    kept = [
        line
        for line in found.lines
        if inside[line.owner] and not beside[line.owner] and _keep(found, line, rows)
    ]
    text = "\n".join(line.text for line in _without_loose_headings(found, kept))
    sure = held[main] >= SURE_SHARE * held[0] and len(text) >= SURE_LENGTH
    return Dense(text, sure=sure and _in_article(found, main), prose=True)


def _in_article(found: Survey, index: int) -> bool:
    while index:
        element = found.elements[index]
        if element.body or element.tag == "article":
            return True
        index = element.parent
    return False


def _beside(found: Survey, held: list[int]) -> list[bool]:
    """Which elements stand beside the main text, or inside one that does.

    A reason counts only while what it would take away is a small enough share of the page.
    """
    beside = [False] * len(found.elements)
    for index, element in enumerate(found.elements):
        small = held[index] <= SURE_UP_TO[element.aside] * held[0]
        beside[index] = beside[element.parent] or (element.aside is not Aside.NO and small)
    return beside


def _is_prose(line: Line) -> bool:
    return len(line.text) >= PROSE and line.linked <= LINKED_SHARE * len(line.text)


def _held(found: Survey, prose: list[bool]) -> list[int]:
    """Characters of prose anywhere inside each element."""
    held = [0] * len(found.elements)
    for line, counts in zip(found.lines, prose, strict=True):
        if counts:
            held[line.owner] += len(line.text)
    elements = found.elements
    for index in range(len(elements) - 1, 0, -1):
        held[elements[index].parent] += held[index]
    return held


def _main_element(found: Survey, held: list[int]) -> int:
    best, total = 0, held[0]
    for index, element in enumerate(found.elements):
        if held[index] >= DOMINANT * total and element.tag not in PARTS:
            best = index
    for index, element in enumerate(found.elements):
        semantic = element.body or element.tag in ("article", "main")
        if semantic and index >= best and held[index] >= SEMANTIC * total:
            best = index
    return best


def _inside(found: Survey, main: int) -> list[bool]:
    inside = [False] * len(found.elements)
    inside[main] = True
    for index in range(main + 1, len(found.elements)):
        inside[index] = inside[found.elements[index].parent]
    return inside


def _data_rows(found: Survey) -> set[int]:
    """Table rows that are data, not layout: short, and more in them than links."""
    lengths: dict[int, int] = {}
    linked: dict[int, int] = {}
    for line in found.lines:
        element = found.elements[line.owner]
        if element.tag in ("td", "th"):
            row = element.parent
            lengths[row] = lengths.get(row, 0) + len(line.text)
            linked[row] = linked.get(row, 0) + line.linked
    return {
        row
        for row, length in lengths.items()
        if length <= DATA_ROW and linked[row] <= DATA_LINKED_SHARE * length
    }


def _keep(found: Survey, line: Line, data_rows: set[int]) -> bool:
    """Inside the main element: sentences, even where much of one is links, and short paragraphs."""
    element = found.elements[line.owner]
    if element.tag in ("td", "th") and element.parent in data_rows:
        return True
    length, own = len(line.text), len(line.text) - line.linked
    if line.linked > KEPT_LINKED_SHARE * length and own < PROSE // 2:
        return False
    return length >= PROSE // 2 or element.tag in TEXT_TAGS


def _without_loose_headings(found: Survey, lines: list[Line]) -> list[Line]:
    """A heading with nothing under it headed something that was left out."""
    kept: list[Line] = []
    under = False
    for line in reversed(lines):
        heading = found.elements[line.owner].tag in HEADINGS
        if not heading or under:
            kept.append(line)
        under = not heading
    kept.reverse()
    return kept
