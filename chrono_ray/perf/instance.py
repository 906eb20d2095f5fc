"""What is measured: an instance on this machine, whose record is at hand, or one elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chrono_ray.model.errors import ChronoError

Tell = Callable[[str], None]
"""Hears how far it is, a line at a time."""


class OutOfReach(ChronoError):
    """This instance cannot be asked for a measure, which is no fault of it."""

    code = "out_of_reach"


@dataclass(frozen=True, slots=True)
class Here:
    """On this machine. `owner` is its process, below which its API runs.

    `scratch`: a database may be made beside the record, and dropped. `site`: what its archive
    holds, without a limit, when instance and archive are there for this alone.
    """

    url: str
    database_url: str = field(repr=False)
    owner: int
    scratch: bool
    site: str | None = None

    @property
    def name(self) -> str:
        return f"{self.url} (a private one, over the demo archive)" if self.site else self.url


@dataclass(frozen=True, slots=True)
class There:
    """Wherever it is: an API key is all there is."""

    url: str
    key: str = field(repr=False)
    insecure: bool

    @property
    def name(self) -> str:
        return self.url


Instance = Here | There
ELSEWHERE = "it is another machine's: only its API is at hand"
