"""Walking a parsed page without recursion: its visible text, its depth, its links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from chrono_ray.model.page import Link

HREF_LIMIT: Final = 8_192
LINKS_LIMIT: Final = 2_000
LINK_TEXT_LIMIT: Final = 200

INVISIBLE: Final = frozenset(
    {"script", "style", "noscript", "template", "head", "svg", "math", "iframe", "object", "embed",
     "canvas", "audio", "video", "select", "option", "datalist", "textarea", "-comment", "title"}
)  # fmt: skip
BLOCK: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "br", "button", "caption", "center", "dd",
     "details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer",
     "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "legend", "li", "main",
     "menu", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th",
     "thead", "tr", "ul"}
)  # fmt: skip


def visible_text(root: LexborNode) -> tuple[str, int]:
    """Every visible text under `root`, a line a block, and the deepest nesting met."""
    lines: list[str] = []
    line: list[str] = []
    depth = 0
    stack: list[tuple[Iterator[LexborNode], bool]] = [(root.iter(include_text=True), True)]
    while stack:
        children, block = stack[-1]
        node = next(children, None)
        if node is None:
            stack.pop()
            if block:
                _break(lines, line)
            continue
        tag = node.tag or ""
        if tag == "-text":
            line.append(node.text_content or "")
        elif tag not in INVISIBLE:
            if tag in BLOCK:
                _break(lines, line)
            stack.append((node.iter(include_text=True), tag in BLOCK))
            depth = max(depth, len(stack))
    return "\n".join(lines), depth


def _break(lines: list[str], line: list[str]) -> None:
    text = " ".join("".join(line).split())
    line.clear()
    if text:
        lines.append(text)


def outgoing_links(tree: LexborHTMLParser) -> tuple[tuple[Link, ...], bool]:
    """Links and frames as written, in document order, each (href, text) once; True when cut.

    Left out is what leads nowhere else: `#fragment`, `javascript:`, `data:`,
    `about:`, and addresses longer than any server takes.
    """
    found: dict[tuple[str, str], None] = {}
    for node in tree.css("a[href], area[href], frame[src], iframe[src]"):
        attributes = node.attributes
        href = (attributes.get("href") or attributes.get("src") or "").strip()
        if not _leads_away(href):
            continue
        text = " ".join(node.text(deep=True)[: 4 * LINK_TEXT_LIMIT].split())
        found[href, text or (attributes.get("alt") or attributes.get("title") or "")] = None
        if len(found) > LINKS_LIMIT:
            break
    pairs = [*found][:LINKS_LIMIT]
    return tuple(Link(href, text) for href, text in pairs), len(found) > LINKS_LIMIT


def _leads_away(href: str) -> bool:
    if not href or len(href) > HREF_LIMIT or href[0] == "#":
        return False
    return not href[:11].lower().startswith(("javascript:", "data:", "about:"))
