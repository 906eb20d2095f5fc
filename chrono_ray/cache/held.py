"""Answers that this process has read before, so that only their being so has to be asked for."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from chrono_ray.cache.entry import Found

BYTES_MOST: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """An answer, and the stamp of its tags when it was computed."""

    stamp: bytes
    found: Found


class HeldAnswers:
    """By name, within `BYTES_MOST`; what was asked for longest ago goes first."""

    def __init__(self) -> None:
        self.size = 0
        self._answers: OrderedDict[str, Held] = OrderedDict()

    def get(self, name: str) -> Held | None:
        held = self._answers.get(name)
        if held:
            self._answers.move_to_end(name)
        return held

    def hold(self, name: str, held: Held) -> None:
        self.drop(name)
        self._answers[name] = held
        self.size += len(held.found.body)
        while self.size > BYTES_MOST:
            self.drop(next(iter(self._answers)))

    def drop(self, name: str) -> None:
        """It is so no more."""
        if held := self._answers.pop(name, None):
            self.size -= len(held.found.body)
