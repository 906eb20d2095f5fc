"""One walk over a parsed page: its lines of text and the elements they stand in.

Everything that is asked of the tree's shape later (the visible text, the depth, where
the main text is) is answered from this, so that the page is walked once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Final

from selectolax.lexbor import LexborNode

INVISIBLE: Final = frozenset(
    {"script", "style", "noscript", "template", "head", "svg", "math", "iframe", "object", "embed",
     "canvas", "audio", "video", "select", "option", "datalist", "textarea", "-comment", "title"}
)  # fmt: skip
BLOCK: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "br", "button", "caption", "center", "dd",
     "details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer",
     "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "label", "legend", "li",
     "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td",
     "tfoot", "th", "thead", "tr", "ul"}
)  # fmt: skip
ASIDE_TAGS: Final = frozenset(
    {"nav", "footer", "aside", "header", "figure", "figcaption", "button", "label", "menu",
     "dialog", "legend", "address"}
)  # fmt: skip
"""Elements whose meaning in HTML is: beside the main text."""
PLAIN_TAGS: Final = frozenset({"tbody", "thead", "tfoot", "tr", "h1", "h2", "h3", "dt", "dd"})
"""Elements whose attributes nobody uses to say what they are for."""
MAIN_TAGS: Final = frozenset({"article", "main", "body"})
"""Their class names list topics ("tag-sport category-news"), so names say nothing here."""
ASIDE_ROLES: Final = frozenset(
    {"navigation", "banner", "contentinfo", "complementary", "search", "dialog", "alertdialog",
     "menu", "menubar", "toolbar", "tablist", "form"}
)  # fmt: skip
_ASIDE_WORDS: Final = frozenset(
    {"ad", "ads", "adv", "advert", "adverts", "advertisement", "advertising", "advertorial",
     "authorbio", "bio", "breadcrumb", "breadcrumbs", "byline", "caption", "captions", "cookie",
     "cookies", "copyright", "credit", "credits", "dialog", "foot", "footer", "hidden", "login",
     "masthead", "menu", "menus", "meta", "metadata", "metabox", "modal", "more", "nav", "navbar",
     "navigation", "newsletter", "newsletters", "pager", "pagination", "paywall", "popular",
     "popup", "promo", "promos", "promotion", "promotions", "rail", "recirc", "recirculation",
     "recommend", "recommended", "recommendation", "recommendations", "related", "rss", "search",
     "share", "shares", "sharing", "sidebar", "signup", "skip", "social", "socials", "sponsor",
     "sponsored", "subscribe", "subscription", "tag", "tags", "teaser", "teasers", "toolbar",
     "tools", "trending", "widget", "widgets"}
)  # fmt: skip
"""Words that templates of every age give to what stands beside the text."""
_TALK_WORDS: Final = frozenset(
    {"comment", "comments", "commentlist", "commentform", "disqus", "replies", "respond"}
)
_WORD_BREAK: Final = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
_UNSEEN_STYLE: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


class Aside(IntEnum):
    """Why an element may stand beside the main text, the surest reason last."""

    NO = 0
    NAMED = 1
    MEANT = 2
    UNSEEN = 3
    TALK = 4


@dataclass(slots=True)
class Element:
    """A block-level element; `aside` is its own reason, not what it inherits."""

    # Not frozen, nor is Line: there are hundreds a page, and freezing doubles their cost.
    tag: str
    parent: int
    aside: Aside
    body: bool


@dataclass(slots=True)
class Line:
    """A run of inline text; `linked` counts its characters inside links."""

    text: str
    linked: int
    owner: int


@dataclass(slots=True)
class Survey:
    """`elements[0]` is the root; parents stand before their children."""

    elements: list[Element] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    depth: int = 0

    @property
    def visible(self) -> str:
        """All that a reader sees, a line a block."""
        return "\n".join(line.text for line in self.lines)


def survey(root: LexborNode) -> Survey:
    """Walk `root` without recursion, so that no nesting is too deep."""
    walk = _Walk()
    walk.open(root, root.tag or "", linked=False)
    while walk.stack:
        node = next(walk.children, None)
        if node is None:
            walk.close()
        elif (tag := node.tag or "") == "-text":
            walk.text(node.text_content or "", linked=walk.linked)
        elif tag in BLOCK:
            walk.open(node, tag, linked=walk.linked)
        elif tag not in INVISIBLE:
            walk.inline(node, linked=walk.linked or tag == "a")
    return walk.found


class _Walk:
    """Where the walk stands: the open elements, and the line being gathered."""

    __slots__ = ("children", "found", "in_links", "linked", "owner", "parts", "stack")

    def __init__(self) -> None:
        self.found = Survey()
        self.stack: list[tuple[Iterator[LexborNode], int, bool, bool]] = []
        self.children: Iterator[LexborNode] = iter(())
        self.owner = 0
        self.linked = False
        self.parts: list[str] = []
        self.in_links = 0

    def open(self, node: LexborNode, tag: str, *, linked: bool) -> None:
        self.end_line()
        if tag in ("br", "hr"):
            return
        owner = _enter(self.found, node, tag, self.owner)
        self._push(node, owner, linked, block=True)

    def inline(self, node: LexborNode, *, linked: bool) -> None:
        only = node.first_child
        if only is None:
            return
        if only.is_text_node and only.next is None:
            self.text(only.text_content or "", linked=linked)
        else:
            self._push(node, self.owner, linked, block=False)

    def text(self, text: str, *, linked: bool) -> None:
        if not self.parts and text.isspace():
            return
        self.parts.append(text)
        if linked:
            self.in_links += len(text)

    def close(self) -> None:
        """Leave the innermost element: back to where its parent's children were left."""
        if self.stack.pop()[3]:
            self.end_line()
        if self.stack:
            self.children, self.owner, self.linked, _ = self.stack[-1]

    def end_line(self) -> None:
        if not self.parts:
            return
        text = " ".join("".join(self.parts).split())
        if text:
            self.found.lines.append(Line(text, min(self.in_links, len(text)), self.owner))
        self.parts.clear()
        self.in_links = 0

    def _push(self, node: LexborNode, owner: int, linked: bool, *, block: bool) -> None:
        self.children, self.owner, self.linked = node.iter(include_text=True), owner, linked
        self.stack.append((self.children, owner, linked, block))
        self.found.depth = max(self.found.depth, len(self.stack))


