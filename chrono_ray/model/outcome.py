"""How a fetch ends: exactly one of four, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from chrono_ray.model.memento import Memento
from chrono_ray.model.page import Document


@dataclass(frozen=True, slots=True)
class Stored:
    """The payload was fetched whole and understood."""

    memento: Memento
    document: Document


@dataclass(frozen=True, slots=True)
class Gone:
    """The archive lists it but does not have it: not_found, removed, blocked."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Our own policy refuses it: address, scheme, port, type."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """It could not be had or understood; a person may retry it.

    `memento` is set when the bytes arrived and only understanding them
    failed, so that a retry needs no new request.
    """

    reason: str
    detail: str = ""
    memento: Memento | None = None


Outcome = Stored | Gone | Refused | Failed
