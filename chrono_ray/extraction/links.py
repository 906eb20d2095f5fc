"""The links of a page, as written."""

from __future__ import annotations

from typing import Final

from selectolax.lexbor import LexborHTMLParser

from chrono_ray.model.page import Link

HREF_LIMIT: Final = 8_192
LINKS_LIMIT: Final = 2_000
LINK_TEXT_LIMIT: Final = 200


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
        text = text or attributes.get("alt") or attributes.get("title") or ""
        found[href, text[:LINK_TEXT_LIMIT]] = None
        if len(found) > LINKS_LIMIT:
            break
    pairs = [*found][:LINKS_LIMIT]
    return tuple(Link(href, text) for href, text in pairs), len(found) > LINKS_LIMIT


def _leads_away(href: str) -> bool:
    if not href or len(href) > HREF_LIMIT or href[0] == "#":
        return False
    return not href[:11].lower().startswith(("javascript:", "data:", "about:"))