def _enter(found: Survey, node: LexborNode, tag: str, parent: int) -> int:
    """Note a block element and why it may stand beside the text."""
    aside, body = Aside.NO, False
    if tag in ASIDE_TAGS:
        aside = Aside.MEANT
    elif tag not in PLAIN_TAGS:
        attributes = node.attributes
        if attributes:
            aside = _aside(attributes, named=tag not in MAIN_TAGS)
            body = attributes.get("itemprop") == "articleBody"
    found.elements.append(Element(tag, parent, aside, body))
    return len(found.elements) - 1


def _aside(attributes: dict[str, str | None], *, named: bool) -> Aside:
    if named:
        aside = _named(attributes.get("class") or "") or _named(attributes.get("id") or "")
        if aside:
            return aside
    if attributes.get("role") in ASIDE_ROLES:
        return Aside.MEANT
    style = attributes.get("style")
    unseen = attributes.get("aria-hidden") == "true" or "hidden" in attributes
    return Aside.UNSEEN if unseen or (style and _UNSEEN_STYLE.search(style)) else Aside.NO


@lru_cache(maxsize=8192)
def _named(names: str) -> Aside:
    """What class names or an id say; the pages of one site repeat them endlessly."""
    words = {word.lower() for word in _WORD_BREAK.split(names[:400])}
    if not words.isdisjoint(_TALK_WORDS):
        return Aside.TALK
    return Aside.NO if words.isdisjoint(_ASIDE_WORDS) else Aside.NAMED
