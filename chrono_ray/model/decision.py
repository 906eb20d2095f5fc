"""Which listed captures are fetched. Every other one stays, with reason, rule and confidence.

Rows that are no page (redirects, 404s, images) are events in a site's
timeline: kept, not requested. What an archive says about type and status may
be wrong, so a rule that trusts it names its confidence.
"""

from __future__ import annotations

from typing import Final

from chrono_ray.model.capture import EMPTY_DIGEST, Capture, Decision, Skipped, Wanted

UNREADABLE_KINDS: Final = ("image/", "video/", "audio/", "font/")
UNREADABLE_TYPES: Final = frozenset(
    {
        "text/css",
        "text/javascript",
        "application/javascript",
        "application/x-javascript",
        "application/ecmascript",
        "application/x-shockwave-flash",
        "application/zip",
        "application/gzip",
        "application/x-gzip",
        "application/x-tar",
        "application/font-woff",
        "application/x-font-woff",
        "application/vnd.ms-fontobject",
        "application/wasm",
    }
)
GONE_STATUSES: Final = frozenset({"404", "410"})


def decide(capture: Capture) -> Decision:
    """Wanted, or skipped for the first rule that says so."""
    if capture.is_revisit:
        return _revisit(capture)
    status = capture.statuscode
    if status in GONE_STATUSES:
        return Skipped("not_found", f"status {status}")
    if status.startswith("3"):
        return Skipped("redirect", f"status {status}")
    if status.startswith(("4", "5")):
        return Skipped("error", f"status {status}")
    kind = capture.mimetype.partition(";")[0].strip().lower()
    if kind.startswith(UNREADABLE_KINDS) or kind in UNREADABLE_TYPES:
        return Skipped("type", f"type {kind[:100]}", 0.9)
    return Wanted()


def _revisit(capture: Capture) -> Decision:
    """A revisit is an ordinary want for its digest; the empty payload's is no page.

    One without a digest is wanted for itself: the archive, or what the record
    says it refers to, may still know its payload.
    """
    if capture.digest == EMPTY_DIGEST:
        return Skipped("redirect", "revisit of an empty payload", 0.7)
    return Wanted()
